"""A copy of the lake and the lake brought back from it: the same pages, whatever happened on the way."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from civitai_pipeline.care.backup import MANIFEST, Backup, BackupError, back_up
from civitai_pipeline.care.restoring import Restoration, restore
from civitai_pipeline.lake.compaction import compact
from civitai_pipeline.lake.files import LakeError, set_aside
from civitai_pipeline.lake.ledger import Ledger
from civitai_pipeline.lake.locks import LockedError, sole_writer
from civitai_pipeline.lake.paths import Lake
from civitai_pipeline_tests.lake.examples import VERSION, land, write_prompts
from civitai_pipeline_tests.lake.test_compaction import names, poll, texts

BESIDE = ("lookups/hash/0a.jsonl", ".keys/authors", "imports/ab/rows.jsonl")


def at(lake: Lake, *parts: str) -> Path:
    return Path(str(lake.root)).joinpath(*parts)


def files(lake: Lake) -> dict[str, bytes]:
    root = at(lake)
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and path.relative_to(root).parts[0] != ".locks"
    }


def test_a_copy_holds_every_page_and_what_no_page_brings_back(ledger: Ledger, target: Lake) -> None:
    write_prompts(ledger.lake)
    done = back_up(ledger.lake, target)
    assert texts(Ledger(target, VERSION)) == texts(ledger)
    held = files(target)
    assert {name: held[name] for name in BESIDE} == {name: files(ledger.lake)[name] for name in BESIDE}
    assert not [name for name in held if name.startswith(("prompts/", ".tmp/"))]
    manifest = json.loads(held[MANIFEST])
    assert manifest["versions"] == {str(VERSION): 22}
    assert manifest["made_by"].startswith("civitai-pipeline ")
    assert set(manifest["files"]) == set(BESIDE)
    assert (done.copied, done.there_already, done.versions) == (25, 0, {VERSION: 22})


def test_tables_are_copied_where_they_are_asked_for(ledger: Ledger, target: Lake) -> None:
    write_prompts(ledger.lake)
    back_up(ledger.lake, target, tables=True)
    assert files(target)[f"prompts/{VERSION}.parquet"] == files(ledger.lake)[f"prompts/{VERSION}.parquet"]


def test_only_what_is_new_is_copied_again(ledger: Ledger, target: Lake) -> None:
    back_up(ledger.lake, target)
    at(ledger.lake, "lookups/hash/0a.jsonl").write_text('{"answer": 1}\n')
    poll(ledger, 1, 23, 23)
    moments = {path: path.stat().st_mtime_ns for path in at(target, "pages").rglob("*.zst")}
    done = back_up(ledger.lake, target)
    assert (done.copied, done.there_already, done.removed) == (2, 24, 0)
    assert {path: path.stat().st_mtime_ns for path in moments} == moments
    assert texts(Ledger(target, VERSION)) == texts(ledger)
    assert files(target)["lookups/hash/0a.jsonl"] == b'{"answer": 1}\n'


def test_a_bundle_takes_the_place_of_its_pages_in_the_copy(ledger: Ledger, target: Lake) -> None:
    back_up(ledger.lake, target)
    before = texts(ledger)
    compact(ledger.lake, VERSION)
    done = back_up(ledger.lake, target)
    assert names(Ledger(target, VERSION)) == names(ledger)
    assert (done.copied, done.removed) == (1, 20)
    assert texts(Ledger(target, VERSION)) == before


def test_a_compaction_under_way_takes_nothing_from_the_copy(ledger: Ledger, target: Lake) -> None:
    def interfere(done: Backup) -> None:
        if done.copied == 5 and not folded:
            folded.append(compact(ledger.lake, VERSION).folded)

    folded: list[int] = []
    before = texts(ledger)
    back_up(ledger.lake, target, on_file=interfere)
    assert folded == [20]
    assert texts(Ledger(target, VERSION)) == before
    assert names(Ledger(target, VERSION)) == names(ledger)


class Killed(BaseException):
    """Ends a copy on the way."""


def test_a_copy_cut_short_holds_what_it_holds_and_is_gone_on_with(ledger: Ledger, target: Lake, tmp_path: Path) -> None:
    def kill(done: Backup) -> None:
        if done.copied == 7:
            raise Killed

    back_up(ledger.lake, target)
    shutil.rmtree(at(target, "pages"))
    with pytest.raises(Killed):
        back_up(ledger.lake, target, on_file=kill)
    assert MANIFEST not in files(target)
    part = restore(target, Lake.at(str(tmp_path / "part")))
    assert part.notes == ["the copy was not finished: what it holds is brought back"]
    assert part.versions == {VERSION: 7}
    assert back_up(ledger.lake, target).there_already == 10
    assert texts(Ledger(target, VERSION)) == texts(ledger)


def test_a_copy_of_another_lake_is_not_written_over(ledger: Ledger, target: Lake, tmp_path: Path) -> None:
    back_up(ledger.lake, target)
    other = Ledger(Lake.at(str(tmp_path / "other")), VERSION)
    land(other, 1, 1, 1, [7, 8, 9])
    before = {name: data for name, data in files(target).items() if name.startswith("pages/")}
    with pytest.raises(BackupError, match="is a copy of another lake, or of pages that were collected anew"):
        back_up(other.lake, target)
    assert {name: data for name, data in files(target).items() if name.startswith("pages/")} == before


@pytest.mark.parametrize("place", ["lake", "lake/copy", "."])
def test_a_copy_that_would_go_down_with_the_lake_is_refused(ledger: Ledger, tmp_path: Path, place: str) -> None:
    with pytest.raises(BackupError, match="would go down with it"):
        back_up(ledger.lake, Lake.at(str(tmp_path / place)))


def test_a_damaged_page_is_named_and_the_rest_is_copied(ledger: Ledger, target: Lake) -> None:
    path = at(ledger.lake, "pages", str(VERSION), "0001", "000009.json.zst")
    path.write_bytes(path.read_bytes()[:-20])
    done = back_up(ledger.lake, target)
    assert len(done.notes) == 1
    assert "000009.json.zst is damaged" in done.notes[0]
    assert "000009.json.zst" not in names(Ledger(target, VERSION))
    assert done.versions == {VERSION: 21}


def test_a_copy_in_an_object_store_is_read_back(ledger: Ledger, tmp_path: Path) -> None:
    target = Lake.at("memory://copy-of-a-lake")
    back_up(ledger.lake, target)
    compact(ledger.lake, VERSION)
    assert back_up(ledger.lake, target).removed == 20
    again = Lake.at(str(tmp_path / "again"))
    assert restore(target, again).versions == {VERSION: 22}
    assert texts(Ledger(again, VERSION)) == texts(ledger)


def test_an_empty_place_becomes_the_lake_again(ledger: Ledger, target: Lake, tmp_path: Path) -> None:
    compact(ledger.lake, VERSION)
    write_prompts(ledger.lake)
    back_up(ledger.lake, target, tables=True)
    again = Lake.at(str(tmp_path / "again"))
    done = restore(target, again)
    brought = {name: data for name, data in files(target).items() if name != MANIFEST}
    unknown = f"model_version_info/{VERSION}.parquet"
    assert {name: data for name, data in files(again).items() if name != unknown} == brought
    assert unknown in files(again), "without it there would be no report"
    assert (done.restored, done.there_already, done.versions, done.notes) == (len(brought), 0, {VERSION: 22}, [])
    assert done.made_at is not None
    assert restore(target, again).there_already == len(brought)


def test_what_is_missing_is_put_beside_what_is_there(ledger: Ledger, target: Lake) -> None:
    back_up(ledger.lake, target)
    before = texts(ledger)
    for number in (3, 9, 22):
        ledger.lake.page(VERSION, 1, number).unlink()
    at(ledger.lake, ".keys/authors").write_text("another key")
    at(ledger.lake, "lookups/hash/0a.jsonl").unlink()
    done = restore(target, ledger.lake)
    assert (done.restored, done.versions) == (4, {VERSION: 22})
    assert texts(ledger) == before
    assert at(ledger.lake, ".keys/authors").read_text() == "another key", "what is there is never overwritten"


def test_a_lake_with_other_pages_is_not_touched(ledger: Ledger, target: Lake) -> None:
    back_up(ledger.lake, target)
    ledger.lake.page(VERSION, 1, 5).unlink()
    ledger.lake.page(VERSION, 1, 22).unlink()
    poll(ledger, 1, 22, 22, likes=1)
    before = files(ledger.lake)
    with pytest.raises(BackupError, match=f"page 1/22 of model version {VERSION} in .* is another one"):
        restore(target, ledger.lake)
    assert files(ledger.lake) == before


def test_what_landed_since_stays_where_lost_pages_are_brought_back(ledger: Ledger, target: Lake) -> None:
    back_up(ledger.lake, target)
    poll(ledger, 1, 23, 23)
    before = texts(ledger)
    ledger.lake.page(VERSION, 1, 5).unlink()
    assert restore(target, ledger.lake).versions == {VERSION: 23}
    assert texts(ledger) == before


def test_bundles_and_single_pages_are_the_same_pages(ledger: Ledger, target: Lake) -> None:
    back_up(ledger.lake, target)
    before = texts(ledger)
    compact(ledger.lake, VERSION)
    assert restore(target, ledger.lake).restored == 0
    assert texts(ledger) == before


def test_a_version_being_collected_is_not_restored(ledger: Ledger, target: Lake) -> None:
    back_up(ledger.lake, target)
    with sole_writer(ledger.lake, VERSION), pytest.raises(LockedError):
        restore(target, ledger.lake)


def test_a_page_that_the_copy_kept_badly_is_named(ledger: Ledger, target: Lake, tmp_path: Path) -> None:
    back_up(ledger.lake, target)
    path = at(target, "pages", str(VERSION), "0001", "000004.json.zst")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(LakeError, match=r"000004\.json\.zst is damaged"):
        restore(target, Lake.at(str(tmp_path / "again")))


def test_what_has_changed_or_gone_in_the_copy_is_told(ledger: Ledger, target: Lake, tmp_path: Path) -> None:
    back_up(ledger.lake, target)
    at(target, ".keys/authors").write_text("rotten")
    at(target, "pages", str(VERSION), "0001", "000022.json.zst").unlink()
    again = Lake.at(str(tmp_path / "again"))
    notes = restore(target, again).notes
    assert notes[0] == f"model version {VERSION}: 1 pages of the copy are gone"
    assert "authors is not as it was copied, and is left out" in notes[1]
    assert not at(again, ".keys").exists()


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"made_at": 1, "versions": 5, "files": {}}'])
def test_an_unreadable_manifest_keeps_nobody_from_his_pages(
    ledger: Ledger, target: Lake, tmp_path: Path, text: str
) -> None:
    back_up(ledger.lake, target)
    at(target, MANIFEST).write_text(text)
    done = restore(target, Lake.at(str(tmp_path / "again")))
    assert done.versions == {VERSION: 22}
    assert len(done.notes) == 1
    assert "cannot be read" in done.notes[0]


def test_a_folder_that_is_no_copy_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BackupError, match="is no copy of a lake"):
        restore(Lake.at(str(tmp_path)), Lake.at(str(tmp_path / "again")))


def test_a_restore_that_was_killed_is_gone_on_with(ledger: Ledger, target: Lake, tmp_path: Path) -> None:
    def kill(done: Restoration) -> None:
        if done.restored == 6:
            raise Killed

    back_up(ledger.lake, target)
    again = Lake.at(str(tmp_path / "again"))
    with pytest.raises(Killed):
        restore(target, again, on_file=kill)
    assert restore(target, again).there_already == 6
    assert texts(Ledger(again, VERSION)) == texts(ledger)


def test_a_gap_is_copied_and_brought_back_as_one(ledger: Ledger, target: Lake, tmp_path: Path) -> None:
    page = ledger.lake.page(VERSION, 1, 2)
    set_aside(page, "000002.damaged")
    back_up(ledger.lake, target)
    again = Lake.at(str(tmp_path / "again"))
    restore(target, again)
    assert Ledger(again, VERSION).gaps(1) == [2]
    assert files(again).items() >= {name: text for name, text in files(ledger.lake).items() if "pages/" in name}.items()


def test_a_copy_keeps_the_page_that_was_lost_and_brings_it_back(ledger: Ledger, target: Lake) -> None:
    back_up(ledger.lake, target)
    page = ledger.lake.page(VERSION, 1, 2)
    landed = page.read_bytes()
    set_aside(page, "000002.damaged")
    page.write_bytes(landed + b"as fetched again")
    done = back_up(ledger.lake, target)
    assert f"{page} was fetched again since: the copy keeps the page that landed first" in done.notes
    page.unlink()
    restore(target, ledger.lake)
    assert page.read_bytes() == landed
    assert not ledger.gaps(1)

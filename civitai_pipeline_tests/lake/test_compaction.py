"""Compaction: nothing of a page is lost or changed, whatever happens on the way, and polls cost next to nothing."""

from __future__ import annotations

import os
import shutil
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from civitai_pipeline.lake import bundles, compaction
from civitai_pipeline.lake.bundles import PageFile, WalkFiles, list_walk, pack, texts_in
from civitai_pipeline.lake.compaction import LEAST_FILES, compact
from civitai_pipeline.lake.files import LakeError
from civitai_pipeline.lake.ledger import Ledger
from civitai_pipeline.lake.locks import sole_writer
from civitai_pipeline.lake.pages import DamagedPageError, LandedPage, PageId
from civitai_pipeline.lake.paths import Lake
from civitai_pipeline_tests.lake.examples import THEN, VERSION, body, land, page

if TYPE_CHECKING:
    from collections.abc import Sequence

POLLED = "2|x"


def poll(ledger: Ledger, walk: int, number: int, sequence: int, likes: int | None = None) -> None:
    """Lands a page that asks for the walk's second page again: with these likes, or as a confirmation."""
    place = page(walk, number, sequence, cursor=POLLED, fetched_at=THEN + timedelta(hours=sequence))
    if likes is None:
        again = LandedPage(**{**vars(place), "confirms": PageId(walk, 2), "metadata": {"nextCursor": None}})
        ledger.land(again, None)
    else:
        items = [{"id": image_id, "stats": {"likeCount": likes + image_id}} for image_id in range(40)]
        ledger.land(place, body(items))


def polled(ledger: Ledger, polls: int, *, walk: int = 1, start: int = 1, whole: bool = False) -> None:
    """A walk of two pages that was asked for its second one again and again."""
    for number in (1, 2):
        land(ledger, walk, number, start + number - 1, range(40), more=number == 1)
    for number in range(3, polls + 3):
        poll(ledger, walk, number, start + number - 1, number if whole else None)


def names(ledger: Ledger, walk: int = 1) -> list[str]:
    return sorted(path.name for path in ledger.lake.walk(VERSION, walk).iterdir())


def texts(ledger: Ledger) -> list[tuple[PageId, bytes]]:
    """What a reader who comes anew finds."""
    fresh = Ledger(ledger.lake, VERSION)
    return [(place, fresh.text(place)) for place in fresh.order()]


@pytest.mark.parametrize("whole", [False, True])
def test_polls_are_put_into_one_file_and_read_as_they_landed(ledger: Ledger, *, whole: bool) -> None:
    polled(ledger, 60, whole=whole)
    before, pages = texts(ledger), list(ledger.pages())
    done = compact(ledger.lake, VERSION)
    # The cursor of pages 2 to 62 is one; the last of them keeps a file of its own.
    assert names(ledger) == ["000001.json.zst", "000002-000061.json.zst", "000062.json.zst"]
    assert (done.pages, done.folded, done.files_before, done.files_after, done.error) == (62, 60, 62, 3, None)
    assert done.bytes_after < done.bytes_before / 5
    assert texts(ledger) == before
    fresh = Ledger(ledger.lake, VERSION)
    assert list(fresh.pages()) == pages
    assert [fresh.items(found) for found in fresh.pages()] == [ledger.items(found) for found in pages]
    assert fresh.covered() == {1: 62}
    assert fresh.next_sequence() == 63
    assert [walk.last for walk in fresh.walks()] == [LandedPage(**{**vars(pages[-1]), "items": []})]


def test_pages_of_a_first_walk_and_few_polls_stay_by_themselves(ledger: Ledger) -> None:
    for number in range(1, 30):
        land(ledger, 1, number, number, [number])
    polled(ledger, LEAST_FILES - 1, walk=2, start=30)
    before = names(ledger), names(ledger, 2)
    assert compact(ledger.lake, VERSION).folded == 0
    assert (names(ledger), names(ledger, 2)) == before


def test_a_bundle_grows_until_it_is_full_and_then_another_begins(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "MOST_PAGES", 20)
    polled(ledger, 12)
    compact(ledger.lake, VERSION)
    assert "000002-000013.json.zst" in names(ledger)
    for number in range(15, 51):
        poll(ledger, 1, number, number)
    before = texts(ledger)
    compact(ledger.lake, VERSION)
    assert names(ledger) == [
        "000001.json.zst", "000002-000021.json.zst", "000022-000041.json.zst", "000042-000049.json.zst",
        "000050.json.zst",
    ]  # fmt: skip
    assert texts(ledger) == before


def test_a_bundle_holds_no_more_text_than_its_bound(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    polled(ledger, 10, whole=True)
    size = len(ledger.text(PageId(1, 3)))
    monkeypatch.setattr(compaction, "MOST_TEXT_BYTES", 4 * size)
    before = texts(ledger)
    compact(ledger.lake, VERSION)
    # Full ones are written however few pages they hold, or large pages would stay by themselves for ever.
    assert [len(file.pages) for file in list_walk(ledger.lake.walk(VERSION, 1)).files] == [1, 4, 3, 1, 1, 1, 1]
    assert texts(ledger) == before


def test_pages_with_line_breaks_and_odd_bytes_keep_them(ledger: Ledger) -> None:
    polled(ledger, 0)
    raw = b'{"items":[\n{"id": 1, "meta": {"prompt": "\\u001e \xe2\x80\xa8 \\ud83d"}}\r\n],\n"metadata": {}\n}\n'
    for number in range(3, 14):
        ledger.land(page(1, number, number, cursor=POLLED), raw)
    before = texts(ledger)
    assert compact(ledger.lake, VERSION).folded == 11
    assert texts(ledger) == before


def test_any_history_reads_the_same_however_often_it_is_compacted(tmp_path_factory: pytest.TempPathFactory) -> None:
    @settings(max_examples=12)
    @given(st.integers(0, 2**32), st.lists(st.integers(0, 25), min_size=1, max_size=4))
    def check(seed: int, stages: Sequence[int]) -> None:
        random, ledger = Random(seed), Ledger(Lake.at(str(tmp_path_factory.mktemp("lake"))), VERSION)  # noqa: S311
        counts: dict[int, int] = {}
        for stage in stages:
            for _ in range(stage):
                walk = random.randint(1, 2)
                counts[walk] = counts.get(walk, 0) + 1
                number, sequence = counts[walk], sum(counts.values())
                cursor = None if number == 1 else f"{min(number, random.randint(2, 4))}|x"
                found = page(walk, number, sequence, cursor=cursor, fetched_at=THEN + timedelta(minutes=sequence))
                ledger.land(found, body([{"id": random.randint(1, 9)}], "more"))
            before, pages = texts(ledger), list(ledger.pages())
            done = compact(ledger.lake, VERSION)
            assert done.error is None
            assert texts(ledger) == before
            assert list(Ledger(ledger.lake, VERSION).pages()) == pages
            assert Ledger(ledger.lake, VERSION).covered() == counts

    check()


def killed_between(ledger: Ledger, kept: Path) -> None:
    """Puts back the files that were there before a compaction, beside what it made."""
    for path in kept.iterdir():
        shutil.copy2(path, str(ledger.lake.walk(VERSION, 1)))


def copied(ledger: Ledger, folder: Path) -> Path:
    return Path(shutil.copytree(str(ledger.lake.walk(VERSION, 1)), folder))


def test_a_compaction_killed_before_it_removed_anything_is_mended_by_the_next(ledger: Ledger, tmp_path: Path) -> None:
    polled(ledger, 20)
    before, kept = texts(ledger), copied(ledger, tmp_path / "kept")
    compact(ledger.lake, VERSION)
    tidy = names(ledger)
    killed_between(ledger, kept)
    (ledger.lake.walk(VERSION, 1) / "000005.json.zst").unlink()
    assert texts(ledger) == before
    assert Ledger(ledger.lake, VERSION).covered() == {1: 22}
    assert compact(ledger.lake, VERSION).error is None
    assert names(ledger) == tidy
    assert texts(ledger) == before


def test_a_smaller_bundle_beside_the_one_that_takes_its_place_is_removed(ledger: Ledger, tmp_path: Path) -> None:
    polled(ledger, 12)
    compact(ledger.lake, VERSION)
    for number in range(15, 31):
        poll(ledger, 1, number, number)
    before, kept = texts(ledger), copied(ledger, tmp_path / "kept")
    compact(ledger.lake, VERSION)
    tidy = names(ledger)
    killed_between(ledger, kept)
    assert texts(ledger) == before
    assert compact(ledger.lake, VERSION).error is None
    assert (names(ledger), texts(ledger)) == (tidy, before)


def test_a_page_that_is_not_what_the_bundle_holds_is_never_removed(ledger: Ledger) -> None:
    polled(ledger, 20)
    compact(ledger.lake, VERSION)
    stray = ledger.lake.page(VERSION, 1, 7)
    shutil.copy(str(ledger.lake.page(VERSION, 1, 22)), str(stray))
    done = compact(ledger.lake, VERSION)
    assert done.error is not None
    assert f"{stray} does not hold what 000002-000021.json.zst beside it holds" in done.error
    assert stray.exists()
    assert len(texts(ledger)) == 22


def test_a_damaged_page_is_not_laid_to_rest_among_the_sound(ledger: Ledger) -> None:
    polled(ledger, 20, whole=True)
    path = ledger.lake.page(VERSION, 1, 9)
    path.write_bytes(path.read_bytes()[:-20])
    before = names(ledger)
    done = compact(ledger.lake, VERSION)
    assert done.error is not None
    assert "000009.json.zst is damaged" in done.error
    assert names(ledger) == before


def test_a_page_in_anothers_place_is_not_put_into_a_bundle(ledger: Ledger) -> None:
    polled(ledger, 20)
    shutil.copy(str(ledger.lake.page(VERSION, 1, 8)), str(ledger.lake.page(VERSION, 1, 9)))
    done = compact(ledger.lake, VERSION)
    assert done.error is not None
    assert "000009.json.zst is damaged (it holds page 1/8" in done.error
    assert len(names(ledger)) == 22


def test_a_reader_finds_a_page_that_was_put_elsewhere_since_it_looked(ledger: Ledger) -> None:
    polled(ledger, 20)
    order = ledger.order()
    before = [ledger.text(place) for place in order]
    heads = [ledger.head(place) for place in order]
    compact(ledger.lake, VERSION)
    assert [ledger.text(place) for place in order] == before
    assert [ledger.head(place) for place in order] == heads
    early = Ledger(ledger.lake, VERSION)
    assert early.page_count(1) == 22
    for number in range(23, 40):
        poll(ledger, 1, number, number)
    # What it saw is a bundle that a larger one takes the place of.
    compact(ledger.lake, VERSION)
    assert [early.text(place) for place in order] == before


def test_a_version_being_collected_is_left_alone(ledger: Ledger) -> None:
    polled(ledger, 20)
    before = names(ledger)
    with sole_writer(ledger.lake, VERSION):
        done = compact(ledger.lake, VERSION)
    assert done.error is None
    assert done.skipped is not None
    assert f"another process (pid {os.getpid()}) is collecting model version {VERSION}" in done.skipped
    assert names(ledger) == before


def test_a_walk_goes_on_behind_a_bundle(ledger: Ledger) -> None:
    polled(ledger, 20)
    compact(ledger.lake, VERSION)
    again = Ledger(ledger.lake, VERSION)
    poll(again, 1, 23, again.next_sequence())
    assert again.covered() == {1: 23}
    assert [found.sequence for found in again.pages()] == list(range(1, 24))


@pytest.mark.parametrize("cut", [1, 5, 200])
def test_a_bundle_cut_short_is_named_with_the_remedy(ledger: Ledger, cut: int) -> None:
    polled(ledger, 20)
    compact(ledger.lake, VERSION)
    path = ledger.lake.walk(VERSION, 1) / "000002-000021.json.zst"
    path.write_bytes(path.read_bytes()[:-cut] if cut > 4 else path.read_bytes()[:cut])
    with pytest.raises(DamagedPageError, match=r"000002-000021\.json\.zst is damaged .*bring it back from a backup"):
        list(Ledger(ledger.lake, VERSION).pages())


def test_a_bundle_in_anothers_place_is_not_taken_for_it(ledger: Ledger) -> None:
    polled(ledger, 20)
    polled(ledger, 20, walk=2, start=23)
    compact(ledger.lake, VERSION)
    one, other = (ledger.lake.walk(VERSION, walk) / "000002-000021.json.zst" for walk in (1, 2))
    shutil.copy(str(one), str(other))
    with pytest.raises(DamagedPageError, match=r"0002/000002-000021\.json\.zst is damaged \(it holds page 1/2"):
        list(Ledger(ledger.lake, VERSION).pages())


def test_pages_missing_between_bundles_are_named(ledger: Ledger) -> None:
    polled(ledger, 20)
    compact(ledger.lake, VERSION)
    (ledger.lake.walk(VERSION, 1) / "000002-000021.json.zst").unlink()
    with pytest.raises(LakeError, match=r"000002\.json\.zst is missing"):
        Ledger(ledger.lake, VERSION).covered()


@settings(max_examples=50)
@given(st.lists(st.binary().filter(lambda text: b"\x1e" not in text), min_size=1, max_size=6))
def test_texts_come_out_of_a_bundle_as_they_went_in(given_texts: list[bytes]) -> None:
    assert texts_in(pack(given_texts), len(given_texts)) == given_texts
    with pytest.raises(DamagedPageError):
        texts_in(pack(given_texts), len(given_texts) + 1)


def test_a_text_that_is_no_json_is_not_packed() -> None:
    with pytest.raises(DamagedPageError):
        pack([b'"a"', b'"\x1e"'])


def test_a_bundle_is_readable_by_any_tool_that_knows_zstandard(ledger: Ledger) -> None:
    polled(ledger, 20)
    before = [text for _, text in texts(ledger)][1:21]
    compact(ledger.lake, VERSION)
    data = (ledger.lake.walk(VERSION, 1) / "000002-000021.json.zst").read_bytes()
    assert zstandard.decompress(data) == b"".join(b"\x1e" + text + b"\n" for text in before)
    parameters = zstandard.get_frame_parameters(data)
    assert parameters.has_checksum
    # What the command line tool takes without being asked to.
    assert parameters.window_size <= 1 << 27


@settings(max_examples=200)
@given(st.lists(st.tuples(st.integers(1, 12), st.integers(0, 6)), max_size=8))
def test_every_page_of_any_files_is_found_in_one_of_them(spans: list[tuple[int, int]]) -> None:
    files = {PageFile.of_pages(first, first + more) for first, more in spans}
    listed = WalkFiles.of(file.name for file in files)
    held = {number for file in files for number in file.pages}
    found = listed.by_page()
    assert set(found) == held
    assert all(number in file.pages for number, file in found.items())
    assert set(listed.files) | set(listed.superseded) == files
    gaps = sorted(set(range(1, max(held, default=0) + 1)) - held)
    assert listed.missing == (gaps[0] if gaps else None)


@pytest.mark.parametrize(
    "name", ["5.json.zst", "000005-000005.json.zst", "000009-000003.json.zst", "000000-000003.json.zst", "5-9.json.zst",
             "000001-000002-000003.json.zst", "²-³.json.zst", "000001-.json.zst"],
)  # fmt: skip
def test_names_that_no_bundle_has_are_passed_over(name: str) -> None:
    assert PageFile.named(name) is None


def test_the_largest_bundle_is_read_within_bounds() -> None:
    assert bundles.MOST_TEXT_BYTES <= 1 << 24, "the window of the compression reaches over 16 MB"

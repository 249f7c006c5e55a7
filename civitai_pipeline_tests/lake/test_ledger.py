"""The ledger: what has landed, in which order, and where a walk stands."""

from __future__ import annotations

import json
import shutil
import threading
from typing import TYPE_CHECKING, Any

import orjson
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from civitai_pipeline.lake.files import LakeError
from civitai_pipeline.lake.ledger import Ledger, PageExistsError
from civitai_pipeline.lake.pages import DamagedPageError, NewerPageError, PageId
from civitai_pipeline.lake.paths import Lake
from civitai_pipeline_tests.lake.examples import LISTING, VERSION, body, land, page, python

if TYPE_CHECKING:
    from pathlib import Path


def _ids(ledger: Ledger, covered: dict[int, int] | None = None) -> list[str]:
    return [str(landed.id) for landed in ledger.pages(covered)]


def _tmp_files(lake: Lake) -> list[Any]:
    return list((lake.root / ".tmp").iterdir())


def test_an_empty_ledger_is_empty_in_every_respect(ledger: Ledger) -> None:
    assert ledger.walk_numbers() == []
    assert ledger.covered() == {}
    assert ledger.page_count(1) == 0
    assert ledger.last_page(1) is None
    assert ledger.walks() == []
    assert ledger.latest_walk(LISTING) is None
    assert ledger.next_sequence() == 1
    assert list(ledger.pages()) == []
    assert ledger.lake.versions() == []
    assert not ledger.lake.root.exists()


def test_a_page_lands_where_the_contract_says(ledger: Ledger) -> None:
    land(ledger, 1, 1, 1, [1])
    assert (ledger.lake.root / "pages" / str(VERSION) / "0001" / "000001.json.zst").is_file()
    assert _tmp_files(ledger.lake) == []
    assert ledger.lake.versions() == [VERSION]


def test_a_walk_is_taken_up_at_the_cursor_of_its_last_page(ledger: Ledger) -> None:
    for number in range(1, 12):
        land(ledger, 1, number, number, [number])
    state = ledger.latest_walk(LISTING)
    assert state is not None
    assert state.is_open
    assert (state.last.id, state.last.next_cursor) == (PageId(1, 11), "12|x")
    assert ledger.next_sequence() == 12
    land(ledger, 1, 12, 12, more=False)
    assert [(walk.last.id, walk.is_open) for walk in ledger.walks()] == [(PageId(1, 12), False)]


def test_the_newest_walk_of_a_listing_is_its_latest_whatever_others_do(ledger: Ledger) -> None:
    other = {**LISTING, "browsing_level": 31}
    for walk, listing in enumerate([LISTING, other, LISTING, other], start=1):
        ledger.land(page(walk, 1, walk, listing=listing), body())
    for listing, walk in ((LISTING, 3), (other, 4)):
        state = ledger.latest_walk(listing)
        assert state is not None
        assert state.last.id.walk == walk
    assert ledger.latest_walk({**LISTING, "sort": "Newest"}) is None


def test_pages_come_in_the_order_of_landing_over_all_walks(ledger: Ledger) -> None:
    order = [(1, 1), (2, 1), (2, 2), (1, 2), (3, 1), (1, 3)]
    for sequence, (walk, number) in enumerate(order, start=1):
        land(ledger, walk, number, sequence)
    assert _ids(ledger) == [f"{walk}/{number}" for walk, number in order]
    assert _ids(ledger, {1: 2, 2: 2}) == ["3/1", "1/3"]
    assert _ids(ledger, ledger.covered()) == []
    assert ledger.covered() == {1: 3, 2: 2, 3: 1}


def test_pages_without_a_sequence_come_by_walk_and_page_and_first(ledger: Ledger) -> None:
    for walk, number, sequence in ((2, 1, 0), (1, 1, 0), (1, 2, 0), (2, 2, 1)):
        land(ledger, walk, number, sequence)
    assert _ids(ledger) == ["1/1", "1/2", "2/1", "2/2"]


@settings(max_examples=15)
@given(st.lists(st.integers(1, 3), max_size=12), st.integers(0, 12))
def test_what_is_covered_and_what_is_not_add_up_to_all(
    tmp_path_factory: pytest.TempPathFactory, walks: list[int], upto: int
) -> None:
    ledger = Ledger(Lake.at(str(tmp_path_factory.mktemp("lake"))), VERSION)
    counts: dict[int, int] = {}
    covered: dict[int, int] = {}
    for sequence, walk in enumerate(walks, start=1):
        counts[walk] = counts.get(walk, 0) + 1
        land(ledger, walk, counts[walk], sequence)
        if sequence == upto:
            covered = ledger.covered()
    everything = _ids(ledger)
    assert len(everything) == len(walks)
    assert everything[min(upto, len(walks)) if covered else 0 :] == _ids(ledger, covered)


def test_a_second_writer_of_a_page_fails_and_changes_nothing(ledger: Ledger) -> None:
    land(ledger, 1, 1, 1, [1])
    path = ledger.lake.page(VERSION, 1, 1)
    before = path.read_bytes()
    with pytest.raises(PageExistsError, match="landed by another process"):
        land(ledger, 1, 1, 1, [2])
    assert path.read_bytes() == before
    assert _tmp_files(ledger.lake) == []


def test_of_many_threads_one_lands_a_page(ledger: Ledger) -> None:
    start = threading.Barrier(12)
    landed, refused = [], []

    def write(number: int) -> None:
        start.wait()
        try:
            land(ledger, 1, 1, 1, [number])
        except PageExistsError:
            refused.append(number)
        else:
            landed.append(number)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refused) == 11
    assert [item["id"] for item in ledger.read(PageId(1, 1)).items] == landed
    assert _tmp_files(ledger.lake) == []


_RACE = """
import sys
from civitai_pipeline.lake.ledger import Ledger, PageExistsError
from civitai_pipeline.lake.paths import Lake
from civitai_pipeline_tests.lake.examples import VERSION, land
ledger = Ledger(Lake.at(sys.argv[1]), VERSION)
print("ready", flush=True)
sys.stdin.readline()
won = 0
for number in range(1, 41):
    try:
        land(ledger, 1, number, number, [int(sys.argv[2])])
        won += 1
    except PageExistsError:
        pass
print(won, flush=True)
"""


def test_of_two_processes_each_page_is_landed_by_one(ledger: Ledger) -> None:
    racers = [python(_RACE, str(ledger.lake.root), str(number)) for number in (1, 2)]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    won = [int(racer.communicate(timeout=20)[0]) for racer in racers]
    assert sum(won) == 40
    writers = [landed.items[0]["id"] for landed in ledger.pages()]
    assert [writers.count(1), writers.count(2)] == won


def test_a_missing_page_is_named_with_the_remedy(ledger: Ledger) -> None:
    for number in range(1, 6):
        land(ledger, 1, number, number)
    ledger.lake.page(VERSION, 1, 3).unlink()
    for read in (lambda: list(ledger.pages()), ledger.walks, ledger.covered, ledger.next_sequence):
        with pytest.raises(
            LakeError, match=rf"000003\.json\.zst is missing .*; civitai-pipeline check {VERSION} --repair"
        ):
            read()


def test_files_that_are_no_pages_are_passed_over(ledger: Ledger) -> None:
    land(ledger, 1, 1, 1, [1])
    folder = ledger.lake.walk(VERSION, 1)
    for name in (".DS_Store", "000002.json.zst.part", "notes.txt", "x.json.zst", "²³.json.zst", "000000.json.zst"):
        (folder / name).write_bytes(b"x")
    for name in ("notes", "²", "0", "00", "9" * 30):
        (ledger.lake.pages(VERSION) / name).mkdir()
    for name in ("notes", "²", "0", "007", "99999999999"):
        (ledger.lake.root / "pages" / name).mkdir()
    (ledger.lake.root / "pages" / "77").write_bytes(b"a file")
    assert ledger.covered() == {1: 1}
    assert _ids(ledger) == ["1/1"]
    assert ledger.lake.versions() == [VERSION]


@pytest.mark.parametrize("data", [b"", b"foreign", b"\x28\xb5\x2f\xfd", b"PAR1" * 100])
def test_a_damaged_page_is_named_with_the_remedy(ledger: Ledger, data: bytes) -> None:
    land(ledger, 1, 1, 1, [1])
    path = ledger.lake.page(VERSION, 1, 1)
    path.write_bytes(data)
    for read in (lambda: ledger.read(PageId(1, 1)), lambda: list(ledger.pages()), ledger.walks):
        with pytest.raises(DamagedPageError) as caught:
            read()
        assert str(path) in str(caught.value)
        assert f"civitai-pipeline check {VERSION} --repair" in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_page_of_a_newer_release_is_named_with_both_forms_and_left_alone(ledger: Ledger) -> None:
    land(ledger, 1, 1, 1, [1])
    path = ledger.lake.page(VERSION, 1, 1)
    envelope = orjson.loads(zstandard.ZstdDecompressor().decompress(path.read_bytes(), max_output_size=2**20))
    path.write_bytes(zstandard.compress(orjson.dumps({"format": 2} | envelope)))
    before = path.read_bytes()
    land(ledger, 2, 1, 2, [2])
    for read in (lambda: ledger.read(PageId(1, 1)), lambda: list(ledger.pages()), ledger.walks, ledger.order):
        with pytest.raises(NewerPageError) as caught:
            read()
        assert str(path) in str(caught.value)
        assert "has page format 2, and this release knows up to 1" in str(caught.value)
        assert "damaged" not in str(caught.value)
    assert path.read_bytes() == before


def test_a_page_cut_short_is_named(ledger: Ledger) -> None:
    land(ledger, 1, 1, 1, list(range(50)))
    path = ledger.lake.page(VERSION, 1, 1)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DamagedPageError, match=r"000001\.json\.zst is damaged"):
        ledger.walks()


def test_a_page_in_anothers_place_is_not_taken_for_it(ledger: Ledger) -> None:
    land(ledger, 1, 1, 1, [1])
    shutil.copy(str(ledger.lake.page(VERSION, 1, 1)), str(ledger.lake.page(VERSION, 1, 2)))
    with pytest.raises(DamagedPageError, match=r"000002\.json\.zst is damaged \(it holds page 1/1"):
        list(ledger.pages())
    with pytest.raises(DamagedPageError, match="it holds page 1/1"):
        ledger.walks()


def test_a_page_of_another_version_is_not_taken_for_this_ones(ledger: Ledger) -> None:
    land(ledger, 1, 1, 1, [1])
    other = Ledger(ledger.lake, 5)
    shutil.copytree(str(ledger.lake.pages(VERSION)), str(ledger.lake.pages(5)))
    with pytest.raises(DamagedPageError, match=f"it holds page 1/1 of model version {VERSION}"):
        list(other.pages())


def test_a_confirmation_shows_the_page_it_repeats_without_what_was_absent(ledger: Ledger) -> None:
    items = [{"id": 1}, {"id": 2}, {"id": 3}, None, 7, {"no": "id"}]
    ledger.land(page(1, 1, 1), body(items))
    for number, absent in ((2, frozenset[int]()), (3, frozenset({1, 3}))):
        ledger.land(
            page(1, number, number, cursor=None, confirms=PageId(1, 1), absent=absent, metadata={"nextCursor": 5}), None
        )
    whole, part = ledger.read(PageId(1, 2)), ledger.read(PageId(1, 3))
    assert whole.items == part.items == []
    assert ledger.items(whole) == items
    assert ledger.items(part) == [{"id": 2}, None, 7, {"no": "id"}]
    assert part.next_cursor == 5
    assert ledger.covered() == {1: 3}


def test_a_confirmation_of_a_page_that_is_not_there_is_trouble_with_a_name(ledger: Ledger) -> None:
    ledger.land(page(1, 1, 1, confirms=PageId(9, 9)), None)
    with pytest.raises(LakeError, match=r"/0009/000009\.json\.zst is missing from the ledger"):
        ledger.items(ledger.read(PageId(1, 1)))


def test_a_page_that_is_not_there_is_trouble_with_a_name(ledger: Ledger) -> None:
    with pytest.raises(LakeError, match=r"/0001/000001\.json\.zst is missing from the ledger"):
        ledger.read(PageId(1, 1))


def test_a_ledger_made_anew_at_the_same_place_is_read_anew(ledger: Ledger) -> None:
    land(ledger, 1, 1, 1, [1])
    assert ledger.next_sequence() == 2
    shutil.rmtree(str(ledger.lake.root))
    assert ledger.next_sequence() == 1
    land(ledger, 1, 1, 41, [1])
    assert ledger.next_sequence() == 42


def test_the_state_of_a_walk_leaves_its_items_out_of_memory(ledger: Ledger) -> None:
    land(ledger, 1, 1, 1, [1, 2])
    assert ledger.walks()[0].last.items == []
    assert len(ledger.read(PageId(1, 1)).items) == 2


def test_walks_and_pages_beyond_their_padding_still_sort_as_numbers(ledger: Ledger) -> None:
    for sequence, walk in enumerate((9_999, 10_000), start=1):
        land(ledger, walk, 1, sequence)
    assert ledger.walk_numbers() == [9_999, 10_000]


def test_a_file_where_a_walk_should_be_is_not_taken_for_another_writer(ledger: Ledger, tmp_path: Path) -> None:
    folder = tmp_path / "lake" / "pages" / str(VERSION)
    folder.mkdir(parents=True)
    (folder / "0001").write_text("a file")
    with pytest.raises(LakeError, match="a file stands where a folder should be") as caught:
        land(ledger, 1, 1, 1)
    assert not isinstance(caught.value, PageExistsError)


def test_an_object_store_keeps_two_writers_apart_too() -> None:
    lake = Lake.at(f"memory://ledger-{json.dumps(VERSION)}")
    ledger = Ledger(lake, VERSION)
    land(ledger, 1, 1, 1, [1])
    with pytest.raises(PageExistsError):
        land(ledger, 1, 1, 1, [2])
    assert [item["id"] for item in ledger.read(PageId(1, 1)).items] == [1]
    assert (lake.versions(), ledger.covered()) == ([VERSION], {1: 1})

"""Gaps: pages in the midst of a walk that were set aside, and what the ledger makes of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from civitai_pipeline.lake.files import LakeError, set_aside
from civitai_pipeline.lake.pages import PageId
from civitai_pipeline_tests.lake.examples import VERSION, body, land, page

if TYPE_CHECKING:
    from civitai_pipeline.lake.ledger import Ledger


def _aside(ledger: Ledger, walk: int, number: int) -> str:
    path = ledger.lake.page(VERSION, walk, number)
    return set_aside(path, f"{number:06d}.damaged").name


def _places(ledger: Ledger, covered: dict[int, int] | None = None, gaps: tuple[PageId, ...] = ()) -> list[str]:
    return [str(landed.id) for landed in ledger.pages(covered, gaps)]


@pytest.fixture
def walk(ledger: Ledger) -> Ledger:
    """Five pages of one walk."""
    for number in range(1, 6):
        land(ledger, 1, number, number, [number])
    return ledger


def test_a_page_set_aside_leaves_the_rest_as_it_was(walk: Ledger) -> None:
    assert _aside(walk, 1, 3) == "000003.damaged"
    assert (walk.covered(), walk.gaps(1), walk.all_gaps()) == ({1: 5}, [3], frozenset({PageId(1, 3)}))
    assert walk.is_gap(PageId(1, 3))
    assert not walk.is_gap(PageId(1, 2))
    assert _places(walk) == ["1/1", "1/2", "1/4", "1/5"]
    assert walk.next_sequence() == 6
    with pytest.raises(LakeError, match=r"000003\.json\.zst is missing"):
        walk.read(PageId(1, 3))


def test_a_page_fetched_again_landed_last(walk: Ledger) -> None:
    _aside(walk, 1, 3)
    land(walk, 1, 3, walk.next_sequence(), [3])
    assert walk.gaps(1) == []
    assert _places(walk) == ["1/1", "1/2", "1/4", "1/5", "1/3"]
    assert walk.next_sequence() == 7
    land(walk, 1, 6, 7)
    land(walk, 2, 1, 8)
    assert _places(walk) == ["1/1", "1/2", "1/4", "1/5", "1/3", "1/6", "2/1"]
    assert walk.next_sequence() == 9


def test_who_had_seen_all_but_the_gap_is_given_the_page_that_fills_it(walk: Ledger) -> None:
    _aside(walk, 1, 3)
    assert _places(walk, {1: 5}, (PageId(1, 3),)) == []
    land(walk, 1, 3, walk.next_sequence(), [3])
    land(walk, 1, 6, 7)
    assert _places(walk, {1: 5}, (PageId(1, 3),)) == ["1/3", "1/6"]
    assert _places(walk, {1: 5}) == ["1/6"]


def test_at_the_end_of_a_walk_there_is_no_gap(walk: Ledger) -> None:
    _aside(walk, 1, 5)
    assert (walk.covered(), walk.gaps(1)) == ({1: 4}, [])
    land(walk, 1, 5, 5)
    assert _places(walk) == [f"1/{number}" for number in range(1, 6)]


def test_a_page_may_be_set_aside_more_than_once(walk: Ledger) -> None:
    _aside(walk, 1, 3)
    land(walk, 1, 3, 6)
    assert _aside(walk, 1, 3) == "000003.damaged2"
    assert walk.gaps(1) == [3]
    walk.lake.page(VERSION, 1, 2).with_name("000002.missing").write_bytes(b"")
    walk.lake.page(VERSION, 1, 2).unlink()
    assert walk.gaps(1) == [2, 3]


def test_what_a_confirmation_of_a_lost_page_showed_is_unknown_for_ever(walk: Ledger) -> None:
    walk.land(page(1, 6, 6, confirms=PageId(1, 5), metadata={}), None)
    _aside(walk, 1, 5)
    confirmation = walk.read(PageId(1, 6))
    assert walk.items(confirmation) == []
    # Another page stands there now, which was fetched after the confirmation.
    walk.land(page(1, 5, walk.next_sequence(), cursor="5|x"), body([{"id": 99}]))
    assert walk.items(confirmation) == []
    walk.land(page(1, 7, walk.next_sequence(), confirms=PageId(1, 5), metadata={}), None)
    assert walk.items(walk.read(PageId(1, 7))) == [{"id": 99}]


def test_a_file_that_only_looks_like_a_mark_makes_no_gap(walk: Ledger) -> None:
    walk.lake.page(VERSION, 1, 3).unlink()
    (walk.lake.walk(VERSION, 1) / "000003.damaged.txt").write_bytes(b"")
    with pytest.raises(LakeError, match=r"000003\.json\.zst is missing"):
        walk.covered()

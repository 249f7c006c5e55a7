"""Another lake, merged into this one."""

from __future__ import annotations

import shutil
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from civitai_pipeline.derive.holdings import Effect, Holdings, Tally, receive_items
from civitai_pipeline.imports.merge import NoLakeError, merge_lake
from civitai_pipeline.lake import schemas, tables
from civitai_pipeline.lake.database import collection_state
from civitai_pipeline.lake.ledger import Ledger
from civitai_pipeline.lake.locks import sole_writer
from civitai_pipeline.lake.pages import Options, PageId, raw_body
from civitai_pipeline.lake.paths import Lake
from civitai_pipeline.prompts.items import read_item
from civitai_pipeline_tests.derive.landing import NOON, VERSION, Pages, image
from civitai_pipeline_tests.lake.examples import LISTING, land, page

if TYPE_CHECKING:
    from pathlib import Path

# What depends on the version's other rows, and where a row was seen.
_RELATIVE = ("engagement", "duplicate_of", "near_duplicate_group", "first_page", "last_page")
_PROMPTS = [None, "a kite", "two kites", "three"]


@dataclass(frozen=True)
class Step:
    """A page that lands in one of the two lakes, and at that time in no other."""

    in_other: bool
    walk: int
    items: list[Any]
    options: Options
    confirms: bool


STEPS = st.lists(
    st.builds(
        Step,
        in_other=st.booleans(),
        walk=st.integers(1, 2),
        items=st.lists(
            st.builds(
                lambda i, p, like: image(i, p, like=like),
                st.integers(1, 4),
                st.sampled_from(_PROMPTS),
                st.integers(0, 1),
            ),
            max_size=4,
            unique_by=lambda shown: shown["id"],
        ),
        options=st.builds(Options, st.just(False), st.integers(0, 3).map(lambda n: n == 0)),
        confirms=st.integers(0, 4).map(lambda n: n == 0),
    ),
    min_size=2,
    max_size=12,
)


def fill(folder: Path, steps: list[Step]) -> tuple[Pages, Pages]:
    """Two lakes that were filled side by side, each page a minute after the one before."""
    here, other = Pages(folder / "here"), Pages(folder / "other")
    for minute, step in enumerate(steps):
        pages = other if step.in_other else here
        last = pages.ledger.last_page(step.walk)
        at = NOON + timedelta(minutes=minute)
        if step.confirms and last is not None and last.confirms is None:
            pages.land(walk=step.walk, options=step.options, at=at, confirms=last.id, absent=[1])
        else:
            pages.land(*step.items, walk=step.walk, options=step.options, at=at)
    return here, other


def rows(pages: Pages) -> dict[int, dict[str, Any]]:
    found = pages.build(rebuild=True).prompts.to_pylist()
    return {row["image_id"]: {k: v for k, v in row.items() if k not in _RELATIVE} for row in found}


def sightings(pages: Pages) -> list[tuple[Any, int, dict[str, Any], bool]]:
    """Time, image, item and whether it has a prompt, of every sighting that counts in its own lake."""
    holdings, found = Holdings(), []
    for landed in pages.ledger.pages():
        items = pages.ledger.items(landed)
        received = receive_items(holdings, items, VERSION, landed.options, Tally())
        for item, (image_id, receipt) in zip(items, received, strict=True):
            if receipt.effect is not Effect.NOTHING and image_id is not None:
                found.append((landed.fetched_at, image_id, item, read_item(item).prompt is not None))
    return found


def dies_after(pages: int) -> Any:  # noqa: ANN401 - stands for a method
    """Lands some pages, and is killed before the next."""
    land_page, left = Ledger.land, iter(range(pages))

    def dies(self: Ledger, *arguments: Any) -> None:  # noqa: ANN401 - a page and its body
        if next(left, None) is None:
            raise KeyboardInterrupt
        land_page(self, *arguments)

    return dies


@settings(max_examples=8)
@given(STEPS)
def test_of_two_lakes_each_image_is_as_its_newest_sighting_says(
    tmp_path_factory: pytest.TempPathFactory, steps: list[Step]
) -> None:
    here, other = fill(tmp_path_factory.mktemp("lakes"), steps)
    mine, theirs = rows(here), rows(other)
    seen = {
        name: {item["id"] for landed in pages.ledger.pages() for item in pages.ledger.items(landed)}
        for name, pages in (("here", here), ("other", other))
    }
    newest: dict[int, tuple[Any, int, dict[str, Any], bool]] = {}
    for sighting in sorted(sightings(here) + sightings(other), key=lambda s: s[0]):
        newest[sighting[1]] = sighting
    if not other.lake.versions():
        return
    (result,) = merge_lake(here.lake, other.lake)
    merged = rows(here)
    assert merged.keys() == mine.keys() | theirs.keys()
    for image_id, row in merged.items():
        if image_id not in seen["other"]:
            assert row == mine[image_id]
        elif image_id not in seen["here"]:
            assert row == theirs[image_id]
        else:
            at, _, item, has_prompt = newest[image_id]
            if has_prompt and row["prompt_withdrawn_at"] is None:
                assert (row["prompt"], row["like_count"]) == (item["meta"]["prompt"], item["stats"]["likeCount"])
            assert row["last_seen_at"] >= at
            assert not (has_prompt and row["prompt_withdrawn_at"] is not None and row["prompt_withdrawn_at"] <= at)
            assert has_prompt or row["prompt_withdrawn_at"] is not None
    assert result.as_dict()["prompts_after"] == len(merged)
    covered = here.ledger.covered()
    (again,) = merge_lake(here.lake, other.lake)
    assert (again.pages, here.ledger.covered()) == (0, covered)


@settings(max_examples=4)
@given(STEPS, st.integers(0, 6))
def test_a_killed_merge_goes_on_and_comes_to_the_same(
    tmp_path_factory: pytest.TempPathFactory, steps: list[Step], after: int
) -> None:
    folder = tmp_path_factory.mktemp("lakes")
    here, other = fill(folder, steps)
    if not other.lake.versions():
        return
    if here.folder.exists():
        shutil.copytree(here.folder, folder / "whole")
    whole = Pages(folder / "whole")
    merge_lake(whole.lake, other.lake)
    with patch.object(Ledger, "land", dies_after(after)), suppress(KeyboardInterrupt):
        merge_lake(here.lake, other.lake)
    merge_lake(here.lake, other.lake)
    assert rows(here) == rows(whole)


def lakes(tmp_path: Path) -> tuple[Pages, Pages]:
    return Pages(tmp_path / "here"), Pages(tmp_path / "other")


def test_a_page_lands_with_its_envelope_and_body_as_they_were(tmp_path: Path) -> None:
    here, other = lakes(tmp_path)
    here.land(image(9))
    ledger = Ledger(other.lake, VERSION)
    body = b'{ "items":[{"id": 1,\n"meta":{"prompt":"\\ud83d kite","cfg":7.50}}], "metadata":{"nextCursor":"2|x"}}'
    original = page(
        cursor=None, fetched_at=NOON, run_id="theirs", options=Options(strict_version_match=True, max_items=5)
    )
    ledger.land(original, body)
    merge_lake(here.lake, other.lake)
    landed = here.ledger.read(PageId(2, 1))
    assert replace(landed, items=[], metadata={}) == replace(original, id=PageId(2, 1), sequence=2)
    assert raw_body(here.lake.page(VERSION, 2, 1).read_bytes()) == body
    assert landed.next_cursor == "2|x"


def test_a_confirmation_names_the_page_where_it_stands_here(tmp_path: Path) -> None:
    here, other = lakes(tmp_path)
    here.land(image(9))
    other.land(image(1), image(2), at=NOON)
    other.land(confirms=PageId(1, 1), absent=[2])
    merge_lake(here.lake, other.lake)
    confirmation = here.ledger.read(PageId(2, 2))
    assert (confirmation.confirms, confirmation.absent) == (PageId(2, 1), frozenset({2}))
    assert rows(here)[1] == rows(other)[1]


def test_a_page_of_which_some_items_are_older_lands_in_two(tmp_path: Path) -> None:
    here, other = lakes(tmp_path)
    here.land(image(1, "newest"), at=NOON + timedelta(hours=2))
    here.land(image(2, "oldest"), at=NOON)
    other.land(image(1, "older"), image(2, "newer"), image(3), at=NOON + timedelta(hours=1))
    other.land(confirms=PageId(1, 1), at=NOON + timedelta(hours=1, minutes=1))
    merge_lake(here.lake, other.lake)
    found = {image_id: row["prompt"] for image_id, row in rows(here).items()}
    assert found == {1: "newest", 2: "newer", 3: "a kite"}
    merged = [(landed.options.append_only, [item["id"] for item in landed.items]) for landed in here.ledger.pages()][2:]
    assert merged == [(True, [1]), (False, [2, 3]), (True, [1]), (False, [2, 3])]
    assert rows(here)[3] == rows(other)[3]


def test_what_append_only_let_in_there_counts_as_any_newer_sighting(tmp_path: Path) -> None:
    here, other = lakes(tmp_path)
    here.land(image(1, "older"), image(2, "newest"), at=NOON)
    here.land(image(2, "newest"), at=NOON + timedelta(hours=2))
    keeps = Options(append_only=True)
    other.land(image(1, "newer"), image(2, "older"), image(3), at=NOON + timedelta(hours=1), options=keeps)
    # There it changed nothing, and so it must not here.
    other.land(image(1, "kept out"), at=NOON + timedelta(hours=1, minutes=1), options=keeps)
    merge_lake(here.lake, other.lake)
    assert {image_id: row["prompt"] for image_id, row in rows(here).items()} == {1: "newer", 2: "newest", 3: "a kite"}


def test_a_merge_killed_between_the_two_parts_of_a_page_lands_the_second(tmp_path: Path) -> None:
    here, other = lakes(tmp_path)
    here.land(image(1, "newest"), at=NOON + timedelta(hours=2))
    other.land(image(1, "older"), image(3), at=NOON + timedelta(hours=1))
    with patch.object(Ledger, "land", dies_after(1)), suppress(KeyboardInterrupt):
        merge_lake(here.lake, other.lake)
    assert here.ledger.covered() == {1: 1, 2: 1}
    merge_lake(here.lake, other.lake)
    pages = [[item["id"] for item in landed.items] for landed in here.ledger.pages()]
    assert pages == [[1], [1], [3]]
    assert here.ledger.covered() == {1: 1, 2: 2}


def test_a_copy_that_was_gone_on_with_adds_its_pages_to_the_same_walk(tmp_path: Path) -> None:
    here, other = lakes(tmp_path)
    here.land(image(1), metadata={"nextCursor": "2|x"})
    shutil.copytree(here.folder, other.folder)
    other.landed, other.numbers = 1, {1: 1}
    other.land(image(2))
    (result,) = merge_lake(here.lake, other.lake)
    assert (result.walks, result.pages, result.items_here_already) == ([1], 1, 1)
    assert here.ledger.covered() == {1: 2}
    assert rows(here) == rows(other)


def test_a_copy_without_news_lands_nothing(tmp_path: Path) -> None:
    here, other = lakes(tmp_path)
    here.land(image(1))
    shutil.copytree(here.folder, other.folder)
    (result,) = merge_lake(here.lake, other.lake)
    assert (result.pages, result.items_here_already, here.ledger.covered()) == (0, 1, {1: 1})


@pytest.mark.parametrize(("minutes_later", "walk"), [(-30, 1), (30, 2)])
def test_of_two_walks_of_a_listing_the_one_fetched_last_goes_on(tmp_path: Path, minutes_later: int, walk: int) -> None:
    here, other = lakes(tmp_path)
    land(here.ledger, 1, 1, 1, [1], more=False)
    at = NOON + timedelta(minutes=minutes_later)
    other.ledger.land(page(run_id="theirs", fetched_at=at), b'{"items":[],"metadata":{"nextCursor":"5|x"}}')
    merge_lake(here.lake, other.lake)
    state = here.ledger.latest_walk(LISTING)
    assert state is not None
    assert (state.last.id.walk, state.is_open) == (walk, walk == 2)
    (row,) = collection_state(here.build().landed_pages)
    assert (row["walk"], row["status"]) == (walk, "open" if walk == 2 else "at_end")


def test_names_known_there_come_along_and_names_known_here_stay(tmp_path: Path) -> None:
    here, other = lakes(tmp_path)
    other.land(image(1))
    info = schemas.MODEL_VERSION_INFO
    for name in ("Kite", "Lantern"):
        row = {"model_version_id": VERSION, "model_name": name}
        tables.write_table(other.lake, info, VERSION, tables.from_rows(info, [row]))
        merge_lake(here.lake, other.lake)
        assert tables.read_table(here.lake, info, VERSION).column("model_name").to_pylist() == ["Kite"]


def test_a_dry_run_says_what_a_merge_then_does_and_writes_nothing(tmp_path: Path) -> None:
    here, other = lakes(tmp_path)
    other.land(image(1), image(2, None))
    said = [result.as_dict() for result in merge_lake(here.lake, other.lake, dry_run=True)]
    assert not here.folder.exists()
    assert [result.as_dict() for result in merge_lake(here.lake, other.lake)] == said


def test_a_version_that_another_process_writes_to_is_left_alone(tmp_path: Path) -> None:
    here, other = lakes(tmp_path)
    other.land(image(1))
    with sole_writer(here.lake, VERSION):
        (result,) = merge_lake(here.lake, other.lake)
    assert "another process" in str(result.error)
    assert here.lake.versions() == []


def test_a_damaged_page_there_is_named_and_what_came_before_it_is_kept(tmp_path: Path) -> None:
    here, other = lakes(tmp_path)
    other.land(image(1))
    other.land(image(2))
    other.lake.page(VERSION, 1, 2).write_bytes(b"garbage")
    (result,) = merge_lake(here.lake, other.lake)
    assert "000002.json.zst is damaged" in str(result.error)


def test_what_is_no_other_lake_is_refused_in_a_sentence(tmp_path: Path) -> None:
    here, _ = lakes(tmp_path)
    here.land(image(1))
    for place, why in (
        (here.folder, "would be merged into"),
        (tmp_path / "nowhere", "is no lake"),
        (tmp_path, "is no lake"),
    ):
        with pytest.raises(NoLakeError, match=why):
            merge_lake(here.lake, Lake.at(str(place)))

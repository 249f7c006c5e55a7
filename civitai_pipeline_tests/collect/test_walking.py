"""A walk without trouble: to its end, in slices, in other orders, anew."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from civitai_pipeline.civitai.listing import Sort
from civitai_pipeline.collect.options import CollectOptions
from civitai_pipeline.prompts.items import MOST_LEVELS, Outcome
from civitai_pipeline.sandbox import Sandbox, SandboxOptions, World

from .stage import OUTCOMES, VERSION, Stage, by_id, item, items, same

if TYPE_CHECKING:
    from pathlib import Path

CONTRACT_KEYS = [
    "model_version_id", "model_id", "model_name", "version_name", "run_id", "branch", "listing", "walk",
    "stop_reason", "more_available", "pages", "attempted", "new", "updated", "duplicate", "no_prompt",
    "version_mismatch", "malformed", "saved", "planned_total", "reported_total", "prompts_before", "prompts_after",
    "next_cursor", "last_page_number", "requests", "retries", "waited_s", "elapsed_s", "started_at", "finished_at",
    "last_successful_fetch_at", "oldest_created_at", "newest_created_at", "sample_image_ids", "error",
]  # fmt: skip


def test_a_walk_to_the_end_lands_every_page_as_it_came(stage: Stage) -> None:
    summary = stage.collect()
    said = summary.as_dict()
    assert list(said) == CONTRACT_KEYS
    assert json.loads(json.dumps(said)) == said
    expected = {
        "stop_reason": "at_end", "more_available": False, "branch": "initial", "walk": 1, "pages": 3, "attempted": 12,
        "new": 12, "saved": 12, "prompts_before": 0, "prompts_after": 12, "next_cursor": None, "last_page_number": 3,
        "requests": 4, "retries": 0, "error": None, "planned_total": None, "reported_total": None, "run_id": "a run",
        "model_id": 9001, "model_name": "Model 9001", "version_name": f"version {VERSION}",
        "sample_image_ids": list(range(1, 11)), "oldest_created_at": "2026-08-01T09:15:30.123000+00:00",
    }  # fmt: skip
    assert {key: said[key] for key in expected} == expected
    assert said["started_at"] <= said["last_successful_fetch_at"] <= said["finished_at"]
    landed = list(stage.ledger.pages())
    assert [[entry["id"] for entry in page.items] for page in landed] == [
        [1, 2, 3, 4, 5],
        [6, 7, 8, 9, 10],
        [11, 12],
    ]
    assert [page.sequence for page in landed] == [1, 2, 3]
    assert landed[0].items[0] == item(1)
    assert landed[1].cursor == landed[0].next_cursor
    assert all(page.run_id == "a run" and page.url.startswith(stage.server.url) for page in landed)


def test_a_run_stops_at_the_page_boundary_at_or_past_max_items(stage: Stage) -> None:
    first = stage.collect(max_items=6)
    assert (first.stop_reason, first.pages, first.tally.attempted) == ("max_items", 2, 10)
    assert first.as_dict()["planned_total"] == 6
    assert first.as_dict()["more_available"] is True
    second = stage.collect(max_items=6)
    assert (second.stop_reason, second.pages, second.tally.attempted) == ("at_end", 1, 2)


def test_the_page_size_is_lowered_to_a_smaller_max_items(stage: Stage) -> None:
    assert stage.collect(max_items=3).tally.attempted == 3
    assert stage.asked() == [("3", None)]


def test_the_end_and_max_items_on_one_page_are_the_end(stage: Stage) -> None:
    summary = stage.collect(max_items=12)
    assert (summary.tally.attempted, summary.stop_reason) == (12, "at_end")


def test_a_time_budget_ends_at_a_page_boundary_and_every_run_gets_on(stage: Stage) -> None:
    reasons = [stage.collect(max_minutes=1e-9).stop_reason for _ in range(3)]
    assert reasons == ["time_budget", "time_budget", "at_end"]
    assert len(list(stage.ledger.pages())) == 3


def test_an_open_walk_resumes_without_asking_a_page_twice(stage: Stage) -> None:
    for _ in range(3):
        stage.collect(max_items=5)
    cursors = [cursor for _, cursor in stage.asked()]
    assert len(cursors) == len(set(cursors)) == 3
    assert [str(page.id) for page in stage.ledger.pages()] == ["1/1", "1/2", "1/3"]


@settings(max_examples=4)
@given(
    slices=st.lists(st.integers(1, 9), min_size=1, max_size=8),
    short=st.booleans(),
    empty=st.booleans(),
    keyset=st.booleans(),
)
def test_collecting_in_slices_equals_collecting_at_once(
    tmp_path_factory: pytest.TempPathFactory, slices: list[int], short: bool, empty: bool, keyset: bool
) -> None:
    listed = [*items(9), item(10, ""), {"no": "id"}, item(9), *items(9, start=20), item(10, "late")]
    options = SandboxOptions(
        short_pages=short,
        empty_pages=empty,
        path="feed_service" if keyset else "auto",
        feed_cursors="keyset" if keyset else "offset",
    )
    with Sandbox(World.from_items(listed, VERSION), options) as server:
        folder = tmp_path_factory.mktemp("lakes")
        at_once, sliced = Stage(server, folder / "one"), Stage(server, folder / "two")
        # Which pages the stand-in empties hangs on the page size, so that one is kept where it does.
        least, page_size = (3, 3) if empty else (0, 7)
        assert at_once.collect(page_size=page_size).stop_reason == "at_end"
        for place, size in enumerate(slices):
            sliced.collect(max_items=least + size, page_size=page_size)
            if place % 3 == 0:
                sliced.build()
        assert sliced.collect(page_size=page_size).stop_reason == "at_end"
        assert sliced.content() == at_once.content()
        assert len(sliced.content()["prompts"]) == 19


@pytest.mark.parametrize("sort", [sort for sort in Sort if sort is not Sort.OLDEST])
def test_another_order_brings_the_same_images_and_starts_anew_once_at_its_end(stage: Stage, sort: Sort) -> None:
    first = stage.collect(sort=sort, max_items=6)
    assert (first.walk, first.stop_reason) == (1, "max_items")
    second = stage.collect(sort=sort)
    assert (second.walk, second.stop_reason) == (1, "at_end")
    third = stage.collect(sort=sort)
    assert (third.walk, third.stop_reason, third.tally.outcomes[Outcome.DUPLICATE]) == (2, "at_end", 12)
    assert [page.confirms for page in stage.ledger.pages()] == [None] * 6
    assert len(stage.content()["prompts"]) == 12


def test_listings_have_walks_of_their_own_and_share_what_is_held(stage: Stage) -> None:
    stage.world.insert(item(13, browsingLevel=2), VERSION)
    stage.collect(max_items=5)
    other = stage.collect(browsing_level=3)
    assert (other.walk, other.tally.outcomes[Outcome.NEW], other.tally.outcomes[Outcome.DUPLICATE]) == (2, 8, 5)
    again = stage.collect()
    assert (again.walk, again.last_page_number, again.tally.outcomes[Outcome.DUPLICATE]) == (1, 3, 7)
    assert [str(page.id) for page in stage.ledger.pages()] == ["1/1", "2/1", "2/2", "2/3", "1/2", "1/3"]


def test_restart_walks_anew_and_heals_what_a_deletion_hid(stage: Stage) -> None:
    stage.collect(max_items=5)
    # Offsets: everything moves up by one, so that image 6 stands before the cursor.
    stage.world.delete_image(2)
    assert stage.collect().stop_reason == "at_end"
    assert {row["image_id"] for row in stage.content()["prompts"]} == {*range(1, 13)} - {6}
    healing = stage.collect(restart=True)
    assert (healing.walk, healing.branch, healing.tally.outcomes[Outcome.NEW]) == (2, "additional", 1)
    assert {row["image_id"] for row in stage.content()["prompts"]} == {*range(1, 13)}


def test_an_interrupted_restart_goes_on_in_its_own_walk(stage: Stage) -> None:
    stage.collect()
    assert stage.collect(restart=True, max_items=5).walk == 2
    resumed = stage.collect()
    assert (resumed.walk, resumed.last_page_number, resumed.stop_reason) == (2, 3, "at_end")


def test_images_inserted_ahead_repeat_and_nothing_is_counted_twice(stage: Stage) -> None:
    stage.collect(sort=Sort.NEWEST, max_items=5)
    stage.world.insert(item(13), VERSION)
    rest = stage.collect(sort=Sort.NEWEST)
    assert (rest.tally.outcomes[Outcome.DUPLICATE], rest.tally.outcomes[Outcome.NEW]) == (1, 7)


def test_an_image_twice_on_a_page_is_new_once(tmp_path: Path) -> None:
    with Sandbox(World.from_items([item(1), item(2), item(1), item(2, "another")], VERSION)) as server:
        stage = Stage(server, tmp_path)
        outcomes = stage.collect().as_dict()
        assert {name: outcomes[name] for name in OUTCOMES if outcomes[name]} == {"new": 2, "duplicate": 1, "updated": 1}
        assert by_id(stage.build().prompts)[2]["prompt"] == "another"


def test_pages_of_nothing_but_items_without_an_id_are_no_stall(tmp_path: Path) -> None:
    listed = [{"meta": {"prompt": "first"}}, {"meta": {"prompt": "second"}}, None, None, item(1)]
    with Sandbox(World.from_items(listed, VERSION)) as server:
        stage = Stage(server, tmp_path)
        summary = stage.collect(page_size=1)
        assert (summary.stop_reason, summary.tally.outcomes[Outcome.MALFORMED], summary.pages) == ("at_end", 4, 5)


def test_a_reported_total_limits_the_plan(stage: Stage) -> None:
    stage.collect(max_items=5)
    summary = stage.collector(max_items=100).summary
    summary.reported_total, summary.prompts_before = 12, 5
    assert summary.planned_total == 7
    summary.max_items = 3
    assert summary.planned_total == 3
    summary.max_items, summary.reported_total = None, 2
    assert summary.planned_total == 0


def test_the_newest_and_oldest_items_of_the_run_are_told(tmp_path: Path) -> None:
    listed = [
        item(1, createdAt="2026-08-03T00:00:00Z"),
        item(2, "", createdAt="2026-08-01T00:00:00Z"),
        item(3, createdAt="soon"),
    ]
    with Sandbox(World.from_items(listed, VERSION)) as server:
        said = Stage(server, tmp_path).collect(page_size=1).as_dict()
    assert datetime.fromisoformat(said["oldest_created_at"]).day == 1
    assert datetime.fromisoformat(said["newest_created_at"]).day == 3


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_items": 0}, {"max_items": -1}, {"max_items": 2**31}, {"max_minutes": 0}, {"max_minutes": float("nan")},
        {"page_size": 0}, {"page_size": 201},
    ],
)  # fmt: skip
def test_options_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        CollectOptions(**wrong)  # type: ignore[arg-type]  # that is the point


def test_the_largest_max_items_fits_its_column(stage: Stage) -> None:
    stage.collect(max_items=2**31 - 1)
    assert stage.build().landed_pages.column("max_items").to_pylist() == [2**31 - 1] * 3


@pytest.mark.parametrize("levels", [1_015, 1_020, 1_021, 1_025, 6_000])
def test_an_item_nested_too_deep_is_malformed_and_stops_nothing(tmp_path: Path, levels: int) -> None:
    deep = json.loads("[" * 900 + "]" * 900)
    for _ in range(levels - 900):
        deep = [deep]
    gallery: list[Any] = items(7)
    gallery[2] = item(3, meta={"prompt": "a kite", "extra": deep})
    with Sandbox(World.from_items(gallery, VERSION)) as server:
        stage = Stage(server, tmp_path / "lake")
        summary = stage.collect(page_size=4)
        is_read = levels + 2 <= MOST_LEVELS
        assert (summary.stop_reason, summary.tally.outcomes[Outcome.MALFORMED]) == (
            "at_end",
            0 if is_read else 1,
        )
        assert stage.collect(page_size=4).stop_reason == "at_end"
        built = stage.build()
        assert len(built.prompts) == (7 if is_read else 6)
        assert [row["reason"] for row in built.rejected_images.to_pylist()] == (
            [] if is_read else ["The item is nested deeper than 1,020 levels."]
        )
        assert same(built, stage.build(rebuild=True, write=False))

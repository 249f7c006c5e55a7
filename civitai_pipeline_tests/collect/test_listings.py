"""Several listings in one run, and a walk that begins elsewhere than at the start."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from civitai_pipeline.collect.afterwards import summary_of_dead_run
from civitai_pipeline.collect.options import CollectOptions
from civitai_pipeline.lake.database import connect
from civitai_pipeline.lake.schemas import LANDED_PAGES
from civitai_pipeline.lake.tables import write_table
from civitai_pipeline.prompts.items import Outcome
from civitai_pipeline.sandbox import Sandbox, World

from .stage import VERSION, Stage, item

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LEVELS = (1, 2, 4)


def at_level(level: int, start: int, count: int) -> list[dict[str, object]]:
    return [item(start + n, f"prompt {start + n}", browsingLevel=level) for n in range(count)]


def three_levels() -> World:
    gallery = at_level(1, 1, 5) + at_level(2, 101, 3) + at_level(4, 201, 4)
    return World.from_items(gallery, model_version_id=VERSION, model_id=9001)


@pytest.fixture
def levels(tmp_path: Path) -> Iterator[Stage]:
    with Sandbox(three_levels()) as server:
        yield Stage(server, tmp_path / "lake")


def test_each_level_is_a_walk_of_its_own_and_the_counts_are_of_all(levels: Stage) -> None:
    summary = levels.collect(browsing_levels=LEVELS, page_size=2)
    assert (summary.stop_reason, summary.more_available, summary.tally.attempted) == ("at_end", False, 12)
    said = summary.as_dict()
    assert [(s["listing"]["browsing_level"], s["walk"], s["more_available"]) for s in said["listings"]] == [
        (1, 1, False),
        (2, 2, False),
        (4, 3, False),
    ]
    assert levels.ledger.covered() == {1: 3, 2: 2, 3: 2}


def test_a_limit_is_of_the_whole_run_and_the_next_run_goes_on_in_the_listing_it_stopped_in(levels: Stage) -> None:
    first = levels.collect(browsing_levels=LEVELS, page_size=2, max_items=7)
    assert (first.stop_reason, first.more_available, first.tally.attempted) == ("max_items", True, 7)
    assert [s["more_available"] for s in first.as_dict()["listings"]] == [False, True]
    second = levels.collect(browsing_levels=LEVELS, page_size=2)
    assert (second.stop_reason, second.more_available) == ("at_end", False)
    assert first.tally.outcomes[Outcome.NEW] + second.tally.outcomes[Outcome.NEW] == 12


def test_levels_that_are_not_reached_are_more(levels: Stage) -> None:
    summary = levels.collect(browsing_levels=LEVELS, page_size=5, max_items=5)
    assert (summary.stop_reason, summary.at_end, summary.more_available) == ("max_items", True, True)


def test_trouble_in_one_listing_keeps_the_others(levels: Stage) -> None:
    levels.server.faults.add("forbidden", nth=3)
    summary = levels.collect(browsing_levels=LEVELS, page_size=5)
    assert (summary.stop_reason, summary.pages, summary.tally.attempted) == ("rejected", 2, 8)
    assert levels.collect(browsing_levels=LEVELS, page_size=5).stop_reason == "at_end"


@pytest.mark.parametrize(
    "options", [{"browsing_levels": (1, 1)}, {"start_cursor": ""}, {"browsing_levels": (1, 2), "start_cursor": "3|1"}]
)
def test_options_that_contradict_themselves_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"browsing_levels|start_cursor"):
        CollectOptions(**options)  # type: ignore[arg-type]


def test_an_operator_begins_elsewhere_and_the_coverage_says_that_it_is_not_complete(stage: Stage) -> None:
    summary = stage.collect(page_size=4, start_cursor="4|0")
    assert (summary.walk, summary.stop_reason, summary.tally.attempted) == (1, "at_end", 8)
    stage.collect(page_size=4, restart=True)
    write_table(stage.lake, LANDED_PAGES, VERSION, stage.build(write=False).landed_pages)
    with connect(stage.lake) as connection:
        rows = connection.sql("SELECT walk, complete, pages, last_confirmed_at IS NOT NULL FROM coverage").fetchall()
    assert rows == [(1, False, 2, True), (2, True, 3, True)]


def test_the_summary_of_a_dead_run_is_made_from_its_pages(levels: Stage) -> None:
    alive = levels.collect(browsing_levels=LEVELS, page_size=2, max_items=7, run_id="alive")
    dead = levels.collect(browsing_levels=LEVELS, page_size=2, max_items=3, run_id="dead")
    levels.collect(browsing_levels=LEVELS, page_size=2, run_id="later")
    assert dead.finished_at is not None
    said = summary_of_dead_run(
        levels.lake, VERSION, "dead", started_at=dead.started_at, ended_at=dead.finished_at
    ).as_dict()
    known = dead.as_dict()
    same = ("pages", "attempted", "new", "saved", "prompts_before", "prompts_after", "walk", "next_cursor", "branch")
    assert {key: said[key] for key in same} == {key: known[key] for key in same}
    assert said["prompts_before"] == alive.prompts_after
    assert (said["stop_reason"], said["run_id"]) == ("internal_error", "dead")
    assert "died" in said["error"]
    json.dumps(said)


def test_the_summary_of_a_run_that_died_before_its_first_page_adds_up(stage: Stage) -> None:
    held = stage.collect()
    assert held.finished_at is not None
    said = summary_of_dead_run(stage.lake, VERSION, "nobody", started_at=held.started_at, ended_at=held.finished_at)
    assert (said.pages, said.tally.attempted, said.prompts_before, said.prompts_after) == (0, 0, 12, 12)

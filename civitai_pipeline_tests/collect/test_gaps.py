"""A page set aside as damaged is fetched again by the next run, which then goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from civitai_pipeline.collect import gaps
from civitai_pipeline.lake.files import set_aside
from civitai_pipeline.lake.pages import PageId
from civitai_pipeline.prompts.items import Outcome
from civitai_pipeline.sandbox import Fault, Sandbox, World

from .stage import VERSION, Stage, items, same

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """Twenty images in four pages, collected, and two polls that found nothing new."""
    with Sandbox(World.from_items(items(20), VERSION)) as server:
        stage = Stage(server, tmp_path / "lake")
        for _ in range(3):
            stage.collect()
        stage.build()
        server.forget_requests()
        yield stage


def aside(stage: Stage, *pages: int, walk: int = 1) -> None:
    for page in pages:
        path = stage.lake.page(VERSION, walk, page)
        set_aside(path, f"{page:06d}.damaged")


@pytest.mark.parametrize("lost", [(2,), (1,), (1, 2, 3), (2, 4), (4,), (5,), (3, 4, 5), (6,), (5, 6), (1, 2, 3, 4, 5)])
def test_whatever_was_lost_of_a_walk_the_next_run_brings_back(stage: Stage, lost: tuple[int, ...]) -> None:
    clean = stage.content()
    aside(stage, *lost)
    summary = stage.collect()
    assert (summary.stop_reason, summary.error) == ("at_end", None)
    assert stage.ledger.all_gaps() == frozenset()
    assert stage.content() == clean
    assert same(stage.build(), stage.build(rebuild=True, write=False))


def test_a_gap_is_asked_for_with_the_cursor_and_size_of_its_page(stage: Stage) -> None:
    asked = stage.ledger.read(PageId(1, 2)).cursor
    aside(stage, 2)
    summary = stage.collect(page_size=50)
    assert stage.asked()[0] == ("5", str(asked))
    assert (summary.pages, summary.tally.outcomes[Outcome.NEW], summary.last_page_number) == (2, 5, 7)


@pytest.mark.parametrize("built", [False, True])
def test_tables_made_with_the_gap_are_added_to_and_others_made_anew(stage: Stage, built: bool) -> None:
    aside(stage, 2)
    if built:
        assert len(stage.build().prompts) == 15
    stage.collect()
    made = stage.build()
    assert made.started_anew is not built
    assert len(made.prompts) == 20
    assert same(made, stage.build(rebuild=True, write=False))


def test_an_open_walk_gets_its_lost_page_before_it_goes_on(tmp_path: Path) -> None:
    with Sandbox(World.from_items(items(20), VERSION)) as server:
        stage = Stage(server, tmp_path / "lake")
        stage.collect(max_items=15)
        aside(stage, 2)
        limited = stage.collect(max_items=5)
        assert (limited.stop_reason, limited.pages, limited.last_page_number) == ("max_items", 1, 3)
        assert stage.ledger.all_gaps() == frozenset()
        assert stage.collect().stop_reason == "at_end"
        assert len(stage.content()["prompts"]) == 20


def test_images_deleted_since_do_not_keep_a_gap_from_closing(stage: Stage) -> None:
    aside(stage, 2)
    stage.world.delete_image(7)
    summary = stage.collect()
    # What followed the deleted image moved up, so that the answer reaches into the next page.
    assert summary.error is None
    assert {row["image_id"] for row in stage.content()["prompts"]} == set(range(1, 21)) - {7}


def test_a_gap_that_no_answer_closes_is_told_of(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gaps, "MAX_PAGE_SIZE", 5)
    aside(stage, 2)
    # Its last image is no more, and none of those that the page behind it showed.
    for image_id in range(10, 16):
        stage.world.delete_image(image_id)
    summary = stage.collect()
    assert summary.stop_reason == "at_end"
    assert summary.error is not None
    assert f"collect {VERSION} --restart" in summary.error
    assert stage.ledger.all_gaps() == frozenset()
    assert len(stage.content()["prompts"]) == 19


@pytest.mark.parametrize(("fault", "reason"), [("server_error", "api_unavailable"), ("not_found", "rejected")])
def test_trouble_while_a_gap_is_filled_leaves_it_for_the_next_run(stage: Stage, fault: str, reason: str) -> None:
    clean = stage.content()
    aside(stage, 2)
    stage.server.faults.add(Fault(fault), times=1)
    summary = stage.collect()
    assert (summary.stop_reason, summary.pages) == (reason, 0)
    assert stage.ledger.gaps(1) == [2]
    stage.collect()
    assert stage.content() == clean


def test_where_the_cursor_is_lost_a_new_walk_heals(stage: Stage) -> None:
    clean = stage.content()
    aside(stage, 2)
    stage.server.faults.add(Fault("cursor_dead"), times=1)
    summary = stage.collect()
    assert (summary.stop_reason, summary.walk) == ("at_end", 2)
    assert stage.content() == clean
    assert stage.collect().pages == 1


def test_a_new_walk_leaves_old_gaps_alone(stage: Stage) -> None:
    aside(stage, 2)
    assert stage.collect(restart=True).walk == 2
    assert stage.ledger.gaps(1) == [2]
    assert len(stage.content()["prompts"]) == 20

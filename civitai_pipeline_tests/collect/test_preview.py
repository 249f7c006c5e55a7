"""The plan for a version: what is held, and what a run would take."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from civitai_pipeline.civitai.client import CivitaiClient
from civitai_pipeline.civitai.failures import ApiFailure
from civitai_pipeline.collect.preview import expected_items, preview_collection
from civitai_pipeline.derive.prompt_tables import load_held
from civitai_pipeline.sandbox import FaultRule, Sandbox, World

from .stage import VERSION, Stage, item

if TYPE_CHECKING:
    from pathlib import Path


def preview(
    stage: Stage,
    interval: float = 0.0,
    version: int = VERSION,
    **options: Any,  # noqa: ANN401 - preview_collection has them
) -> dict[str, Any]:
    client = CivitaiClient(stage.server.url, min_request_interval=interval, timeout=2, retry_budget=0)
    return preview_collection(client, stage.lake, version, **options)


def test_before_anything_has_landed_the_plan_is_initial_and_unknown(stage: Stage) -> None:
    assert preview(stage) == {
        "model_version_id": VERSION, "model_name": "Model 9001", "version_name": f"version {VERSION}", "held": 0,
        "reported_total": None, "branch": "initial", "planned_total": None, "estimated_requests": None,
        "estimated_minutes": None,
    }  # fmt: skip
    assert stage.asked() == []


def test_a_limit_makes_a_plan_of_requests_and_minutes(stage: Stage) -> None:
    stage.collect(max_items=5)
    said = preview(stage, interval=6.0, max_items=1001, page_size=100)
    expected = {"held": 5, "branch": "additional", "planned_total": 1001, "estimated_requests": 11}
    assert {key: said[key] for key in expected} == expected
    assert said["estimated_minutes"] == 1.1
    assert preview(stage, max_items=3, page_size=100)["estimated_requests"] == 1


def test_an_answer_slower_than_the_spacing_decides_the_minutes(stage: Stage) -> None:
    stage.collect()
    mean = sum(page.elapsed_s for page in stage.ledger.pages()) / 3
    assert preview(stage, max_items=200_000, page_size=1)["estimated_minutes"] == pytest.approx(
        200_000 * mean / 60, abs=0.01
    )


def test_names_that_cannot_be_asked_for_are_null(stage: Stage) -> None:
    stage.server.faults.set([FaultRule("server_error", on="model-versions")])
    said = preview(stage)
    assert (said["model_name"], said["version_name"], said["held"]) == (None, None, 0)


def test_a_version_that_does_not_exist_is_no_plan(stage: Stage) -> None:
    with pytest.raises(ApiFailure, match="404"):
        preview(stage, version=5)


def test_a_preview_writes_nothing(stage: Stage) -> None:
    preview(stage, max_items=5)
    assert not stage.folder.exists()


def test_what_is_to_come_is_estimated_from_how_fast_images_came_in(tmp_path: Path) -> None:
    daily = [item(day, f"day {day}", createdAt=f"2026-08-{day:02}T00:00:00.000Z") for day in range(1, 13)]
    with Sandbox(World.from_items(daily, VERSION)) as server:
        stage = Stage(server, tmp_path / "lake")
        stage.collect(page_size=5)
    pages = load_held(stage.lake, VERSION).landed_pages
    newest = max(moment for moment in pages.column("newest_created_at").to_pylist() if moment is not None)
    oldest = min(moment for moment in pages.column("oldest_created_at").to_pylist() if moment is not None)
    shown = sum(pages.column("attempted").to_pylist())
    as_long_again = newest + (newest - oldest)
    assert expected_items(pages, as_long_again) == shown
    assert expected_items(pages, newest) == 0
    assert expected_items(pages.slice(0, 0), newest) is None

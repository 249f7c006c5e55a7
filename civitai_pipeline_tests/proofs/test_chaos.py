"""The chaos soak's short form: ticks by hand instead of the daemon's; the long one is ``make prove``."""

from __future__ import annotations

import os
from datetime import timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import dagster as dg
import pytest

from civitai_pipeline.defs.schedules import audit_collection
from civitai_pipeline.defs.sensors import resume_collection
from civitai_pipeline.lake.ledger import Ledger
from civitai_pipeline.lake.paths import Lake
from civitai_pipeline.sandbox import DEMO_VERSIONS
from civitai_pipeline.upkeep import decisions
from civitai_pipeline_tests.defs import test_schedules
from civitai_pipeline_tests.defs.sensors.ticking import carry_out, tick, watch

from .grounds import Script, hurry
from .soak import Dice

if TYPE_CHECKING:
    from pathlib import Path

    from civitai_pipeline.sandbox import Sandbox

MOST_TICKS = 25


@pytest.fixture
def instance(dagster_home: Path, monkeypatch: pytest.MonkeyPatch) -> dg.DagsterInstance:
    monkeypatch.setenv("CIVITAI_WATCHLIST", str(dagster_home.parent / "watchlist.yaml"))
    monkeypatch.setenv("CIVITAI_RETRY_BUDGET", "0")
    monkeypatch.setenv("CIVITAI_TIMEOUT", "1")
    monkeypatch.setattr(decisions, "FIRST_DELAY", timedelta(0))
    monkeypatch.setattr(decisions, "LONGEST_DELAY", timedelta(0))
    return dg.DagsterInstance.get()


def held(lake: Lake, version: int) -> set[int]:
    return {item["id"] for page in Ledger(lake, version).pages() for item in page.items}


def test_sensors_bring_all_versions_to_their_end_while_everything_goes_wrong(
    instance: dg.DagsterInstance, stand_in: Sandbox
) -> None:
    world, lake = stand_in.world, Lake.at(os.environ["CIVITAI_LAKE"])
    watch("defaults: {page_size: 12}\nversions: [" + ", ".join(f"{{id: {version}}}" for version in DEMO_VERSIONS) + "]")
    dice = stand_in.faults = Dice(seed=5, most_lost_cursors=1, share=1 / 3)
    with instance, hurry():
        cursor, runs = None, 0
        for number in range(MOST_TICKS):
            data = tick(resume_collection, instance, cursor)
            if not data.run_requests and number:
                break
            cursor, runs = data.cursor, runs + len(carry_out(instance, data))
            version = DEMO_VERSIONS[number % len(DEMO_VERSIONS)]
            world.add_images(version, 2)
            world.delete_image(world.image_ids(version)[number])
        else:
            pytest.fail(f"walks are open after {runs} runs")
        stand_in.faults = Script(lambda _endpoint, _number, _cursor: None)
        requests, _ = test_schedules.tick(audit_collection, instance)
        audit: Any = SimpleNamespace(run_requests=requests, dynamic_partitions_requests=None)
        results = carry_out(instance, cast("dg.SensorExecutionData", audit))
        assert [result.success for result in results] == [True] * len(DEMO_VERSIONS)
        assert all(run.is_finished for run in instance.get_runs())
    assert dice.faults.total() > 10
    assert runs > len(DEMO_VERSIONS)
    for version in DEMO_VERSIONS:
        assert set(world.image_ids(version)) <= held(lake, version)

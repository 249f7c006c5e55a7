"""The schedules, tick by tick, on a real instance, a real lake and the stand-in."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest

from civitai_pipeline.collect.collector import Collector
from civitai_pipeline.collect.options import CollectOptions
from civitai_pipeline.definitions import build_defs
from civitai_pipeline.defs import schedules
from civitai_pipeline.defs.partitions import register_versions
from civitai_pipeline.defs.resources import LakeStore, client_for
from civitai_pipeline.defs.schedules import SCHEDULES, audit_collection, begun_at, refresh_collection
from civitai_pipeline.lake.paths import Lake
from civitai_pipeline.sandbox import DEMO_VERSIONS
from civitai_pipeline.settings import load_settings
from civitai_pipeline.upkeep import decisions

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

VERSION, OTHER = DEMO_VERSIONS[:2]
SIX = datetime(2026, 11, 20, 6, 0, tzinfo=UTC)
DEFS = build_defs()


@pytest.fixture
def instance(
    dagster_home: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[dg.DagsterInstance]:
    assert dagster_home.is_dir()
    assert environment
    monkeypatch.setenv("CIVITAI_WATCHLIST", str(dagster_home.parent / "watchlist.yaml"))
    with dg.DagsterInstance.get() as instance:
        yield instance


@pytest.fixture
def no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the API's edge cache had forgotten what was just fetched."""
    monkeypatch.setattr(decisions, "EDGE_CACHE", timedelta(0))


def watch(text: str) -> None:
    with open(os.environ["CIVITAI_WATCHLIST"], "w", encoding="utf-8") as file:  # noqa: PTH123 - the variable is text
        file.write(text)


def walk(instance: dg.DagsterInstance, version: int = VERSION, **options: Any) -> None:  # noqa: ANN401 - any option
    register_versions(instance, [version])
    settings = load_settings()
    Collector(client_for(settings), Lake.at(settings.lake), version, CollectOptions(**options)).run()


def tick(
    schedule: dg.ScheduleDefinition, instance: dg.DagsterInstance, at: datetime = SIX
) -> tuple[list[dg.RunRequest], list[str]]:
    """The runs that a schedule asks for, and what it says where it asks for none."""
    with dg.build_schedule_context(
        instance=instance,
        scheduled_execution_time=at,
        resources={"store": LakeStore()},
        repository_def=DEFS.get_repository_def(),
    ) as context:
        data = schedule.evaluate_tick(context)
    return list(data.run_requests or []), (data.skip_message or "").splitlines()


def test_all_are_off_until_somebody_turns_them_on() -> None:
    assert {schedule.default_status for schedule in SCHEDULES} == {dg.DefaultScheduleStatus.STOPPED}
    assert [schedule.cron_schedule for schedule in SCHEDULES] == ["0 */6 * * *", "30 3 1 * *", "45 4 * * 0"]


@pytest.mark.usefixtures("no_cache")
def test_a_refresh_asks_for_watched_finished_versions_once_a_scheduled_time(instance: dg.DagsterInstance) -> None:
    watch(f"versions: [{{id: {VERSION}, browsing_levels: [1, 2], page_size: 50}}]")
    walk(instance, browsing_levels=(1, 2))
    walk(instance, OTHER)
    [request], _ = tick(refresh_collection, instance)
    assert (request.partition_key, request.run_key) == (str(VERSION), f"refresh {VERSION} 2026-11-20T06:00:00+00:00")
    config = request.run_config["ops"]["image_pages"]["config"]
    assert (config["browsing_levels"], config["page_size"], config["restart"]) == ([1, 2], 50, False)


@pytest.mark.usefixtures("no_cache")
def test_the_versions_of_a_watched_model_are_refreshed(instance: dg.DagsterInstance) -> None:
    watch("models: [{id: 9001}]")
    walk(instance)
    assert tick(refresh_collection, instance)[0] == [], "nobody has told yet whose version it is"
    result = (
        DEFS.resolve_job_def("collect")
        .get_subset(asset_selection={dg.AssetKey("model_version_info")}, asset_check_selection=set())
        .execute_in_process(instance=instance, partition_key=str(VERSION))
    )
    assert result.success
    assert [request.partition_key for request in tick(refresh_collection, instance)[0]] == [str(VERSION)]


@pytest.mark.usefixtures("no_cache")
def test_where_ticks_are_cut_short_all_versions_have_their_turn(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch(f"versions: [{', '.join(f'{{id: {version}}}' for version in DEMO_VERSIONS[:3])}]")
    for version in DEMO_VERSIONS[:3]:
        walk(instance, version)
    assert len(tick(refresh_collection, instance)[0]) == 3
    monkeypatch.setattr(schedules, "TICK_BUDGET_S", 0.0)
    asked = [tick(refresh_collection, instance, SIX + timedelta(hours=6 * number))[0] for number in range(6)]
    assert [len(requests) for requests in asked] == [1] * 6
    assert {requests[0].partition_key for requests in asked} == {str(version) for version in DEMO_VERSIONS[:3]}


def test_ticks_begin_evenly_among_the_versions() -> None:
    versions = list(range(10_000))
    begun = [begun_at(versions, SIX + timedelta(hours=6 * number)) for number in range(12)]
    assert all(sorted(order) == versions for order in begun)
    # Of ten thousand versions, each tick gets through two: within twelve ticks all have had their turn.
    assert len({version for order in begun for version in order[:2_000]}) == len(versions)


def test_each_skip_is_explained(instance: dg.DagsterInstance) -> None:
    assert tick(refresh_collection, instance) == (
        [],
        ["no version that was ever collected is watched; list some in the watchlist"],
    )
    versions = DEMO_VERSIONS[:3]
    watch(
        f"versions: [{{id: {versions[0]}}}, {{id: {versions[1]}}}, {{id: {versions[2]}, refresh: false, audit: false}}]"
    )
    walk(instance, versions[0])
    walk(instance, versions[1], max_items=1)
    walk(instance, versions[2])
    said = {
        versions[0]: "fetched less than five minutes ago; the API's cache would answer the same",
        versions[1]: "not finished (open); resume_collection goes on with it",
        versions[2]: "its refresh option is off",
    }
    assert tick(refresh_collection, instance) == ([], [f"{v}: {said[v]}" for v in sorted(versions)])


@pytest.mark.usefixtures("no_cache")
@pytest.mark.parametrize("schedule", [refresh_collection, audit_collection], ids=lambda schedule: schedule.name)
def test_a_version_that_is_being_collected_is_left_alone(
    instance: dg.DagsterInstance, schedule: dg.ScheduleDefinition
) -> None:
    watch(f"versions: [{{id: {VERSION}}}]")
    walk(instance)
    run = dg.DagsterRun(
        job_name="collect", status=dg.DagsterRunStatus.STARTED, tags={"dagster/partition": str(VERSION)}
    )
    instance.add_run(run)
    assert tick(schedule, instance) == ([], [f"{VERSION}: run {run.run_id[:8]} of collect is started"])


def test_an_audit_walks_finished_versions_anew(instance: dg.DagsterInstance) -> None:
    watch(f"versions: [{{id: {VERSION}}}, {{id: {OTHER}, audit: false}}]")
    walk(instance)
    walk(instance, OTHER)
    [request], _ = tick(audit_collection, instance)
    assert request.run_key == f"audit {VERSION} 2026-11-20T06:00:00+00:00"
    config = request.run_config["ops"]["image_pages"]["config"]
    assert (config["restart"], config["browsing_levels"]) == (True, [1])

"""The sensors, tick by tick, on a real instance, a real lake and the stand-in."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest

from civitai_pipeline.civitai.listing import Sort
from civitai_pipeline.collect.collector import Collector
from civitai_pipeline.collect.options import CollectOptions
from civitai_pipeline.collect.summary import StopReason
from civitai_pipeline.definitions import build_defs
from civitai_pipeline.defs.metadata import summary_from_metadata
from civitai_pipeline.defs.partitions import register_versions
from civitai_pipeline.defs.resources import LakeStore, client_for
from civitai_pipeline.defs.sensors import (
    SENSORS,
    discover_model_versions,
    repair_dead_runs,
    resume_collection,
    tell_of_failures,
)
from civitai_pipeline.defs.sensors.records import ACTIVE
from civitai_pipeline.defs.sensors.repair import end_dead_runs
from civitai_pipeline.lake.ledger import Ledger
from civitai_pipeline.lake.paths import Lake
from civitai_pipeline.sandbox import DEMO_VERSIONS
from civitai_pipeline.settings import load_settings
from civitai_pipeline.upkeep import decisions
from civitai_pipeline.upkeep.processes import process_tags, tags_of
from civitai_pipeline.watchlist import WatchlistError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from civitai_pipeline.sandbox import Sandbox

VERSION = DEMO_VERSIONS[0]
MODEL = 9001
IMAGE_PAGES = dg.AssetKey("image_pages")
DEFS = build_defs()
COLLECTING = DEFS.resolve_job_def("collect").get_subset(asset_selection={IMAGE_PAGES}, asset_check_selection=set())
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@pytest.fixture
def instance(
    dagster_home: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[dg.DagsterInstance]:
    assert dagster_home.is_dir()
    assert environment
    monkeypatch.setenv("CIVITAI_RETRY_BUDGET", "0")
    monkeypatch.setenv("CIVITAI_WATCHLIST", str(dagster_home.parent / "watchlist.yaml"))
    monkeypatch.delenv("CIVITAI_FAILURE_WEBHOOK", raising=False)
    with dg.DagsterInstance.get() as instance:
        yield instance


@pytest.fixture
def lake(environment: dict[str, str]) -> Lake:
    return Lake.at(environment["CIVITAI_LAKE"])


def watch(text: str) -> None:
    with open(os.environ["CIVITAI_WATCHLIST"], "w", encoding="utf-8") as file:  # noqa: PTH123 - the variable is text
        file.write(text)


def tick(
    sensor: dg.SensorDefinition, instance: dg.DagsterInstance, cursor: str | None = None
) -> dg.SensorExecutionData:
    # With the reference, as the daemon gives it, run requests see the partitions of their own tick.
    with dg.build_sensor_context(
        instance=instance,
        instance_ref=instance.get_ref(),
        cursor=cursor,
        resources={"store": LakeStore()},
        definitions=DEFS,
    ) as context:
        return sensor.evaluate_tick(context)


def walk(lake: Lake, version: int = VERSION, **options: Any) -> None:  # noqa: ANN401 - any option
    Collector(client_for(load_settings()), lake, version, CollectOptions(**options)).run()


def add_run(instance: dg.DagsterInstance, status: dg.DagsterRunStatus, **fields: Any) -> dg.DagsterRun:  # noqa: ANN401 - any field
    """A run as Dagster would have recorded it."""
    tags = {"dagster/partition": str(VERSION), **fields.pop("tags", {})}
    run = dg.DagsterRun(job_name=fields.pop("job_name", "collect"), status=dg.DagsterRunStatus.STARTED, tags=tags)
    instance.add_run(run)
    reports = {
        dg.DagsterRunStatus.FAILURE: instance.report_run_failed,
        dg.DagsterRunStatus.CANCELED: instance.report_run_canceled,
        dg.DagsterRunStatus.CANCELING: instance.report_run_canceling,
    }
    if status in reports:
        reports[status](run)
    return run


def carry_out(
    instance: dg.DagsterInstance, data: dg.SensorExecutionData, most: int = 99
) -> list[dg.ExecuteInProcessResult]:
    """What Dagster's daemon does with a tick: adds the partitions, then launches the runs.

    Of the runs only the collecting itself, which is all that the sensors look at.
    """
    for request in data.dynamic_partitions_requests or []:
        instance.add_dynamic_partitions("model_version", list(request.partition_keys))
    return [
        COLLECTING.execute_in_process(
            instance=instance,
            partition_key=request.partition_key,
            run_config={**json.loads(json.dumps(request.run_config)), **QUIET},
            tags=dict(request.tags),
            raise_on_error=False,
        )
        for request in data.run_requests[:most]
    ]


def config_of(request: dg.RunRequest) -> dict[str, Any]:
    return dict(request.run_config["ops"]["image_pages"]["config"])


def test_all_are_off_until_somebody_turns_them_on() -> None:
    assert {sensor.default_status for sensor in SENSORS} == {dg.DefaultSensorStatus.STOPPED}
    assert all(sensor.description for sensor in SENSORS)
    dg.Definitions.validate_loadable(
        DEFS if DEFS.sensors else dg.Definitions.merge(DEFS, dg.Definitions(sensors=SENSORS))
    )
    assert (resume_collection.minimum_interval_seconds, discover_model_versions.minimum_interval_seconds) == (60, 3600)


class TestResuming:
    def test_an_open_walk_goes_on_until_it_is_at_its_end(self, instance: dg.DagsterInstance, lake: Lake) -> None:
        register_versions(instance, [VERSION])
        walk(lake, max_items=20)
        data = tick(resume_collection, instance)
        assert [request.partition_key for request in data.run_requests] == [str(VERSION)]
        assert [request.run_key for request in data.run_requests] == [None]
        assert [result.success for result in carry_out(instance, data)] == [True]
        data = tick(resume_collection, instance, data.cursor)
        assert not data.run_requests
        assert data.skip_message == "1 version: all listings are at their end"

    def test_a_watched_version_is_registered_and_begun_as_the_watchlist_says(
        self, instance: dg.DagsterInstance
    ) -> None:
        watch(
            f"versions: [{{id: {VERSION}, sort: newest, browsing_levels: [1, 2], max_items: 40, max_minutes: 9,"
            " page_size: 20, strict_version_match: true, append_only: true}]"
        )
        data = tick(resume_collection, instance)
        [request] = data.run_requests
        assert config_of(request) == {
            "sort": Sort.NEWEST.name,
            "browsing_levels": [1, 2],
            "max_items": 40,
            "max_minutes": 9.0,
            "page_size": 20,
            "strict_version_match": True,
            "append_only": True,
            "restart": False,
        }
        [added] = data.dynamic_partitions_requests
        assert added.partition_keys == [str(VERSION)]
        assert request.tags["civitai/reason"] == "never walked"

    def test_each_skip_is_explained(self, instance: dg.DagsterInstance, lake: Lake) -> None:
        others = DEMO_VERSIONS[1:3]
        register_versions(instance, [VERSION, *others, 5])
        instance.add_dynamic_partitions("model_version", ["../x"])
        for version in (VERSION, *others):
            walk(lake, version, max_items=1)
        walk(lake, others[1])
        watch(f"versions: [{{id: {others[0]}, resume: false}}]")
        add_run(instance, dg.DagsterRunStatus.STARTED)
        said = (tick(resume_collection, instance).skip_message or "").splitlines()
        assert said == [
            "5: nobody asked for it: it is not in the watchlist and was never walked",
            f"{VERSION}: {said[1].partition(': ')[2]}",
            f"{others[0]}: its resume option is off",
            "1 version: all listings are at their end",
        ]
        assert said[1].endswith("of collect is started")

    @pytest.mark.parametrize("job", ["collect", "__ASSET_JOB"])
    def test_there_is_never_a_second_run_of_a_version(self, instance: dg.DagsterInstance, lake: Lake, job: str) -> None:
        register_versions(instance, [VERSION])
        walk(lake, max_items=1)
        assert dg.DagsterRunStatus.QUEUED in ACTIVE, "which only a daemon's run can be"
        for status in ("NOT_STARTED", "STARTING", "STARTED", "CANCELING"):
            run = dg.DagsterRun(
                job_name=job, status=dg.DagsterRunStatus[status], tags={"dagster/partition": str(VERSION)}
            )
            instance.add_run(run)
            data = tick(resume_collection, instance)
            assert not data.run_requests
            assert f"is {status.lower()}" in (data.skip_message or "")
            instance.delete_run(run.run_id)
        assert tick(resume_collection, instance).run_requests

    def test_failures_are_tried_again_after_a_growing_delay(
        self, instance: dg.DagsterInstance, lake: Lake, stand_in: Sandbox, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        register_versions(instance, [VERSION])
        walk(lake, max_items=1)
        stand_in.faults.add("server_error")
        results = carry_out(instance, tick(resume_collection, instance))
        assert [result.success for result in results] == [False]
        said = tick(resume_collection, instance).skip_message or ""
        assert "stopped with api_unavailable; tried again after" in said
        due = datetime.strptime(said[-23:-4], "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
        assert timedelta(seconds=40) < due - datetime.now(UTC) < timedelta(seconds=62)
        for _ in range(3):
            add_run(instance, dg.DagsterRunStatus.FAILURE)
        said = tick(resume_collection, instance).skip_message or ""
        assert "failed (4 in a row); tried again after" in said
        due = datetime.strptime(said[-23:-4], "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
        assert timedelta(minutes=7) < due - datetime.now(UTC) < timedelta(minutes=8, seconds=2)
        monkeypatch.setattr(decisions, "FIRST_DELAY", timedelta(0))
        assert tick(resume_collection, instance).run_requests

    def test_trouble_after_some_pages_waits_too_and_a_refusal_waits_for_a_person(
        self, instance: dg.DagsterInstance, stand_in: Sandbox, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        watch(f"versions: [{{id: {VERSION}, page_size: 20}}]")
        stand_in.faults.add("forbidden", nth=2)
        assert [result.success for result in carry_out(instance, tick(resume_collection, instance))] == [True]
        said = tick(resume_collection, instance).skip_message or ""
        assert "stopped with rejected; tried again after" in said
        monkeypatch.setattr(decisions, "FIRST_DELAY", timedelta(0))
        stand_in.faults.clear()
        stand_in.faults.add("forbidden")
        assert [result.success for result in carry_out(instance, tick(resume_collection, instance))] == [False]
        said = tick(resume_collection, instance).skip_message or ""
        assert "stopped with rejected, which needs a person (2 in a row); tried again after" in said

    def test_what_a_person_cancelled_stays_so_until_a_person_runs_it(
        self, instance: dg.DagsterInstance, lake: Lake
    ) -> None:
        register_versions(instance, [VERSION])
        walk(lake, max_items=1)
        canceled = add_run(instance, dg.DagsterRunStatus.CANCELED)
        assert f"run {canceled.run_id[:8]} was cancelled" in (tick(resume_collection, instance).skip_message or "")
        watch("defaults: {resume_canceled: true}")
        assert tick(resume_collection, instance).run_requests
        watch("")
        add_run(instance, dg.DagsterRunStatus.FAILURE, tags={"dagster/sensor_name": "some_sensor"})
        assert "was cancelled" in (tick(resume_collection, instance).skip_message or "")
        add_run(instance, dg.DagsterRunStatus.FAILURE)
        assert "tried again after" in (tick(resume_collection, instance).skip_message or "")

    def test_a_mistake_in_the_watchlist_fails_the_tick_and_names_the_place(self, instance: dg.DagsterInstance) -> None:
        watch("versions: [{id: 0}]")
        with pytest.raises(WatchlistError, match=r"watchlist\.yaml: versions\[0\]\.id: Input should be greater"):
            tick(resume_collection, instance)

    def test_a_ledger_that_cannot_be_read_hides_no_other_version(
        self, instance: dg.DagsterInstance, lake: Lake
    ) -> None:
        register_versions(instance, [VERSION, DEMO_VERSIONS[1]])
        for version in (VERSION, DEMO_VERSIONS[1]):
            walk(lake, version, max_items=1)
        page = lake.page(VERSION, 1, 1)
        page.write_bytes(b"no page")
        data = tick(resume_collection, instance)
        assert [request.partition_key for request in data.run_requests] == [str(DEMO_VERSIONS[1])]

    def test_each_version_has_its_turn(
        self, instance: dg.DagsterInstance, lake: Lake, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        versions = sorted(DEMO_VERSIONS[:2])
        register_versions(instance, versions)
        for version in versions:
            walk(lake, version, max_items=1)
        # Each tick has time for one version: it begins, looks at the clock before the first and before the second.
        clock = iter([0.0, 0.0, 99.0] * 2)
        monkeypatch.setattr(
            "civitai_pipeline.defs.sensors.resumption.time", SimpleNamespace(monotonic=lambda: next(clock))
        )
        first = tick(resume_collection, instance)
        second = tick(resume_collection, instance, first.cursor)
        turns = [[request.partition_key for request in data.run_requests] for data in (first, second)]
        assert turns == [[str(versions[0])], [str(versions[1])]]


class TestDiscovering:
    def test_a_new_version_becomes_a_partition_and_gets_a_run_in_the_same_tick(
        self, instance: dg.DagsterInstance, lake: Lake, stand_in: Sandbox
    ) -> None:
        watch(f"models: [{{id: {MODEL}, page_size: 50, max_items: 50}}]")
        known = [version.id for version in stand_in.world.versions_of(MODEL)]
        register_versions(instance, known)
        for version in known:
            add_run(instance, dg.DagsterRunStatus.FAILURE, tags={"dagster/partition": str(version)})
        assert tick(discover_model_versions, instance).skip_message == (
            f"{MODEL}: {len(known)} published versions, 0 new"
        )
        stand_in.world.add_version(MODEL, 919191)
        stand_in.world.add_images(919191, 3)
        data = tick(discover_model_versions, instance)
        assert [request.partition_key for request in data.run_requests] == ["919191"]
        assert [request.partition_keys for request in data.dynamic_partitions_requests or []] == [["919191"]]
        assert config_of(data.run_requests[0])["page_size"] == 50
        carry_out(instance, data)
        assert "919191" in instance.get_dynamic_partitions("model_version")
        assert Ledger(lake, 919191).walk_numbers() == [1]
        assert not tick(discover_model_versions, instance).run_requests

    def test_a_version_whose_first_run_was_lost_is_begun_after_all(
        self, instance: dg.DagsterInstance, stand_in: Sandbox
    ) -> None:
        watch(f"models: [{{id: {MODEL}}}]")
        known = {version.id for version in stand_in.world.versions_of(MODEL)}
        register_versions(instance, sorted(known))
        data = tick(discover_model_versions, instance)
        assert {request.partition_key for request in data.run_requests} == {str(version) for version in known}
        assert not data.dynamic_partitions_requests

    def test_a_discovered_version_whose_run_failed_at_once_is_resumed_with_its_models_options(
        self, instance: dg.DagsterInstance, stand_in: Sandbox, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        watch(f"models: [{{id: {MODEL}, page_size: 33}}]")
        data = tick(discover_model_versions, instance)
        stand_in.faults.add("server_error", on="any")
        request = data.run_requests[0]
        carry_out(instance, data, most=1)
        assert request.partition_key is not None
        monkeypatch.setattr(decisions, "FIRST_DELAY", timedelta(0))
        requests = {r.partition_key: r for r in tick(resume_collection, instance).run_requests}
        assert config_of(requests[request.partition_key])["page_size"] == 33

    def test_while_the_api_is_down_nothing_is_forgotten_and_the_tick_says_so(
        self, instance: dg.DagsterInstance, stand_in: Sandbox, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("CIVITAI_RETRY_BUDGET", "60")
        watch(f"models: [{{id: {MODEL}}}, {{id: 9002}}, {{id: 9003, discover: false}}]")
        register_versions(instance, [VERSION])
        stand_in.faults.add("server_error", on="models")
        said = (tick(discover_model_versions, instance).skip_message or "").splitlines()
        assert len(said) == 2
        assert said[0].startswith(f"{MODEL}: could not be asked, nothing is forgotten: HTTP 500")
        assert instance.get_dynamic_partitions("model_version") == [str(VERSION)]
        assert len(stand_in.requests) == 2, "each is tried once a tick"
        stand_in.faults.clear()
        stand_in.faults.add("not_found", on="models", nth=1)
        data = tick(discover_model_versions, instance)
        assert data.run_requests, "one model that is gone does not hide another"

    def test_a_tick_ends_in_time_and_the_next_goes_on_behind_it(
        self, instance: dg.DagsterInstance, stand_in: Sandbox, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        module = "civitai_pipeline.defs.sensors.discovery"
        monkeypatch.setattr(f"{module}.TIMEOUT_S", 0.2)
        monkeypatch.setattr(f"{module}.LONGEST_REQUEST_S", 0.0)
        monkeypatch.setattr(f"{module}.TICK_BUDGET_S", 0.3)
        watch(f"models: [{{id: {MODEL}}}, {{id: 9002}}, {{id: 9003}}]")
        stand_in.faults.add("stall", on="models")
        began = time.monotonic()
        first = tick(discover_model_versions, instance)
        assert time.monotonic() - began < 5
        assert (first.skip_message or "").splitlines()[-1] == (
            "9003: the time of this tick was over; the next one begins here"
        )
        second = tick(discover_model_versions, instance, first.cursor)
        assert (second.skip_message or "").startswith("9003: could not be asked")

    def test_without_watched_models_nothing_is_asked(self, instance: dg.DagsterInstance, stand_in: Sandbox) -> None:
        assert "no model is watched" in (tick(discover_model_versions, instance).skip_message or "")
        assert stand_in.requests == []


def start_collecting(*arguments: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "civitai_pipeline.cli", "collect", str(VERSION), "--page-size", "5", *arguments]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def wait_for(what: Any, seconds: float = 30.0) -> None:  # noqa: ANN401 - any question
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.05)


def summaries(instance: dg.DagsterInstance) -> list[dict[str, Any]]:
    found = [r.asset_observation for r in instance.fetch_observations(IMAGE_PAGES, limit=50).records]
    return [summary_from_metadata(observation.metadata) for observation in found if observation is not None]


class TestRepairing:
    def test_a_killed_collection_is_ended_freed_summed_up_and_then_resumed(
        self, instance: dg.DagsterInstance, lake: Lake, stand_in: Sandbox, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        object.__setattr__(stand_in.options, "latency_s", 0.2)
        process = start_collecting()
        try:
            wait_for(lambda: lake.page(VERSION, 1, 2).exists())
            [run] = instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED]))
            assert tick(repair_dead_runs, instance).skip_message == "no run has died without a word"
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
        object.__setattr__(stand_in.options, "latency_s", 0.0)
        landed = Ledger(lake, VERSION).page_count(1)
        info = instance.event_log_storage.get_concurrency_info("civitai_api")
        assert (info.slot_count, info.active_slot_count, info.active_run_ids) == (1, 1, {run.run_id})

        assert "is started" in (tick(resume_collection, instance).skip_message or "")
        said = (tick(repair_dead_runs, instance).skip_message or "").splitlines()
        assert said[0].endswith("its process is gone, ended")
        assert said[-1].endswith(f"its summary is written, {landed} pages had landed")
        ended = instance.get_run_by_id(run.run_id)
        assert ended is not None
        assert ended.status is dg.DagsterRunStatus.FAILURE
        info = instance.event_log_storage.get_concurrency_info("civitai_api")
        assert (info.active_slot_count, info.pending_step_count) == (0, 0)
        [summary] = summaries(instance)
        assert (summary["run_id"], summary["pages"], summary["attempted"]) == (run.run_id, landed, 5 * landed)
        assert (summary["stop_reason"], summary["more_available"]) == (StopReason.INTERNAL_ERROR, True)
        assert "died" in summary["error"]

        monkeypatch.setattr(decisions, "FIRST_DELAY", timedelta(0))
        [result] = carry_out(instance, tick(resume_collection, instance))
        assert result.success
        ids = [item["id"] for page in Ledger(lake, VERSION).pages() for item in page.items]
        assert sorted(ids) == sorted(set(ids)) == sorted(stand_in.world.image_ids(VERSION))

    def test_the_slot_of_a_killed_collection_holds_up_the_next_until_it_is_freed(
        self, instance: dg.DagsterInstance, lake: Lake
    ) -> None:
        storage = instance.event_log_storage
        dead = add_run(instance, dg.DagsterRunStatus.STARTED, tags=tags_of("999999999"))
        storage.initialize_concurrency_limit_to_default("civitai_api")
        assert storage.claim_concurrency_slot("civitai_api", dead.run_id, "image_pages").is_claimed
        assert not storage.claim_concurrency_slot("civitai_api", "another", "image_pages").is_claimed
        said = end_dead_runs(instance)
        assert len(said) == 2 + 1  # the waiting claim belongs to a run that does not exist
        assert storage.get_concurrency_info("civitai_api").active_slot_count == 0
        assert end_dead_runs(instance) == []
        register_versions(instance, [VERSION])
        walk(lake, max_items=1)
        assert "tried again" in (tick(resume_collection, instance).skip_message or "")

    def test_runs_of_living_processes_other_machines_and_unknown_ones_are_left_alone(
        self, instance: dg.DagsterInstance
    ) -> None:
        runs = [
            add_run(instance, dg.DagsterRunStatus.STARTED, tags=process_tags()),
            add_run(instance, dg.DagsterRunStatus.STARTED, tags={**tags_of("999999999"), "civitai/host": "elsewhere"}),
            add_run(instance, dg.DagsterRunStatus.STARTED),
        ]
        assert end_dead_runs(instance) == []
        assert {run.status for run in instance.get_runs()} == {dg.DagsterRunStatus.STARTED}
        assert len(runs) == 3

    def test_what_was_materialized_by_hand_and_whose_process_is_gone_is_ended_too(
        self, instance: dg.DagsterInstance
    ) -> None:
        run = add_run(instance, dg.DagsterRunStatus.STARTED, tags=tags_of("999999999"), job_name="__ASSET_JOB")
        assert len(end_dead_runs(instance)) == 1
        ended = instance.get_run_by_id(run.run_id)
        assert ended is not None
        assert ended.status is dg.DagsterRunStatus.FAILURE

    def test_a_collection_killed_while_it_waited_for_its_turn_is_known_by_its_log_and_frees_its_place(
        self, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("civitai_pipeline.defs.sensors.repair.HOST_TAG", "tags of a later step")
        storage = instance.event_log_storage
        busy = add_run(instance, dg.DagsterRunStatus.STARTED, tags={"dagster/partition": "1"})
        storage.initialize_concurrency_limit_to_default("civitai_api")
        assert storage.claim_concurrency_slot("civitai_api", busy.run_id, "image_pages").is_claimed
        process = start_collecting()
        try:
            wait_for(lambda: len(storage.get_concurrency_run_ids()) == 2)
            assert end_dead_runs(instance) == []
        finally:
            process.kill()
            process.wait()
        assert len(end_dead_runs(instance)) == 2
        assert storage.get_concurrency_run_ids() == {busy.run_id}
        assert {run.status for run in instance.get_runs() if run.run_id != busy.run_id} == {dg.DagsterRunStatus.FAILURE}

    def test_a_run_that_died_while_it_was_cancelled_stays_cancelled(self, instance: dg.DagsterInstance) -> None:
        run = add_run(instance, dg.DagsterRunStatus.CANCELING, tags=tags_of("999999999"))
        tick(repair_dead_runs, instance)
        ended = instance.get_run_by_id(run.run_id)
        assert ended is not None
        assert ended.status is dg.DagsterRunStatus.CANCELED

    def test_what_left_a_summary_gets_no_second_one_and_is_looked_at_once(
        self, instance: dg.DagsterInstance, stand_in: Sandbox, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        watch(f"versions: [{{id: {VERSION}}}]")
        stand_in.faults.add("forbidden")
        carry_out(instance, tick(resume_collection, instance))
        assert len(summaries(instance)) == 1
        first = tick(repair_dead_runs, instance)
        assert first.skip_message == "no run has died without a word"
        assert len(summaries(instance)) == 1
        monkeypatch.setattr("civitai_pipeline.defs.sensors.repair._write_missing_summary", None)
        assert tick(repair_dead_runs, instance, first.cursor).skip_message == "no run has died without a word"

    def test_a_run_that_failed_before_it_collected_gets_a_summary_with_its_failure_once(
        self, instance: dg.DagsterInstance
    ) -> None:
        register_versions(instance, [VERSION])
        result = COLLECTING.execute_in_process(
            instance=instance,
            partition_key=str(VERSION),
            run_config={"ops": {"image_pages": {"config": {"browsing_levels": [99]}}}, **QUIET},
            raise_on_error=False,
        )
        assert not result.success
        for _ in range(2):
            tick(repair_dead_runs, instance)
        [summary] = summaries(instance)
        assert (summary["run_id"], summary["pages"]) == (result.run_id, 0)
        assert "99" in summary["error"]


class Inbox:
    """A webhook that keeps what it is sent."""

    def __init__(self, status: int = 200) -> None:
        self.messages: list[dict[str, Any]] = []
        inbox = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                inbox.messages.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/secret"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


class TestTelling:
    def told(self, instance: dg.DagsterInstance) -> str:
        """What the tick after a failed run says."""
        cursor = tick(tell_of_failures, instance).cursor
        add_run(instance, dg.DagsterRunStatus.FAILURE)
        return tick(tell_of_failures, instance, cursor).skip_message or ""

    def test_a_failed_run_is_told_of_in_a_small_message(
        self, instance: dg.DagsterInstance, stand_in: Sandbox, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        inbox = Inbox()
        monkeypatch.setenv("CIVITAI_FAILURE_WEBHOOK", inbox.url)
        try:
            cursor = tick(tell_of_failures, instance).cursor
            watch(f"versions: [{{id: {VERSION}}}]")
            stand_in.faults.add("forbidden")
            carry_out(instance, tick(resume_collection, instance))
            data = tick(tell_of_failures, instance, cursor)
        finally:
            inbox.close()
        assert data.skip_message is None
        [message] = inbox.messages
        assert message["text"].startswith(f"collect of model version {VERSION} failed: HTTP 403")
        assert (message["job"], message["model_version_id"], message["stop_reason"]) == ("collect", VERSION, "rejected")
        assert message["error"].startswith("HTTP 403")
        assert instance.get_run_by_id(message["run_id"]) is not None

    @pytest.mark.parametrize("status", [500, 302])
    def test_a_webhook_that_refuses_is_said_in_the_tick(
        self, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch, status: int
    ) -> None:
        inbox = Inbox(status)
        monkeypatch.setenv("CIVITAI_FAILURE_WEBHOOK", inbox.url)
        try:
            said = self.told(instance)
        finally:
            inbox.close()
        assert said.endswith(f"nobody could be told: the webhook answered {status}")
        assert len(inbox.messages) == 1

    def test_a_webhook_that_is_not_there_is_said_without_its_address(
        self, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("CIVITAI_FAILURE_WEBHOOK", "http://127.0.0.1:9/secret")
        said = self.told(instance)
        assert "the webhook could not be reached (ConnectionError)" in said
        assert "secret" not in said

    def test_without_a_webhook_the_tick_says_that_nobody_is_told(self, instance: dg.DagsterInstance) -> None:
        assert "CIVITAI_FAILURE_WEBHOOK is not set, so nobody is told" in self.told(instance)

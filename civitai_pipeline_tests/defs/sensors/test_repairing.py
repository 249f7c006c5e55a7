"""Dead runs are ended, freed and summed up."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg

from civitai_pipeline.collect.summary import StopReason
from civitai_pipeline.definitions import build_defs
from civitai_pipeline.defs.events import summary_in_log
from civitai_pipeline.defs.metadata import summary_from_metadata
from civitai_pipeline.defs.partitions import register_versions
from civitai_pipeline.defs.sensors import (
    repair_dead_runs,
    resume_collection,
)
from civitai_pipeline.defs.sensors.repair import end_dead_runs
from civitai_pipeline.lake.ledger import Ledger
from civitai_pipeline.upkeep import decisions
from civitai_pipeline.upkeep.processes import process_tags, tags_of

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from civitai_pipeline.lake.paths import Lake
    from civitai_pipeline.sandbox import Sandbox

from .ticking import COLLECTING, IMAGE_PAGES, QUIET, VERSION, add_run, carry_out, tick, walk, watch


def start_collecting(*arguments: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "civitai_pipeline.cli", "collect", str(VERSION), "--page-size", "5", *arguments]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def wait_for(what: Any, seconds: float = 120.0) -> None:  # noqa: ANN401 - any question
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.05)


def summaries(instance: dg.DagsterInstance) -> list[dict[str, Any]]:
    found = [r.asset_observation for r in instance.fetch_observations(IMAGE_PAGES, limit=50).records]
    return [summary_from_metadata(observation.metadata) for observation in found if observation is not None]


def test_a_killed_collection_is_ended_freed_summed_up_and_then_resumed(
    instance: dg.DagsterInstance, lake: Lake, stand_in: Sandbox, monkeypatch: pytest.MonkeyPatch
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
    instance: dg.DagsterInstance, lake: Lake
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


def test_runs_of_living_processes_other_machines_and_unknown_ones_are_left_alone(instance: dg.DagsterInstance) -> None:
    runs = [
        add_run(instance, dg.DagsterRunStatus.STARTED, tags=process_tags()),
        add_run(instance, dg.DagsterRunStatus.STARTED, tags={**tags_of("999999999"), "civitai/host": "elsewhere"}),
        add_run(instance, dg.DagsterRunStatus.STARTED),
    ]
    assert end_dead_runs(instance) == []
    assert {run.status for run in instance.get_runs()} == {dg.DagsterRunStatus.STARTED}
    assert len(runs) == 3


def test_what_was_materialized_by_hand_and_whose_process_is_gone_is_ended_too(instance: dg.DagsterInstance) -> None:
    run = add_run(instance, dg.DagsterRunStatus.STARTED, tags=tags_of("999999999"), job_name="__ASSET_JOB")
    assert len(end_dead_runs(instance)) == 1
    ended = instance.get_run_by_id(run.run_id)
    assert ended is not None
    assert ended.status is dg.DagsterRunStatus.FAILURE


def test_a_collection_killed_while_it_waited_for_its_turn_is_known_by_its_log_and_frees_its_place(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
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


def test_a_run_names_its_process_when_it_begins_not_when_its_turn_to_collect_has_come(
    instance: dg.DagsterInstance,
) -> None:
    register_versions(instance, [VERSION])
    job = build_defs().resolve_job_def("collect")
    before = [dg.AssetKey("model_version_info")]
    done = job.execute_in_process(
        instance=instance, partition_key=str(VERSION), asset_selection=before, run_config=QUIET
    )
    run = instance.get_run_by_id(done.run_id)
    assert run is not None
    assert process_tags().items() <= run.tags.items()


def test_tables_that_were_not_made_are_no_collection_and_get_no_summary(instance: dg.DagsterInstance) -> None:
    tables = frozenset({dg.AssetKey("prompts")})
    run = dg.DagsterRun(
        job_name="rebuild", tags={"dagster/partition": str(VERSION), **tags_of("999999999")}, asset_selection=tables
    )
    instance.add_run(run)
    assert (tick(repair_dead_runs, instance).skip_message or "").endswith("its process is gone, ended")
    assert summaries(instance) == []
    by_hand = dg.DagsterRun(job_name="__ASSET_JOB", tags=run.tags, asset_selection=tables | {IMAGE_PAGES})
    instance.add_run(by_hand)
    tick(repair_dead_runs, instance)
    assert [summary["run_id"] for summary in summaries(instance)] == [by_hand.run_id]


def add_unstarted(instance: dg.DagsterInstance, **tags: str) -> dg.DagsterRun:
    run = dg.DagsterRun(job_name="collect", tags={"dagster/partition": str(VERSION), **tags})
    instance.add_run(run)
    return run


def test_a_collection_killed_before_it_started_is_ended_summed_up_and_not_in_the_way_of_the_next(
    instance: dg.DagsterInstance,
) -> None:
    living, dead = add_unstarted(instance, **process_tags()), add_unstarted(instance, **tags_of("999999999"))
    unknown = add_unstarted(instance)
    tick(repair_dead_runs, instance)
    statuses = {run.run_id: run.status for run in instance.get_runs()}
    assert statuses.pop(dead.run_id) is dg.DagsterRunStatus.FAILURE
    assert statuses == dict.fromkeys((living.run_id, unknown.run_id), dg.DagsterRunStatus.NOT_STARTED)
    [summary] = summaries(instance)
    assert (summary["run_id"], summary["pages"]) == (dead.run_id, 0)
    assert summary["stop_reason"] == StopReason.INTERNAL_ERROR
    assert summary["started_at"] <= summary["finished_at"]


def test_a_run_taken_out_of_the_queue_did_nothing_and_gets_no_summary(instance: dg.DagsterInstance) -> None:
    instance.report_run_canceled(add_unstarted(instance))
    tick(repair_dead_runs, instance)
    assert summaries(instance) == []


def test_a_run_that_died_while_it_was_cancelled_stays_cancelled(instance: dg.DagsterInstance) -> None:
    run = add_run(instance, dg.DagsterRunStatus.CANCELING, tags=tags_of("999999999"))
    tick(repair_dead_runs, instance)
    ended = instance.get_run_by_id(run.run_id)
    assert ended is not None
    assert ended.status is dg.DagsterRunStatus.CANCELED


def test_what_left_a_summary_gets_no_second_one_and_is_looked_at_once(
    instance: dg.DagsterInstance, stand_in: Sandbox, monkeypatch: pytest.MonkeyPatch
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


def test_a_run_killed_between_its_log_and_the_records_of_assets_has_its_summary_written_there(
    instance: dg.DagsterInstance, lake: Lake, dagster_home: Path
) -> None:
    register_versions(instance, [VERSION])
    config = {"ops": {"image_pages": {"config": {"max_items": 20}}}, **QUIET}
    result = COLLECTING.execute_in_process(instance=instance, partition_key=str(VERSION), run_config=config)
    left = summary_in_log(instance, IMAGE_PAGES, result.run_id)
    assert left is not None
    run = instance.get_run_by_id(result.run_id)
    assert run is not None
    instance.report_run_failed(run)
    tick(repair_dead_runs, instance)
    assert summaries(instance) == [], "its own is there"
    with sqlite3.connect(dagster_home / "history" / "runs" / "index.db") as index:
        index.execute("DELETE FROM event_logs WHERE run_id = ? AND asset_key IS NOT NULL", [result.run_id])
    for _ in range(2):
        tick(repair_dead_runs, instance)
    assert summaries(instance) == [left]
    assert left["pages"] == Ledger(lake, VERSION).page_count(1)


def test_a_run_that_failed_before_it_collected_gets_a_summary_with_its_failure_once(
    instance: dg.DagsterInstance,
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

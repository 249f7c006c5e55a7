"""Open walks go on, watched versions are begun: tick by tick on the stand-in."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING

import dagster as dg
import pytest

from civitai_pipeline.civitai.listing import Sort
from civitai_pipeline.collect.summary import StopReason
from civitai_pipeline.defs.partitions import register_versions
from civitai_pipeline.defs.sensors import (
    resume_collection,
)
from civitai_pipeline.defs.sensors.records import ACTIVE, stop_reason
from civitai_pipeline.lake.ledger import Ledger
from civitai_pipeline.sandbox import DEMO_VERSIONS
from civitai_pipeline.upkeep import decisions
from civitai_pipeline.watchlist import WatchlistError

if TYPE_CHECKING:
    from pathlib import Path

    from civitai_pipeline.lake.paths import Lake
    from civitai_pipeline.sandbox import Sandbox

from .ticking import VERSION, add_run, carry_out, config_of, tick, walk, watch


def test_an_open_walk_goes_on_until_it_is_at_its_end(instance: dg.DagsterInstance, lake: Lake) -> None:
    register_versions(instance, [VERSION])
    walk(lake, max_items=20)
    data = tick(resume_collection, instance)
    assert [request.partition_key for request in data.run_requests] == [str(VERSION)]
    assert [request.run_key for request in data.run_requests] == [None]
    assert [result.success for result in carry_out(instance, data)] == [True]
    data = tick(resume_collection, instance, data.cursor)
    assert not data.run_requests
    assert data.skip_message == "1 version: all listings are at their end"


def test_a_watched_version_is_registered_and_begun_as_the_watchlist_says(instance: dg.DagsterInstance) -> None:
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


def test_each_skip_is_explained(instance: dg.DagsterInstance, lake: Lake) -> None:
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
def test_there_is_never_a_second_run_of_a_version(instance: dg.DagsterInstance, lake: Lake, job: str) -> None:
    register_versions(instance, [VERSION])
    walk(lake, max_items=1)
    assert dg.DagsterRunStatus.QUEUED in ACTIVE, "which only a daemon's run can be"
    for status in ("NOT_STARTED", "STARTING", "STARTED", "CANCELING"):
        run = dg.DagsterRun(job_name=job, status=dg.DagsterRunStatus[status], tags={"dagster/partition": str(VERSION)})
        instance.add_run(run)
        data = tick(resume_collection, instance)
        assert not data.run_requests
        assert f"is {status.lower()}" in (data.skip_message or "")
        instance.delete_run(run.run_id)
    assert tick(resume_collection, instance).run_requests


def test_failures_are_tried_again_after_a_growing_delay(
    instance: dg.DagsterInstance, lake: Lake, stand_in: Sandbox, monkeypatch: pytest.MonkeyPatch
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
    instance: dg.DagsterInstance, stand_in: Sandbox, monkeypatch: pytest.MonkeyPatch
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


def test_an_audit_that_did_not_come_to_its_first_page_is_begun_again(
    instance: dg.DagsterInstance, lake: Lake, stand_in: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch(f"versions: [{{id: {VERSION}, browsing_levels: [1, 2], page_size: 200}}]")
    register_versions(instance, [VERSION])
    walk(lake, browsing_levels=(1, 2))
    monkeypatch.setattr(decisions, "LONGEST_DELAY", timedelta(0))
    tags = {"dagster/schedule_name": "audit_collection"}
    canceled = add_run(instance, dg.DagsterRunStatus.CANCELED, tags=tags)
    assert not tick(resume_collection, instance).run_requests
    instance.delete_run(canceled.run_id)
    add_run(instance, dg.DagsterRunStatus.FAILURE, tags=tags)
    stand_in.faults.add("forbidden", nth=2)
    results = carry_out(instance, tick(resume_collection, instance))
    assert [result.success for result in results] == [True], "one of two listings was walked"
    monkeypatch.setattr(decisions, "FIRST_DELAY", timedelta(0))
    [request] = tick(resume_collection, instance).run_requests
    assert (config_of(request)["browsing_levels"], config_of(request)["restart"]) == ([2], True)
    carry_out(instance, tick(resume_collection, instance))
    assert tick(resume_collection, instance).skip_message == "1 version: all listings are at their end"
    assert len(list(Ledger(lake, VERSION).walks())) == 4


def test_what_a_person_cancelled_stays_so_until_a_person_runs_it(instance: dg.DagsterInstance, lake: Lake) -> None:
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


def test_a_mistake_in_the_watchlist_fails_the_tick_and_names_the_place(instance: dg.DagsterInstance) -> None:
    watch("versions: [{id: 0}]")
    with pytest.raises(WatchlistError, match=r"watchlist\.yaml: versions\[0\]\.id: Input should be greater"):
        tick(resume_collection, instance)


def test_a_ledger_that_cannot_be_read_hides_no_other_version(instance: dg.DagsterInstance, lake: Lake) -> None:
    register_versions(instance, [VERSION, DEMO_VERSIONS[1]])
    for version in (VERSION, DEMO_VERSIONS[1]):
        walk(lake, version, max_items=1)
    page = lake.page(VERSION, 1, 1)
    page.write_bytes(b"no page")
    data = tick(resume_collection, instance)
    assert [request.partition_key for request in data.run_requests] == [str(DEMO_VERSIONS[1])]


def test_each_version_has_its_turn(instance: dg.DagsterInstance, lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    versions = sorted(DEMO_VERSIONS[:2])
    register_versions(instance, versions)
    for version in versions:
        walk(lake, version, max_items=1)
    # Each tick has time for one version: it begins, looks at the clock before the first and before the second.
    clock = iter([0.0, 0.0, 99.0] * 2)
    monkeypatch.setattr("civitai_pipeline.defs.sensors.resumption.time", SimpleNamespace(monotonic=lambda: next(clock)))
    first = tick(resume_collection, instance)
    second = tick(resume_collection, instance, first.cursor)
    turns = [[request.partition_key for request in data.run_requests] for data in (first, second)]
    assert turns == [[str(versions[0])], [str(versions[1])]]


def test_a_tick_asks_for_so_many_runs_and_the_next_one_for_those_after_them(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch(f"versions: [{', '.join(f'{{id: {version}}}' for version in range(1, 6))}]")
    monkeypatch.setattr("civitai_pipeline.defs.sensors.resumption.MOST_LAUNCHES", 2)
    cursor, turns = None, []
    for _ in range(3):
        data = tick(resume_collection, instance, cursor)
        turns.append([request.partition_key for request in data.run_requests])
        cursor = data.cursor
    assert turns == [["1", "2"], ["3", "4"], ["5", "1"]]


def test_the_stop_reason_of_a_run_that_succeeded_is_found_without_its_log(
    instance: dg.DagsterInstance, stand_in: Sandbox, dagster_home: Path
) -> None:
    watch(f"versions: [{{id: {VERSION}, page_size: 20}}]")
    stand_in.faults.add("forbidden", nth=2)
    [run] = carry_out(instance, tick(resume_collection, instance))
    assert run.success
    (dagster_home / "history" / "runs" / f"{run.run_id}.db").unlink()
    assert stop_reason(instance, run.run_id, str(VERSION)) is StopReason.REJECTED
    assert "stopped with rejected; tried again after" in (tick(resume_collection, instance).skip_message or "")

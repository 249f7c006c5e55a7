"""Old records of runs on a real instance with its records in files: what goes, goes wholly; what is shown stays."""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import closing
from typing import TYPE_CHECKING

import dagster as dg
import pytest

from civitai_pipeline import pruning
from civitai_pipeline.instance import INSTANCE_FILE
from civitai_pipeline.pruning import NO_RETENTION, prune

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PARTS = dg.DynamicPartitionsDefinition(name="model_version")


@dg.asset(partitions_def=PARTS)
def pages() -> dg.MaterializeResult[None]:
    """Made for each version."""
    print("a line on standard output")  # noqa: T201 - what a run prints is kept, and must go with it
    return dg.MaterializeResult(metadata={"text": "x" * 2000})


@dg.asset
def index() -> dg.MaterializeResult[None]:
    """Made for all."""
    return dg.MaterializeResult()


@dg.asset_check(asset=index)
def index_is_there() -> dg.AssetCheckResult:
    """Says much."""
    return dg.AssetCheckResult(passed=True, metadata={"text": "x" * 2000})


@pytest.fixture
def instance(dagster_home: Path) -> Iterator[dg.DagsterInstance]:
    assert dagster_home.is_dir()
    with dg.DagsterInstance.get() as instance:
        instance.add_dynamic_partitions("model_version", ["1", "2"])
        yield instance


def make(instance: dg.DagsterInstance, version: str | None) -> str:
    assets = [index, index_is_there] if version is None else [pages]
    result = dg.materialize(assets, instance=instance, partition_key=version)
    assert result.success
    return result.run_id


def held(home: Path) -> set[str]:
    """The runs that any file or row of the instance speaks of."""
    index_file = home / "history" / "runs" / "index.db"
    names = {path.name.partition(".")[0] for path in (home / "history" / "runs").iterdir()} - {"index"}
    names |= {path.name for path in (home / "storage").iterdir() if (path / "compute_logs").is_dir()}
    with closing(sqlite3.connect(index_file)) as connection:
        for table in ("event_logs", "asset_check_executions"):
            names |= {run_id for (run_id,) in connection.execute(f"SELECT DISTINCT run_id FROM {table}")}  # noqa: S608 - our own names
    with closing(sqlite3.connect(home / "history" / "runs.db")) as connection:
        for table in ("runs", "run_tags"):
            names |= {run_id for (run_id,) in connection.execute(f"SELECT DISTINCT run_id FROM {table}")}  # noqa: S608 - our own names
    return names


def test_old_runs_go_with_all_that_is_theirs_and_the_last_stay(
    instance: dg.DagsterInstance, dagster_home: Path
) -> None:
    old = [make(instance, version) for version in ("1", "1", "2", None)]
    last = {make(instance, "1"), make(instance, "2"), make(instance, None)}
    assert held(dagster_home) == {*old, *last}
    would = prune(instance, keep_days=0, dry_run=True)
    assert (would.runs, would.deleted) == (7, 4)
    assert would.bytes_freed > 0
    assert held(dagster_home) == {*old, *last}
    done = prune(instance, keep_days=0)
    assert (done.runs, done.deleted, done.left_over, done.notes) == (7, 4, 0, [])
    assert done.bytes_freed >= would.bytes_freed
    assert held(dagster_home) == last
    assert {run.run_id for run in instance.get_runs()} == last
    for version, key in (("1", pages.key), ("2", pages.key)):
        [record] = instance.fetch_materializations(
            dg.AssetRecordsFilter(key, asset_partitions=[version]), limit=1
        ).records
        assert record.run_id in last
    assert instance.get_materialized_partitions(pages.key) == {"1", "2"}
    assert instance.get_latest_materialization_event(index.key) is not None
    assert prune(instance, keep_days=0).deleted == 0


def test_young_runs_stay(instance: dg.DagsterInstance) -> None:
    for _ in range(2):
        make(instance, "1")
    assert prune(instance, keep_days=1).deleted == 0


def test_the_run_that_made_what_is_the_latest_of_an_asset_stays(
    instance: dg.DagsterInstance, dagster_home: Path
) -> None:
    made = make(instance, "1")

    @dg.asset(name="pages", partitions_def=PARTS)
    def failing() -> None:
        raise dg.Failure("no", allow_retries=False)

    failed = [
        dg.materialize([failing], instance=instance, partition_key="1", raise_on_error=False).run_id for _ in range(2)
    ]
    assert prune(instance, keep_days=0).deleted == 1
    assert held(dagster_home) == {made, failed[1]}


def test_a_run_under_way_is_never_touched(instance: dg.DagsterInstance) -> None:
    for _ in range(2):
        run = dg.DagsterRun(job_name="collect", status=dg.DagsterRunStatus.STARTED, tags={"dagster/partition": "1"})
        instance.add_run(run)
    assert prune(instance, keep_days=0).runs == 0
    assert len(instance.get_runs()) == 2


def test_what_dagster_left_of_runs_deleted_before_goes_after_a_day(
    instance: dg.DagsterInstance, dagster_home: Path
) -> None:
    gone, last = make(instance, None), make(instance, None)
    instance.delete_run(gone)
    # What Dagster 1.13 leaves; should a newer one not, this file needs to do less.
    assert held(dagster_home) == {gone, last}
    assert prune(instance, keep_days=0).left_over == 0, "a run that has just begun may have files and no record yet"
    old = time.time() - pruning.LEFT_OVER_AFTER_S - 60
    for path in (dagster_home / "history" / "runs" / f"{gone}.db", dagster_home / "storage" / gone):
        os.utime(path, (old, old))
    foreign = dagster_home / "storage" / "notes"
    foreign.mkdir()
    os.utime(foreign, (old, old))
    assert prune(instance, keep_days=0).left_over == 1
    assert held(dagster_home) == {last}
    assert foreign.is_dir()


def test_room_is_given_back_to_the_disk(
    instance: dg.DagsterInstance, dagster_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        make(instance, "1")
    index_file = dagster_home / "history" / "runs" / "index.db"
    before = index_file.stat().st_size
    monkeypatch.setattr(pruning, "LEAST_FREE_BYTES", 4096)
    monkeypatch.setattr(pruning, "LEAST_FREE_SHARE", 0.01)
    assert prune(instance, keep_days=0).deleted == 2
    assert index_file.stat().st_size < before
    assert make(instance, "2")


def test_a_database_in_use_keeps_its_size_and_that_is_said(
    instance: dg.DagsterInstance, dagster_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        make(instance, "1")
    assert prune(instance, keep_days=0).deleted == 2
    monkeypatch.setattr(pruning, "LEAST_FREE_BYTES", 1)
    monkeypatch.setattr(pruning, "LEAST_FREE_SHARE", 0.0)
    monkeypatch.setattr(pruning, "BUSY_TIMEOUT_S", 0.1)
    with closing(sqlite3.connect(dagster_home / "history" / "runs" / "index.db", isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        [note] = prune(instance, keep_days=0).notes
        assert "index.db keeps its size for now" in note
        writer.execute("ROLLBACK")
    assert prune(instance, keep_days=0).notes == []


def test_an_older_instance_file_without_retention_is_told_of(dagster_home: Path) -> None:
    (dagster_home / INSTANCE_FILE).write_text("telemetry:\n  enabled: false\n")
    with dg.DagsterInstance.get() as instance:
        assert prune(instance).notes == [NO_RETENTION]


def test_records_that_do_not_lie_in_files_are_left_to_dagster() -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        for _ in range(2):
            dg.materialize([index], instance=instance)
        done = prune(instance, keep_days=0)
        assert done.deleted == 1
        assert "do not lie in files here" in done.notes[-1]
        assert len(instance.get_runs()) == 1

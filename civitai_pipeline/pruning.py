"""Old records of runs, removed from the Dagster instance for good.

Dagster's own deletion of a run leaves its event log's file, its output on the terminal and the results of its checks
where they are (seen in 1.13). All that knows how Dagster lays them out stands here; which runs may go is decided in
``upkeep.retention``.
"""

from __future__ import annotations

import shutil
import sqlite3
import time
import uuid
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from civitai_pipeline.upkeep.retention import KEEP_DAYS, KEEP_RUNS, EndedRun, expired

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

_FINISHED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
_PARTITION_TAG = "dagster/partition"
# Dagster's records in files, as the dagster.yaml of the pipeline has them; elsewhere only its own deletion is done.
_IN_FILES = ("SqliteRunStorage", "SqliteEventLogStorage")
_INDEX = "index"
# A run's files come a moment after its record; what is older than a day and belongs to no run is left from a deletion.
LEFT_OVER_AFTER_S = 24 * 3600.0
# Written anew, a file takes its own size once more for a moment.
LEAST_FREE_BYTES, LEAST_FREE_SHARE = 1 << 20, 0.25
BUSY_TIMEOUT_S = 5.0
_AT_A_TIME = 500
NO_RETENTION = (
    "dagster.yaml says nothing of how long ticks of sensors and schedules are kept, so they pile up: it is from before "
    "the pipeline did; delete it to get the one of today, or copy its section retention"
)


@dataclass
class Pruning:
    """What was removed, or would be.

    Attributes:
        runs: Finished runs before.
        deleted: Those deleted.
        left_over: Runs deleted earlier, by Dagster alone, whose files were still there.
        bytes_before: Bytes in the instance's folder before; 0 where it is none.
        bytes_freed: How many of them were freed. A dry run counts the runs' own files only.
        notes: What else is worth knowing, one line each.
    """

    runs: int = 0
    deleted: int = 0
    left_over: int = 0
    bytes_before: int = 0
    bytes_freed: int = 0
    notes: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return dict(vars(self))


def prune(
    instance: dg.DagsterInstance,
    *,
    keep_days: float = KEEP_DAYS,
    keep_runs: int = KEEP_RUNS,
    dry_run: bool = False,
    on_run: Callable[[int, int], None] = lambda _done, _all: None,
) -> Pruning:
    """Deletes the records of old finished runs with everything that belongs to them.

    A run that something shown comes from stays: the last of each job and model version, and those that made what is
    now the latest of an asset. What was collected is not touched. A kill on the way leaves files that the next call
    removes.

    Args:
        instance: The instance.
        keep_days: Younger runs stay.
        keep_runs: Of each job and model version, so many of the newest stay however old they are; at least one.
        dry_run: Say what would go, and change nothing.
        on_run: Called with the number of runs deleted so far and in all.
    """
    files = _Files.of(instance)
    ended = [
        EndedRun(
            record.dagster_run.run_id,
            record.dagster_run.job_name,
            record.dagster_run.tags.get(_PARTITION_TAG),
            _ended_at(record),
        )
        for record in instance.get_run_records(dg.RunsFilter(statuses=_FINISHED))
    ]
    needed = set(_makers_of_the_latest(instance))
    old = expired(ended, needed, datetime.now(UTC), keep_days=keep_days, keep_runs=max(1, keep_runs))
    done = Pruning(runs=len(ended), deleted=len(old))
    if not instance.get_settings("retention"):
        done.notes.append(NO_RETENTION)
    if files is None:
        done.notes.append("Dagster's records do not lie in files here: what its own deletion leaves behind stays")
    else:
        left_over = files.left_over(set(instance.get_run_ids()))
        done.left_over, done.bytes_before = len(left_over), files.size()
        if dry_run:
            going = [path for run_id in [*(run.run_id for run in old), *left_over] for path in files.of_run(run_id)]
            done.bytes_freed = _size(going)
    if dry_run:
        return done
    for number, run in enumerate(old, start=1):
        instance.delete_run(run.run_id)
        if files is not None:
            files.remove([run.run_id])
        on_run(number, len(old))
    if files is not None:
        files.remove(left_over)
        done.notes += files.shrink()
        done.bytes_freed = done.bytes_before - files.size()
    return done


def _ended_at(record: dg.RunRecord) -> datetime:
    moment = record.end_time if record.end_time is not None else record.update_timestamp.timestamp()
    return datetime.fromtimestamp(moment, UTC)


def _makers_of_the_latest(instance: dg.DagsterInstance) -> Iterator[str]:
    """The runs that made what is now the latest of each asset and partition: without them it counts as never made."""
    kind = dg.DagsterEventType.ASSET_MATERIALIZATION
    for key in instance.get_asset_keys():
        event = instance.get_latest_materialization_event(key)
        if event is not None:
            yield event.run_id
        ids = list(instance.get_latest_storage_id_by_partition(key, kind).values())
        for start in range(0, len(ids), _AT_A_TIME):
            some = ids[start : start + _AT_A_TIME]
            found = instance.fetch_materializations(dg.AssetRecordsFilter(key, storage_ids=some), limit=len(some))
            yield from (record.run_id for record in found.records)


@dataclass(frozen=True)
class _Files:
    """Where an instance keeps its records.

    Attributes:
        events: The folder with a database for each run's events, and one, the index, over all.
        outputs: The folder with what each run printed and handed from step to step.
        databases: The databases over all runs.
        home: The instance's folder.
    """

    events: Path
    outputs: Path
    databases: tuple[Path, ...]
    home: Path

    @classmethod
    def of(cls, instance: dg.DagsterInstance) -> _Files | None:
        """Where they lie; None if they do not lie in files."""
        events = instance.event_log_storage
        if (type(instance.run_storage).__name__, type(events).__name__) != _IN_FILES:
            return None
        home = Path(instance.root_directory)
        index = home / "history" / "runs" / f"{_INDEX}.db"
        if not index.is_file():
            return None
        databases = (index, home / "history" / "runs.db", home / "schedules" / "schedules.db")
        return cls(index.parent, Path(instance.storage_directory()), databases, home)

    def of_run(self, run_id: str) -> list[Path]:
        """What belongs to one run."""
        files = [self.events / f"{run_id}.db{suffix}" for suffix in ("", "-wal", "-shm")]
        return [path for path in (*files, self.outputs / run_id) if path.exists()]

    def left_over(self, known: set[str]) -> list[str]:
        """The runs that have files but no record, since a day at least."""
        now = time.time()
        found = {
            path.name.partition(".")[0]: path
            for folder in (self.outputs, self.events)
            for path in (folder.iterdir() if folder.is_dir() else ())
        }
        return [
            run_id
            for run_id, path in found.items()
            if _is_run_id(run_id) and run_id not in known and now - path.stat().st_mtime > LEFT_OVER_AFTER_S
        ]

    def remove(self, run_ids: Sequence[str]) -> None:
        """Removes what Dagster left of deleted runs."""
        with closing(sqlite3.connect(self.databases[0], timeout=BUSY_TIMEOUT_S)) as connection, connection:
            # What each check said is kept here too, some 60 kB a run, and no deletion of Dagster's takes it.
            connection.executemany(
                "DELETE FROM asset_check_executions WHERE run_id = ?", [(run_id,) for run_id in run_ids]
            )
        for run_id in run_ids:
            for path in self.of_run(run_id):
                if path.is_dir():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)

    def shrink(self) -> list[str]:
        """Gives the room that deletions left in the databases back to the disk; says where that could not be."""
        said = []
        for path in self.databases:
            if not path.is_file():
                continue
            try:
                with closing(sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None)) as connection:
                    if _free_bytes(connection) >= max(LEAST_FREE_BYTES, LEAST_FREE_SHARE * path.stat().st_size):
                        connection.execute("VACUUM")
                        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            except sqlite3.OperationalError as error:
                said.append(f"{path} keeps its size for now ({error}); its free room is used again")
        return said

    def size(self) -> int:
        """Bytes of all the records together."""
        return _size([self.home])


def _free_bytes(connection: sqlite3.Connection) -> int:
    (pages,), (size,) = (connection.execute(f"PRAGMA {name}").fetchone() for name in ("freelist_count", "page_size"))
    return int(pages * size)


def _is_run_id(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False


def _size(paths: Iterable[Path]) -> int:
    total = 0
    for path in paths:
        for file in path.rglob("*") if path.is_dir() else (path,):
            # A database's companions come and go while others use it.
            with suppress(FileNotFoundError):
                total += 0 if file.is_dir() else file.stat().st_size
    return total

"""Copies of what Dagster's own files hold of runs, for the many versions of ``many``.

Reported through Dagster, each of a run's hundred events would cost 8 ms of processor time: half an hour.
"""

from __future__ import annotations

import re
import shutil
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING
from uuid import UUID

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

_Row = dict[str, object]

# By which an evaluation of a check names the materialization that it is about.
_STORAGE_ID = re.compile(r'"storage_id": ([0-9]+)')


def copy_records(home: Path, fresh: Sequence[tuple[int, int]]) -> None:
    """Copies the runs of some versions, with their logs, for others.

    Args:
        home: The Dagster instance.
        fresh: The versions to copy, each with the version whose records the copy is to be.
    """
    history = home / "history"
    with (
        closing(sqlite3.connect(history / "runs.db")) as runs,
        closing(sqlite3.connect(history / "runs" / "index.db")) as index,
    ):
        run_of = {version: run_id for run_id, version in runs.execute("SELECT run_id, partition FROM runs")}
        originals = {source: _Original(runs, index, run_of[str(source)], str(source)) for source, _ in fresh}
        for source, version in fresh:
            new = str(UUID(int=version << 64))
            old = originals[source].run_id
            originals[source].copy(new, str(version))
            shutil.copytree(home / "storage" / old, home / "storage" / new)
            shutil.copy(history / "runs" / f"{old}.db", history / "runs" / f"{new}.db")
            with closing(sqlite3.connect(history / "runs" / f"{new}.db")) as log:
                log.execute("PRAGMA synchronous = OFF")
                log.execute(
                    "UPDATE event_logs SET run_id = ?, event = replace(replace(event, ?, ?), ?, ?)",
                    (new, old, new, str(source), str(version)),
                )
                log.commit()
        runs.commit()
        index.commit()


class _Original:
    """What the databases hold of a version and its run, read once for all its copies."""

    def __init__(self, runs: sqlite3.Connection, index: sqlite3.Connection, run_id: str, partition: str) -> None:
        self.run_id = run_id
        self._partition = partition
        self._runs, self._index = runs, index
        self._of_run = {table: _rows(runs, table, "run_id", run_id) for table in ("runs", "run_tags")}
        self._events = _rows(index, "event_logs", "run_id", run_id)
        self._checks = _rows(index, "asset_check_executions", "run_id", run_id)
        self._partitions = _rows(index, "dynamic_partitions", "partition", partition)
        ids = {row["id"] for row in self._events}
        self._tags = [row for row in _rows(index, "asset_event_tags") if row["event_id"] in ids]

    def copy(self, run_id: str, partition: str) -> None:
        """Puts them there once more, for another run and version."""

        def changed(value: object) -> object:
            if not isinstance(value, str):
                return value
            return value.replace(self.run_id, run_id).replace(self._partition, partition)

        for table, rows in self._of_run.items():
            _put(self._runs, table, rows, changed)
        last = self._index.execute("SELECT max(id) FROM event_logs").fetchone()[0]
        ids = {row["id"]: last + number for number, row in enumerate(self._events, start=1)}

        def moved(value: object) -> object:
            if not isinstance(value, str) or "storage_id" not in value:
                return changed(value)
            return changed(_STORAGE_ID.sub(lambda m: f'"storage_id": {ids.get(int(m[1]), m[1])}', value))

        _put(self._index, "event_logs", [row | {"id": ids[row["id"]]} for row in self._events], moved, keep_id=True)
        _put(self._index, "asset_event_tags", _pointing(self._tags, ids, "event_id"), changed)
        places = ("evaluation_event_storage_id", "materialization_event_storage_id")
        _put(self._index, "asset_check_executions", _pointing(self._checks, ids, *places), moved)
        _put(self._index, "dynamic_partitions", self._partitions, changed)


def _pointing(rows: list[_Row], ids: dict[object, int], *columns: str) -> list[_Row]:
    """``rows`` with the new numbers of the events that some of their columns name."""
    return [row | {name: ids.get(row[name], row[name]) for name in columns} for row in rows]


def _rows(database: sqlite3.Connection, table: str, key: str | None = None, value: str | None = None) -> list[_Row]:
    where = "" if key is None else f" WHERE {key} = ?"
    found = database.execute(f"SELECT * FROM {table}{where}", [] if key is None else [value])  # noqa: S608 - ours
    names = [column[0] for column in found.description]
    return [dict(zip(names, row, strict=True)) for row in found]


def _put(
    database: sqlite3.Connection,
    table: str,
    rows: list[_Row],
    change: Callable[[object], object],
    *,
    keep_id: bool = False,
) -> None:
    if not rows:
        return
    names = [name for name in rows[0] if keep_id or name != "id"]
    database.executemany(
        f"INSERT INTO {table} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})",  # noqa: S608 - ours
        [[change(row[name]) for name in names] for row in rows],
    )

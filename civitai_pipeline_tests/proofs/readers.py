"""Those who read a lake while others write it, each in a process of its own; and one who writes again and again.

Called in children of the warm process: what they return is JSON.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import duckdb
import pyarrow.parquet as pq

from civitai_pipeline.export.options import ExportOptions
from civitai_pipeline.export.run import export_prompts
from civitai_pipeline.lake.database import VIEWS, build_database
from civitai_pipeline.lake.files import LakeError, swap_in, temporary
from civitai_pipeline.lake.paths import Lake
from civitai_pipeline.lake.schemas import PROMPTS, TABLES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

Json = dict[str, Any]

# A reader that never ends would be waited for.
LONGEST_S = 600.0
# Between two rounds, so that writers have processors left to write with: what is to be seen is whether they are waited
# for, and with four readers that never rest eight writers need half an hour.
REST_S = 0.5
# Eight writers put some 170 files each in their places within a minute.
MOST_ASKED = 4
_ONE_THREAD: dict[str, Any] = {"threads": 1}
# Counts that a swap in the midst of a query would upset.
_QUERIES = (
    "SELECT count(*), count(DISTINCT image_id) FROM images_unique",
    "SELECT model_version_id, count(*), sum(length(prompt)) FROM prompts GROUP BY ALL ORDER BY 1",
    "SELECT * FROM collection_state",
    *(f"SELECT count(*) FROM {name}" for name in (*(table.name for table in TABLES), *VIEWS)),  # noqa: S608 - our names
)


def ask(read: Callable[[], object]) -> int:
    """Reads, as often as a reader is told to ask; how often that was again.

    DuckDB opens a file once for each thread that reads it, and takes one that was swapped in between for damaged. One
    that is damaged stays so.

    Raises:
        duckdb.Error: The last answer was none either.
    """
    for again in range(MOST_ASKED - 1):
        try:
            read()
        except duckdb.Error:
            time.sleep(REST_S)
        else:
            return again
    read()
    return MOST_ASKED - 1


class _Log:
    """What a reader saw."""

    def __init__(self) -> None:
        self.problems: list[str] = []
        self.rounds = self.again = 0
        self.wall_s = self.cpu_s = 0.0
        self._most: dict[str, int] = {}

    def round(self, read: Callable[[], None]) -> None:
        """Reads once, and times it."""
        wall, cpu = time.monotonic(), time.process_time()
        try:
            self.again += ask(read)
        except (duckdb.Error, OSError, ValueError, LakeError) as error:
            self.problems.append(f"{type(error).__name__}: {str(error).splitlines()[0]}")
        self.wall_s += time.monotonic() - wall
        self.cpu_s += time.process_time() - cpu
        self.rounds += 1

    def grows(self, what: str, count: int) -> None:
        """Notes a count that must never fall."""
        if count < self._most.get(what, 0):
            self.problems.append(f"{what}: {count} rows, after {self._most[what]}")
        self._most[what] = count

    def as_dict(self) -> Json:
        """As JSON, times by round."""
        rounds = max(1, self.rounds)
        return {
            "rounds": self.rounds,
            "again": self.again,
            "wall_s": self.wall_s / rounds,
            "cpu_s": self.cpu_s / rounds,
            "problems": sorted(set(self.problems)),
        }


def _until(stop: str) -> Iterator[None]:
    end = time.monotonic() + LONGEST_S
    while not Path(stop).exists() and time.monotonic() < end:
        yield
        time.sleep(REST_S)


def read_views(folder: str, stop: str, anew: bool) -> Json:
    """Queries the database: one that is held open from beginning to end, or the newest, opened anew each time."""
    lake, log = Lake.at(folder), _Log()

    def query(connection: duckdb.DuckDBPyConnection) -> None:
        [(images, distinct)] = connection.sql(_QUERIES[0]).fetchall()
        if images != distinct:
            log.problems.append(f"{images} rows of {distinct} images")
        for version, prompts, characters in connection.sql(_QUERIES[1]).fetchall():
            log.grows(f"prompts of {version}", prompts)
            log.grows(f"characters of {version}", characters)
        for sql in _QUERIES[2:]:
            connection.sql(sql).fetchall()

    def open_and_query() -> None:
        with duckdb.connect(str(lake.database), read_only=True, config=_ONE_THREAD) as newest:
            query(newest)

    if anew:
        for _ in _until(stop):
            log.round(open_and_query)
        return log.as_dict()
    with duckdb.connect(str(lake.database), read_only=True, config=_ONE_THREAD) as held:
        for _ in _until(stop):
            log.round(lambda: query(held))
    return log.as_dict()


def read_tables(folder: str, stop: str) -> Json:
    """Opens every table's file, waits a little, and reads it: whatever was put in its place meanwhile."""
    root, log = Path(folder), _Log()
    for _ in _until(stop):
        with ExitStack() as opened:
            files = [opened.enter_context(path.open("rb")) for path in sorted(root.glob("*/*.parquet"))]
            time.sleep(0.05)
            log.round(partial(_read, files, log))
    return log.as_dict()


def _read(files: Sequence[BinaryIO], log: _Log) -> None:
    for file in files:
        rows, path = len(pq.read_table(file)), Path(file.name)
        if path.parent.name == PROMPTS.name:
            log.grows(f"prompts in {path.name}", rows)


def export(folder: str, stop: str) -> Json:
    """Exports all prompts again and again."""
    lake, log, output = Lake.at(folder), _Log(), Path(stop).with_suffix(".jsonl")

    def read() -> None:
        log.grows("exported prompts", export_prompts(lake, [], ExportOptions(format="jsonl"), output).rows)

    for _ in _until(stop):
        log.round(read)
    return log.as_dict()


def hold(folder: str, stop: str) -> Json:
    """Holds the database and every table open, with a transaction under way, and does nothing."""
    root, log = Path(folder), _Log()
    files = [path.open("rb") for path in sorted(root.glob("*/*.parquet"))]
    with duckdb.connect(str(Lake.at(folder).database), read_only=True) as connection:
        connection.execute("BEGIN")
        connection.execute(_QUERIES[0]).fetchone()
        Path(stop).with_suffix(".held").touch()
        for _ in _until(stop):
            pass
    for file in files:
        file.close()
    return log.as_dict()


def write_again(folder: str, version: int, times: int) -> Json:
    """Puts a version's tables and the database in their places again and again; how long that took."""
    lake = Lake.at(folder)
    wall, cpu = time.monotonic(), time.process_time()
    for _ in range(times):
        for table in TABLES:
            path = lake.table(table, version)
            with temporary(lake.root, table.name) as scratch:
                scratch.write_bytes(path.read_bytes())
                swap_in(scratch, path)
        build_database(lake)
    return {"wall_s": (time.monotonic() - wall) / times, "cpu_s": (time.process_time() - cpu) / times}

"""A lake and an instance of many model versions: two are collected in earnest, the others are copies of them.

Collecting thousands would take hours and say nothing more. A copy is what a collection of its version would have left:
its pages, its tables, its runs and what Dagster keeps of them, each with the ids that the version would have.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from uuid import UUID

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from civitai_pipeline.lake.ledger import Ledger
from civitai_pipeline.lake.pages import encode, raw_body
from civitai_pipeline.lake.paths import Lake
from civitai_pipeline.lake.schemas import TABLES
from civitai_pipeline.sandbox import Sandbox, World

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Of as many digits as the copies' ids, so that one text can be put in place of the other.
OPEN, AT_END = 910_000, 910_001
FIRST_COPY = 910_002
MODEL = 9001
IMAGES = 100
_IMAGE_IDS = ("image_id", "duplicate_of", "near_duplicate_group")
# More than any image id that the stand-in gives, so that no two versions share an image.
_IDS_APART = 1_000_000_000


@dataclass(frozen=True)
class Grounds:
    """Where the versions are.

    Attributes:
        lake: Their lake.
        home: Their Dagster instance.
        environment: What a process needs that works on them.
    """

    lake: Lake
    home: Path
    environment: dict[str, str]


def world() -> World:
    """What the stand-in knows: one model with the two versions that are collected."""
    made, source = World(), World.synthetic(seed=3, images=3 * IMAGES)
    for version in (OPEN, AT_END):
        made.add_version(MODEL, version)
        for number, image in enumerate(source.images[:IMAGES]):
            shown = image.item()
            assert isinstance(shown, dict)
            own = shown | {"id": version * 1000 + number, "modelVersionIds": [version]}
            made.insert(own, version, available_at_once=True)
    return made


def collected(folder: Path, server: Sandbox) -> Grounds:
    """Collects the two versions: one to its end, of the other half."""
    environment = {
        **os.environ,
        "CIVITAI_BASE_URL": server.url,
        "CIVITAI_LAKE": str(folder / "lake"),
        "DAGSTER_HOME": str(folder / "dagster"),
        "CIVITAI_WATCHLIST": str(folder / "watchlist.yaml"),
        "CIVITAI_MIN_REQUEST_INTERVAL": "0",
        "CIVITAI_RETRY_BUDGET": "1",
    }
    grounds = Grounds(Lake.at(environment["CIVITAI_LAKE"]), folder / "dagster", environment)
    (folder / "watchlist.yaml").write_text(f"models:\n  - id: {MODEL}\n")
    for version, most in ((OPEN, IMAGES // 2), (AT_END, 2 * IMAGES)):
        run(grounds, "--quiet", "collect", str(version), "--page-size", "25", "--max-items", str(most))
    return grounds


def run(grounds: Grounds, *arguments: str) -> str:
    """Runs a command of the project; returns what it prints."""
    command = [sys.executable, "-m", "civitai_pipeline.cli", *arguments]
    done = subprocess.run(command, env=grounds.environment, stdout=subprocess.PIPE, check=True, text=True)
    return done.stdout


def copies(count: int) -> Iterator[tuple[int, int]]:
    """For each copy that makes ``count`` versions: what it is a copy of, and its own id."""
    for number in range(count - 2):
        yield (OPEN, AT_END)[number % 2], FIRST_COPY + number


def grow(grounds: Grounds, before: int, count: int) -> None:
    """Makes ``count`` versions of the ``before`` that there are."""
    fresh = list(copies(count))[max(before - 2, 0) :]
    for source, version in fresh:
        _copy_pages(grounds.lake, source, version)
        _copy_tables(grounds.lake, source, version)
        for report in grounds.lake.reports.glob(f"{source}*"):
            shutil.copy(str(report), str(report).replace(str(source), str(version)))
    _copy_records(grounds.home, fresh)


def _copy_pages(lake: Lake, source: int, version: int) -> None:
    for page in Ledger(lake, source).pages():
        listing = {**page.listing, "model_version_id": version}
        copied = replace(page, model_version_id=version, listing=listing)
        path = lake.page(version, page.id.walk, page.id.page)
        path.parent.mkdir(parents=True, exist_ok=True)
        raw = raw_body(lake.page(source, page.id.walk, page.id.page).read_bytes())
        # Not landed: to wait for the disk with each of thousands of files would take longer than all that is measured.
        path.write_bytes(encode(copied, raw))


def _copy_tables(lake: Lake, source: int, version: int) -> None:
    for table in TABLES:
        data = pq.read_table(str(lake.table(table, source)))
        metadata = data.schema.metadata
        for name in set(_IMAGE_IDS) & set(data.column_names):
            data = _with(data, name, pc.add(data[name], pa.scalar((version - OPEN) * _IDS_APART)))
        data = _with(data, "model_version_id", pa.array([version] * len(data), pa.int64()))
        if "listing" in data.column_names:
            data = _with(data, "listing", pc.replace_substring(data["listing"], str(source), str(version)))
        path = str(lake.table(table, version))
        pq.write_table(data.cast(table.arrow_schema).replace_schema_metadata(metadata), path, compression="zstd")


def _with(data: pa.Table, name: str, values: pa.Array) -> pa.Table:
    return data.set_column(data.column_names.index(name), name, values)


def _copy_records(home: Path, fresh: list[tuple[int, int]]) -> None:
    """Copies what Dagster's own files hold of the runs.

    Reported through Dagster, each of a run's hundred events would cost 8 ms of processor time: half an hour.
    """
    history = home / "history"
    with sqlite3.connect(history / "runs.db") as runs, sqlite3.connect(history / "runs" / "index.db") as index:
        origin = {int(version): run_id for run_id, version in runs.execute("SELECT run_id, partition FROM runs")}
        for source, version in fresh:
            old, new = origin[source], str(UUID(int=version << 64))
            changes = ((old, new), (str(source), str(version)))
            _copy_rows(runs, "runs", "run_id", old, changes)
            _copy_rows(runs, "run_tags", "run_id", old, changes)
            _copy_rows(index, "event_logs", "run_id", old, changes)
            _copy_rows(index, "asset_check_executions", "run_id", old, changes)
            _copy_rows(index, "dynamic_partitions", "partition", str(source), changes)
            shutil.copy(history / "runs" / f"{old}.db", history / "runs" / f"{new}.db")
            with sqlite3.connect(history / "runs" / f"{new}.db") as log:
                log.execute("PRAGMA synchronous = OFF")
                log.execute("UPDATE event_logs SET run_id = ?, event = replace(replace(event, ?, ?), ?, ?)",
                            (new, *changes[0], *changes[1]))  # fmt: skip


def _copy_rows(
    database: sqlite3.Connection, table: str, key: str, value: str, changes: tuple[tuple[str, str], ...]
) -> None:
    """Copies the rows of a key with some texts in place of others."""
    columns = [row[1] for row in database.execute(f"PRAGMA table_info({table})") if row[1] != "id"]
    changed = ", ".join(
        f"CASE WHEN typeof({name}) = 'text' THEN replace(replace({name}, ?, ?), ?, ?) ELSE {name} END"
        for name in columns
    )
    texts = [text for _ in columns for change in changes for text in change]
    database.execute(
        f"INSERT INTO {table} ({', '.join(columns)}) SELECT {changed} FROM {table} WHERE {key} = ?",  # noqa: S608 - ours
        [*texts, value],
    )

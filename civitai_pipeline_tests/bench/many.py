"""A lake and an instance of many model versions: two are collected in earnest, the others are copies of them.

Collecting thousands would take hours and say nothing more. A copy is what a collection of its version would have left:
its pages, its tables, its runs and what Dagster keeps of them, each with the ids that the version would have.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from civitai_pipeline.lake import tables
from civitai_pipeline.lake.ledger import Ledger
from civitai_pipeline.lake.pages import encode, raw_body
from civitai_pipeline.lake.paths import Lake
from civitai_pipeline.lake.schema_versions import stamp
from civitai_pipeline.lake.schemas import TABLES
from civitai_pipeline.sandbox import Sandbox, World
from civitai_pipeline_tests.bench.records import copy_records

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from civitai_pipeline.lake.schemas import Table

# Of as many digits as the copies' ids, so that one text can be put in place of the other.
OPEN, AT_END = 910_000, 910_001
FIRST_COPY = 910_002
MODEL = 9001
IMAGES = 100
# Of so many versions one has an open walk. Of 2,000 that is a hundred: as many runs as a tick asks for at most, so
# that a tick looks at all versions.
OPEN_EVERY = 20
# Copies were fetched so long before their originals: what was fetched just now, no schedule asks for again.
AGO = timedelta(hours=6)
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
        yield (OPEN if (number + 2) % OPEN_EVERY == 0 else AT_END), FIRST_COPY + number


def grow(grounds: Grounds, before: int, count: int) -> None:
    """Makes ``count`` versions of the ``before`` that there are."""
    fresh = list(copies(count))[max(before - 2, 0) :]
    originals = {source: _Original(grounds.lake, source) for source in (OPEN, AT_END)}
    for source, version in fresh:
        originals[source].copy(version)
    copy_records(grounds.home, fresh)


class _Original:
    """What the lake holds of a version that was collected, read once for all its copies."""

    def __init__(self, lake: Lake, version: int) -> None:
        self._lake = lake
        self._version = version
        ledger = Ledger(lake, version)
        self._pages = [
            (page, raw_body(lake.page(version, page.id.walk, page.id.page).read_bytes())) for page in ledger.pages()
        ]
        self._tables = {table: tables.read_table(lake, table, version) for table in TABLES}
        self._reports = {path.name: path.read_bytes() for path in lake.reports.glob(f"{version}*")}

    def copy(self, version: int) -> None:
        """Makes the copy with the id ``version``."""
        for page, raw in self._pages:
            listing = {**page.listing, "model_version_id": version}
            copied = replace(page, model_version_id=version, listing=listing, fetched_at=page.fetched_at - AGO)
            path = self._lake.page(version, page.id.walk, page.id.page)
            path.parent.mkdir(parents=True, exist_ok=True)
            # Not landed: to wait for the disk with each of thousands of files would take longer than all that is
            # measured.
            path.write_bytes(encode(copied, raw))
        for table, data in self._tables.items():
            self._copy_table(table, data, version)
        for name, report in self._reports.items():
            (self._lake.reports / name.replace(str(self._version), str(version))).write_bytes(report)

    def _copy_table(self, table: Table, data: pa.Table, version: int) -> None:
        metadata = data.schema.metadata
        for name in set(_IMAGE_IDS) & set(data.column_names):
            data = _with(data, name, pc.add(data[name], pa.scalar((version - OPEN) * _IDS_APART)))
        data = _with(data, "model_version_id", pa.array([version] * len(data), pa.int64()))
        if "listing" in data.column_names:
            data = _with(data, "listing", pc.replace_substring(data["listing"], str(self._version), str(version)))
        if "walk" in data.column_names and "fetched_at" in data.column_names:
            data = _with(data, "fetched_at", pc.subtract(data["fetched_at"], pa.scalar(AGO)))
        metadata = stamp(table, metadata)
        data = data.cast(table.arrow_schema).replace_schema_metadata(metadata)
        # Sealed, or readers would take it for damaged; but not waited for, as said of the pages.
        with tables._sealed(self._lake.table(table, version), table, version, data.schema) as writer:
            writer.write_table(data)


def _with(data: pa.Table, name: str, values: pa.Array) -> pa.Table:
    return data.set_column(data.column_names.index(name), name, values)

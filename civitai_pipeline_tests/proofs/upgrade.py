"""An upgrade of tables under a reader's eyes: those of an older code are made anew while they are held open."""

from __future__ import annotations

import shutil
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import pyarrow.parquet as pq

from civitai_pipeline.derive.prompt_tables import CODE_VERSION
from civitai_pipeline.lake.database import build_database
from civitai_pipeline.lake.schemas import CATEGORY_CHANGES, LANDED_PAGES, PROMPT_RESOURCES, PROMPTS, TABLES
from civitai_pipeline.lake.tables import Provenance, read_provenance, read_table
from civitai_pipeline_tests.proofs.aftermath import BY_CHANCE, half_written, table_rows
from civitai_pipeline_tests.proofs.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from civitai_pipeline.lake.paths import Lake
    from civitai_pipeline.lake.schemas import Table
    from civitai_pipeline_tests.proofs.kills import Ground

OLDER = "0"
# Columns that the older code did not know yet.
UNKNOWN: Mapping[Table, list[str]] = {PROMPTS: ["quality_score", "word_count"], PROMPT_RESOURCES: ["resolved_by"]}


# The run adds one page, which shows the images of the last one again.
_BY_ONE_PAGE = {"last_page", "page", "position"}


def upgrade_under_a_reader(ground: Ground, name: str, upgraded: int, *left: int) -> Verdict:
    """Collects a version whose tables an older code made while a reader holds them open.

    Args:
        ground: Where runs are started.
        name: The lake to copy; it stays as it is.
        upgraded: The version that is collected.
        left: Versions of the lake that keep their older tables.
    """
    started, problems = time.monotonic(), []
    whole, lake = ground.lake(name), ground.lake("upgraded")
    shutil.copytree(str(whole.root), str(lake.root))
    for version in (upgraded, *left):
        _make_older(lake, version)
    # As the new code's job would, before any version has been collected by it.
    build_database(lake)
    path = Path(str(lake.table(PROMPTS, upgraded)))
    with ExitStack() as stack:
        held = stack.enter_context(duckdb.connect(str(lake.database), read_only=True))
        file = stack.enter_context(path.open("rb"))
        before = path.read_bytes()
        if held.sql("SELECT count(quality_score) FROM prompts").fetchall() != [(0,)]:
            problems.append("a column that no file has is not null")
        ground.start("upgraded", upgraded, pages=None).result()
        if file.read() != before or path.read_bytes() == before:
            problems.append("the file that was held open has changed")
        problems += [f"held open: {fault}" for fault in _faults_of_views(held, upgraded, left)]
    with duckdb.connect(str(lake.database), read_only=True) as anew:
        problems += [f"opened anew: {fault}" for fault in _faults_of_views(anew, upgraded, left)]
    problems += half_written(lake)
    made = read_provenance(lake, PROMPTS, upgraded)
    if made is None or made.code_version != CODE_VERSION:
        problems.append("the tables are still those of the older code")
    lost = extra = 0
    for table in set(TABLES) - {LANDED_PAGES, CATEGORY_CHANGES}:
        ours, theirs = (table_rows(where, table, upgraded, BY_CHANCE | _BY_ONE_PAGE) for where in (lake, whole))
        lost, extra = lost + (theirs - ours).total(), extra + (ours - theirs).total()
    how_many = f"1 version of {1 + len(left)}, {len(TABLES)} tables"
    return Verdict("upgrade under a reader", how_many, lost, extra, tuple(problems), time.monotonic() - started)


def _make_older(lake: Lake, version: int) -> None:
    for table in TABLES:
        data, path = read_table(lake, table, version), str(lake.table(table, version))
        found = read_provenance(lake, table, version)
        older = data.drop_columns(UNKNOWN.get(table, []))
        if found is not None:
            older = Provenance(OLDER, found.covered).attached_to(older)
        pq.write_table(older, path)


def _faults_of_views(connection: duckdb.DuckDBPyConnection, upgraded: int, left: tuple[int, ...]) -> list[str]:
    """What is wrong with what a reader sees: new columns of the upgraded version, null for the others."""
    counted = connection.sql(
        "SELECT model_version_id, count(*), count(quality_score) FROM prompts GROUP BY ALL"
    ).fetchall()
    faults = [
        f"{version} has no new column" for version, rows, filled in counted if version == upgraded and rows != filled
    ]
    faults += [f"{version} has a new column" for version, _, filled in counted if version in left and filled]
    if {version for version, _, _ in counted} != {upgraded, *left}:
        faults.append(f"versions are missing: {counted}")
    return faults

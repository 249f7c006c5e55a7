"""Exports: prompts written to one file for use elsewhere."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import duckdb

from civitai_pipeline.lake.database import connect
from civitai_pipeline.lake.files import LakeError
from civitai_pipeline.lake.schemas import PROMPTS, VARCHAR

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from civitai_pipeline.lake.paths import Lake

FORMATS = {
    "csv": "(FORMAT csv, HEADER)",
    "jsonl": "(FORMAT json)",
    "parquet": "(FORMAT parquet, COMPRESSION zstd)",
}
# A spreadsheet runs a cell that begins with one of these as a formula.
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


class ExportError(Exception):
    """There is nothing to export, or nowhere to put it; the message says what to do."""


def export_prompts(lake: Lake, versions: Sequence[int], kind: str, output: Path, *, withdrawn: bool = False) -> int:
    """Writes one row per image and version: the columns of ``prompts`` and the primary category.

    Prompts that their makers have withdrawn are left out unless asked for.

    Args:
        lake: Where the tables are.
        versions: The model versions to export; all of them if none is named.
        kind: ``csv``, ``jsonl`` or ``parquet``.
        output: The file to write; replaced when the export is complete.
        withdrawn: Export withdrawn prompts too, as last known.

    Returns:
        The number of rows written.

    Raises:
        ExportError: There is nothing to export, or ``output`` cannot be written.
        LakeError: The lake cannot be read.
    """
    missing = [v for v in versions if not lake.table(PROMPTS, v).is_file()]
    if missing:
        raise ExportError(
            f"nothing has been collected of model version {', '.join(map(str, missing))}; "
            f"run civitai-pipeline collect {missing[0]} first"
        )
    if not output.name:
        raise ExportError(f"cannot write {output}: it is a folder; choose another --output")
    scratch = output.with_name(f".{output.name}.part")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with connect(lake) as connection:
            connection.execute(
                "CREATE TEMP TABLE chosen AS SELECT unnest($versions::BIGINT[]) AS id", {"versions": list(versions)}
            )
            target = str(scratch).replace("'", "''")
            query = _query(neutralised=kind == "csv", withdrawn=withdrawn)
            written = connection.execute(f"COPY ({query}) TO '{target}' {FORMATS[kind]}").fetchone()
        scratch.replace(output)
    except OSError as error:
        raise ExportError(f"cannot write {output}: {error.strerror or error}; choose another --output") from error
    except duckdb.IOException as error:
        reason = " ".join(str(error).split())
        raise ExportError(f"cannot write {output}: {reason}; choose another --output") from error
    finally:
        with suppress(OSError):
            scratch.unlink()
    if written is None:
        raise LakeError("DuckDB did not say how many rows it wrote")
    return int(written[0])


def _query(*, neutralised: bool, withdrawn: bool) -> str:
    columns = [
        _neutral(column.name) if neutralised and column.type == VARCHAR else f'prompts."{column.name}"'
        for column in PROMPTS.columns
    ]
    return f"""
        SELECT {", ".join(columns)}, categories.category
        FROM prompts LEFT JOIN prompt_categories AS categories
             ON categories.image_id = prompts.image_id AND categories.model_version_id = prompts.model_version_id
                AND categories.is_primary
        WHERE (prompts.prompt_withdrawn_at IS NULL OR {str(withdrawn).upper()})
              AND (prompts.model_version_id IN (FROM chosen) OR (SELECT count(*) FROM chosen) = 0)
        ORDER BY prompts.model_version_id, prompts.image_id
    """  # noqa: S608 - our own column names


def _neutral(name: str) -> str:
    starts = ", ".join(f"chr({ord(start)})" for start in FORMULA_STARTS)
    column = f'prompts."{name}"'
    return f"CASE WHEN left({column}, 1) IN ({starts}) THEN '''' || {column} ELSE {column} END AS \"{name}\""

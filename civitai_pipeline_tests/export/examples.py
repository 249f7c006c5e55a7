"""What these tests share: rows beside those of the lake's tests, and how a CSV export is read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import duckdb

from civitai_pipeline_tests.lake.examples import VERSION

if TYPE_CHECKING:
    from pathlib import Path

# As docs/exports.md says; DuckDB's guess of the dialect can go wrong on prompts.
CSV_IN_DUCKDB = """read_csv($path, header = true, delim = ',', quote = '"', escape = '"', all_varchar = true)"""

READERS_IN_DUCKDB = {
    "csv": CSV_IN_DUCKDB,
    "jsonl": "read_json($path, format = 'newline_delimited')",
    "parquet": "read_parquet($path)",
}


def rows_in_duckdb(path: Path, kind: str) -> int:
    """How many rows DuckDB reads from an export."""
    with duckdb.connect() as connection:
        row = connection.execute(f"SELECT count(*) FROM {READERS_IN_DUCKDB[kind]}", {"path": str(path)}).fetchone()  # noqa: S608 - ours
    assert row is not None
    return int(row[0])


def resource_row(
    image_id: int, kind: str, name: str | None, version: int = VERSION, **fields: object
) -> dict[str, Any]:
    """A row of ``prompt_resources``."""
    return {
        "image_id": image_id,
        "model_version_id": version,
        "position": 0,
        "resource_type": kind,
        "resource_name": name,
        "source": "resources",
        "sources": ["resources"],
        "raw": "{}",
        **fields,
    }

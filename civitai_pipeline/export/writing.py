"""Arrow tables to a file of CSV, JSON lines or Parquet, one table after the other.

DuckDB's own writers quote and escape; each batch goes through a file of its own and is appended.

CSV is made safe for spreadsheets: a text whose first character is one that begins a formula, leading ``'`` not
counted, gets a ``'`` in front. So taking one ``'`` away from each text that looks like that restores it.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, BinaryIO

import pyarrow.parquet as pq

from civitai_pipeline.lake.schemas import VARCHAR, VARCHAR_LIST
from civitai_pipeline.lake.sql import text_literal

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    import duckdb
    import pyarrow as pa

# A spreadsheet runs a cell that begins with one of these as a formula.
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
# By which Excel knows that a file is UTF-8.
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_PIECE = "piece"


def write_csv(
    connection: duckdb.DuckDBPyConnection, schema: pa.Schema, batches: Iterable[pa.Table], path: Path, *, bom: bool
) -> None:
    """Writes comma-separated values in UTF-8 with a header; lists are written as JSON.

    Raises:
        OSError, duckdb.IOException: The file cannot be written.
    """
    cells = ", ".join(_cell(name, schema.field(name).type) for name in schema.names)
    copy = f"COPY (SELECT {cells} FROM batch) TO {_piece(path)} (FORMAT csv, HEADER false)"  # noqa: S608 - our own names
    with path.open("wb") as file:
        file.write((BYTE_ORDER_MARK if bom else b"") + ",".join(schema.names).encode() + b"\n")
        _append(connection, copy, batches, file, path)


def write_jsonl(connection: duckdb.DuckDBPyConnection, batches: Iterable[pa.Table], path: Path) -> None:
    """Writes one JSON object a line in UTF-8, with lists as lists.

    Raises:
        OSError, duckdb.IOException: The file cannot be written.
    """
    with path.open("wb") as file:
        _append(connection, f"COPY batch TO {_piece(path)} (FORMAT json)", batches, file, path)


def write_parquet(schema: pa.Schema, batches: Iterable[pa.Table], path: Path) -> None:
    """Writes a Parquet file with the schema's types, compressed with zstd.

    Raises:
        OSError: The file cannot be written.
    """
    with path.open("wb") as file, pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for batch in batches:
            writer.write_table(batch)


def _append(
    connection: duckdb.DuckDBPyConnection, copy: str, batches: Iterable[pa.Table], file: BinaryIO, path: Path
) -> None:
    """Has ``copy`` write the view ``batch`` to a piece of its own, and adds that to ``file``."""
    piece = path.with_name(_PIECE)
    for batch in batches:
        connection.register("batch", batch)
        connection.execute(copy)
        connection.unregister("batch")
        with piece.open("rb") as written:
            shutil.copyfileobj(written, file)


def _piece(path: Path) -> str:
    return text_literal(str(path.with_name(_PIECE)))


def _cell(name: str, kind: pa.DataType) -> str:
    if kind == VARCHAR_LIST:
        return f'to_json("{name}")::VARCHAR'
    if kind != VARCHAR:
        return f'"{name}"'
    starts = ", ".join(f"chr({ord(start)})" for start in FORMULA_STARTS)
    return f"""CASE WHEN left(ltrim("{name}", ''''), 1) IN ({starts}) THEN '''' || "{name}" ELSE "{name}" END"""

"""A dataset folder for the Hugging Face hub: Parquet shards of each split, and what the card tells of them.

Which row is in which split is decided in ``groups``; the card's words are in ``card``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from civitai_pipeline.export.groups import SPLITS
from civitai_pipeline.lake.database import duckdb_explained

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    import duckdb

    from civitai_pipeline.export.rows import RowReader
    from civitai_pipeline.lake.paths import Lake

DATA_FOLDER = "data"
# Some 60 MB compressed: quick to load one by one, few enough for a folder.
SHARD_ROWS = 200_000


@dataclass(frozen=True)
class Split:
    """What was written of one split.

    Attributes:
        name: ``train``, ``validation`` or ``test``.
        rows: Its rows.
        bytes_in_memory: Their size as Arrow tables, which the hub calls ``num_bytes``.
        bytes_on_disk: The size of its files.
    """

    name: str
    rows: int
    bytes_in_memory: int
    bytes_on_disk: int


def write_splits(
    connection: duckdb.DuckDBPyConnection, reader: RowReader, folder: Path, shard_rows: int = SHARD_ROWS
) -> list[Split]:
    """Writes ``data/<split>-<shard>-of-<shards>.parquet`` for each split that has rows.

    Args:
        connection: Has the selection with its splits.
        reader: Reads its rows.
        folder: The dataset's folder.
        shard_rows: The most rows of a file.

    Raises:
        LakeError: A table cannot be read.
        OSError: A file cannot be written.
    """
    (folder / DATA_FOLDER).mkdir(parents=True)
    counts = dict(connection.execute("SELECT split, count(*) FROM selection GROUP BY split").fetchall())
    written = []
    for number, name in enumerate(SPLITS):
        rows = counts.get(number, 0)
        if rows:
            shards = -(-rows // shard_rows)
            paths = [folder / DATA_FOLDER / f"{name}-{n:05d}-of-{shards:05d}.parquet" for n in range(shards)]
            in_memory = _write_shards(reader.batches(number), reader.schema, paths, shard_rows)
            written.append(Split(name, rows, in_memory, sum(path.stat().st_size for path in paths)))
    return written


def counts_by(connection: duckdb.DuckDBPyConnection, lake: Lake, column: str) -> dict[str | int | None, dict[str, int]]:
    """How many selected rows of each split there are for each value of a column of ``prompts``.

    Values are in descending order of their rows over all splits.

    Raises:
        LakeError: A table cannot be read.
    """
    with duckdb_explained("read the tables in", str(lake.root)):
        rows = connection.execute(
            f"""
            SELECT value, split, rows
            FROM (
                SELECT prompts.{column} AS value, selection.split, count(*) AS rows
                FROM prompts JOIN selection USING (model_version_id, image_id) GROUP BY ALL
            )
            ORDER BY sum(rows) OVER (PARTITION BY value) DESC, value, split
            """  # noqa: S608 - one of our own columns
        ).fetchall()
    counted: dict[str | int | None, dict[str, int]] = {}
    for value, split, count in rows:
        counted.setdefault(value, dict.fromkeys(SPLITS, 0))[SPLITS[split]] = count
    return counted


def _write_shards(batches: Iterable[pa.Table], schema: pa.Schema, paths: list[Path], shard_rows: int) -> int:
    """Writes rows to files of ``shard_rows`` each; returns the rows' size in memory."""
    pieces = _cut(batches, shard_rows)
    size = 0
    for path in paths:
        room = shard_rows
        with path.open("wb") as file, pq.ParquetWriter(file, schema, compression="zstd") as writer:
            while room and (piece := next(pieces, None)) is not None:
                writer.write_table(piece)
                size += piece.nbytes
                room -= len(piece)
    return size


def _cut(batches: Iterable[pa.Table], shard_rows: int) -> Iterator[pa.Table]:
    """``batches``, cut so that every ``shard_rows`` rows end with a piece."""
    room = shard_rows
    for batch in batches:
        start = 0
        while start < len(batch):
            piece = batch.slice(start, room)
            yield piece
            start += len(piece)
            room = room - len(piece) or shard_rows

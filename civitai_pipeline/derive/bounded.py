"""An in-memory DuckDB whose memory is bounded, and relations in it that are filled from streams."""

from __future__ import annotations

from contextlib import contextmanager
from itertools import chain
from typing import TYPE_CHECKING

import duckdb

from civitai_pipeline.lake.files import working_folder

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import pyarrow as pa

# Bytes that DuckDB may hold, beyond which it writes to temporary files: this many, and from a million images on so
# many for each. Quantiles and the like cannot be set aside, so no version may grow out of a bound that never does.
LEAST_MEMORY, MEMORY_PER_IMAGE = 400_000_000, 400


def most_memory(images: int) -> int:
    """The bytes that DuckDB may hold of so many images."""
    return max(LEAST_MEMORY, MEMORY_PER_IMAGE * images)


@contextmanager
def bounded_database(images: int) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection to an empty database, which goes with its temporary files at the end.

    The order of rows is only that which a query states.

    Args:
        images: How many images it will hold something of.
    """
    with working_folder() as folder, duckdb.connect() as connection:
        # A second thread takes a fifth more of the processor and saves a twentieth of the time.
        connection.execute("SET TimeZone = 'UTC'; SET threads = 1; SET preserve_insertion_order = false")
        connection.execute("SET memory_limit = $1", [f"{most_memory(images)}B"])
        connection.execute("SET temp_directory = $1", [folder])
        yield connection


def collect(
    connection: duckdb.DuckDBPyConnection,
    relation: str,
    empty: pa.Table,
    parts: Iterable[pa.Table | pa.RecordBatch],
    select: str = "*",
) -> None:
    """Makes a relation from a stream of tables.

    Part by part, rather than as one stream that DuckDB reads: what fails in the stream is then raised as it is.

    Args:
        connection: Where to make it.
        relation: Its name.
        empty: A table without rows and with the columns of the parts.
        parts: The tables.
        select: What to take of each of their rows, as SQL.
    """
    made = f"CREATE TABLE {relation} AS"
    for part in chain([empty], parts):
        connection.register("part", part)
        connection.execute(f"{made} SELECT {select} FROM part")  # noqa: S608 - our own
        made = f"INSERT INTO {relation}"
    connection.unregister("part")

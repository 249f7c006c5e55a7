"""The DuckDB file: views over the Parquet tables, rebuilt at will, and the SQL that they share.

The file holds no data. It is built under another name and swapped in, so that a reader who holds it open
neither blocks nor is blocked.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import duckdb

from civitai_pipeline.lake.files import LakeError, swap_in, temporary
from civitai_pipeline.lake.pinning import pinned
from civitai_pipeline.lake.schemas import LANDED_PAGES, TABLES
from civitai_pipeline.lake.sql import file_literal, text_literal

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import pyarrow as pa

    from civitai_pipeline.lake.paths import Lake
    from civitai_pipeline.lake.schemas import Table

# One row per version and listing: the ledger as a table. A listing's walk is its newest one, by when its last page
# was fetched; its counts are over all its walks; the images it brought first are its own, so that the listings of a
# version add up.
COLLECTION_STATE_SQL = f"""
WITH ends AS (
    SELECT * FROM {LANDED_PAGES.name}
    QUALIFY row_number() OVER (PARTITION BY model_version_id, listing, walk ORDER BY page DESC) = 1
), last AS (
    SELECT * FROM ends
    QUALIFY row_number() OVER (PARTITION BY model_version_id, listing ORDER BY fetched_at DESC, walk DESC) = 1
), counted AS (
    SELECT model_version_id, listing, count(*) AS pages, sum(attempted) AS attempted, sum("new" + updated) AS saved,
           sum(duplicate) AS duplicates, sum("new") AS total_collected, min(oldest_created_at) AS oldest_created_at,
           max(newest_created_at) AS newest_created_at
    FROM {LANDED_PAGES.name} GROUP BY ALL
)
SELECT last.model_version_id,
       last.sort,
       last.browsing_level,
       CASE WHEN last.next_cursor IS NULL THEN 'at_end' ELSE 'open' END AS status,
       last.walk,
       counted.pages::BIGINT AS pages,
       counted.attempted::BIGINT AS attempted,
       counted.saved::BIGINT AS saved,
       counted.duplicates::BIGINT AS duplicates,
       last.max_items AS planned_total,
       last.next_cursor AS next_page_cursor,
       last.page AS last_page_number,
       last.fetched_at AS last_successful_fetch_at,
       counted.total_collected::BIGINT AS total_collected,
       counted.oldest_created_at,
       counted.newest_created_at,
       last.listing
FROM last JOIN counted USING (model_version_id, listing)
ORDER BY last.model_version_id, last.walk
"""  # noqa: S608 - our own table name

# Which span of a listing has been walked. A walk is complete when it began at the listing's start and reached its
# end; it was last confirmed when its end was last seen.
COVERAGE_SQL = f"""
SELECT model_version_id,
       any_value(sort) AS sort,
       any_value(browsing_level) AS browsing_level,
       walk,
       min(oldest_created_at) AS from_created_at,
       max(newest_created_at) AS to_created_at,
       arg_max(next_cursor IS NULL, page) AND arg_min(cursor IS NULL, page) AS complete,
       max(fetched_at) FILTER (next_cursor IS NULL) AS last_confirmed_at,
       count(*) AS pages,
       sum(attempted)::BIGINT AS attempted,
       min(fetched_at) AS first_fetched_at,
       max(fetched_at) AS last_fetched_at,
       listing
FROM {LANDED_PAGES.name} GROUP BY model_version_id, listing, walk ORDER BY model_version_id, walk
"""  # noqa: S608 - our own table name

IMAGES_UNIQUE_SQL = """
SELECT *, list_sort(list(model_version_id) OVER (PARTITION BY image_id)) AS model_version_ids
FROM prompts
QUALIFY row_number() OVER (PARTITION BY image_id ORDER BY last_seen_at DESC, model_version_id) = 1
"""

# The older tool's ids were text, and its scripts compare them as text.
CIVITAI_PROMPTS_SQL = """
SELECT prompts.image_id::VARCHAR AS civitai_id,
       prompts.prompt AS full_prompt,
       prompts.negative_prompt,
       prompts.quality_score,
       prompts.reaction_count,
       prompts.comment_count,
       prompts.prompt_length,
       prompts.tag_count,
       info.model_name,
       info.model_id::VARCHAR AS model_id,
       prompts.model_version_id::VARCHAR AS model_version_id,
       prompts.first_seen_at AS collected_at
FROM prompts LEFT JOIN model_version_info AS info USING (model_version_id)
"""

VIEWS: Mapping[str, str] = {
    "images_unique": IMAGES_UNIQUE_SQL,
    "collection_state": COLLECTION_STATE_SQL,
    "coverage": COVERAGE_SQL,
    "civitai_prompts": CIVITAI_PROMPTS_SQL,
}


def build_database(lake: Lake) -> list[str]:
    """Builds ``civitai.duckdb`` and swaps it in.

    No table's file is opened: one that is damaged fails the queries that read it, and nothing else.

    Returns:
        The names of its views.

    Raises:
        LakeError: The lake cannot be written.
    """
    with temporary(lake.root, "database") as scratch:
        with duckdb_explained("write", str(lake.database)), duckdb.connect(str(scratch)) as connection:
            _create_views(connection, lake)
        swap_in(scratch, lake.database)
    return [table.name for table in TABLES] + list(VIEWS)


def connect(lake: Lake) -> duckdb.DuckDBPyConnection:
    """A connection in memory that has the views of the database over the tables as they stand now.

    Raises:
        LakeError: A table's files are gone in that very moment.
    """
    connection = duckdb.connect()
    with duckdb_explained("read the tables in", str(lake.root)):
        connection.execute("SET TimeZone = 'UTC'")
        # Drawn on standard output after two seconds, where it would stand in the middle of an answer.
        connection.execute("SET enable_progress_bar = false")
        _create_views(connection, lake)
    return connection


def database_fault(lake: Lake) -> str | None:
    """What is wrong with ``civitai.duckdb``, in a few words; None if its views are those of the tables as they stand.

    Raises:
        LakeError: As :func:`connect`.
    """
    if not lake.database.exists():
        return "it is missing"
    with connect(lake) as now:
        wanted = dict(now.execute(_OWN_VIEWS).fetchall())
    try:
        with duckdb.connect(str(lake.database), read_only=True) as connection:
            found = dict(connection.execute(_OWN_VIEWS).fetchall())
    except duckdb.Error as error:
        return " ".join(str(error).split())
    missing = sorted(wanted.keys() - found.keys())
    if missing:
        return f"it lacks the view {missing[0]}" if len(missing) == 1 else f"it lacks {len(missing)} views"
    other = sorted(name for name, sql in wanted.items() if found[name] != sql)
    return f"its view {other[0]} is not that of the tables as they stand" if other else None


_OWN_VIEWS = "SELECT view_name, sql FROM duckdb_views() WHERE NOT internal"


def read_all(lake: Lake, table: Table) -> pa.Table:
    """A table over all versions, as its view has it: thousands of small files in a fifth of the time each takes alone.

    As it stands now: what others put in place meanwhile, on a lake that several runs write, does not disturb.

    Raises:
        LakeError: One of its files cannot be read.
    """
    with (
        pinned(lake, [table]) as still,
        duckdb_explained("read the tables in", str(still.root)),
        duckdb.connect() as connection,
    ):
        connection.execute("SET TimeZone = 'UTC'")
        return connection.sql(_table_sql(still, table)).to_arrow_table()


@contextmanager
def duckdb_explained(doing: str, what: str) -> Iterator[None]:
    """Turns DuckDB's trouble with a file, which its message names, into a :class:`LakeError`."""
    try:
        yield
    except duckdb.Error as error:
        reason = " ".join(str(error).split())
        raise LakeError(
            f"cannot {doing} {what}: {reason} (free some space if the disk is full; civitai-pipeline check --repair "
            "makes what is damaged anew from the landed pages)"
        ) from error


def collection_state(landed_pages: pa.Table) -> list[dict[str, Any]]:
    """The rows of ``collection_state`` for some versions' landed pages."""
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.register(LANDED_PAGES.name, landed_pages)
        rows: list[dict[str, Any]] = connection.sql(COLLECTION_STATE_SQL).to_arrow_table().to_pylist()
    return rows


def _create_views(connection: duckdb.DuckDBPyConnection, lake: Lake) -> None:
    for table in TABLES:
        connection.execute(f"CREATE VIEW {table.name} AS {_table_sql(lake, table)}")
    for name, sql in VIEWS.items():
        connection.execute(f"CREATE VIEW {name} AS {sql}")


def _table_sql(lake: Lake, table: Table) -> str:
    folder = lake.root / table.name
    if not folder.is_dir() or not any(folder.glob("*.parquet")):
        declared = ", ".join(f"NULL::{column.sql_type} AS {_identifier(column.name)}" for column in table.columns)
        return f"SELECT {declared} WHERE false"
    # DuckDB is told what the files hold, so that it need not open them all while it plans. One that a run replaced
    # before it was read, DuckDB takes for damaged: of queries of eight files beside a writer that never rests, one in
    # six failed, and of these none in a hundred. Columns that no file has until a newer code has run are null.
    columns = ", ".join(
        f"{name}: {{name: {name}, type: {text_literal(kind)}, default_value: NULL}}"
        for name, kind in ((text_literal(column.name), column.sql_type) for column in table.columns)
    )
    # A folder called image_id=7 somewhere above the lake would otherwise become a column's values.
    options = f"schema = MAP {{{columns}}}, hive_partitioning = false"
    files = file_literal(str(folder), "/*.parquet")
    return f"SELECT * FROM read_parquet({files}, {options})"  # noqa: S608 - quoted


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'

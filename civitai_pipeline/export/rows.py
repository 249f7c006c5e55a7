"""The selected rows with the columns of an export, as Arrow tables of bounded size.

Reads one version's files at a time, by ranges of image ids, by which they are ordered: so an export holds one
batch in memory, however many rows it has.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from civitai_pipeline.export.authors import author_hash
from civitai_pipeline.export.columns import AUTHOR_HASH, CLEAN, FROM_CATEGORIES
from civitai_pipeline.lake.database import duckdb_explained
from civitai_pipeline.lake.schemas import PROMPT_CATEGORIES, PROMPT_RESOURCES, PROMPTS, VARCHAR, Column
from civitai_pipeline.lake.sql import file_literal
from civitai_pipeline.prompts.text import clean_prompt

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import duckdb

    from civitai_pipeline.lake.paths import Lake
    from civitai_pipeline.lake.schemas import Table

# Some 25 MB of rows: small against what DuckDB itself needs, large against the cost of a query.
BATCH_ROWS = 10_000
_FIRST_ROWS = 5

_CATEGORIES_SQL = """
SELECT image_id,
       any_value(category) FILTER (is_primary) AS category,
       any_value(confidence) FILTER (is_primary) AS category_confidence,
       list(category ORDER BY confidence DESC, category) AS categories,
       any_value(matched_keywords) FILTER (is_primary) AS matched_keywords
FROM {source} WHERE image_id BETWEEN $first AND $last GROUP BY image_id
"""
_EMBEDDINGS_SQL = """
SELECT image_id, list(DISTINCT resource_name) AS embeddings
FROM {source}
WHERE image_id BETWEEN $first AND $last AND resource_type = 'embedding' AND resource_name IS NOT NULL
GROUP BY image_id
"""


def schema_of(columns: Sequence[Column]) -> pa.Schema:
    """The Arrow schema of an export."""
    return pa.schema([pa.field(column.name, column.type) for column in columns])


class RowReader:
    """Reads the selected rows.

    Args:
        connection: Has the selection.
        lake: Where the tables are.
        columns: The columns to read.
        key: What user names are hashed with; needed for ``author_hash``.
        batch_rows: The most rows read at a time.

    Attributes:
        schema: The Arrow schema of the rows.
        first_rows: The first few rows read; None before.
    """

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        lake: Lake,
        columns: Sequence[Column],
        key: bytes | None = None,
        *,
        batch_rows: int = BATCH_ROWS,
    ) -> None:
        self._connection = connection
        self._lake = lake
        self._key = key
        self._batch_rows = batch_rows
        self._names = {column.name for column in columns}
        self.schema = schema_of(columns)
        self.first_rows: pa.Table | None = None

    def batches(self, split: int | None = None) -> Iterator[pa.Table]:
        """The rows by version and image id; of one split alone if ``split`` says which.

        Raises:
            LakeError: A table cannot be read.
        """
        with duckdb_explained("read the tables in", str(self._lake.root)):
            ranges = self._connection.execute(
                """
                SELECT model_version_id, min(image_id), max(image_id)
                FROM (SELECT *, (row_number() OVER (PARTITION BY model_version_id ORDER BY image_id) - 1) // $rows AS n
                      FROM selection WHERE $split IS NULL OR split = $split)
                GROUP BY model_version_id, n ORDER BY model_version_id, n
                """,
                {"rows": self._batch_rows, "split": split},
            ).fetchall()
        for version, first, last in ranges:
            batch = self._batch(version, first, last, split)
            if self.first_rows is None:
                self.first_rows = batch.slice(0, _FIRST_ROWS)
            yield batch

    def _batch(self, version: int, first: int, last: int, split: int | None) -> pa.Table:
        prompts, sources = self._source(PROMPTS, version), ""
        selected = [f'prompts."{name}"' for name in self.schema.names if name in _OF_PROMPTS]
        if self._names & set(FROM_CATEGORIES):
            sources += f" LEFT JOIN ({_CATEGORIES_SQL.format(source=self._source(PROMPT_CATEGORIES, version))}) AS c "
            sources += "USING (image_id)"
            selected += [f'c."{name}"' for name in self.schema.names if name in FROM_CATEGORIES]
        if self._names & set(CLEAN):
            sources += f" LEFT JOIN ({_EMBEDDINGS_SQL.format(source=self._source(PROMPT_RESOURCES, version))}) AS e "
            sources += "USING (image_id)"
            selected += ["e.embeddings", "prompts.prompt AS _prompt", "prompts.negative_prompt AS _negative_prompt"]
        if AUTHOR_HASH.name in self._names:
            selected.append("prompts.username AS _username")
        with duckdb_explained("read the tables in", str(self._lake.root)):
            read = self._connection.sql(
                f"""
                SELECT {", ".join(selected or ["prompts.image_id AS _nothing"])}
                FROM {prompts} AS prompts {sources}
                WHERE prompts.image_id BETWEEN $first AND $last AND prompts.image_id IN (
                    SELECT image_id FROM selection
                    WHERE model_version_id = $version AND image_id BETWEEN $first AND $last
                          AND ($split IS NULL OR split = $split)
                )
                ORDER BY prompts.image_id
                """,  # noqa: S608 - our own names, quoted paths
                params={"first": first, "last": last, "version": version, "split": split},
            ).to_arrow_table()
        return self._completed(read)

    def _completed(self, read: pa.Table) -> pa.Table:
        """``read`` with what Python computes, and the export's columns in their order and types."""
        for name, source in (("clean_prompt", "_prompt"), ("clean_negative_prompt", "_negative_prompt")):
            if name in self._names:
                cleaned = [
                    None if text is None else clean_prompt(text, embeddings or ())
                    for text, embeddings in zip(
                        read.column(source).to_pylist(), read.column("embeddings").to_pylist(), strict=True
                    )
                ]
                read = read.append_column(name, pa.array(cleaned, VARCHAR))
        if AUTHOR_HASH.name in self._names:
            if self._key is None:
                raise ValueError("author_hash needs a key")
            coded = read.column("_username").combine_chunks().dictionary_encode()
            hashes = pa.array([author_hash(name, self._key) for name in coded.dictionary.to_pylist()], VARCHAR)
            read = read.append_column(AUTHOR_HASH.name, hashes.take(coded.indices))
        return read.select(self.schema.names).cast(self.schema)

    def _source(self, table: Table, version: int) -> str:
        """A version's table in SQL; one without rows where there is no file."""
        path = self._lake.table(table, version)
        if not path.is_file():
            nulls = ", ".join(f'NULL::{column.sql_type} AS "{column.name}"' for column in table.columns)
            return f"(SELECT {nulls} WHERE false)"
        return f"read_parquet({file_literal(str(path))}, hive_partitioning = false)"


_OF_PROMPTS = {column.name for column in PROMPTS.columns}

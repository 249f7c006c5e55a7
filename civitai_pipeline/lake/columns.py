"""What a table of the lake is declared with: column types, columns, tables.

The declarations themselves are in ``schemas`` and ``analysis_schemas``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import pyarrow as pa

BIGINT = pa.int64()
INTEGER = pa.int32()
DOUBLE = pa.float64()
BOOLEAN = pa.bool_()
VARCHAR = pa.string()
VARCHAR_LIST = pa.list_(pa.string())
BIGINT_LIST = pa.list_(pa.int64())
TIMESTAMPTZ = pa.timestamp("us", tz="UTC")
SIGNATURE = pa.binary(64)

SQL_NAMES: dict[pa.DataType, str] = {
    BIGINT: "BIGINT",
    INTEGER: "INTEGER",
    DOUBLE: "DOUBLE",
    BOOLEAN: "BOOLEAN",
    VARCHAR: "VARCHAR",
    VARCHAR_LIST: "VARCHAR[]",
    BIGINT_LIST: "BIGINT[]",
    TIMESTAMPTZ: "TIMESTAMPTZ",
    SIGNATURE: "BLOB",
}


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Attributes:
        name: The column's name in the file and in SQL.
        type: Its Arrow type.
        description: What a value means, with its unit.
        required: Whether a null is a breach of contract.
    """

    name: str
    type: pa.DataType
    description: str
    required: bool = False

    @property
    def sql_type(self) -> str:
        """The type's name in DuckDB."""
        return SQL_NAMES[self.type]


@dataclass(frozen=True)
class Table:
    """One table of the lake, a Parquet file for each model version.

    Attributes:
        name: The table's name, which is also its folder and its view in ``civitai.duckdb``.
        description: What one row is.
        key: The columns that identify a row, by which its file is ordered.
        columns: The columns, in file order.
        schema_version: The number of this schema, from 1; raised with each change of a name, a type, the order, what is
            required or what a column means. docs/schema-history.md has a line for each.
    """

    name: str
    description: str
    key: tuple[str, ...]
    columns: tuple[Column, ...]
    schema_version: int = 1

    @cached_property
    def arrow_schema(self) -> pa.Schema:
        """The schema of the table's files."""
        return pa.schema([pa.field(c.name, c.type, nullable=not c.required) for c in self.columns])

    def column(self, name: str) -> Column:
        """The column called ``name``.

        Raises:
            KeyError: There is none.
        """
        for candidate in self.columns:
            if candidate.name == name:
                return candidate
        raise KeyError(name)

"""Which schema of a table a file was written with, and what a reader of this one makes of it.

Belongs here: what an older file lacks and a newer one may mean. The schemas themselves are declared in ``schemas``,
their history stands in docs/schema-history.md, and reading and writing are in ``tables`` and ``rows``.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pyarrow as pa

from civitai_pipeline.lake.files import LakeError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from upath import UPath

    from civitai_pipeline.lake.columns import Table

SCHEMA_KEY = b"civitai_pipeline.schema"
# Files that do not say are of the first.
FIRST = 1
_FINGERPRINT_DIGITS = 12


class NewerTableError(LakeError):
    """A table's file was written by a newer release, with a schema that this one does not know."""


class OlderTableError(LakeError):
    """A table's file was written by an older release and lacks what cannot be left open."""


def stamp(table: Table, metadata: Mapping[bytes, bytes] | None) -> dict[bytes, bytes]:
    """A file's metadata, saying that it has the table's schema of today."""
    return {**(metadata or {}), SCHEMA_KEY: str(table.schema_version).encode()}


def schema_version_of(schema: pa.Schema) -> int:
    """The number of the schema that a file says it was written with.

    Raises:
        pyarrow.ArrowInvalid: What it says is no number.
    """
    said = (schema.metadata or {}).get(SCHEMA_KEY)
    if said is None:
        return FIRST
    if not said.isdigit():
        raise pa.ArrowInvalid(f"its schema version is {said!r}")
    return int(said)


def check_not_newer(table: Table, path: UPath, schema: pa.Schema) -> int:
    """The number of a file's schema, which this release knows.

    Raises:
        NewerTableError: It does not know it.
        pyarrow.ArrowInvalid: The file does not say it as a number.
    """
    found = schema_version_of(schema)
    if found > table.schema_version:
        raise NewerTableError(
            f"{path} was written by a newer release: it has schema version {found} of {table.name}, and this release "
            f"knows up to {table.schema_version}; go on with the newer release, or remove the file and run the job "
            "rebuild for its version, which makes the table anew from the landed pages with this one"
        )
    return found


def brought_up(table: Table, path: UPath, data: pa.Table, columns: Sequence[str]) -> pa.Table:
    """Columns of an older file: those that it lacks are null.

    Raises:
        OlderTableError: It lacks a required column, or one of its columns has another type now.
    """
    arrays, fields = [], []
    for name in columns:
        field = table.arrow_schema.field(name)
        found = data.schema.field(name).type if name in data.column_names else None
        if found == field.type:
            arrays.append(data.column(name))
        elif found is None and field.nullable:
            arrays.append(pa.nulls(len(data), field.type))
        else:
            how = "lacks" if found is None else "has another type in"
            raise OlderTableError(
                f"{path} was written by an older release and {how} the column {name}; run the job rebuild for its "
                "version, which makes the table anew from the landed pages"
            )
        fields.append(field)
    return pa.table(arrays, schema=pa.schema(fields, data.schema.metadata))


def fingerprint(schema: pa.Schema) -> str:
    """A few digits that differ where names, order, types or required columns of two schemas do."""
    lines = (f"{field.name} {_named(field.type)} {'null' if field.nullable else 'required'}\n" for field in schema)
    return hashlib.sha256("".join(lines).encode()).hexdigest()[:_FINGERPRINT_DIGITS]


def _named(kind: pa.DataType) -> str:
    # What Arrow calls the values of a list is another word once they were in a file.
    return f"list of {kind.value_type}" if pa.types.is_list(kind) else str(kind)

"""Metadata: what the Dagster UI shows of a run, a table or a file."""

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg
import pyarrow as pa

from civitai_pipeline.defs.lineage import sources_of
from civitai_pipeline.lake.schemas import Column, Table

MAX_PREVIEW_ROWS = 5
# A prompt may be a hundred thousand characters; a preview in the event log must not be.
MAX_PREVIEW_CHARS = 120


def column_schema(table: Table) -> dg.TableSchema:
    """A table's declared columns as Dagster shows them, each with the columns it is made from where that is said."""
    made_from = sources_of(table)
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                name=column.name,
                type=column.sql_type,
                description=_described(column, made_from.get(column.name, ())),
                constraints=dg.TableColumnConstraints(nullable=not column.required),
            )
            for column in table.columns
        ]
    )


def _described(column: Column, sources: Sequence[str]) -> str:
    return f"{column.description} (made from {', '.join(sources)})" if sources else column.description


def definition_metadata(table: Table) -> dict[str, Any]:
    """What is known of a table's asset before it is ever made."""
    return {"dagster/column_schema": column_schema(table), "dagster/table_name": table.name}


def summary_metadata(summary: Mapping[str, Any]) -> dict[str, dg.MetadataValue[Any]]:
    """A run summary as metadata: numbers as numbers, so that the UI plots them over runs."""
    return {key: _value(value) for key, value in summary.items()}


def summary_from_metadata(metadata: Mapping[str, dg.MetadataValue[Any]]) -> dict[str, Any]:
    """The run summary that :func:`summary_metadata` wrote, without what stands beside it under keys with a slash."""
    return {key: value.value for key, value in metadata.items() if "/" not in key}


def _value(value: Any) -> dg.MetadataValue[Any]:  # noqa: ANN401 - any JSON value
    if value is None:
        return dg.MetadataValue.null()
    if isinstance(value, bool):
        return dg.MetadataValue.bool(value)
    if isinstance(value, int):
        return dg.MetadataValue.int(value)
    if isinstance(value, float):
        return dg.MetadataValue.float(value)
    if isinstance(value, str):
        return dg.MetadataValue.text(value)
    return dg.MetadataValue.json(value)


def preview(data: pa.Table) -> dg.MetadataValue[Any]:
    """The first rows of a table."""
    return rows_as_table(data.slice(0, MAX_PREVIEW_ROWS).to_pylist(), data.column_names)


def rows_as_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> dg.MetadataValue[Any]:
    """Some columns of a few rows, as text."""
    schema = dg.TableSchema(columns=[dg.TableColumn(name=name, type="string") for name in columns])
    return dg.MetadataValue.table(
        records=[dg.TableRecord({name: _short(row[name]) for name in columns}) for row in rows], schema=schema
    )


def _short(value: object) -> str:
    text = "" if value is None else str(value)
    return text if len(text) <= MAX_PREVIEW_CHARS else text[: MAX_PREVIEW_CHARS - 1] + "…"

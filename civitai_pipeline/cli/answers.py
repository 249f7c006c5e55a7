"""The answer of a query as a table, as CSV and as JSON: plain values in, text out."""

from __future__ import annotations

import csv
import io
import itertools
import json
import math
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID

from rich import box
from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from civitai_pipeline.console import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

MOST_ROWS = 100
# Narrower columns of text, and narrower headings of numbers, say nothing; columns at the end are left out instead.
TEXT_WIDTH, HEADING_WIDTH = 16, 8
MOST_WIDTH = 60
GAP = 3
MOST_TEXT = 200


def table_of(columns: Sequence[str], rows: Sequence[Sequence[Any]], width: int) -> tuple[Table, list[str]]:
    """Rows as a table of one line each, cut to a terminal's width.

    Args:
        columns: The columns' names.
        rows: The rows to show.
        width: The terminal's width, in columns of text.

    Returns:
        The table, and the names of the columns for which there was no room.
    """
    cells = [[_cell(value) for value in row] for row in rows]
    wanted, least = [], []
    for n, name in enumerate(columns):
        longest = max((cell_len(row[n]) for row in cells), default=0)
        wanted.append(min(max(cell_len(name), longest), MOST_WIDTH))
        # A number or time that is cut is another one; a name or a prompt can be guessed from its beginning.
        readable = TEXT_WIDTH if any(isinstance(row[n], (str, list, dict)) for row in rows) else longest
        least.append(min(wanted[n], max(readable, HEADING_WIDTH)))
    widths = _widths(wanted, least, width)
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for n, size in enumerate(widths):
        right = any(isinstance(row[n], (int, float, Decimal)) and not isinstance(row[n], bool) for row in rows)
        table.add_column(
            Text(columns[n]), width=size, no_wrap=True, overflow="ellipsis", justify="right" if right else "left"
        )
    for row in cells:
        table.add_row(*(Text(cell) for cell in row[: len(widths)]))
    return table, list(columns[len(widths) :])


def _widths(wanted: Sequence[int], least: Sequence[int], room: int) -> list[int]:
    """How wide to make each column; columns at the end that have no room are left out, but never the first."""
    shown = len(wanted)
    while shown > 1 and sum(least[:shown]) + GAP * (shown - 1) > room:
        shown -= 1
    widths = list(wanted[:shown])
    over = sum(widths) + GAP * (shown - 1) - room
    while over > 0 and any(size > limit for size, limit in zip(widths, least, strict=False)):
        widest = max((n for n in range(shown) if widths[n] > least[n]), key=lambda n: widths[n])
        widths[widest] -= 1
        over -= 1
    return [min(widths[0], room)] if shown == 1 else widths


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, datetime):
        return f"{_utc(value):%Y-%m-%d %H:%M:%S}"
    text = value if isinstance(value, str) else str(_plain(value))
    # A line's end would end the row.
    clean = printable(text[:MOST_TEXT])
    return clean + "…" if len(text) > MOST_TEXT else clean


def csv_lines(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> Iterator[str]:
    """Rows as CSV, a line at a time; lists are JSON, unknown values are empty.

    Text that a spreadsheet would take for a formula gets an apostrophe in front of it.
    """
    line = io.StringIO()
    writer = csv.writer(line, lineterminator="\n")
    for row in itertools.chain([columns], rows):
        writer.writerow([_csv_cell(value) for value in row])
        yield line.getvalue()
        line.seek(0)
        line.truncate()


def _csv_cell(value: object) -> object:
    plain = _plain(value)
    if isinstance(plain, (list, dict)):
        plain = json.dumps(plain, ensure_ascii=False)
    if isinstance(plain, bool):
        return "true" if plain else "false"
    if isinstance(plain, str) and plain.startswith(("=", "+", "-", "@", "\t", "\r")):
        return "'" + plain
    return plain


def json_rows(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[dict[str, Any]]:
    """Rows as JSON objects; of columns with the same name, later ones are called ``name_2`` and so on."""
    names = _distinct(columns)
    return [dict(zip(names, (_plain(value) for value in row), strict=True)) for row in rows]


def _distinct(columns: Sequence[str]) -> list[str]:
    names: list[str] = []
    for column in columns:
        name, number = column, 1
        while name in names:
            number += 1
            name = f"{column}_{number}"
        names.append(name)
    return names


def _plain(value: object) -> object:  # noqa: PLR0911 - one return for each kind of value
    """A value as JSON has it: times in UTC as ISO 8601, bytes as hexadecimal digits, what is no number as null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, datetime):
        return _utc(value).isoformat()
    if isinstance(value, (date, time)):
        return value.isoformat()
    if isinstance(value, (timedelta, UUID)):
        return str(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value).hex()
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    return value


def _utc(value: datetime) -> datetime:
    return value if value.tzinfo is None else value.astimezone(UTC)

"""What a page is built of: sections holding paragraphs, facts, tables and charts.

Plain data between ``sections``, which decide what to say, and ``pages``, which writes HTML. No query
and no markup belongs here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

    import plotly.graph_objects as go

# How a table's cell is written: a short text or name, a longer text, a date or moment, a prompt, a count,
# a measure, a share from 0 to 1, a link as (file, text), or a link to the site as (address, text).
CellKind = Literal["text", "long", "date", "prompt", "count", "number", "share", "link", "outside"]


@dataclass(frozen=True)
class Column:
    """A column of a table on a page."""

    label: str
    kind: CellKind = "text"


@dataclass(frozen=True)
class Table:
    """A table on a page.

    Attributes:
        caption: What it answers or holds.
        columns: Its columns.
        rows: Their values, in the columns' order.
        note: The sentence beneath it.
        sortable: Whether a reader may sort it by any column; the rows beyond the first few then wait behind a button.
    """

    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Any]]
    note: str = ""
    sortable: bool = False


@dataclass(frozen=True)
class Chart:
    """A figure with the question it answers.

    Attributes:
        question: The chart's title.
        answer: What the figure shows, in one sentence with its n: what a reader without sight gets.
        figure: The figure, or None when there is nothing to draw.
        table: The figure's numbers.
        note: What must be known to read it rightly.
        thin: Whether there are too few observations to conclude from.
        legend: What the traces stand for, in their order, where the figure does not say it itself.
    """

    question: str
    answer: str
    figure: go.Figure | None
    table: Table | None = None
    note: str = ""
    thin: bool = False
    legend: Sequence[str] = ()


@dataclass(frozen=True)
class Facts:
    """Short labelled values, shown as a list of definitions."""

    caption: str
    items: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Paragraphs:
    """Running text."""

    lines: Sequence[str]


Block = Chart | Table | Facts | Paragraphs


@dataclass(frozen=True)
class Section:
    """A part of a page under a heading.

    Attributes:
        key: Its anchor.
        title: Its heading.
        blocks: What stands in it.
        label: Its name among the others at the top of the page; its title unless that is long.
    """

    key: str
    title: str
    blocks: Sequence[Block]
    label: str = ""

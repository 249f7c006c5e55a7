"""What the command line shows: progress while a run goes on, and tables of what came of it.

Everything here goes to a console that is handed in; nothing is decided.
"""

from __future__ import annotations

import io
import math
import os
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from civitai_pipeline.collect.resolve import LookupSummary
    from civitai_pipeline.collect.summary import Summary

# Where standard error is a file, a line per page would bury everything else.
PLAIN_PROGRESS_EVERY_S = 2.0
# A pace measured over less says nothing.
LEAST_PACE_S = 0.5

_SUMMARY_ROWS: tuple[tuple[str, str], ...] = (
    ("model", "model_name"),
    ("version", "version_name"),
    ("branch", "branch"),
    ("stopped because", "stop_reason"),
    ("more available", "more_available"),
    ("pages", "pages"),
    ("items attempted", "attempted"),
    ("  new", "new"),
    ("  updated", "updated"),
    ("  duplicate", "duplicate"),
    ("  no prompt", "no_prompt"),
    ("  version mismatch", "version_mismatch"),
    ("  malformed", "malformed"),
    ("prompts before", "prompts_before"),
    ("prompts after", "prompts_after"),
    ("requests", "requests"),
    ("retries", "retries"),
    ("seconds", "elapsed_s"),
    ("oldest image (UTC)", "oldest_created_at"),
    ("newest image (UTC)", "newest_created_at"),
)


def printable(text: str, kept: str = "") -> str:
    """``text`` as a terminal may show it: white space as spaces, what would steer the terminal as U+FFFD.

    Names of models and text in prompts are written by strangers, and an escape sequence can rename a window, move the
    cursor or fill the clipboard.

    Args:
        text: Any text.
        kept: Characters to leave as they are all the same.
    """
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() or c in kept else " " if c.isspace() else "\N{REPLACEMENT CHARACTER}" for c in text
    )


class ConsoleProgress:
    """Shows how far a run is: a bar rewritten in place on a terminal, a line now and then elsewhere.

    A bar is filled only where it is known how much there is to do; the API gives no totals, so a walk without a limit
    has none.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._last = float("-inf")
        self._doing: str | None = None
        self._began, self._done_before = 0.0, 0
        self._terminal = _terminal(console) if console.is_terminal and not console.quiet else None
        self._bar = _bar(self._terminal) if self._terminal is not None else None

    def on_page(self, summary: Summary) -> None:
        """Shows where the walk stands."""
        done, total = summary.tally.attempted, summary.planned_total
        rate = done / summary.elapsed_s if summary.elapsed_s else 0.0
        pace = _pace(rate, 0 if total is None else total - done, "items")
        doing, page, items = f"version {summary.model_version_id}", summary.last_page_number, _count(done, total)
        if self._bar is not None:
            pace = f", {pace}" if summary.elapsed_s > LEAST_PACE_S else ""
            self._draw(doing, done, total, f"page {page}, {items} items{pace}")
            return
        line = (
            f"{doing}: walk {summary.walk}, page {page}, {items} items, {summary.prompts_after:,} prompts held, {pace}"
        )
        self._print(line, always=summary.at_end)

    def on_fold(self, version: int, folded: int, pages: int) -> None:
        """Shows how many of the landed pages are in the tables."""
        self._count("tables", f"version {version}: {{}} pages in the tables", folded, pages, "pages")

    def on_lookup(self, summary: LookupSummary) -> None:
        """Shows how far the look-ups are."""
        asked, total = summary.asked, summary.asked + summary.left
        self._count("resources", f"resources: {{}} looked up, {summary.known:,} found", asked, total, "look-ups")

    def _count(self, doing: str, line: str, done: int, total: int, unit: str) -> None:
        if doing != self._doing:
            self._doing, self._began, self._done_before = doing, time.monotonic(), done
        # Counted from the first that was heard, and not before there is something to go by.
        elapsed = time.monotonic() - self._began
        rate = (done - self._done_before) / elapsed if elapsed > LEAST_PACE_S else 0.0
        pace = f", {_pace(rate, total - done, unit)}" if rate else ""
        if self._bar is not None:
            self._draw(doing, done, total, f"{_count(done, total)} {unit}{pace}")
        else:
            self._print(f"{line.format(_count(done, total))}{pace}")

    def _draw(self, doing: str, done: int, total: int | None, said: str) -> None:
        if self._bar is None:
            return
        if not self._bar.tasks:
            self._bar.add_task(doing, completed=done, total=total, said=said)
            self._bar.start()
        self._bar.update(self._bar.tasks[0].id, description=doing, completed=done, total=total, said=said)

    def _print(self, line: str, *, always: bool = False) -> None:
        if time.monotonic() - self._last >= PLAIN_PROGRESS_EVERY_S or always:
            self._last = time.monotonic()
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def close(self) -> None:
        """Removes the bar."""
        if self._bar is not None:
            self._bar.stop()
        if self._terminal is not None and self._terminal is not self._console:
            self._terminal.file.close()


def _terminal(console: Console) -> Console:
    """The console's terminal by a way of its own: Dagster sends what a step writes on standard error to a file."""
    try:
        return Console(file=os.fdopen(os.dup(console.file.fileno()), "w", encoding="utf-8"))
    except io.UnsupportedOperation:
        return console


def _bar(console: Console) -> Progress:
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=12),
        TextColumn("{task.fields[said]}", markup=False),
        console=console,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )


def _count(done: int, total: int | None) -> str:
    return f"{done:,}" if total is None else f"{done:,} of {total:,}"


def _pace(rate: float, left: int, unit: str) -> str:
    """How fast it goes, and how long what is left will take at that pace; nothing is left where that is unknown."""
    said = f"{rate:,.1f} {unit}/s" if 0 < rate < 10 else f"{rate:,.0f} {unit}/s"  # noqa: PLR2004 - a second digit
    if not rate or left <= 0:
        return said
    minutes, seconds = divmod(math.ceil(left / rate), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{said}, {hours}:{minutes:02}:{seconds:02} left" if hours else f"{said}, {minutes}:{seconds:02} left"


def summary_table(summaries: Sequence[Mapping[str, Any]]) -> Table:
    """Run summaries side by side, one column each."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("")
    for summary in summaries:
        table.add_column(f"version {summary['model_version_id']}", justify="right", overflow="fold")
    for label, key in _SUMMARY_ROWS:
        table.add_row(label, *(Text(_shown_of(summary, key)) for summary in summaries))
    return table


def rows_table(rows: Iterable[Mapping[str, Any]], columns: Mapping[str, str]) -> Table:
    """Rows under headings.

    Args:
        rows: The rows.
        columns: The heading of each key to show.
    """
    shown = list(rows)
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for key, heading in columns.items():
        # A number or a date broken over two lines cannot be read; text can.
        whole = any(isinstance(row.get(key), (int, float, datetime)) for row in shown)
        table.add_column(heading, overflow="fold", no_wrap=whole)
    for row in shown:
        table.add_row(*(Text(_shown(row.get(key))) for key in columns))
    return table


def _shown(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.1f}"
    if isinstance(value, datetime):
        return f"{value.astimezone(UTC):%Y-%m-%d %H:%M}"
    return printable(str(value))


def _shown_of(summary: Mapping[str, Any], key: str) -> str:
    value = summary[key]
    return _shown(datetime.fromisoformat(value) if key.endswith("_at") and value is not None else value)

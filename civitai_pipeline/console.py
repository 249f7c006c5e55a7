"""What the command line shows: progress while a run goes on, and tables of what came of it.

Everything here goes to a console that is handed in; nothing is decided.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from rich.console import Console

    from civitai_pipeline.collect.resolve import LookupSummary
    from civitai_pipeline.collect.summary import Summary

# Where standard error is a file, a line per page would bury everything else.
PLAIN_PROGRESS_EVERY_S = 2.0

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


class ConsoleProgress:
    """Shows one line that says how far a run is: rewritten in place on a terminal, now and then elsewhere."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._last = float("-inf")
        self._status = console.status("") if console.is_terminal else None

    def on_page(self, summary: Summary) -> None:
        """Shows where the run stands."""
        self._show(_progress_line(summary), always=summary.at_end)

    def on_lookup(self, summary: LookupSummary) -> None:
        """Shows how far the look-ups are."""
        self._show(f"resources: {summary.asked:,} looked up, {summary.known:,} found, {summary.left:,} left")

    def _show(self, line: str, *, always: bool = False) -> None:
        if self._status is not None:
            self._status.update(Text(line))
            self._status.start()
        elif time.monotonic() - self._last >= PLAIN_PROGRESS_EVERY_S or always:
            self._last = time.monotonic()
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def close(self) -> None:
        """Removes the line."""
        if self._status is not None:
            self._status.stop()


def _progress_line(summary: Summary) -> str:
    rate = summary.tally.attempted / summary.elapsed_s if summary.elapsed_s else 0.0
    total = f" of {summary.planned_total:,}" if summary.planned_total is not None else ""
    return (
        f"version {summary.model_version_id}: walk {summary.walk}, page {summary.last_page_number}, "
        f"{summary.tally.attempted:,}{total} items, {summary.prompts_after:,} prompts held, {rate:,.0f} items/s"
    )


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
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for heading in columns.values():
        table.add_column(heading, overflow="fold")
    for row in rows:
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
    return str(value)


def _shown_of(summary: Mapping[str, Any], key: str) -> str:
    value = summary[key]
    return _shown(datetime.fromisoformat(value) if key.endswith("_at") and value is not None else value)

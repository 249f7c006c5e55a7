"""What the command line shows while it works: how far, how fast, and how long it will still take."""

from __future__ import annotations

import io
import os
import pty
import re
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from civitai_pipeline.collect.resolve import LookupSummary
from civitai_pipeline.collect.summary import Summary
from civitai_pipeline.console import ConsoleProgress, printable, rows_table
from civitai_pipeline.prompts.items import Outcome

if TYPE_CHECKING:
    from pathlib import Path

THEN = datetime(2026, 3, 1, 8, 0, tzinfo=UTC)


def a_summary(attempted: int, elapsed_s: float, max_items: int | None = None, *, at_end: bool = False) -> Summary:
    summary = Summary(
        910011, None, THEN, {}, max_items=max_items, elapsed_s=elapsed_s, last_page_number=3, at_end=at_end
    )
    summary.tally.outcomes[Outcome.NEW] = attempted
    return summary


def shown(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def plain() -> Console:
    return Console(file=io.StringIO(), width=80)


def terminal() -> Console:
    return Console(file=io.StringIO(), width=80, force_terminal=True, legacy_windows=False, _environ={"TERM": "xterm"})


@pytest.mark.parametrize(
    ("attempted", "elapsed_s", "max_items", "says"),
    [
        (300, 3.0, None, "300 items, 300 prompts held, 100 items/s\n"),
        (300, 3.0, 1500, "300 of 1,500 items, 300 prompts held, 100 items/s, 0:12 left\n"),
        (300, 100.0, 30_000, "3.0 items/s, 2:45:00 left\n"),
        (300, 0.0, 1500, "300 of 1,500 items, 300 prompts held, 0 items/s\n"),
        (1600, 16.0, 1500, "1,600 of 1,500 items, 1,600 prompts held, 100 items/s\n"),
    ],
)
def test_a_line_has_counts_rate_and_what_is_left_where_that_is_known(
    attempted: int, elapsed_s: float, max_items: int | None, says: str
) -> None:
    console = plain()
    ConsoleProgress(console).on_page(a_summary(attempted, elapsed_s, max_items))
    assert shown(console).endswith(says)


def test_lines_come_now_and_then_and_at_the_end() -> None:
    console = plain()
    progress = ConsoleProgress(console)
    for attempted in (100, 200, 300):
        progress.on_page(a_summary(attempted, 1.0))
    progress.on_page(a_summary(400, 1.0, at_end=True))
    assert len(shown(console).splitlines()) == 2


def test_tables_and_look_ups_are_counted_too() -> None:
    console = plain()
    ConsoleProgress(console).on_fold(910011, 200, 1000)
    ConsoleProgress(console).on_lookup(LookupSummary(asked=3, known=2, left=7))
    assert "version 910011: 200 of 1,000 pages in the tables" in shown(console)
    assert "resources: 3 of 10 looked up, 2 found" in shown(console)


def test_a_terminal_gets_a_bar_of_one_line_that_goes_away() -> None:
    console = terminal()
    progress = ConsoleProgress(console)
    progress.on_page(a_summary(123_300, 1233.0, 1_000_000))
    progress.close()
    lines = [Text.from_ansi(line).plain for line in re.split(r"[\r\n]+", shown(console))]
    assert any("page 3, 123,300 of 1,000,000 items, 100 items/s, 2:26:07 left" in line for line in lines), lines
    assert max(cell_len(line) for line in lines) <= 100
    # The cursor goes up one line and clears it.
    assert shown(console).endswith("\x1b[1A\x1b[2K")


def test_the_bar_reaches_the_terminal_while_standard_error_goes_to_a_file(tmp_path: Path) -> None:
    leader, follower = pty.openpty()
    with os.fdopen(follower, "w") as error, (tmp_path / "step.err").open("w") as step:
        progress = ConsoleProgress(Console(file=error, width=80, _environ={"TERM": "xterm"}))
        # As Dagster does while a step goes on.
        os.dup2(step.fileno(), error.fileno())
        progress.on_page(a_summary(300, 3.0, 1500))
        progress.close()
    drawn = b""
    # It is drawn in several pieces; once nobody has the terminal open any more, Linux answers with an error.
    with suppress(OSError):
        while piece := os.read(leader, 4096):
            drawn += piece
    os.close(leader)
    assert "300 of 1,500 items" in drawn.decode()
    assert (tmp_path / "step.err").read_text() == ""


def test_the_pace_of_counting_is_told_once_there_is_something_to_go_by(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("civitai_pipeline.console.PLAIN_PROGRESS_EVERY_S", 0.0)
    console = plain()
    progress = ConsoleProgress(console)
    progress.on_fold(910011, 200, 1000)
    monkeypatch.setattr("civitai_pipeline.console.LEAST_PACE_S", 0.0)
    progress.on_fold(910011, 400, 1000)
    first, second = shown(console).splitlines()
    assert first == "version 910011: 200 of 1,000 pages in the tables"
    assert re.fullmatch(r"version 910011: 400 of 1,000 pages in the tables, [\d,]+ pages/s, 0:\d\d left", second)


def test_a_quiet_console_shows_nothing() -> None:
    for console in (plain(), terminal()):
        console.quiet = True
        progress = ConsoleProgress(console)
        progress.on_page(a_summary(300, 3.0, 1500, at_end=True))
        progress.close()
        assert shown(console) == ""


def test_dates_and_numbers_stay_on_one_line_at_80_columns() -> None:
    row = {
        "version": "128713", "sort": "Most Collected", "level": 31, "status": "at_end", "pages": 12_345,
        "attempted": 1_234_567, "prompts": 1_034_567, "at": THEN,
    }  # fmt: skip
    console = plain()
    console.print(rows_table([row], {key: "last fetched" if key == "at" else key for key in row}))
    assert "2026-03-01 08:00" in shown(console)
    assert "1,234,567" in shown(console)
    assert max(len(line) for line in shown(console).splitlines()) <= 80


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("Harbor Light 港 v1.0", "Harbor Light 港 v1.0"),
        ("\x1b]0;title\x07\x1b[2J", "\ufffd]0;title\ufffd\ufffd[2J"),
        ("a\tb\r\nc\x9bd\u202ee\ud800", "a b  c\ufffdd\ufffde\ufffd"),
    ],
)
def test_nothing_that_strangers_write_steers_the_terminal(text: str, safe: str) -> None:
    assert printable(text) == safe
    console = Console(file=io.StringIO(), width=80)
    console.print(rows_table([{"name": text}], {"name": "name"}))
    assert safe in shown(console)
    assert printable("a\n\x1bb", kept="\n") == "a\n\ufffdb"

"""Answers of queries as text: nothing wider than the terminal, nothing lost in CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from civitai_pipeline.cli.answers import csv_lines, json_rows, table_of

VALUES = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary(), st.lists(st.text()))


def drawn(columns: list[str], rows: list[tuple[Any, ...]], width: int) -> tuple[list[str], list[str]]:
    table, left_out = table_of(columns, rows, width)
    console = Console(file=io.StringIO(), width=width)
    console.print(table)
    return console.file.getvalue().splitlines(), left_out  # type: ignore[attr-defined]  # it is the one above


@given(st.integers(20, 120), st.integers(1, 30).flatmap(lambda n: st.lists(st.tuples(*[VALUES] * n), max_size=5)))
def test_a_row_is_one_line_and_no_line_is_wider_than_the_terminal(width: int, rows: list[tuple[Any, ...]]) -> None:
    columns = [f"column_{n}" for n in range(len(rows[0]) if rows else 3)]
    lines, left_out = drawn(columns, rows, width)
    assert len(lines) == 2 + len(rows)
    assert max(cell_len(line) for line in lines) <= width
    assert left_out == columns[len(columns) - len(left_out) :]


def test_numbers_and_times_stay_whole_and_text_is_cut() -> None:
    row = (70000075, datetime(2026, 3, 1, 12, 30, tzinfo=UTC), "a lighthouse on a cliff, " * 9, 0.5)
    lines, left_out = drawn(["image_id", "created_at", "prompt", "engagement"], [row], 70)
    assert left_out == []
    assert lines[2].startswith("70000075   2026-03-01 12:30:00   a lighthouse")
    assert lines[2].endswith("…          0.5")


def test_csv_neutralises_formulas_and_keeps_numbers() -> None:
    lines = "".join(csv_lines(["a", "b", "c"], [("=1+1", -5, None), ("@x", ["p", "q"], b"\x01"), ("x\ny", True, 0.5)]))
    assert list(csv.reader(io.StringIO(lines))) == [
        ["a", "b", "c"], ["'=1+1", "-5", ""], ["'@x", '["p", "q"]', "01"], ["x\ny", "true", "0.5"],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (float("nan"), None),
        (Decimal(5), 5),
        (Decimal("0.5"), 0.5),
        (datetime(2026, 3, 1, tzinfo=UTC), "2026-03-01T00:00:00+00:00"),
        (timedelta(hours=1), "1:00:00"),
        ({"a": [float("inf")]}, {"a": [None]}),
    ],
)
def test_json_has_only_what_json_knows(value: object, plain: object) -> None:
    rows = json_rows(["a", "a"], [(value, 1)])
    assert rows == [{"a": plain, "a_2": 1}]
    assert json.loads(json.dumps(rows, allow_nan=False)) == rows

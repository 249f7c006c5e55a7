"""Every row of the fault matrix; with ``-s`` it prints a line per row and how many held."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from civitai_pipeline.sandbox import FAULT_NAMES

from .fault_matrix import prove_row
from .grounds import hurry
from .troubles import ROWS, Row

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from .fault_matrix import Result


@pytest.fixture(scope="module")
def results() -> Iterator[list[Result]]:
    """Collects what the rows did, and prints it at the end."""
    found: list[Result] = []
    with hurry():
        yield found
    held = sum(result.problem is None for result in found)
    sys.stdout.write("\n" + "\n".join(result.line() for result in found) + f"\n{held} of {len(found)}\n")


@pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
def test_the_failure_is_survived(row: Row, tmp_path: Path, results: list[Result]) -> None:
    result = prove_row(row, tmp_path)
    results.append(result)
    assert result.problem is None, result.line()


def test_the_matrix_has_a_row_for_every_fault_that_the_stand_in_knows() -> None:
    assert {row.fault.name for row in ROWS if row.fault is not None} == set(FAULT_NAMES)

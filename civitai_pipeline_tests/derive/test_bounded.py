"""A bounded database holds more than its memory, and leaves nothing behind."""

from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pytest

from civitai_pipeline.derive import bounded, gathering
from civitai_pipeline.derive.bounded import bounded_database, collect
from civitai_pipeline.derive.gathering import Plan, SlabFiles, gathered

if TYPE_CHECKING:
    from pathlib import Path

    from .landing import Pages

NUMBERS = pa.schema([pa.field("number", pa.int64())])


def test_more_than_the_memory_lies_in_files_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(bounded, "LEAST_MEMORY", 20_000_000)
    parts = [pa.table([np.random.default_rng(part).integers(0, 2**62, 500_000)], schema=NUMBERS) for part in range(8)]
    with bounded_database(0) as connection:
        collect(connection, "numbers", NUMBERS.empty_table(), parts, "number, number // 7 AS seventh")
        assert [path for path in tmp_path.rglob("*") if path.is_file()]
        rows = connection.sql("SELECT count(*), sum(number)::VARCHAR FROM numbers").fetchall()
    assert rows == [(4_000_000, str(sum(int(part.column(0).to_numpy().astype(object).sum()) for part in parts)))]
    assert not list(tmp_path.iterdir())


def test_what_fails_in_the_stream_is_raised_as_it_is() -> None:
    def parts() -> list[pa.Table]:
        raise OSError("the disk is gone")

    with bounded_database(0) as connection, pytest.raises(OSError, match="the disk is gone"):
        collect(connection, "numbers", NUMBERS.empty_table(), (part for _ in "1" for part in parts()))


def test_the_bound_follows_the_images() -> None:
    limits = []
    for images in (0, 1_000_000, 5_000_000):
        with bounded_database(images) as connection:
            limits.append(connection.sql("SELECT current_setting('memory_limit')").fetchall()[0][0])
    assert limits == ["381.4 MiB", "381.4 MiB", "1.8 GiB"]


def test_items_without_an_id_are_told_apart_whatever_their_text_takes(
    pages: Pages, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounded, "LEAST_MEMORY", 20_000_000)
    for half in range(2):
        for number in range(20):
            pages.land(*({"id": None, "text": f"{number} {item}" + " kite" * 20_000} for item in range(20)))
        # The second time with those of the first in the table.
        rejected = pages.bring_up().rejected_images
        assert len(rejected) == 400
        assert {row["page"] for row in rejected.to_pylist()} == {f"1/{20 * half + n}" for n in range(1, 21)}


def test_large_rows_are_gathered_few_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering, "_MOST_BYTES", 10_000)
    schema = pa.schema([pa.field("text", pa.string())])
    files = SlabFiles(tmp_path / "slabs", schema)
    files.put(1, pa.table([["kite"] * 100], schema=schema))
    files.put(2, pa.table([["kite" * 1000] * 5], schema=schema))
    files.put(3, pa.table([["kite" * 9000]], schema=schema))
    places = [(1, row) for row in range(100)] + [(2, row) for row in range(5)] + [(3, 0)]
    plan = Plan(*(np.array(column) for column in zip(*places, strict=True)))
    pieces = list(gathered(plan, (), files, 60))
    assert [len(piece) for piece in pieces] == [60, 42, 2, 1, 1]
    assert pa.concat_tables(pieces)["text"].to_pylist() == ["kite"] * 100 + ["kite" * 1000] * 5 + ["kite" * 9000]

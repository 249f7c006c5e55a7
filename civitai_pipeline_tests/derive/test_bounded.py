"""A bounded database holds more than its memory, and leaves nothing behind."""

from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pytest

from civitai_pipeline.derive import bounded
from civitai_pipeline.derive.bounded import bounded_database, collect

if TYPE_CHECKING:
    from pathlib import Path

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

"""The workbench holds more than its memory, and leaves nothing behind."""

from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING

from civitai_pipeline.derive import bounded
from civitai_pipeline.report.workbench import Workbench

from .examples import make_tables

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_more_than_the_memory_lies_in_files_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(bounded, "LEAST_MEMORY", 50_000_000)
    with Workbench(make_tables(5)) as bench:
        bench.execute("CREATE TABLE tagged AS SELECT repeat('kite ', 8) || range AS tag FROM range(2_000_000)")
        assert [path for path in tmp_path.rglob("*") if path.is_file()]
        assert bench.count("SELECT count(DISTINCT tag) FROM tagged") == 2_000_000
    assert not list(tmp_path.iterdir())

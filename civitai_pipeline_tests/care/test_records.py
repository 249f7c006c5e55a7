"""Dagster's records copied while they are in use."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from civitai_pipeline.care.backup import BackupError
from civitai_pipeline.care.records import back_up_records

if TYPE_CHECKING:
    from pathlib import Path


def rows(path: Path) -> list[tuple[int]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT n FROM t ORDER BY n").fetchall()


def test_a_database_is_copied_as_it_stands_while_somebody_writes(tmp_path: Path) -> None:
    home, target = tmp_path / "home", tmp_path / "copy"
    (home / "history" / "runs").mkdir(parents=True)
    (home / "dagster.yaml").write_text("retention: {}")
    with closing(sqlite3.connect(home / "history" / "runs" / "index.db", isolation_level=None)) as writer:
        writer.execute("PRAGMA journal_mode=WAL")
        writer.execute("CREATE TABLE t (n INTEGER)")
        writer.execute("INSERT INTO t VALUES (1)")
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("INSERT INTO t VALUES (2)")
        assert back_up_records(home, target) == 2
        assert rows(target / "history/runs/index.db") == [(1,)], "what was not committed is not in the copy"
        writer.execute("COMMIT")
        assert back_up_records(home, target) == 1
        assert rows(target / "history/runs/index.db") == [(1,), (2,)]
    assert sorted(path.name for path in target.rglob("*") if path.is_file()) == ["dagster.yaml", "index.db"]


def test_what_has_not_changed_is_not_copied_again_and_what_is_gone_goes(tmp_path: Path) -> None:
    home, target = tmp_path / "home", tmp_path / "copy"
    home.mkdir()
    for name in ("a.db", "b.db"):
        with closing(sqlite3.connect(home / name)) as connection:
            connection.execute("CREATE TABLE t (n INTEGER)")
    assert back_up_records(home, target) == 2
    assert back_up_records(home, target) == 0
    (home / "a.db").unlink()
    assert back_up_records(home, target) == 0
    assert [path.name for path in target.iterdir()] == ["b.db"]


def test_a_file_that_is_no_database_is_trouble_with_a_name(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "a.db").write_bytes(b"no database" * 100)
    with pytest.raises(BackupError, match="could not be copied"):
        back_up_records(home, tmp_path / "copy")

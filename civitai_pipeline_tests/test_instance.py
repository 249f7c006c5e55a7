"""Dagster's folder is made once, whoever comes first, however many come at once."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from importlib import resources
from typing import TYPE_CHECKING

import dagster as dg
import pytest
from dagster._core.storage.event_log.migration import ASSET_KEY_INDEX_COLS

from civitai_pipeline.defs.partitions import register_versions
from civitai_pipeline.instance import InstanceError, prepare_home, records

if TYPE_CHECKING:
    from pathlib import Path

_OPEN = """
import sys
from pathlib import Path
import dagster as dg
from civitai_pipeline.instance import prepare_home
print("ready", flush=True)
sys.stdin.readline()
prepare_home(Path(sys.argv[1]))
with dg.DagsterInstance.get() as instance:
    instance.get_runs_count()
"""


def test_processes_that_open_a_new_instance_at_once_all_succeed(tmp_path: Path) -> None:
    pipe = subprocess.PIPE
    opened = [
        subprocess.Popen([sys.executable, "-c", _OPEN, str(tmp_path)], stdin=pipe, stdout=pipe, stderr=pipe, text=True)
        for _ in range(3)
    ]
    for process in opened:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in opened:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in opened:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors


def test_a_folder_left_by_a_process_killed_while_it_made_it_is_made_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", "")
    (tmp_path / ".dagster.yaml").write_text("half")
    prepare_home(tmp_path)
    packaged = resources.files("civitai_pipeline").joinpath("dagster.yaml").read_text(encoding="utf-8")
    assert (tmp_path / "dagster.yaml").read_text(encoding="utf-8") == packaged
    with dg.DagsterInstance.get() as instance:
        assert instance.get_runs() == []


@pytest.mark.parametrize("database", ["runs.db", "runs/index.db"])
def test_a_database_left_by_a_process_killed_before_it_had_tables_gets_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, database: str
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", "")
    empty = tmp_path / "history" / database
    empty.parent.mkdir(parents=True)
    empty.touch()
    prepare_home(tmp_path)
    with records() as instance:
        assert register_versions(instance, [1]) == [1]
        instance.add_run(dg.DagsterRun(job_name="collect"))
        assert [run.job_name for run in instance.get_runs()] == ["collect"]
        assert instance.event_log_storage.has_secondary_index(ASSET_KEY_INDEX_COLS)  # type: ignore[attr-defined]  # SQL's


def test_a_file_of_ones_own_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGSTER_HOME", "")
    (tmp_path / "dagster.yaml").write_text("telemetry: {enabled: false}")
    prepare_home(tmp_path)
    assert (tmp_path / "dagster.yaml").read_text() == "telemetry: {enabled: false}"


def test_a_place_that_cannot_be_a_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InstanceError, match="set DAGSTER_HOME"):
        prepare_home(tmp_path / "file")


def test_records_that_another_process_holds_are_told_after_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", "")
    prepare_home(tmp_path)
    with closing(sqlite3.connect(tmp_path / "history" / "runs.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(InstanceError, match="database is locked"), records() as instance:
            instance.run_storage.set_cursor_values({"kept": "a word"})
        other.execute("ROLLBACK")
    with records() as instance:
        instance.run_storage.set_cursor_values({"kept": "a word"})
        assert instance.run_storage.get_cursor_values({"kept"}) == {"kept": "a word"}


def test_what_sqlite_itself_says_past_dagster_is_told_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGSTER_HOME", "")
    prepare_home(tmp_path)
    (tmp_path / "garbage.db").write_bytes(b"no database" * 1000)
    with (
        closing(sqlite3.connect(tmp_path / "garbage.db")) as garbage,
        pytest.raises(InstanceError, match=r"file is not a database \(put a backup"),
        records(),
    ):
        garbage.execute("SELECT * FROM sqlite_master")

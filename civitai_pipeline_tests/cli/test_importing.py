"""Importing from the command line: a process of its own, down to tables, partitions and reports."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import duckdb
import pytest

from civitai_pipeline.cli import main
from civitai_pipeline_tests.imports.older import NAME, VERSIONS, make_older

if TYPE_CHECKING:
    from civitai_pipeline.sandbox import Sandbox

    from .conftest import Program

VERSION = VERSIONS[0]


def served(lake: Path) -> list[tuple[Any, ...]]:
    with duckdb.connect(str(lake / "civitai.duckdb"), read_only=True) as connection:
        return connection.sql(
            "SELECT civitai_id, full_prompt, collected_at, model_name, model_version_id FROM civitai_prompts ORDER BY 1"
        ).fetchall()


def test_a_database_and_then_the_lake_made_of_it_come_in_with_all_their_tables(
    run: Program, environment: dict[str, str], stand_in: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    older = make_older(tmp_path / "older.db", rows=40, versions=[VERSION])
    done = run("import-legacy", str(older.path), "--json")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["files"][0]["rejected"] == len(older.broken)
    assert said["files"][0]["versions"][0]["new"] == len(older.rows)
    assert said["error"] is None
    lake = Path(environment["CIVITAI_LAKE"])
    # The older tool's own columns give back what it had.
    expected = [
        (str(image_id), row["prompt"], row["first_seen_at"], NAME, str(version))
        for (version, image_id), row in sorted(older.rows.items())
    ]
    assert served(lake) == expected
    assert (lake / "reports" / f"{VERSION}.html").is_file()
    assert "imported" in (lake / "reports" / "index.html").read_text(encoding="utf-8")
    assert stand_in.requests == []
    monkeypatch.setenv("DAGSTER_HOME", environment["DAGSTER_HOME"])
    with dg.DagsterInstance.get() as instance:
        assert instance.get_dynamic_partitions("model_version") == [str(VERSION)]

    other = {"CIVITAI_LAKE": str(tmp_path / "other")}
    merged = run("merge-lake", str(lake), "--json", **other)
    assert merged.returncode == 0, merged.stderr
    assert json.loads(merged.stdout)["versions"][0]["new"] == len(older.rows)
    assert served(tmp_path / "other") == expected


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["import-legacy", "nowhere.db"], "there is no file"),
        (["import-legacy", "."], "is a folder"),
        (["import-legacy"], "Missing argument"),
        (["import-legacy", "x.db", "--timezone", "Mars/Olympus"], "is not a time zone"),
        (["merge-lake", "nowhere"], "is no lake"),
    ],
)
def test_misuse_exits_2_with_one_sentence(
    environment: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    assert environment
    with pytest.raises(SystemExit) as stopped:
        main([*arguments, "--json"])
    assert stopped.value.code == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert says in said.err
    assert not (tmp_path / "lake" / "pages").exists()


def test_of_several_files_one_that_cannot_be_read_is_told_and_the_others_come_in(
    environment: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert environment
    older = make_older(tmp_path / "older.db", rows=5, versions=[VERSION], breaks=False)
    with pytest.raises(SystemExit) as stopped:
        main(["import-legacy", str(tmp_path / "nowhere.db"), str(older.path), "--dry-run", "--json"])
    assert stopped.value.code == 1
    said = json.loads(capsys.readouterr().out)
    assert said["dry_run"] is True
    assert [file["source"] for file in said["files"]] == ["older.db"]
    assert "there is no file" in said["error"]


def test_what_came_is_told_a_line_for_each_version_however_narrow_nothing_is(
    environment: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert environment
    monkeypatch.delenv("COLUMNS", raising=False)
    older = make_older(tmp_path / "older.db", rows=30, versions=VERSIONS[:2], breaks=False)
    with pytest.raises(SystemExit) as stopped:
        main(["import-legacy", str(older.path), "--dry-run"])
    assert not stopped.value.code
    head, rule, *rows = capsys.readouterr().out.splitlines()
    assert head.split() == [
        "version", "items", "new", "updated", "duplicate", "no", "prompt", "here", "already", "prompts", "held",
    ]  # fmt: skip
    assert set(rule) == {"─"}
    assert [row.split()[0] for row in rows] == [str(version) for version in VERSIONS[:2]]
    assert max(map(len, (head, rule, *rows))) <= 80

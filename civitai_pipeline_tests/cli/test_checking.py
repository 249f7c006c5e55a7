"""The command ``check``: what it prints, how it exits, and what it mends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest
from click.testing import CliRunner

from civitai_pipeline.cli import main
from civitai_pipeline.lake import schemas
from civitai_pipeline.lake.locks import sole_writer
from civitai_pipeline.lake.paths import Lake
from civitai_pipeline.sandbox import DEMO_VERSIONS

if TYPE_CHECKING:
    from click.testing import Result

    from civitai_pipeline.sandbox import Sandbox

VERSION = DEMO_VERSIONS[1]


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["-q", *map(str, arguments)], catch_exceptions=False)


def findings(result: Result) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(result.stdout)
    return found


def test_a_harmed_lake_is_told_of_and_mended_but_for_a_version_in_use(
    environment: dict[str, str], stand_in: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = Lake.at(environment["CIVITAI_LAKE"])
    assert run("collect", VERSION, "--page-size", 20).exit_code == 0
    assert run("check").stdout == "the lake is sound\n"
    page, table = lake.page(VERSION, 1, 2), lake.table(schemas.NEAR_DUPLICATE_GROUPS, VERSION)
    page.write_bytes(b"foreign")
    for path in (table, lake.database):
        path.unlink()
    told = run("check", VERSION)
    assert told.exit_code == 1
    lines = told.stdout.splitlines()
    assert [line.partition(": ")[0] for line in lines] == [str(path) for path in (page, table, lake.database)]
    assert all("civitai-pipeline check" in line for line in lines)

    asked = len(stand_in.requests)
    with sole_writer(lake, VERSION):
        refused = run("check", "--repair", "--json")
    assert refused.exit_code == 1
    assert f"model version {VERSION} is left as it is: another process" in refused.stderr.replace("\n", " ")
    state = {Path(found["file"]).name: found["repaired"] for found in findings(refused)}
    assert state == {page.name: False, table.name: False, "civitai.duckdb": True}

    repaired = run("check", "--repair", "--json")
    assert repaired.exit_code == 1
    assert [(found["kind"], found["repaired"]) for found in findings(repaired)] == [
        ("damaged_page", True),
        ("table", True),
        ("gap", False),
    ]
    assert table.is_file()
    assert len(stand_in.requests) == asked
    # The run that made the tables anew is recorded like any other.
    monkeypatch.setenv("DAGSTER_HOME", environment["DAGSTER_HOME"])
    with dg.DagsterInstance.get() as instance:
        assert [made.job_name for made in instance.get_runs()] == ["rebuild", "collect"]


@pytest.mark.parametrize(
    ("arguments", "says"), [(["check"], "there is no lake at"), (["check", "7"], "there is no lake")]
)
def test_where_there_is_nothing_to_check_it_is_misuse(
    environment: dict[str, str], arguments: list[str], says: str
) -> None:
    assert environment
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert says in result.stderr


def test_a_version_that_is_not_held_is_misuse(environment: dict[str, str]) -> None:
    Path(environment["CIVITAI_LAKE"]).mkdir()
    result = run("check", "7")
    assert result.exit_code == 2
    assert "holds nothing of model version 7" in result.stderr.replace("\n", " ")

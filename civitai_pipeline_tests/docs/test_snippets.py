"""What else stands in the documents as code: SQL, other programs, modules, services, paths."""

from __future__ import annotations

import configparser
import importlib.util
import re
import shlex
from typing import TYPE_CHECKING

import click
import duckdb
import pytest
from click.testing import CliRunner
from dagster._cli import create_dagster_cli  # not public; the only place that says which commands there are

from civitai_pipeline.cli import main
from civitai_pipeline.definitions import build_defs
from civitai_pipeline.lake.database import build_database
from civitai_pipeline.lake.paths import Lake
from civitai_pipeline_tests.docs.documents import (
    DOCUMENTS,
    ROOT,
    blocks_of,
    pieces_of_code,
    shell_lines,
    text_of,
)

if TYPE_CHECKING:
    from pathlib import Path

# A row of what an import keeps aside, which one query compares with.
_KEPT_ASIDE = '{"civitai_id": "1", "category": "style", "keywords": "[]", "confidence": 0.5}\n'


def queries_of(document: Path) -> set[str]:
    lines = {line.strip("` ") for piece in pieces_of_code(document) for line in piece.splitlines()}
    whole = {line for line in lines if line.startswith("SELECT ") and " FROM " in line}
    return whole | {code.strip() for language, code in blocks_of(document) if language == "sql"}


QUERIES = [
    pytest.param(query, id=f"{document.name}: {query[:60]}")
    for document in DOCUMENTS
    for query in sorted(queries_of(document))
    # Lines of a block are queries of their own only where they are whole.
    if not any(query != other and query in other for other in queries_of(document))
]


@pytest.mark.parametrize("query", QUERIES)
def test_every_query_runs(query: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lake = Lake.at(str(tmp_path / "data"))
    kept_aside = tmp_path / "data" / "imports" / "0a1b2c3d" / "prompt_categories.jsonl"
    kept_aside.parent.mkdir(parents=True)
    kept_aside.write_text(_KEPT_ASIDE, encoding="utf-8")
    build_database(lake)
    monkeypatch.chdir(tmp_path)
    with duckdb.connect(str(lake.database), read_only=True) as connection:
        connection.sql(query).fetchall()


def test_the_readme_queries_as_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CIVITAI_LAKE", str(tmp_path))
    build_database(Lake.at(str(tmp_path)))
    asked = [line for line in shell_lines(ROOT / "README.md", "civitai-pipeline") if ' sql "SELECT category' in line]
    assert asked
    for line in asked:
        result = CliRunner().invoke(main, shlex.split(line)[1:])
        assert result.exit_code == 0, result.output
        assert "prompts" in result.output


def test_every_command_of_dagster_can_be_parsed() -> None:
    lines = {(document.name, line) for document in DOCUMENTS for line in shell_lines(document, "dagster")}
    assert len(lines) >= 5
    for document, line in lines:
        command: click.Command = create_dagster_cli()  # type: ignore[no-untyped-call]
        _, *arguments = shlex.split(line)
        while isinstance(command, click.Group):
            name, *arguments = arguments
            found = command.commands.get(name)
            assert found is not None, f"{document}: {line}"
            command = found
        command.make_context(line, arguments)


def test_every_sensor_and_schedule_in_them_exists() -> None:
    repository = build_defs().get_repository_def()
    known = {
        "sensor": {sensor.name for sensor in repository.sensor_defs},
        "schedule": {schedule.name for schedule in repository.schedule_defs},
    }
    lines = [line for document in DOCUMENTS for line in shell_lines(document, "dagster")]
    started = [shlex.split(line)[1::2][:2] for line in lines if line.split()[1] in known]
    assert len(started) >= 2
    for kind, name in started:
        assert name in known[kind]


def test_every_module_that_is_run_exists() -> None:
    pieces = [(document.name, piece) for document in DOCUMENTS for piece in pieces_of_code(document)]
    modules = {(name, module) for name, piece in pieces for module in re.findall(r"python -m (civitai[\w.]+)", piece)}
    assert modules
    assert not {(name, module) for name, module in modules if importlib.util.find_spec(module) is None}


def test_every_path_of_the_project_exists() -> None:
    path = re.compile(r"(?<![\w./-])(?:civitai_pipeline|civitai_pipeline_tests|docs)/[\w./-]+")
    pieces = [(document.name, piece) for document in DOCUMENTS for piece in pieces_of_code(document)]
    named = {(name, found) for name, piece in pieces for found in path.findall(piece)}
    assert len(named) > 10
    assert not {(name, found) for name, found in named if not (ROOT / found).exists()}


def test_the_services_run_what_exists_and_say_how_to_stop_it() -> None:
    units = [code for language, code in blocks_of(ROOT / "docs/operations.md") if language == "ini"]
    assert len(units) == 3
    started = []
    for unit in units:
        # A unit may give one key several times, as Environment.
        parsed = configparser.RawConfigParser(strict=False)
        parsed.optionxform = str  # type: ignore[assignment,method-assign]  # keeps the case of keys
        parsed.read_string(unit)
        if parsed.has_section("Service"):
            place, name, *arguments = shlex.split(parsed["Service"]["ExecStart"])
            assert place == f"{parsed['Service']['WorkingDirectory']}/.venv/bin/civitai-pipeline"
            main.commands[name].make_context(name, arguments)
            started.append(name)
    assert started == ["dev", "collect"]


def test_no_key_of_a_service_is_a_setting_that_does_not_exist() -> None:
    settings = set(re.findall(r"^#?([A-Z][A-Z_]+)=", text_of(".env.example"), re.MULTILINE))
    named = set(re.findall(r"^Environment=(\w+)=", text_of("docs/operations.md"), re.MULTILINE))
    assert named
    assert named <= settings

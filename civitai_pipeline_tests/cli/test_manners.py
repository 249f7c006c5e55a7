"""How the command line behaves towards people: help, quiet, mistaken ids, queries, completion, colours."""

from __future__ import annotations

import json
import os
import pty
import shlex
import signal
import socket
import subprocess
import sys
import urllib.request
from typing import TYPE_CHECKING

import click
import pytest
from click.testing import CliRunner, Result

from civitai_pipeline.cli import main
from civitai_pipeline.lake import schemas
from civitai_pipeline.lake.database import build_database
from civitai_pipeline.lake.paths import Lake
from civitai_pipeline_tests.lake.examples import landed_row, prompt_row, write, write_prompts

if TYPE_CHECKING:
    from collections.abc import Mapping

VERSION, MODEL = "910011", "9001"
CLI = [sys.executable, "-m", "civitai_pipeline.cli"]


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


@pytest.fixture
def lake(environment: Mapping[str, str]) -> Lake:
    lake = Lake.at(environment["CIVITAI_LAKE"])
    write_prompts(lake, *(prompt_row(n, int(VERSION)) for n in range(1, 151)), version=int(VERSION))
    write(lake, schemas.LANDED_PAGES, [landed_row(1, 1, 1)], int(VERSION))
    build_database(lake)
    return lake


@pytest.mark.parametrize("name", sorted(main.commands))
def test_every_help_has_examples_that_can_be_parsed(name: str) -> None:
    command = main.commands[name]
    lines = [line.strip() for line in (command.epilog or "").splitlines() if line.startswith("  civitai-pipeline")]
    assert lines
    assert all(line in invoke(name, "--help").stdout for line in lines)
    for line in lines:
        _, said, *arguments = shlex.split(line, comments=True)
        assert said == name
        command.make_context(name, arguments)


def test_quiet_leaves_errors_and_nothing_else(environment: Mapping[str, str]) -> None:
    assert environment
    assert "been collected" in invoke("status").stderr
    assert invoke("--quiet", "status").stderr == ""
    assert "Error: there is no civitai.duckdb" in invoke("--quiet", "sql", "SELECT 1").stderr
    assert "been collected" in invoke("status").stderr
    assert invoke("--quiet", "--verbose", "status").exit_code == 2


@pytest.mark.usefixtures("environment")
def test_ids_given_by_mistake_are_answered_with_the_right_ones() -> None:
    for command in ("preview", "collect"):
        done = invoke(command, MODEL)
        assert (done.exit_code, done.stdout) == (2, "")
        assert f"civitai-pipeline {command} {VERSION}" in done.stderr
    done = invoke("versions", VERSION, "--json")
    assert (done.exit_code, done.stdout) == (2, "")
    assert f"civitai-pipeline versions {MODEL}" in done.stderr
    assert invoke("preview", "123456").exit_code == 1


@pytest.mark.usefixtures("environment")
def test_a_preview_without_the_api_says_so_and_shows_what_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    monkeypatch.setenv("CIVITAI_BASE_URL", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("CIVITAI_RETRY_BUDGET", "0")
    done = invoke("preview", VERSION, "--json")
    assert (done.exit_code, json.loads(done.stdout)["model_name"]) == (0, None)
    assert "Warning: the API could not be asked for the version's names" in done.stderr


def test_a_query_is_answered_in_each_format(lake: Lake) -> None:
    assert lake.database.is_file()
    query = "SELECT image_id, prompt FROM prompts ORDER BY image_id"
    table = invoke("sql", query)
    assert (table.exit_code, len(table.stdout.splitlines())) == (0, 102)
    assert "The first 100 rows" in table.stderr
    assert len(invoke("sql", query, "--format", "csv").stdout.splitlines()) == 151
    assert json.loads(invoke("sql", query, "--format", "json").stdout)[0] == {"image_id": 1, "prompt": "kite 1"}
    done = CliRunner().invoke(main, ["sql", "--format", "csv"], input="SELECT 1 AS a;\nSELECT 2 AS b;\n")
    assert done.stdout == "a\n1\nb\n2\n"


def test_json_on_a_terminal_holds_nothing_that_steers_it(lake: Lake) -> None:
    assert lake.database.is_file()
    done = invoke("sql", "SELECT chr(155) || chr(8238) || chr(27) || '港' AS text", "--format", "json")
    assert "\\u009b\\u202e\\u001b港" in done.stdout
    assert json.loads(done.stdout) == [{"text": "\x9b\u202e\x1b港"}]


def test_a_wrong_query_is_one_line_and_exits_2(lake: Lake) -> None:
    for query in ("SELECT nope FROM prompts", "DROP VIEW prompts", "selec", f"COPY prompts TO '{lake.root}/x.csv'"):
        done = invoke("sql", query)
        assert (done.exit_code, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)


def test_a_terminal_is_asked_for_queries(lake: Lake) -> None:
    leader, follower = pty.openpty()
    environ = {**os.environ, "CIVITAI_LAKE": str(lake.root), "TERM": "dumb"}
    typed = b"SELECT count(*)\nAS n FROM prompts;\nSELECT nope;\n.tables\n.nothing\n.quit\n"
    with subprocess.Popen(
        [*CLI, "sql"], stdin=follower, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environ
    ) as process:
        os.write(leader, typed)
        out, err = (text.decode() for text in process.communicate(timeout=60))
    os.close(leader)
    os.close(follower)
    assert process.returncode == 0, err
    assert "150" in out
    assert "images_unique\n" in out
    assert "Error: Binder Error" in err
    assert "there is no .nothing" in err
    assert "Traceback" not in err


def test_reports_are_served_until_stopped(lake: Lake) -> None:
    assert invoke("reports").exit_code == 1
    (lake.reports).mkdir()
    (lake.reports / "index.html").write_text("all versions", encoding="utf-8")
    environ = {**os.environ, "CIVITAI_LAKE": str(lake.root)}
    with subprocess.Popen(
        [*CLI, "reports", "--port", "0"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environ
    ) as process:
        assert process.stdout is not None
        url = process.stdout.readline().decode().strip()
        with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - our own server
            assert answer.read() == b"all versions"
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert (process.returncode, b"Traceback" in err) == (0, False)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_completion_script_is_printed_and_the_program_answers_it(shell: str) -> None:
    done = invoke("completion", shell)
    assert done.exit_code == 0
    assert "_CIVITAI_PIPELINE_COMPLETE" in done.stdout
    asked = {"bash": {"COMP_WORDS": "civitai-pipeline co", "COMP_CWORD": "1"}}.get(
        shell, {"COMP_WORDS": "civitai-pipeline co", "COMP_CWORD": "1" if shell == "zsh" else "co"}
    )
    env = {**asked, "_CIVITAI_PIPELINE_COMPLETE": f"{shell}_complete"}
    answer = CliRunner().invoke(main, [], prog_name="civitai-pipeline", env=env)
    assert "collect" in answer.stdout
    assert "status" not in answer.stdout


def test_nothing_is_coloured_where_there_is_no_terminal(lake: Lake) -> None:
    assert lake.database.is_file()
    for arguments in (["status"], ["taxonomy"], ["sql", "FROM prompts"], ["collect", "--help"]):
        done = invoke(*arguments)
        assert done.exit_code == 0
        assert "\x1b" not in done.stdout + done.stderr


def test_every_command_is_known_to_the_group() -> None:
    assert isinstance(main, click.Group)
    assert {"sql", "reports", "completion"} <= set(main.commands)

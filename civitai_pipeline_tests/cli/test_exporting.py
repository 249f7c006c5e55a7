"""The ``export`` command as a person or a script uses it, over a small lake."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from dataclasses import fields
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner, Result

from civitai_pipeline.cli import main
from civitai_pipeline.export.options import ExportOptions, help_of
from civitai_pipeline.lake import schemas
from civitai_pipeline.lake.paths import Lake
from civitai_pipeline_tests.lake.examples import VERSION, category_row, prompt_row, write, write_prompts

if TYPE_CHECKING:
    from pathlib import Path


pytestmark = pytest.mark.usefixtures("lake")


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lake:
    """The lake of the environment, with three prompts."""
    for name in [name for name in os.environ if name.startswith(("CIVITAI_", "DAGSTER_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("CIVITAI_LAKE", str(tmp_path / "lake"))
    monkeypatch.chdir(tmp_path)
    lake = Lake.at(str(tmp_path / "lake"))
    write_prompts(
        lake,
        prompt_row(1, prompt="漢 (kite:1.2)", username="ann"),
        prompt_row(2, prompt="=1+1", username="bob", browsing_level=8),
        prompt_row(3, username="ann", browsing_level=None),
    )
    write(lake, schemas.PROMPT_CATEGORIES, [category_row(number, "mood") for number in (1, 2, 3)])
    return lake


def _export(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["export", *arguments])


def test_the_command_has_every_option_with_its_meaning() -> None:
    offered = {parameter.name: parameter for parameter in main.commands["export"].params}
    for option in fields(ExportOptions):
        assert getattr(offered.pop(option.name), "help", None) == help_of(option.name)
    assert set(offered) == {"chosen", "output", "author_key_file", "as_json"}


def test_what_was_left_out_is_told_with_the_option_that_decided() -> None:
    done = _export("--format", "csv", "--output", "out.csv")
    assert (done.exit_code, done.stdout) == (0, "")
    assert done.stderr.splitlines() == [
        "1 rows written to out.csv",
        "  1 rows left out: above the maturity asked for (--max-level raises it)",
        "  1 rows left out: of unknown maturity (--include-unknown-level exports them)",
    ]
    both = _export("--format", "csv", "--output", "out.csv", "--max-level", "x", "--include-unknown-level")
    assert both.stderr == "3 rows written to out.csv\n"


def test_the_setting_says_the_maturity_of_versions_that_no_page_tells_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CIVITAI_BROWSING_LEVEL", "9")
    assert json.loads(_export("--format", "csv", "--output", "out", "--json").stdout)["rows"] == 2


def test_json_is_one_document_whose_numbers_add_up(tmp_path: Path) -> None:
    done = _export(str(VERSION), "--format", "jsonl", "--output", "out.jsonl", "--json", "--limit", "1")
    document = json.loads(done.stdout)
    assert document == {
        "output": "out.jsonl",
        "format": "jsonl",
        "held": 3,
        "rows": 1,
        "left_out": {"above_level": 1, "unknown_level": 1},
        "versions": [VERSION],
        "bytes": (tmp_path / "out.jsonl").stat().st_size,
        "splits": {},
        "largest_group": None,
        "terms": {},
    }


def test_standard_output_takes_csv_and_json_lines_and_nothing_else(tmp_path: Path) -> None:
    done = _export("--format", "csv", "--output", "-", "--columns", "image_id,clean_prompt", "--max-level", "XXX")
    assert list(csv.reader(io.StringIO(done.stdout))) == [
        ["image_id", "clean_prompt"],
        ["1", "漢 kite"],
        ["2", "'=1+1"],
    ]
    assert done.stderr.startswith("2 rows written to standard output\n")
    lines = _export("--format", "jsonl", "--output", "-", "--columns", "prompt").stdout
    assert lines == '{"prompt":"漢 (kite:1.2)"}\n'
    for arguments in (["parquet"], ["huggingface"], ["csv", "--json"]):
        refused = _export("--output", "-", "--format", *arguments)
        assert (refused.exit_code, refused.stdout) == (2, "")
        assert "name an --output" in refused.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lake"]


def test_a_reader_that_stops_early_gets_no_traceback(lake: Lake) -> None:
    write_prompts(lake, *(prompt_row(number, prompt="kite " * 500) for number in range(1, 300)))
    command = [sys.executable, "-m", "civitai_pipeline.cli", "export", "--format", "csv", "--output", "-"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline().startswith("image_id,")
    process.stdout.close()
    assert "Traceback" not in process.stderr.read()
    process.stderr.close()
    process.wait(timeout=60)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--max-level", "adult"], "max_level must be one of PG, PG-13, R, X, XXX"),
        (["--columns", "prompt,colour"], "there is no column 'colour'"),
        (["--since", "2026-13-01"], "since must be a day like 2026-01-31"),
        (["--max-per-author", "0"], "max_per_author must be from 1"),
        (["--distinct", "some"], "--distinct"),
        (["--limit", "many"], "--limit"),
        (["--hash-authors", "--columns", "username"], "username is replaced by author_hash"),
    ],
)
def test_misuse_is_told_in_a_line_and_nothing_is_written(tmp_path: Path, arguments: list[str], says: str) -> None:
    done = _export("--format", "csv", "--output", "out", *arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    assert says in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lake"]


def test_an_empty_lake_is_told_and_a_file_of_no_rows_written(lake: Lake, tmp_path: Path) -> None:
    lake.table(schemas.PROMPTS, VERSION).unlink()
    done = _export("--format", "csv", "--output", "out.csv")
    assert done.exit_code == 0
    assert "nothing is held of what was asked for; run civitai-pipeline collect VERSION first" in done.stderr
    assert (tmp_path / "out.csv").read_text().count("\n") == 1
    unknown = _export("7", "--format", "csv", "--output", "other.csv")
    assert unknown.exit_code == 1
    assert "civitai-pipeline collect 7 first" in unknown.stderr
    assert not (tmp_path / "other.csv").exists()


def test_folders_say_what_they_hold(tmp_path: Path) -> None:
    done = _export(
        "--format", "huggingface", "--output", "set", "--max-level", "X", "--include-unknown-level", "--json"
    )
    assert sum(json.loads(done.stdout)["splits"].values()) == 3
    terms = _export("--format", "wildcards", "--output", "words", "--min-images", "1", "--min-authors", "1")
    assert terms.stderr.startswith("1 terms from 1 rows written to words\n")
    assert (tmp_path / "words" / "mood.txt").read_text() == "kite\n"

"""The document on exports: every option is in it, and every recipe runs."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

from click.testing import CliRunner

from civitai_pipeline.cli import main
from civitai_pipeline.export.columns import COLUMNS
from civitai_pipeline.export.options import FORMATS
from civitai_pipeline.lake import schemas
from civitai_pipeline.lake.paths import Lake
from civitai_pipeline_tests.docs.documents import ROOT, names_in, rows_after, shell_lines, text_of
from civitai_pipeline_tests.export.examples import resource_row
from civitai_pipeline_tests.lake.examples import category_row, prompt_row, write, write_prompts

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

DOCUMENT = "docs/exports.md"
VERSION = 128713


def test_every_option_format_and_column_is_explained() -> None:
    text = text_of(DOCUMENT)
    explained = {name for name in names_in([row[0] for row in rows_after(text, "## Options")]) if name.startswith("--")}
    offered = {flag for parameter in main.commands["export"].params for flag in parameter.opts if flag.startswith("--")}
    assert explained == offered
    assert names_in([row[0] for row in rows_after(text, "## Formats")]) == set(FORMATS)
    of_prompts = {column.name for column in schemas.PROMPTS.columns}
    assert names_in([row[0] for row in rows_after(text, "## Columns")]) == set(COLUMNS) - of_prompts


def test_every_recipe_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CIVITAI_LAKE", str(tmp_path / "lake"))
    lake = Lake.at(str(tmp_path / "lake"))
    numbers = range(1, 41)
    rows = [
        prompt_row(n, VERSION, prompt=f"=kite {n}", prompt_hash=f"{n}", username=f"{n % 9}", reaction_count=9)
        for n in numbers
    ]
    write_prompts(lake, *rows, version=VERSION)
    write(lake, schemas.PROMPT_CATEGORIES, [category_row(n, "lighting", VERSION) for n in numbers], VERSION)
    write(lake, schemas.PROMPT_RESOURCES, [resource_row(n, "lora", "Soft Fog", VERSION) for n in numbers], VERSION)
    lines = list(shell_lines(ROOT / DOCUMENT, "civitai-pipeline export"))
    assert len(lines) >= 7
    for line in lines:
        done = CliRunner().invoke(main, shlex.split(line)[1:])
        assert done.exit_code == 0, (line, done.output)
    blocks = re.findall(r"```python\n(.*?)```", text_of(DOCUMENT), re.DOTALL)
    assert len(blocks) == 3
    loaded: dict[str, object] = {}
    for block in blocks:
        exec(block, loaded)  # noqa: S102 - our own document
    assert list(loaded["sheet"]["prompt"]) == [f"=kite {n}" for n in numbers]  # type: ignore[index]  # a data frame
    assert (tmp_path / "wildcards" / "lighting.txt").read_text() == "kite\n"

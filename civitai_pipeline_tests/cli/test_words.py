"""The command ``taxonomy``: showing, checking and copying the words of the categories."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from civitai_pipeline.cli.words import taxonomy
from civitai_pipeline.prompts.taxonomy import DEFAULT_TAXONOMY

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result

MINE = 'version = "of mine"\n[categories.Alloy]\nterms = ["tin", "zinc"]\n'


def run(*arguments: str) -> Result:
    return CliRunner().invoke(taxonomy, list(arguments))


def test_the_taxonomy_in_use_is_shown_with_its_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packaged = run()
    assert packaged.exit_code == 0
    assert all(name in packaged.stdout for name in ("NSFW", "style", "technical"))
    (tmp_path / "mine.toml").write_text(MINE, encoding="utf-8")
    monkeypatch.setenv("CIVITAI_TAXONOMY", str(tmp_path / "mine.toml"))
    mine = run()
    assert mine.stdout.split()[-5:] == ["Alloy", "2", "4", "of", "mine"]
    assert "style" not in mine.stdout


def test_checking_says_what_is_wrong_and_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(MINE, encoding="utf-8")
    assert run("--check", str(path)).exit_code == 0
    path.write_text(MINE.replace('"zinc"', '"tin"'), encoding="utf-8")
    wrong = run("--check", str(path))
    assert wrong.exit_code == 1
    assert f"{path}: category 'Alloy': 'tin' is listed twice; remove one" in wrong.stderr.replace("\n", "")


def test_a_copy_is_the_packaged_file_and_never_replaces_one(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    assert run("--copy", str(path)).exit_code == 0
    assert path.read_text(encoding="utf-8") == DEFAULT_TAXONOMY.read_text(encoding="utf-8")
    again = run("--copy", str(path))
    assert again.exit_code == 2
    assert "exists already" in again.stderr
    assert run("--copy", str(tmp_path / "nowhere" / "mine.toml")).exit_code == 1


@pytest.mark.parametrize("text", ["", "version = "])
def test_a_taxonomy_that_cannot_be_used_ends_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    (tmp_path / "mine.toml").write_text(text, encoding="utf-8")
    monkeypatch.setenv("CIVITAI_TAXONOMY", str(tmp_path / "mine.toml"))
    assert run().exit_code == 1

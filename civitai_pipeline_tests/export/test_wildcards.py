"""Wildcards: the terms people really use, one a line, in files that the extensions can read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from civitai_pipeline.export.options import ExportOptions
from civitai_pipeline.export.run import ExportResult, export_prompts
from civitai_pipeline.export.staging import MARKER, ExportError
from civitai_pipeline.lake import schemas
from civitai_pipeline_tests.lake.examples import category_row, prompt_row, write, write_prompts

if TYPE_CHECKING:
    from pathlib import Path

    from civitai_pipeline.lake.paths import Lake


def _export(lake: Lake, output: Path, **choices: Any) -> ExportResult:  # noqa: ANN401 - options
    return export_prompts(lake, [], ExportOptions("wildcards", **choices), output)


def _terms(folder: Path) -> dict[str, list[str]]:
    return {path.stem: path.read_text(encoding="utf-8").splitlines() for path in folder.glob("*.txt")}


def _fill(lake: Lake, *rows: tuple[int, str | None, str, list[str]], level: int = 1) -> None:
    """Rows of image id, author, category and terms."""
    write_prompts(lake, *(prompt_row(number, username=name, browsing_level=level) for number, name, _, _ in rows))
    categories = [category_row(number, category) | {"matched_keywords": terms} for number, _, category, terms in rows]
    write(lake, schemas.PROMPT_CATEGORIES, categories)


def test_terms_are_sorted_by_use_and_those_of_few_images_or_authors_left_out(lake: Lake, tmp_path: Path) -> None:
    _fill(
        lake,
        (1, "ann", "lighting", ["soft light", "rim light"]),
        (2, "bob", "lighting", ["soft light", "backlit"]),
        (3, "cy", "lighting", ["soft light", "rim light", "backlit", "rare"]),
        (4, "ann", "lighting", ["rim light", "mine"]),
        (5, "ann", "lighting", ["rim light", "mine"]),
        (6, "ann", "mood", ["calm"]),
        (7, None, "mood", ["calm"]),
        (8, None, "mood", ["anonymous"]),
        (9, None, "mood", ["anonymous"]),
    )
    result = _export(lake, tmp_path / "out")
    assert _terms(tmp_path / "out") == {"lighting": ["rim light", "soft light", "backlit"], "mood": ["calm"]}
    assert result.terms == {"lighting": 3, "mood": 1}
    _export(lake, tmp_path / "out", min_authors=1, max_terms=2)
    assert _terms(tmp_path / "out") == {"lighting": ["rim light", "soft light"], "mood": ["calm", "anonymous"]}
    _export(lake, tmp_path / "out", min_images=3)
    assert _terms(tmp_path / "out") == {"lighting": ["rim light", "soft light"]}
    assert sorted(path.suffix for path in (tmp_path / "out").iterdir() if path.name != MARKER) == [".txt"]


def test_an_image_of_two_versions_counts_once(lake: Lake, tmp_path: Path) -> None:
    for version in (5, 7):
        write_prompts(lake, prompt_row(1, version=version, username="ann"), version=version)
        write(lake, schemas.PROMPT_CATEGORIES, [category_row(1, "mood", version=version)], version)
    with pytest.raises(ExportError, match="no term is used often enough; lower --min-images or --min-authors"):
        _export(lake, tmp_path / "out", min_authors=1)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("level", "shown"), [("PG", False), ("PG-13", False), ("R", True), ("XXX", True), (None, False)]
)
def test_terms_for_adults_are_written_only_where_the_maturity_asked_for_allows(
    lake: Lake, tmp_path: Path, level: str | None, shown: bool
) -> None:
    _fill(lake, (1, "ann", "NSFW", ["bare"]), (2, "bob", "NSFW", ["bare"]), (3, "ann", "mood", ["calm"]))
    _export(lake, tmp_path / "out", max_level=level, min_images=1, min_authors=1)
    assert set(_terms(tmp_path / "out")) == ({"NSFW", "mood"} if shown else {"mood"})


def test_terms_of_rows_above_the_maturity_asked_for_do_not_count(lake: Lake, tmp_path: Path) -> None:
    _fill(lake, (1, "ann", "mood", ["calm"]), (2, "bob", "mood", ["calm"]), level=8)
    with pytest.raises(ExportError, match="2 are above the maturity asked for"):
        _export(lake, tmp_path / "out", max_level="R", min_images=1, min_authors=1)


def test_what_an_extension_reads_as_syntax_is_no_line(lake: Lake, tmp_path: Path) -> None:
    evil = ["{a|b}", "__x__", "# note", "$$", "<lora:x:1>", "(a:1.2)", "two\nlines", "a\\b", " ", "[x]"]
    rows = [(number, f"author{number}", "mood", [*evil, "côte d'azur", "16 by 9"]) for number in (1, 2)]
    _fill(lake, *rows)
    _export(lake, tmp_path / "out")
    assert (tmp_path / "out" / "mood.txt").read_bytes() == "16 by 9\ncôte d'azur\n".encode()


def test_a_category_that_cannot_name_a_file_is_left_out(lake: Lake, tmp_path: Path) -> None:
    _fill(lake, (1, "ann", "../escaped", ["calm"]), (2, "ann", "mood", ["calm"]))
    _export(lake, tmp_path / "out" / "in", min_images=1, min_authors=1)
    assert set(_terms(tmp_path / "out" / "in")) == {"mood"}
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["in"]

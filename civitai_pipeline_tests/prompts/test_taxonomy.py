"""The taxonomy file: its format, its errors, and the one that comes with the package."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from civitai_pipeline.prompts.categories import Categorizer
from civitai_pipeline.prompts.taxonomy import TaxonomyError, load_taxonomy

if TYPE_CHECKING:
    from pathlib import Path

CATEGORIES = ("NSFW", "style", "lighting", "composition", "mood", "basic", "technical")


def test_the_packaged_taxonomy_covers_the_seven_categories() -> None:
    taxonomy = load_taxonomy()
    assert taxonomy.categories == CATEGORIES
    assert taxonomy.version
    for category in CATEGORIES:
        phrases = [phrase for phrase, said in taxonomy.phrases.items() if category in {one.category for one in said}]
        assert len(phrases) > 400, category


def test_a_taxonomy_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        """
        version = "7"
        [sets]
        metal = ["tin", "zinc"]
        [ignore]
        terms = ["tin foil", "ingots"]
        [categories.Alloy]
        strong = ["<metal> whale"]
        terms = ["tin", "ingot", "(cold|warm)-forge", "melt~", '/\\d+kt/']
        weak = ["=ore"]
        """,
        encoding="utf-8",
    )
    categorizer = Categorizer(load_taxonomy(path))

    def words(prompt: str) -> tuple[str, ...]:
        return categorizer.categorize(prompt)[0].matched_keywords

    assert categorizer.taxonomy.version == "7"
    assert words("Zinc whales") == ("zinc whales",)
    assert words("tin foil") == ()
    assert words("ingot") == ("ingot",)
    assert words("ingots") == ()
    assert words("a cold forge, coldforge, warm_forges") == ("cold forge", "warm forges")
    assert words("melting, melted, 24kt") == ("melting", "24kt")
    assert words("ore") == ("ore",)
    assert words("ores") == ()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("version = ", "is not TOML"),
        ("[categories.a]\nterms = ['x']", "states no version"),
        ("version = '1'", "needs categories"),
        ("version = '1'\n[categories.uncategorized]\nterms = ['x']", "none of them 'uncategorized'"),
        ("version = '1'\ncategories = 3", "'categories' is not a table"),
        ("version = '1'\ncolour = 'red'\n[categories.a]\nterms = ['x']", "'colour' is not part of the format"),
        ("version = '1'\n[categories]\na = ['x']", "category 'a' is not a table"),
        ("version = '1'\n[categories.a]\nstronk = ['x']", "category 'a': 'stronk' is none of strong, terms, weak"),
        ("version = '1'\n[categories.a]\nterms = 'x'", "category 'a': its terms are not a list"),
        ("version = '1'\n[categories.a]\nterms = ['x', 5]", "category 'a': term 5 is not text"),
        ("version = '1'\n[categories.a]\nterms = ['x']\nweak = ['x']", "category 'a': 'x' is listed twice"),
        ("version = '1'\n[categories.a]\nterms = ['x (y']", "category 'a': 'x (y': brackets do not pair up"),
        ("version = '1'\n[categories.a]\nterms = ['<no> x']", "category 'a': '<no> x': there is no set 'no'"),
        ("version = '1'\n[categories.a]\nterms = ['--']", "category 'a': '--' holds no word"),
        ("version = '1'\n[categories.a]\nterms = ['/[/']", "category 'a': pattern '/[/'"),
        (
            "version = '1'\n[categories.a]\nterms = ['" + "(a|b)" * 13 + "']",
            "too many spellings",
        ),
    ],
)
def test_errors_name_file_category_and_term(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(TaxonomyError) as caught:
        load_taxonomy(path)
    assert str(path) in str(caught.value)
    assert complaint in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(TaxonomyError, match=r"gone\.toml: cannot be read"):
        load_taxonomy(tmp_path / "gone.toml")

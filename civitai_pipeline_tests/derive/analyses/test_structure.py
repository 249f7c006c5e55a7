from __future__ import annotations

import math
from typing import TYPE_CHECKING

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from civitai_pipeline.derive.analyses.structure import MARKS, text_counts
from civitai_pipeline.prompts.text import prompt_counts, storable

from .examples import MONDAY, analyses, image, pick

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def marks_of() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        selected = ", ".join(f'({mark.sql}) AS "{measure}"' for measure, mark in MARKS.items())
        connection.execute(f"CREATE MACRO marks(given) AS TABLE SELECT {selected} FROM (SELECT given AS content)")  # noqa: S608 - our own
        yield connection


@pytest.mark.parametrize(
    ("text", "marks"),
    [
        ("a kite", set()),
        ("a, b", {"comma"}),
        ("春、夏", {"comma", "cjk"}),
        ("(word:1.2)", {"weight", "round_brackets"}),
        ("(word : .5 )", {"weight", "round_brackets"}),
        ("((red:1.1) hat:2)", {"weight", "round_brackets", "double_round_brackets"}),
        ("(level 3:1.5)", {"weight", "round_brackets"}),
        # The two that the older tool took for weights.
        ("<lora:x:0.8>", {"lora_tag"}),
        ("ratio 16:9, (16:9), at 10:30", {"comma", "round_brackets"}),
        ("(a) <lora:x:0.8>", {"round_brackets", "lora_tag"}),
        (r"mario \(nintendo\)", {"escaped_brackets"}),
        (r"mario \(1:1.2\)", {"escaped_brackets"}),
        ("[sand]", {"square_brackets"}),
        ("[a:b:0.5]", {"square_brackets", "prompt_editing"}),
        ("[a|b]", {"square_brackets", "alternation"}),
        ("{a|b}", {"curly_brackets", "alternation"}),
        ("<LORA:x:1>", {"lora_tag"}),
        ("<lyco:x:1>", {"other_angle_tag"}),
        ("<lor:x:1> <loras:y:1>", {"other_angle_tag"}),
        ("<lora:x:1> <hypernet:y:1>", {"lora_tag", "other_angle_tag"}),
        ("Embedding:bright", {"embedding"}),
        ("embedding: none", set()),
        ("__colours/warm__", {"wildcard"}),
        ("long_hair", {"underscore"}),
        ("<lora:my_file__v2__:1>", {"lora_tag"}),
        ("<lora:my_file:1> long_hair", {"lora_tag", "underscore"}),
        ("She walks. He waits.", {"sentence"}),
        ("v1.5, 8k. Sharp", {"comma", "sentence"}),
        ("v1.5 art", set()),
        ("猫がいる。", {"sentence", "cjk"}),
        ("a" * 61, {"long_part"}),
        ("a" * 60 + "," + "b" * 60, {"comma"}),
        ("a BREAK b AND c", {"break", "and"}),
        ("BREAKFAST BAND", set()),
        ("a\nb", {"line_break"}),
        ("a\rb", {"line_break"}),
        ("한옥", {"cjk"}),
        ("éclair 🦊", set()),
    ],
)
def test_a_text_shows_these_marks_and_no_others(
    marks_of: duckdb.DuckDBPyConnection, text: str, marks: set[str]
) -> None:
    row = marks_of.execute("SELECT * FROM marks($1)", [text]).fetchall()[0]
    assert {measure for measure, holds in zip(MARKS, row, strict=True) if holds} == marks


IMAGES = [
    image(1, "a kite, sea", "ann", negative_prompt="blur, text"),
    image(2, "A  kite, (sea:1.2)", "ann", negative_prompt="blur, text"),
    image(3, "sun", "bob", negative_prompt=" "),
    image(4, "sun, moon", None, negative_prompt="blur"),
    image(5, "gone, away", "eve", negative_prompt="x", prompt_withdrawn_at=MONDAY),
]


@pytest.fixture(scope="module")
def tables() -> dict[str, pa.Table]:
    return analyses(IMAGES)


def test_structure_counts_images_prompts_and_authors_of_all_that_have_a_text(tables: dict[str, pa.Table]) -> None:
    counts = ("images", "prompts", "authors", "images_total", "authors_total", "share")
    found = tables["prompt_structure"]
    # The first two images are one prompt, of which one spelling has a weight.
    assert pick(found, *counts, side="prompt", measure="comma") == [(3, 2, 1, 4, 2, 0.75)]
    assert pick(found, *counts, side="prompt", measure="weight") == [(1, 1, 1, 4, 2, 0.25)]
    assert pick(found, *counts, side="prompt", measure="cjk") == [(0, 0, 0, 4, 2, 0.0)]
    assert pick(found, *counts, side="negative", measure="comma") == [(2, 1, 1, 3, 1, 2 / 3)]
    assert len(found) == 2 * len(MARKS)


def test_lengths_over_images_and_over_texts(tables: dict[str, pa.Table]) -> None:
    names = ("n", "authors", "mean", "minimum", "q1", "median", "q3", "maximum", "sd")
    found = tables["length_statistics"]
    # Characters 11, 18, 3, 9: mean 41/4; quartiles between the sorted 3, 9, 11, 18.
    ((*most, sd),) = pick(found, *names, side="prompt", quantity="characters", counted="images")
    assert most == [4, 2, 10.25, 3, 7.5, 10.0, 12.75, 18]
    assert sd == pytest.approx(math.sqrt(((0.75) ** 2 + 7.75**2 + 7.25**2 + 1.25**2) / 3))
    # The second is a repeat of the first: 11, 3, 9.
    ((*most, _),) = pick(found, *names, side="prompt", quantity="characters", counted="texts")
    assert most == [3, 2, 23 / 3, 3, 6.0, 9.0, 10.0, 11]
    assert pick(found, "n", "mean", side="negative", quantity="tags", counted="images") == [(3, 5 / 3)]
    assert pick(found, "n", "mean", side="negative", quantity="words", counted="texts") == [(2, 1.5)]


def test_one_length_has_no_spread() -> None:
    found = analyses([image(1, "a")])["length_statistics"]
    assert set(pick(found, "n", "sd")) == {(1, None)}


def test_bins_are_the_same_everywhere_and_the_last_has_no_end() -> None:
    images = [image(1, "a" * 49), image(2, "a" * 50), image(3, "a" * 99), image(4, "a" * 3000), image(5, "a" * 9000)]
    found = analyses(images)["length_bins"]
    assert pick(found, "bin_from", "bin_to", "images", "images_total", "share", quantity="characters") == [
        (0, 49, 1, 5, 0.2),
        (50, 99, 2, 5, 0.4),
        (3000, None, 2, 5, 0.4),
    ]


@settings(max_examples=100)
@given(st.lists((st.text() | st.text(st.sampled_from("a ,\u3000\x1c\x85\u200b"))).map(storable), max_size=4))
def test_negative_prompts_are_counted_as_prompts_are(texts: list[str]) -> None:
    found = text_counts(pa.array(texts, type=pa.string())).to_pylist()
    assert [(row["characters"], row["tags"], row["words"]) for row in found] == [prompt_counts(text) for text in texts]

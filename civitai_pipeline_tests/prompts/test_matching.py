"""Reading many prompts at once: it gives what reading them one by one, token by token, gives."""

from __future__ import annotations

import re
import time
from functools import cache
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from civitai_pipeline.prompts import categories, matching, segments
from civitai_pipeline.prompts.categories import ROWS, Categorizer
from civitai_pipeline.prompts.segments import cut, tokens_of
from civitai_pipeline.prompts.taxonomy import load_taxonomy
from civitai_pipeline.prompts.text import normalise_prompt

if TYPE_CHECKING:
    from collections.abc import Iterator

PIECES = st.sampled_from(
    [
        "no ",
        "not ",
        "without ",
        "nor ",
        "or ",
        "and ",
        "with ",
        "nude ",
        "soft light",
        "golden hour",
        "shadows",
        "_",
        "-",
        "\n",
        ",",
        ", ",
        ".",
        ". ",
        ".,",
        "; ",
        ": ",
        ":",
        "|",
        "!",
        " ",
        "\t",
        "\x1c",
        "\x02",
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        "\\",
        "\\(",
        "\\\\",
        ":1.2)",
        ":.5 )",
        "<lora:nude:1>",
        "<lora:a, nude:0.8> ",
        "<",
        ">",
        "embedding:nude ",
        "EMBEDDING:nude,",
        "f/1.4",
        "f1.4 ",
        "85mm",
        "16:9 ",
        "1024x768",
        "0.5",
        "2.5d",
        "8k",
        "1girl",
        "'s ",
        "'",
        "woman's",
        " BREAK ",
        "break",
        "é",
        "\u2019",
        "—",
        "…",
        "\uff0c",
        "\uff21",
        "ﬁ",
        "ß",
        "İ",
        "²",
        "\u3000",
        "light blue dress",
        "score_9",
        "x",
    ]
)
PROMPTS = st.lists(PIECES, max_size=14).map("".join) | st.text(max_size=40)


@cache
def categorizer() -> Categorizer:
    return Categorizer(load_taxonomy())


def said(table: pa.Table) -> list[list[dict[str, Any]]]:
    """What a table says of each prompt."""
    found: list[list[dict[str, Any]]] = []
    for row in table.to_pylist():
        place = row.pop("prompt")
        if place == len(found):
            found.append([])
        found[place].append(row)
    return found


@given(st.lists(PROMPTS, max_size=6))
def test_a_prompt_says_the_same_in_whatever_company(prompts: list[str]) -> None:
    together = categorizer().categorize_all(prompts)
    assert together.schema.equals(ROWS)
    assert said(together) == [said(categorizer().categorize_all([prompt]))[0] for prompt in prompts]


@pytest.mark.parametrize(("limit", "value"), [("_BATCH_PROMPTS", 2), ("_BATCH_BYTES", 10), ("_BATCH_BYTES", 1)])
def test_batches_and_chunks_make_no_difference(monkeypatch: pytest.MonkeyPatch, limit: str, value: int) -> None:
    prompts = ["golden hour, 16:9", "a cat", "", "no shadows, soft light", "golden hour", "é, oil painting", "x" * 50]
    whole = categorizer().categorize_all(prompts)
    monkeypatch.setattr(categories, limit, value)
    assert categorizer().categorize_all(prompts).equals(whole)
    chunked = pa.chunked_array([prompts[:3], [], prompts[3:]], pa.string())
    assert categorizer().categorize_all(chunked).equals(whole)
    assert categorizer().categorize_all(chunked.slice(1)).slice(0, 1).column("category").to_pylist() == [
        "uncategorized"
    ]


def tokens_in_batch(segment: str) -> list[str]:
    found = cut(pa.array([segment], pa.string()))
    parts = [part.split() for part in found.text.decode().split(",")]
    by_number = {number: part for number, part in zip(found.numbers.tolist(), parts, strict=True) if number >= 0}
    return [token for number in found.of_prompts.tolist() for token in [*by_number[number], ","]]


@settings(max_examples=300)
@example("a.' b's's 'c' d''e. f:g h: i")
@example("score_9(\\\\(soft) \\( light:1.2)")
@given(PROMPTS.filter(lambda text: text.isascii() and "<" not in text and "mbedding" not in text.lower()))
def test_the_passes_over_a_batch_make_the_tokens_of_the_normal_form(prompt: str) -> None:
    text = normalise_prompt(prompt.replace("\n", ",")).replace("_", " ").replace("\\", "")
    wanted = []
    for part in text.split(","):
        for sentence in re.split(r"([;|!?]|\.+(?=\s|$)|:(?=\s|$))", part):
            wanted += tokens_of(sentence)
    assert [token for token in tokens_in_batch(prompt) if token not in {",", ";"}] == wanted


@pytest.mark.parametrize("unit", [".", ".'", "1.", "f/1", "a'", ": ", "(:1", "<a:"])
def test_cutting_costs_no_more_than_the_length(unit: str) -> None:
    # Not ASCII, so that it is read by itself.
    evil = "é" + unit * (200_000 // len(unit)) + "é"
    started = time.process_time()
    cut(pa.array([evil]))
    assert time.process_time() - started < 3


def walked(prompt: str) -> Iterator[str]:
    """The phrases that count in ``prompt``, by the rules as they are told, one token after the other."""
    taxonomy = load_taxonomy_once()
    text = re.sub(r"(?i)\bembedding:[^\s,]+", " ", prompt.replace("\n", ","))
    text = normalise_prompt(text).replace("_", " ").replace("\u2019", "'").replace("\\", "")
    for segment in re.split(r"[,;|!?\n]+|\.+(?=\s|$)|:(?=\s)", text):
        tokens, place, until = tokens_of(segment), 0, -1
        while place < len(tokens):
            for length in range(len(tokens) - place, 0, -1):
                phrase = " ".join(tokens[place : place + length])
                evidence = taxonomy.phrases.get(phrase)
                if evidence is not None and matching._DIVIDERS.isdisjoint(tokens[place : place + length]):
                    break
            else:
                phrase, length = tokens[place], 1
                evidence = tuple(
                    one
                    for pattern, one in taxonomy.patterns
                    if re.search("[0-9]", phrase) and pattern.fullmatch(phrase)
                )
                if not evidence:
                    if phrase in matching._NEGATIONS:
                        until = place + 3
                    elif phrase in matching._NEGATION_ENDS | matching._DIVIDERS:
                        until = -1
                    elif phrase in {"or", "nor"} and 0 <= until >= place - 1:
                        until = place + 3
            if evidence and place > until:
                yield phrase
            place += length


@cache
def load_taxonomy_once() -> Any:  # noqa: ANN401 - cache hides the type from mypy
    return load_taxonomy()


@settings(max_examples=300)
@example("no shadows or golden hour, without any nude but soft light")
@example("no nude break shadows")
@given(PROMPTS)
def test_the_automaton_finds_what_walking_token_by_token_finds(prompt: str) -> None:
    found = categorizer()._matcher.find(cut(pa.array([prompt], pa.string())))
    assert {found.phrases[phrase] for phrase in found.phrase.tolist()} == set(walked(prompt))


def test_each_distinct_tag_is_read_once() -> None:
    found = cut(pa.array(["a cat, a dog", "a dog,a cat", "a cat"]))
    assert found.text.split() == [b"a", b"cat", b",", b"a", b"dog"]
    assert found.of_prompts.tolist() == [0, 1, 1, 0, 0]
    assert found.counts.tolist() == [2, 2, 1]
    assert segments.tokens_of("a cat's f/1.4 at 16:9") == ["a", "cat", "f/1.4", "at", "16:9"]

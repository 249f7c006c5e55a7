"""How long the prompts are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from civitai_pipeline.report import figures, words
from civitai_pipeline.report.binning import binned, quantile
from civitai_pipeline.report.blocks import Block, Chart, Column, Section, Table
from civitai_pipeline.report.sections.phrases import n_of

if TYPE_CHECKING:
    from civitai_pipeline.report.workbench import Workbench

# The marks of structure that say something to a reader; prompt_structure has more.
_MARKS = {
    "comma": "commas between tags",
    "sentence": "a sentence",
    "long_part": "a long part without a comma",
    "weight": "a weight, as in (word:1.2)",
    "round_brackets": "round brackets for emphasis",
    "square_brackets": "square brackets",
    "underscore": "words joined by an underscore",
    "lora_tag": "a LoRA reference, as in <lora:name:0.8>",
    "embedding": "an embedding reference",
    "alternation": "alternatives between brackets",
    "prompt_editing": "prompt editing, as in [from:to:when]",
    "wildcard": "a wildcard left unfilled",
    "break": "the word BREAK",
    "line_break": "several lines",
    "cjk": "Chinese, Japanese or Korean characters",
}

_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95, 1.0)


def lengths(bench: Workbench) -> Section:
    """Characters, words and tags per prompt."""
    question = "How long are the prompts?"
    measures = {
        "characters": bench.rows("SELECT prompt_length, count(*) FROM prompts GROUP BY ALL ORDER BY ALL"),
        "words": bench.rows("SELECT word_count, count(*) FROM prompts GROUP BY ALL ORDER BY ALL"),
        "tags": bench.rows("SELECT tag_count, count(*) FROM prompts GROUP BY ALL ORDER BY ALL"),
    }
    points = {name: [quantile(pairs, q) for q in _QUANTILES] for name, pairs in measures.items()}
    _, low, median, high, most, longest = points["characters"]
    chart = Chart(
        question,
        f"{n_of(bench.standing, bench)}. Half have {words.number(low)} to {words.number(high)} characters; the median "
        f"is {words.number(median)}, 95 % have at most {words.number(most)}, the longest has {words.number(longest)}.",
        figures.histogram(binned(measures["characters"], whole=True), axis="characters", unit="prompts", whole=True),
        Table(
            "Length of prompts",
            [
                Column("counted in"),
                *(Column(label, "count") for label in ("5 %", "25 %", "median", "75 %", "95 %", "longest")),
            ],
            [(name, *values) for name, values in points.items()],
            "Japanese and Chinese are written without spaces, so words are undercounted there; characters are not.",
        ),
        thin=bench.standing < words.THIN,
    )
    return Section("lengths", "Length and structure of prompts", [chart, *_structure(bench)], "Lengths")


def _structure(bench: Workbench) -> list[Block]:
    if not bench.has("prompt_structure"):
        return []
    found = {
        (side, measure): (images, share, authors)
        for side, measure, images, share, authors in bench.rows(
            "SELECT side, measure, images, share, authors FROM prompt_structure"
        )
    }
    rows = [
        (what, *found["prompt", measure], found.get(("negative", measure), (0, None, 0))[1])
        for measure, what in _MARKS.items()
        if ("prompt", measure) in found
    ]
    return [
        Table(
            "How are the prompts written?",
            [
                Column("what the prompt holds", "long"),
                Column("images", "count"),
                Column("share", "share"),
                Column("authors", "count"),
                Column("share of negative prompts", "share"),
            ],
            sorted(rows, key=lambda row: -row[1]),
            f"n = {words.plural(bench.standing, 'prompt')}. Each mark is explained in the data dictionary.",
        )
    ]

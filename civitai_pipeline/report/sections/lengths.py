"""How long the prompts are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from civitai_pipeline.report import figures, words
from civitai_pipeline.report.binning import binned, quantile
from civitai_pipeline.report.blocks import Chart, Column, Section, Table
from civitai_pipeline.report.sections.phrases import n_of

if TYPE_CHECKING:
    from civitai_pipeline.report.workbench import Workbench

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
    return Section("lengths", "Prompt length", [chart])

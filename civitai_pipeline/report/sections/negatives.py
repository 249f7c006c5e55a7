"""What people ask the model to avoid."""

from __future__ import annotations

from typing import TYPE_CHECKING

from civitai_pipeline.report import figures, words
from civitai_pipeline.report.blocks import Chart, Section, Table
from civitai_pipeline.report.sections.phrases import n_of, nothing
from civitai_pipeline.report.sections.tags import HOW_TAGS_ARE_READ, TAG_COLUMNS, with_tag
from civitai_pipeline.report.text import quoted

if TYPE_CHECKING:
    from civitai_pipeline.report.workbench import Workbench


def negatives(bench: Workbench) -> Section:
    """The most used tags of negative prompts."""
    bench.read_tags()
    question = "What do people ask the model to avoid?"
    known, distinct = bench.row(
        "SELECT count(negative_prompt), count(DISTINCT lower(trim(negative_prompt))) FROM prompts"
    )
    rows = bench.rows(
        """
        WITH top AS (
            SELECT tag, count(*) AS images FROM negative_tags GROUP BY tag ORDER BY images DESC, tag LIMIT 20
        )
        SELECT tag, any_value(top.images), any_value(top.images) / $1, count(DISTINCT author),
               count(DISTINCT prompt_hash)
        FROM top JOIN negative_tags USING (tag) JOIN prompts USING (image_id)
        GROUP BY tag ORDER BY 2 DESC, tag
        """,
        known,
    )
    if not rows:
        missing = nothing(question, "comes with a negative prompt", bench)
        return Section("negatives", "Negative prompts", [missing], "Negatives")
    chart = Chart(
        question,
        f"{n_of(known, bench)} come with a negative prompt; "
        + ("no two of these are equal. " if distinct == known > 1 else f"{distinct:,} of these differ. ")
        + f"{quoted(rows[0][0])} leads, in {words.share(rows[0][1], known)} of them.",
        figures.bars([(row[0], row[1]) for row in rows], unit="images", whole=known),
        Table(
            "Most used tags of negative prompts",
            TAG_COLUMNS,
            [(with_tag(bench, tag, **{"in": "negative"}), *counts) for tag, *counts in rows],
        ),
        f"Shares are of the prompts with a negative prompt. {HOW_TAGS_ARE_READ}",
        known < words.THIN,
    )
    return Section("negatives", "Negative prompts", [chart], "Negatives")

"""How much of the data repeats itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from civitai_pipeline.report import figures, words
from civitai_pipeline.report.blocks import Block, Chart, Column, Section, Table
from civitai_pipeline.report.sections.phrases import n_of
from civitai_pipeline.report.text import excerpt

if TYPE_CHECKING:
    from civitai_pipeline.report.workbench import Workbench


def duplicates(bench: Workbench) -> Section:
    """Exact and near repetition, and the prompts repeated most."""
    question = "How many prompts say something new?"
    exact, near = bench.row(
        """
        SELECT count(*) FILTER (WHERE repeats_exactly),
               count(*) FILTER (WHERE repeats_nearly AND NOT repeats_exactly)
        FROM prompts
        """
    )
    classes = [
        ("first of its kind", bench.standing - exact - near),
        ("near repeat", near),
        ("exact repeat", exact),
    ]
    chart = Chart(
        question,
        f"{n_of(bench.standing, bench)}. {words.share(classes[0][1], bench.standing)} are the first of their kind, "
        f"{words.share(exact, bench.standing)} repeat an earlier prompt exactly and "
        f"{words.share(near, bench.standing)} nearly.",
        figures.bars(classes, unit="images", whole=bench.standing),
        Table(
            "Images by repetition",
            [Column("kind"), Column("images", "count"), Column("share", "share")],
            [(label, count, count / bench.standing) for label, count in classes],
        ),
        "Exact: the same text apart from case, white space, weights, emphasis and LoRA references. The other charts on "
        "this page count every image, repeats included, unless they say otherwise.",
        bench.standing < words.THIN,
    )
    blocks: list[Block] = [chart]
    repeated = bench.rows(
        """
        SELECT arg_min(prompt, image_id), count(*) AS images, count(DISTINCT author), min(created), max(created)
        FROM prompts GROUP BY prompt_hash HAVING images > 1
        ORDER BY images DESC, min(image_id) LIMIT 10
        """
    )
    if repeated:
        blocks.append(
            Table(
                "Which prompts are repeated most?",
                [
                    Column("prompt", "prompt"),
                    Column("images", "count"),
                    Column("authors", "count"),
                    Column("first", "date"),
                    Column("last", "date"),
                ],
                [
                    (excerpt(prompt), images, authors, words.day(first), words.day(last))
                    for prompt, images, authors, first, last in repeated
                ],
            )
        )
    return Section("duplicates", "Duplicates", blocks)

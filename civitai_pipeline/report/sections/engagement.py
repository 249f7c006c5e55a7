"""Reactions: how they are spread, and what drew the most."""

from __future__ import annotations

from typing import TYPE_CHECKING

from civitai_pipeline.report import figures, words
from civitai_pipeline.report.blocks import Block, Chart, Column, Section, Table
from civitai_pipeline.report.sections.lift import lift
from civitai_pipeline.report.sections.phrases import n_of, nothing
from civitai_pipeline.report.text import excerpt

if TYPE_CHECKING:
    from civitai_pipeline.report.workbench import Workbench

ENGAGEMENT = (
    "Engagement: reactions against those of images of the same age; 1 is their mean, which a few popular images draw "
    "up, so that most stay below."
)

# Each class about twice as wide as the one before: most images have few reactions and some have thousands.
_CLASSES = ((0, 0), (1, 2), (3, 5), (6, 10), (11, 20), (21, 50), (51, 100), (101, 500), (501, None))


def engagement(bench: Workbench) -> Section:
    """Reactions per image, by category, and the images with the most."""
    question = "How many reactions does an image get?"
    known, low, median, high, most = bench.row(
        """
        SELECT count(reaction_count), quantile_disc(reaction_count, 0.25), quantile_disc(reaction_count, 0.5),
               quantile_disc(reaction_count, 0.75), max(reaction_count)
        FROM prompts
        """
    )
    if not known:
        return Section("engagement", "Engagement", [nothing(question, "tells its reactions", bench)])
    pairs = bench.rows(
        "SELECT reaction_count, count(*) FROM prompts WHERE reaction_count IS NOT NULL GROUP BY ALL ORDER BY ALL"
    )
    classes = [
        (
            f"{first:,} and more" if last is None else f"{first}" if first == last else f"{first} to {last}",
            sum(count for value, count in pairs if value >= first and (last is None or value <= last)),
        )
        for first, last in _CLASSES
    ]
    while len(classes) > 1 and not classes[-1][1]:
        classes.pop()
    chart = Chart(
        question,
        f"{n_of(known, bench)}. Half have {words.number(low)} to {words.number(high)} reactions, the median is "
        f"{words.number(median)}, the most is {words.number(most)}.",
        figures.bars([(f"{label} reactions", count) for label, count in classes], unit="images", whole=known),
        Table(
            "Images by reactions",
            [Column("reactions"), Column("images", "count"), Column("share", "share")],
            [(label, count, count / known) for label, count in classes],
        ),
        "Cry, laugh, like and heart added up, at the latest sighting. A young image has had less time, and the site "
        "shows popular images to more people.",
        known < words.THIN,
    )
    blocks: list[Block] = [chart, *_by_category(bench), *lift(bench), *_most_reacted(bench)]
    return Section("engagement", "Engagement", blocks)


def _by_category(bench: Workbench) -> list[Block]:
    rows = bench.rows(
        """
        SELECT category, count(engagement) AS n, quantile_cont(engagement, 0.25), quantile_cont(engagement, 0.5),
               quantile_cont(engagement, 0.75)
        FROM categories JOIN prompts USING (image_id)
        WHERE is_primary AND engagement IS NOT NULL
        GROUP BY category ORDER BY 4 DESC, category
        """
    )
    if not rows:
        return []
    return [
        Table(
            "Do some categories draw more reactions than others of their age?",
            [
                Column("primary category"),
                Column("n", "count"),
                Column("25 %", "number"),
                Column("median", "number"),
                Column("75 %", "number"),
            ],
            rows,
            f"{ENGAGEMENT} Below {words.THIN} images a median says little.",
        )
    ]


def _most_reacted(bench: Workbench) -> list[Block]:
    rows = bench.rows(
        """
        SELECT prompt, reaction_count, comment_count, author, created, image_id
        FROM prompts WHERE NOT repeats_exactly AND reaction_count > 0
        ORDER BY reaction_count DESC, image_id LIMIT 10
        """
    )
    if not rows:
        return []
    return [
        Table(
            "Which prompts drew the most reactions?",
            [
                Column("prompt", "prompt"),
                Column("reactions", "count"),
                Column("comments", "count"),
                Column("author"),
                Column("date", "date"),
                Column("image", "outside"),
            ],
            [
                (
                    excerpt(prompt),
                    reactions,
                    comments,
                    author or words.UNKNOWN,
                    words.day(created),
                    bench.image_page(image_id),
                )
                for prompt, reactions, comments, author, created, image_id in rows
            ],
            "Of equal prompts only the first image. Long prompts are cut; the number leads to the image on the site.",
        )
    ]

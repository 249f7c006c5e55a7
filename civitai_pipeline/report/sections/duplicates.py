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
        f"{words.share(near, bench.standing)} nearly. That leaves {words.plural(bench.standing - exact, 'prompt')} "
        f"that differ, {classes[0][1]:,} counting near repeats once.",
        figures.bars(classes, unit="images", whole=bench.standing),
        Table(
            "Images by repetition",
            [Column("kind"), Column("images", "count"), Column("share", "share")],
            [(label, count, count / bench.standing) for label, count in classes],
        ),
        "Exact: the same text apart from case, white space, weights, emphasis and LoRA references. Near: by an "
        "estimate, seven tenths or more of all words and word pairs in common with the first of its group; praise such "
        "as “masterpiece” does not count. The other charts on this page count every image, repeats included, unless "
        "they say otherwise.",
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
    blocks += _varied_most(bench)
    return Section("duplicates", "Duplicates", blocks)


def _varied_most(bench: Workbench) -> list[Block]:
    """The biggest groups of prompts that are nearly, and not all exactly, the same."""
    groups, images = bench.row(
        """
        SELECT count(*), coalesce(sum(images), 0) FROM (
            SELECT count(*) AS images FROM prompts WHERE near_duplicate_group IS NOT NULL
            GROUP BY near_duplicate_group HAVING count(DISTINCT prompt_hash) > 1
        )
        """
    )
    if not groups:
        return []
    rows = bench.rows(
        """
        WITH by_author AS (
            SELECT near_duplicate_group, author, count(*) AS images FROM prompts WHERE author IS NOT NULL GROUP BY ALL
        ), shares AS (
            SELECT near_duplicate_group, max(images) / sum(images) AS largest FROM by_author
            GROUP BY near_duplicate_group
        )
        SELECT arg_min(prompt, image_id), count(*) AS images, count(DISTINCT prompt_hash) AS texts,
               count(DISTINCT author), any_value(largest)
        FROM prompts LEFT JOIN shares USING (near_duplicate_group)
        WHERE near_duplicate_group IS NOT NULL
        GROUP BY near_duplicate_group HAVING texts > 1
        ORDER BY images DESC, min(image_id) LIMIT 10
        """
    )
    thin = " These are few; a single author can decide all of it." if images < words.THIN else ""
    return [
        Table(
            "Which prompts are varied most?",
            [
                Column("first of the group", "prompt"),
                Column("images", "count"),
                Column("prompts", "count"),
                Column("authors", "count"),
                Column("share of the busiest author", "share"),
            ],
            [(excerpt(prompt), *counts) for prompt, *counts in rows],
            f"{words.plural(groups, 'group')} of near repeats with several prompts, {words.plural(images, 'image')} "
            f"in all. The share is of the images whose author is named.{thin}",
        )
    ]

"""Generation settings: sampler, steps, CFG scale, size, and which combinations are common."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

from civitai_pipeline.report import figures, words
from civitai_pipeline.report.binning import Bin, binned, quantile
from civitai_pipeline.report.blocks import Block, Chart, Column, Section, Table
from civitai_pipeline.report.sections.phrases import n_of, nothing
from civitai_pipeline.report.text import quoted

if TYPE_CHECKING:
    from civitai_pipeline.report.workbench import Workbench

_SAMPLERS = """
SELECT sampler, count(*) AS images, count(DISTINCT author) FROM prompts
WHERE sampler IS NOT NULL GROUP BY sampler ORDER BY images DESC, sampler
"""
_SIZES = """
SELECT width || 'x' || height AS size, count(*) AS images, count(DISTINCT author) FROM prompts
WHERE width IS NOT NULL AND height IS NOT NULL GROUP BY width, height ORDER BY images DESC, width, height
"""
_SHOWN = 12
# Twice a value, and the distance between two, must still be numbers; nobody keeps a CFG scale from being 1.7e308.
_FARTHEST = 1e300


def settings(bench: Workbench) -> Section:
    """One chart for each setting, and the recipes."""
    blocks: list[Block] = [
        _named(
            bench, _SAMPLERS, "sampler", "Which samplers are used?", "A sampler is counted as the metadata spells it."
        ),
        _measured(
            bench,
            "SELECT steps, count(*) FROM prompts WHERE steps IS NOT NULL GROUP BY ALL ORDER BY ALL",
            "steps",
            "How many steps?",
            whole=True,
        ),
        _measured(
            bench,
            """
            SELECT cfg_scale, count(*) FROM prompts
            WHERE cfg_scale IS NOT NULL AND isfinite(cfg_scale) GROUP BY ALL ORDER BY ALL
            """,
            "CFG scale",
            "Which CFG scale?",
            whole=False,
        ),
        _named(
            bench, _SIZES, "size", "How large are the images?", "Width x height in pixels, of the image as uploaded."
        ),
        *_recipes(bench),
    ]
    return Section("settings", "Settings", blocks)


def _named(bench: Workbench, sql: str, noun: str, question: str, note: str) -> Chart:
    rows = bench.rows(sql)
    if not rows:
        return nothing(question, f"tells its {noun}", bench)
    known = sum(row[1] for row in rows)
    shown = rows[:_SHOWN]
    rest = known - sum(row[1] for row in shown)
    others = len(rows) - len(shown)
    if others:
        note += f" {words.plural(others, f'rarer {noun}')} with {words.plural(rest, 'image')} together not shown."
    return Chart(
        question,
        f"{n_of(known, bench)} tell their {noun}. {quoted(rows[0][0])} leads with "
        f"{words.share(rows[0][1], known)} of these.",
        figures.bars([(row[0], row[1]) for row in shown], unit="images", whole=known),
        Table(
            f"Images by {noun}",
            [
                Column(noun, "link" if noun == "sampler" else "text"),
                Column("images", "count"),
                Column("share of known", "share"),
                Column("authors", "count"),
            ],
            [
                (
                    bench.explored(name, sampler=name) if noun == "sampler" else name,
                    images,
                    images / known,
                    authors,
                )
                for name, images, authors in shown
            ],
        ),
        note,
        known < words.THIN,
    )


def _measured(bench: Workbench, sql: str, noun: str, question: str, *, whole: bool) -> Chart:
    pairs = [(max(-_FARTHEST, min(_FARTHEST, value)), count) for value, count in bench.rows(sql)]
    if not pairs:
        return nothing(question, f"tells its {noun}", bench)
    known = sum(count for _, count in pairs)
    low, median, high = (quantile(pairs, q) for q in (0.25, 0.5, 0.75))
    commonest = sorted(pairs, key=lambda pair: (-pair[1], pair[0]))[:10]
    return Chart(
        question,
        f"{n_of(known, bench)} tell. The median is {words.number(median)}, half lie from {words.number(low)} to "
        f"{words.number(high)}; the commonest value is {words.number(commonest[0][0])} "
        f"({words.share(commonest[0][1], known)}).",
        figures.histogram(
            binned(pairs, whole=True) if whole else _halves(pairs), axis=noun, unit="images", whole=whole
        ),
        Table(
            f"Commonest values of {noun}",
            [Column(noun, "number"), Column("images", "count"), Column("share of known", "share")],
            [(value, count, count / known) for value, count in commonest],
        ),
        "" if whole else "Each bar holds what lies nearest to its whole or half number.",
        thin=known < words.THIN,
    )


def _halves(pairs: list[tuple[float, int]]) -> list[Bin]:
    """Bins around the whole and half numbers that people choose, so that each bar stands over its number."""
    halves: Counter[float] = Counter()
    for value, count in pairs:
        halves[math.floor(2 * value + 0.5)] += count
    return [
        Bin(bin_.low / 2 - 0.25, None if bin_.high is None else bin_.high / 2 - 0.25, bin_.count)
        for bin_ in binned(list(halves.items()), whole=True)
    ]


def _recipes(bench: Workbench) -> list[Block]:
    if not bench.has("setting_recipes"):
        return []
    rows = bench.rows(
        """
        SELECT sampler, steps_from, steps_to, cfg_from, cfg_below, width, height, images, share, authors,
               engagement_median, known, images_total
        FROM setting_recipes ORDER BY rank LIMIT 12
        """
    )
    question = "Which settings are used together?"
    if not rows:
        return [nothing(question, "shares sampler, steps, CFG scale and size with another", bench)]
    known, total = rows[0][-2:]
    return [
        Table(
            question,
            [
                Column("sampler"),
                Column("steps"),
                Column("CFG scale"),
                Column("size"),
                Column("images", "count"),
                Column("share of known", "share"),
                Column("authors", "count"),
                Column("median engagement", "number"),
            ],
            [
                (
                    sampler,
                    f"{steps_from} to {steps_to}",
                    f"{words.number(cfg_from)} to under {words.number(cfg_below)}",
                    f"{width}x{height}",
                    *counts,
                )
                for sampler, steps_from, steps_to, cfg_from, cfg_below, width, height, *counts, _, _ in rows
            ],
            f"n = {known:,} of {words.plural(total, 'prompt')} ({words.share(known, total)}) tell all four; the "
            "commonest combinations, steps taken five at a time and CFG scales one at a time. Engagement 1 is the "
            "mean of images of the same age; that a recipe stands higher does not mean that it is the cause.",
        )
    ]

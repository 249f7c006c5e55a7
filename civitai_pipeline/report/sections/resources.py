"""LoRAs, checkpoints and other resources: how often they are used, and at what weight."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from civitai_pipeline.report import figures, words
from civitai_pipeline.report.blocks import Block, Chart, Column, Section, Table
from civitai_pipeline.report.sections.pairs import pairs, weights_by_checkpoint
from civitai_pipeline.report.sections.phrases import n_of, nothing
from civitai_pipeline.report.text import quoted

if TYPE_CHECKING:
    from civitai_pipeline.report.workbench import Workbench

_COLUMNS = (
    Column("name", "link"),
    Column("identified by"),
    Column("images", "count"),
    Column("share of prompts", "share"),
    Column("authors", "count"),
)
_WEIGHT_COLUMNS = (
    Column("weight known", "count"),
    Column("weight unknown", "share"),
    Column("5 %", "number"),
    Column("25 %", "number"),
    Column("median", "number"),
    Column("75 %", "number"),
    Column("95 %", "number"),
)

# Quartiles of fewer weights than this are the weights themselves.
_LEAST_WEIGHTS = 5


def top_resources(bench: Workbench, resource_type: str, limit: int) -> list[tuple[Any, ...]]:
    """The most used resources of a type: label, key, images, share, authors, weights known, unknown, quantiles."""
    return bench.rows(
        """
        SELECT any_value(label), key, count(*) AS images, count(*) / $2, count(DISTINCT author),
               count(weight), (count(*) - count(weight)) / count(*),
               quantile_cont(weight, 0.05), quantile_cont(weight, 0.25), quantile_cont(weight, 0.5),
               quantile_cont(weight, 0.75), quantile_cont(weight, 0.95)
        FROM resources JOIN prompts USING (image_id)
        WHERE type = $1
        GROUP BY key ORDER BY images DESC, key LIMIT $3
        """,
        resource_type,
        max(bench.standing, 1),
        limit,
    )


def resources(bench: Workbench) -> Section:
    """Use of LoRAs and checkpoints, and the distribution of LoRA weights."""
    blocks: list[Block] = [
        _use(bench, "lora", "LoRA", "Which LoRAs are used most?"),
        _weights(bench),
        *weights_by_checkpoint(bench),
        *pairs(bench, "lora", "Which LoRAs are used together?"),
        _use(bench, "checkpoint", "checkpoint", "Which checkpoints made the images?"),
        *pairs(bench, "checkpoint", "Which LoRAs go with which checkpoint?"),
    ]
    others = bench.rows(
        """
        SELECT type, count(DISTINCT image_id), count(DISTINCT image_id) / $1, count(DISTINCT key)
        FROM resources GROUP BY type ORDER BY 2 DESC, type
        """,
        max(bench.standing, 1),
    )
    if others:
        blocks.append(
            Table(
                "Which kinds of resources are named at all?",
                [
                    Column("kind"),
                    Column("images", "count"),
                    Column("share of prompts", "share"),
                    Column("different ones", "count"),
                ],
                others,
                "Resources are told apart by their version id, else by name. A resource named without an id counts "
                "with the id that its name has elsewhere, if there is only one.",
            )
        )
    return Section("resources", "LoRAs and checkpoints", blocks, "Resources")


def _use(bench: Workbench, resource_type: str, noun: str, question: str) -> Chart:
    rows = top_resources(bench, resource_type, 20)
    if not rows:
        return nothing(question, f"names a {noun}", bench)
    images, different = bench.row(
        "SELECT count(DISTINCT image_id), count(DISTINCT key) FROM resources WHERE type = $1", resource_type
    )
    return Chart(
        question,
        f"{n_of(images, bench)} name a {noun}, "
        + (f"{different:,} different {noun}s in all" if different > 1 else "always the same one")
        + (f"; the first {len(rows)} are shown. " if different > len(rows) else ". ")
        + f"{quoted(rows[0][0])} {'leads with' if different > 1 else 'has'} {words.plural(rows[0][2], 'image')} by "
        f"{words.plural(rows[0][4], 'author')}.",
        figures.bars([(row[0], row[2]) for row in rows], unit="images", whole=bench.standing),
        Table(
            f"Most used {noun}s",
            _COLUMNS,
            [(bench.explored(row[0], resource=row[0]), *row[1:5]) for row in rows],
        ),
        "The rest names none: that is not to say that none was used." if images < bench.standing else "",
        images < words.THIN,
    )


def _middle(row: tuple[Any, ...]) -> str:
    """Where half of a LoRA's weights lie, from its row of ``top_resources``."""
    name, low, median, high = quoted(row[0]), *row[8:11]
    if low == high:
        return f"At least half of the uses of {name} are at {words.number(median)}."
    return (
        f"Half of the uses of {name} lie between {words.number(low)} and {words.number(high)}, with the median at "
        f"{words.number(median)}."
    )


def _weights(bench: Workbench) -> Chart:
    question = "At what weight are the LoRAs used?"
    rows = top_resources(bench, "lora", 20)
    known, total = bench.row("SELECT count(weight), count(*) FROM resources WHERE type = 'lora'")
    drawn = [row for row in rows if row[5] >= _LEAST_WEIGHTS][:12]
    if not rows:
        return nothing(question, "names a LoRA", bench)
    table = Table(
        "LoRA weights",
        (*_COLUMNS[:1], *_COLUMNS[2:3], *_COLUMNS[4:], *_WEIGHT_COLUMNS),
        [(bench.explored(row[0], resource=row[0]), row[2], *row[4:]) for row in rows],
    )
    answer = f"n = {known:,} of {words.plural(total, 'LoRA use')} with a known weight ({words.share(known, total)}). "
    if not drawn:
        return Chart(question, f"{answer}No LoRA has {_LEAST_WEIGHTS} known weights, too few to draw.", None, table)
    return Chart(
        question,
        f"{answer}{_middle(drawn[0])}",
        figures.boxes(
            [
                (
                    row[0],
                    row[7:12],
                    (
                        f"median {words.number(row[9])}, half from {words.number(row[8])} to {words.number(row[10])}; "
                        f"n = {row[5]:,} of {row[2]:,}, {words.plural(row[4], 'author')}"
                    ),
                )
                for row in drawn
            ],
            axis="weight",
        ),
        table,
        f"Box: middle half, line at the median; whiskers: 5 % to 95 %. The most used LoRAs with at least "
        f"{_LEAST_WEIGHTS} known weights. An unknown weight is left out, not taken for 1. What people use is not "
        "evidence of what works best.",
        known < words.THIN,
    )

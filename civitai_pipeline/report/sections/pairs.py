"""Resources in company: LoRAs with one another, with checkpoints, and their weights under each checkpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING

from civitai_pipeline.report import words
from civitai_pipeline.report.blocks import Block, Chart, Column, Table

if TYPE_CHECKING:
    from civitai_pipeline.report.workbench import Workbench

_SHOWN = 15
# Quartiles of fewer weights than this are the weights themselves.
_LEAST_WEIGHTS = 5


def pairs(bench: Workbench, kind: str, question: str) -> list[Block]:
    """Pairs of a resource of a kind and a LoRA that stand together more often than chance would have it.

    Args:
        bench: The version's relations.
        kind: ``lora`` or ``checkpoint``.
        question: What the table answers.
    """
    if not bench.has("resource_pairs"):
        return []
    rows = bench.rows(
        """
        SELECT one.label, other.label, lift, images, images / least(images_resource, images_lora), authors, images_total
        FROM resource_pairs p
        JOIN resource_labels one ON one.type = p.resource_type AND one.key = resource_key
        JOIN resource_labels other ON other.type = 'lora' AND other.key = lora_key
        WHERE resource_type = $1 AND lift > 1
        ORDER BY lift DESC, images DESC, resource_key, lora_key LIMIT $2
        """,
        kind,
        _SHOWN,
    )
    if not rows:
        return [
            Chart(
                question,
                "No pair stands together more often than chance in five images of at least three named authors.",
                None,
            )
        ]
    base = "a LoRA" if kind == "lora" else "a LoRA and a checkpoint"
    return [
        Table(
            question,
            [
                Column("LoRA" if kind == "lora" else "checkpoint", "link"),
                Column("with"),
                Column("times chance", "number"),
                Column("images with both", "count"),
                Column("share of the rarer", "share"),
                Column("authors", "count"),
            ],
            [(bench.explored(one, resource=one), other, *counts) for one, other, *counts, _ in rows],
            f"n = {words.plural(rows[0][-1], 'image')} that name {base}. Among the most used ones; only pairs in at "
            "least five images of at least three named authors. Who names no LoRA may have used one.",
        )
    ]


def weights_by_checkpoint(bench: Workbench) -> list[Block]:
    """LoRA weights under each checkpoint, where the images name more than one."""
    if not bench.has("resource_usage"):
        return []
    rows = bench.rows(
        """
        SELECT l.label, c.label, images, weight_authors, weights, weight_unknown_share, weight_q1, weight_median,
               weight_q3, weight_author_median
        FROM resource_usage u
        JOIN resource_labels l ON l.type = u.resource_type AND l.key = resource_key
        JOIN resource_labels c ON c.type = 'checkpoint' AND c.key = checkpoint_key
        WHERE resource_type = 'lora' AND checkpoint_key NOT IN ('all', 'none') AND weights >= $1
        ORDER BY weights DESC, resource_key, checkpoint_key LIMIT $2
        """,
        _LEAST_WEIGHTS,
        _SHOWN,
    )
    if len({row[1] for row in rows}) < 2:  # noqa: PLR2004 - under one checkpoint there is nothing to compare
        return []
    return [
        Table(
            "At what weight, under which checkpoint?",
            [
                Column("LoRA", "link"),
                Column("checkpoint"),
                Column("images", "count"),
                Column("authors who tell", "count"),
                Column("weights known", "count"),
                Column("weight unknown", "share"),
                Column("25 %", "number"),
                Column("median", "number"),
                Column("75 %", "number"),
                Column("median of authors", "number"),
            ],
            [(bench.explored(row[0], resource=row[0]), *row[1:]) for row in rows],
            f"The {_SHOWN} with the most known weights, of those with at least {_LEAST_WEIGHTS}. In the median of "
            "authors each author counts once. What people choose is no proof of what works best.",
        )
    ]

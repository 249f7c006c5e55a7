"""What categorizing anew changed, by another taxonomy or other code."""

from __future__ import annotations

import json
from itertools import groupby
from typing import TYPE_CHECKING, Any

from civitai_pipeline.report import words
from civitai_pipeline.report.blocks import Block, Column, Table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from civitai_pipeline.report.workbench import Workbench

# Earlier ones are in the table category_changes.
_SHOWN = 3


def recategorized(bench: Workbench) -> list[Block]:
    """The last times the prompts were categorized anew, the latest first; nothing where that never happened."""
    changes = bench.tables.category_changes
    rows: list[dict[str, Any]] = [] if changes is None else changes.to_pylist()
    rows.sort(key=lambda row: (-row["change"], row["category"]))
    comparisons = [list(group) for _, group in groupby(rows, key=lambda row: row["change"])][:_SHOWN]
    return [_comparison(comparison) for comparison in comparisons]


def _comparison(rows: Sequence[dict[str, Any]]) -> Table:
    first = rows[0]
    moved = sum(sum(json.loads(row["primary_from"]).values()) for row in rows)
    return Table(
        f"What changed from {_taxonomy(first['from_version'])} to {_taxonomy(first['to_version'])}?",
        [
            Column("category"),
            Column("images before", "count"),
            Column("after", "count"),
            Column("gained", "count"),
            Column("lost", "count"),
            Column("primary before", "count"),
            Column("after", "count"),
            Column("new primaries came from", "long"),
            Column("images that changed, for example", "long"),
        ],
        [
            (
                row["category"],
                row["images_before"],
                row["images_after"],
                row["gained"],
                row["lost"],
                row["primary_before"],
                row["primary_after"],
                ", ".join(f"{source} {images:,}" for source, images in json.loads(row["primary_from"]).items()),
                ", ".join(map(str, [*row["gained_image_ids"], *row["lost_image_ids"]])),
            )
            for row in rows
        ],
        f"n = {words.plural(first['images'], 'image')} held before and after; {moved:,} of them have another primary "
        "category. The last comparisons only; the table category_changes has more.",
    )


def _taxonomy(version: str) -> str:
    code, _, rest = version.partition("/")
    taxonomy, _, file = rest.rpartition("/")
    return f"taxonomy {taxonomy} (file {file}, code {code})" if file and taxonomy else f"taxonomy {rest} (code {code})"

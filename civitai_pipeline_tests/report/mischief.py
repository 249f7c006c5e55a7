"""Tables full of what would run, load or hide something, were it markup or code."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from civitai_pipeline.lake.schemas import PROMPTS

if TYPE_CHECKING:
    from collections.abc import Callable

    from civitai_pipeline.report import VersionTables

# What would leave a trace if any of it ran, in every place where a prompt could become markup or code.
MISCHIEF = (
    "<script>globalThis.hurt = 1</script>",
    "</script><script>globalThis.hurt = 2</script>",
    '<img src="x" onerror="globalThis.hurt = 3">',
    "\u2028\u2029 globalThis.hurt = 4 //",
    '");globalThis.hurt = 5;("',
    "<svg onload=globalThis.hurt=6>",
)


def mischievous(tables: VersionTables) -> VersionTables:
    """The tables with mischief as the newest prompts, and in every other text of others that the pages show."""
    rows = tables.prompts.to_pylist()
    newest = sorted(rows, key=lambda row: row["created_at"], reverse=True)
    told = ("prompt", "negative_prompt", "username", "sampler", "scheduler", "checkpoint_name", "base_model")
    for row, text in zip(newest, MISCHIEF, strict=False):
        row.update(dict.fromkeys(told, text) | {"prompt_withdrawn_at": None})
    named = dict(zip(("Ink Wash Study", "detail_slider_v2", "harbourLight_v2", "مصباح"), MISCHIEF, strict=False))
    return replace(
        tables,
        prompts=pa.Table.from_pylist(rows, PROMPTS.arrow_schema),
        info=tables.info
        | dict.fromkeys(("model_name", "version_name", "model_type", "base_model", "air"), " ".join(MISCHIEF))
        | {"trained_words": list(MISCHIEF)},
        prompt_resources=_changed(tables.prompt_resources, resource_name=lambda name: named.get(name, name)),
        prompt_categories=_changed(tables.prompt_categories, matched_keywords=lambda _: list(MISCHIEF)),
        rejected_images=_changed(tables.rejected_images, reason=lambda reason: reason + MISCHIEF[0]),
        summary=(tables.summary or {}) | {"error": " ".join(MISCHIEF), "stop_reason": MISCHIEF[2]},
    )


def _changed(table: pa.Table, **columns: Callable[[Any], Any]) -> pa.Table:
    rows = [row | {name: change(row[name]) for name, change in columns.items()} for row in table.to_pylist()]
    return pa.Table.from_pylist(rows, table.schema)

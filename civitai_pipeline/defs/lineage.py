"""Column lineage: from which columns of which tables a table's columns are made.

The open-source UI does not draw it, so the descriptions of columns say it as well.

Only what can be said of a column without reservation stands here; a column whose making takes a paragraph is left
out, and the data dictionary has the paragraph.
"""

from collections.abc import Mapping

import dagster as dg

from civitai_pipeline.lake.schemas import Table

_Columns = Mapping[str, tuple[str, ...]]


def _same(*names: str) -> dict[str, tuple[str, ...]]:
    return {name: (f"prompts.{name}",) for name in names}


def _from(source: tuple[str, ...], *names: str) -> dict[str, tuple[str, ...]]:
    return dict.fromkeys(names, source)


_VERSION = _same("model_version_id")
_AUTHORS = _from(("prompts.username",), "authors")
_ENGAGEMENT = _from(("prompts.engagement",), "engagement_n", "engagement_median")
_BOTH_TEXTS = ("prompts.prompt", "prompts.negative_prompt")
_KEY = tuple(f"prompt_resources.{name}" for name in ("resource_version_id", "resource_name", "resource_hash"))
_SETTINGS = (
    "sampler", "scheduler", "steps", "cfg_scale", "width", "height", "clip_skip", "checkpoint_name", "generator",
    "base_model",
)  # fmt: skip
_WEIGHTS = (
    "weights", "weight_unknown_share", "weight_minimum", "weight_q1", "weight_median", "weight_q3", "weight_maximum",
)  # fmt: skip

# Table, column, and the columns it is made from as table.column.
_LINEAGE: Mapping[str, _Columns] = {
    "prompt_resources": {
        **_VERSION,
        **_same("image_id"),
        **_from(("prompts.resources",), "position", "resource_hash", "weight", "source", "sources", "raw"),
        **_from(("prompts.resources",), "resource_type", "resource_name", "resource_model_id", "resource_version_id"),
    },
    "prompt_categories": {
        **_VERSION,
        **_same("image_id"),
        **_from(("prompts.prompt",), "category", "confidence", "is_primary", "matched_keywords", "categorized_hash"),
    },
    "near_duplicate_groups": {
        **_VERSION,
        **_same("near_duplicate_group"),
        **_from(("prompts.near_duplicate_group",), "images"),
        **_from(("prompts.prompt_hash",), "distinct_prompts"),
        **_from(("prompts.username",), "authors", "images_with_author", "top_author_share"),
    },
    "prompt_structure": {**_VERSION, **_AUTHORS, **_from(_BOTH_TEXTS, "images", "images_total", "share")},
    "tag_frequencies": {
        **_VERSION,
        **_AUTHORS,
        **_from(_BOTH_TEXTS, "tag", "images", "images_total", "share", "mean_position"),
    },
    "tag_pairs": {**_VERSION, **_AUTHORS, **_from(("prompts.prompt",), "tag", "other_tag")},
    "setting_values": {
        **_VERSION,
        **_AUTHORS,
        **_from(tuple(f"prompts.{name}" for name in _SETTINGS), "value"),
        **_from(("prompts.prompt_hash",), "prompts"),
    },
    "setting_recipes": {
        **_VERSION,
        **_AUTHORS,
        **_ENGAGEMENT,
        **_same("sampler", "width", "height"),
        **_from(("prompts.steps",), "steps_from", "steps_to"),
        **_from(("prompts.cfg_scale",), "cfg_from", "cfg_below"),
        **_from(("prompts.prompt_hash",), "prompts"),
    },
    "resource_usage": {
        **_VERSION,
        **_AUTHORS,
        **_ENGAGEMENT,
        **_from(("prompts.engagement",), "engagement_mean"),
        **_from(("prompt_resources.resource_type",), "resource_type"),
        **_from(("prompt_resources.resource_name",), "resource", "checkpoint"),
        **_from(_KEY, "resource_key", "checkpoint_key"),
        **_from(("prompt_resources.weight",), *_WEIGHTS),
        **_from(("prompts.prompt_hash",), "prompts"),
    },
    "resource_pairs": {
        **_VERSION,
        **_AUTHORS,
        **_from(("prompt_resources.resource_name",), "resource", "lora"),
        **_from(_KEY, "resource_key", "lora_key"),
    },
    "term_lift": {**_VERSION, **_from(("prompts.engagement",), "ratio")},
    "weekly_trends": {**_VERSION, **_AUTHORS, **_from(("prompts.created_at",), "week")},
}


def sources_of(table: Table) -> _Columns:
    """The columns that each of a table's columns is made from, as ``table.column``; those not spoken of are missing."""
    return _LINEAGE.get(table.name, {})


def column_lineage(table: Table) -> dg.TableColumnLineage | None:
    """From which columns those of a table are made; None for a table of which nothing is said."""
    columns = sources_of(table)
    if not columns:
        return None
    return dg.TableColumnLineage({name: [_dep(source) for source in sources] for name, sources in columns.items()})


def _dep(source: str) -> dg.TableColumnDep:
    asset, _, column = source.partition(".")
    return dg.TableColumnDep(asset_key=dg.AssetKey(asset), column_name=column)

"""What a report is made from: the tables of one model version.

Only the container belongs here; what is computed from it lives in ``workbench`` and ``sections``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pyarrow as pa


# The columns of each table that a report looks at: the others, raw items and signatures among them, would
# only take memory.
COLUMNS: dict[str, tuple[str, ...]] = {
    "prompts": (
        "image_id",
        "username",
        "created_at",
        "prompt",
        "negative_prompt",
        "prompt_hash",
        "near_duplicate_group",
        "base_model",
        "browsing_level",
        "width",
        "height",
        "comment_count",
        "reaction_count",
        "steps",
        "cfg_scale",
        "sampler",
        "scheduler",
        "seed",
        "clip_skip",
        "checkpoint_name",
        "generator",
        "prompt_length",
        "tag_count",
        "word_count",
        "engagement",
        "prompt_withdrawn_at",
    ),
    "rejected_images": ("image_id", "outcome", "reason"),
    "prompt_resources": (
        "image_id",
        "position",
        "resource_type",
        "resource_name",
        "resource_version_id",
        "resource_hash",
        "weight",
        "resolved_name",
        "resolved_version_name",
    ),
    "prompt_categories": (
        "image_id",
        "category",
        "confidence",
        "is_primary",
        "matched_keywords",
        "taxonomy_version",
    ),
}


# The analyses that sections read, where they are known.
ANALYSES = (
    "prompt_structure",
    "setting_recipes",
    "resource_usage",
    "resource_pairs",
    "term_lift",
    "weekly_trends",
)


@dataclass(frozen=True)
class VersionTables:
    """The tables of one model version. Any of them may have no rows.

    Attributes:
        info: The version's row of ``model_version_info``; values may be None.
        prompts: The ``prompts`` table, with at least its :data:`COLUMNS`, as the next three.
        rejected_images: The ``rejected_images`` table.
        prompt_resources: The ``prompt_resources`` table.
        prompt_categories: The ``prompt_categories`` table.
        collection_state: One row for each listing of the version; missing keys read as unknown.
        summary: The last run's summary, or None where no run is known.
        category_changes: The ``category_changes`` table, or None where it is not known.
        analyses: The tables that :data:`ANALYSES` names, by name; sections without theirs leave its part out.
        site: Scheme and host of the site that the images are on, without a slash at the end.
    """

    info: dict[str, Any]
    prompts: pa.Table
    rejected_images: pa.Table
    prompt_resources: pa.Table
    prompt_categories: pa.Table
    collection_state: list[dict[str, Any]]
    summary: dict[str, Any] | None = None
    category_changes: pa.Table | None = None
    analyses: Mapping[str, pa.Table] = field(default_factory=dict)
    site: str = "https://civitai.com"

    @property
    def standing(self) -> int:
        """How many prompts have not been withdrawn."""
        return int(self.prompts["prompt_withdrawn_at"].null_count)

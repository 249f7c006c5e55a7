"""What a report is made from: the tables of one model version.

Only the container belongs here; what is computed from it lives in ``workbench`` and ``sections``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class VersionTables:
    """The tables of one model version. Any of them may have no rows.

    Attributes:
        info: The version's row of ``model_version_info``; values may be None.
        prompts: The ``prompts`` table.
        rejected_images: The ``rejected_images`` table.
        prompt_resources: The ``prompt_resources`` table.
        prompt_categories: The ``prompt_categories`` table.
        collection_state: One row for each listing of the version; missing keys read as unknown.
        summary: The last run's summary, or None where no run is known.
        category_changes: The ``category_changes`` table, or None where it is not known.
    """

    info: dict[str, Any]
    prompts: pa.Table
    rejected_images: pa.Table
    prompt_resources: pa.Table
    prompt_categories: pa.Table
    collection_state: list[dict[str, Any]]
    summary: dict[str, Any] | None = None
    category_changes: pa.Table | None = None

"""What a collection would do: what is held, what the API reports, how many requests and minutes to expect."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pyarrow.compute as pc

from civitai_pipeline.civitai.failures import ApiFailure, FailureKind
from civitai_pipeline.civitai.listing import DEFAULT_PAGE_SIZE
from civitai_pipeline.derive.prompt_tables import load_held

if TYPE_CHECKING:
    from civitai_pipeline.civitai.client import CivitaiClient
    from civitai_pipeline.lake.paths import Lake


def preview_collection(
    client: CivitaiClient, lake: Lake, version: int, *, max_items: int | None = None, page_size: int = DEFAULT_PAGE_SIZE
) -> dict[str, Any]:
    """The plan for a version, as the contract's JSON.

    The API gives no totals, so without a limit the plan and its estimates are null: unknown is not zero.

    Raises:
        ApiFailure: ``NOT_FOUND`` if there is no such version.
        LakeError: The lake cannot be read.
    """
    info = None
    try:
        info = client.model_version(version)
    except ApiFailure as failure:
        if failure.kind is FailureKind.NOT_FOUND:
            raise
    held = load_held(lake, version)
    requests = None if max_items is None else math.ceil(max_items / min(page_size, max_items))
    seconds = pc.mean(held.landed_pages.column("elapsed_s")).as_py()
    per_request = max(client.min_request_interval, seconds or 0.0)
    return {
        "model_version_id": version,
        "model_name": info.model.name if info is not None and info.model is not None else None,
        "version_name": info.name if info is not None else None,
        "held": len(held.holdings),
        "reported_total": None,
        "branch": "additional" if len(held.landed_pages) else "initial",
        "planned_total": max_items,
        "estimated_requests": requests,
        "estimated_minutes": None if requests is None else round(requests * per_request / 60, 2),
    }

"""What a collection would do: what is held, what the API reports, how many requests and minutes to expect.

The API gives no totals, so what is to come is estimated from the pages of this lake: how fast images came in
at the newest end that was reached, and how long a page took.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pyarrow.compute as pc

from civitai_pipeline.civitai.failures import ApiFailure, FailureKind
from civitai_pipeline.civitai.listing import DEFAULT_PAGE_SIZE, Sort
from civitai_pipeline.collect.position import OVERLAP_PAGES
from civitai_pipeline.derive.prompt_tables import load_held
from civitai_pipeline.lake.pages import IMPORT_SORT

if TYPE_CHECKING:
    from collections.abc import Callable

    import pyarrow as pa

    from civitai_pipeline.civitai.client import CivitaiClient
    from civitai_pipeline.lake.paths import Lake

# Enough pages to even out a busy evening, few enough to follow a model's fading popularity.
RECENT_PAGES = 20


def preview_collection(
    client: CivitaiClient,
    lake: Lake,
    version: int,
    *,
    max_items: int | None = None,
    page_size: int = DEFAULT_PAGE_SIZE,
    on_unnamed: Callable[[ApiFailure], None] = lambda _: None,
) -> dict[str, Any]:
    """The plan for a version, as the contract's JSON.

    What cannot be known is null: without a limit there is no planned total, and without landed pages no
    estimate.

    Args:
        client: Speaks to the API.
        lake: Where pages have landed; nothing is written.
        version: The model version.
        max_items: The limit that the run would be given.
        page_size: Items that the run would ask for at a time.
        on_unnamed: Told why the version's names could not be asked for; the plan then has none.

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
        on_unnamed(failure)
    held = load_held(lake, version)
    landed = held.landed_pages.sort_by("sequence")
    # What was imported took no time and says nothing of where a walk stands.
    pages = landed.filter(pc.not_equal(landed.column("sort"), IMPORT_SORT))
    items = expected_items(pages, datetime.now(UTC))
    if max_items is not None:
        items = max_items if items is None else min(items, max_items)
    requests = None if items is None else max(1, math.ceil(items / min(page_size, max_items or page_size)))
    if requests is not None and max_items is None and _is_at_end(pages):
        requests += OVERLAP_PAGES
    per_request = max(client.min_request_interval, pc.mean(pages.column("elapsed_s")).as_py() or 0.0)
    return {
        "model_version_id": version,
        "model_name": info.model.name if info is not None and info.model is not None else None,
        "version_name": info.name if info is not None else None,
        "held": len(held.holdings),
        "reported_total": None,
        "branch": "additional" if len(landed) else "initial",
        "planned_total": max_items,
        "estimated_requests": requests,
        "estimated_minutes": None if requests is None else round(requests * per_request / 60, 2),
    }


def expected_items(pages: pa.Table, now: datetime) -> int | None:
    """How many items a walk in the default order may still have ahead.

    The rate at which images came in over the last pages that showed any, times what has passed since the
    newest of them.

    Args:
        pages: The version's landed pages, in the order in which they landed.
        now: The time up to which images are expected.

    Returns:
        The number, or None where no pages say how fast images come in.
    """
    walked = pages.filter(
        pc.and_(pc.equal(pages.column("sort"), Sort.OLDEST.value), pc.is_null(pages.column("confirms")))
    )
    shown = walked.filter(pc.is_valid(walked.column("newest_created_at")))
    recent = shown.slice(max(0, len(shown) - RECENT_PAGES))
    if not len(recent):
        return None
    oldest, newest = (
        pc.min(recent.column("oldest_created_at")).as_py(),
        pc.max(recent.column("newest_created_at")).as_py(),
    )
    span_s = (newest - oldest).total_seconds()
    if span_s <= 0:
        return None
    per_second: float = pc.sum(recent.column("attempted")).as_py() / span_s
    waiting_s: float = max(0.0, (now - newest).total_seconds())
    return math.ceil(per_second * waiting_s)


def _is_at_end(pages: pa.Table) -> bool:
    cursors: list[str | None] = pages.column("next_cursor").to_pylist()
    return bool(cursors) and cursors[-1] is None

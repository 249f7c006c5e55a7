"""The summary of a run that died without a word, made from the pages it landed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pyarrow.compute as pc

from civitai_pipeline.collect.summary import StopReason, Summary
from civitai_pipeline.derive.prompt_tables import load_held
from civitai_pipeline.prompts.items import Outcome

if TYPE_CHECKING:
    from datetime import datetime

    from civitai_pipeline.lake.paths import Lake

DIED = "the process that ran it died; its pages are kept, and the next run goes on from the last of them"


def summary_of_dead_run(lake: Lake, version: int, run_id: str, *, started_at: datetime, ended_at: datetime) -> Summary:
    """What a dead run did, as far as its landed pages tell.

    What only the process knew is missing: requests, retries and waiting count as none, and the times are
    those that the instance knows.

    Args:
        lake: Where its pages are.
        version: The model version it collected.
        run_id: The run.
        started_at: When it started.
        ended_at: When it was last known to be alive.

    Raises:
        LakeError: The lake cannot be read.
    """
    pages = load_held(lake, version).landed_pages.sort_by("sequence")
    mine = pages.filter(pc.equal(pages.column("run_id"), run_id)).to_pylist()
    earlier = pages if not mine else pages.filter(pc.less(pages.column("sequence"), mine[0]["sequence"]))
    summary = Summary(
        model_version_id=version,
        run_id=run_id,
        started_at=started_at,
        finished_at=ended_at,
        listing={"model_version_id": version},
        elapsed_s=max(0.0, (ended_at - started_at).total_seconds()),
        prompts_before=pc.sum(earlier.column("new")).as_py() or 0,
        branch="additional" if len(earlier) else "initial",
        stop_reason=StopReason.INTERNAL_ERROR,
        error=DIED,
    )
    for row in mine:
        _add_page(summary, row)
    return summary


def _add_page(summary: Summary, row: dict[str, Any]) -> None:
    for outcome in Outcome:
        summary.tally.outcomes[outcome] += row[outcome.value]
    summary.tally.reach(row["oldest_created_at"], row["newest_created_at"])
    summary.pages += 1
    summary.max_items = row["max_items"]
    summary.last_successful_fetch_at = row["fetched_at"]
    listing = json.loads(row["listing"])
    if summary.pages == 1:
        summary.listing = listing
    elif listing != summary.listing:
        summary.turn_to(listing)
    summary.walk, summary.last_page_number = row["walk"], row["page"]
    summary.next_cursor, summary.at_end = row["next_cursor"], row["next_cursor"] is None

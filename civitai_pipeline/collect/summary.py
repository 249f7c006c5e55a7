"""The run summary: what a run did, in numbers that add up, however it ended."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from civitai_pipeline.derive.holdings import Tally
from civitai_pipeline.prompts.items import Outcome

if TYPE_CHECKING:
    from datetime import datetime

SAMPLE_SIZE = 10


class StopReason(StrEnum):
    """Why a run stopped."""

    AT_END = "at_end"
    MAX_ITEMS = "max_items"
    TIME_BUDGET = "time_budget"
    CANCELED = "canceled"
    STALLED = "stalled"
    RATE_LIMITED = "rate_limited"
    API_UNAVAILABLE = "api_unavailable"
    REJECTED = "rejected"
    CONTRACT_CHANGED = "contract_changed"
    CONFLICT = "conflict"
    LAKE_UNAVAILABLE = "lake_unavailable"
    INTERNAL_ERROR = "internal_error"

    @property
    def is_success(self) -> bool:
        """Whether the run did all it was asked to."""
        return self in {StopReason.AT_END, StopReason.MAX_ITEMS, StopReason.TIME_BUDGET}


@dataclass(frozen=True)
class ListingState:
    """Where a run left one of several listings that it walked one after the other.

    Attributes:
        listing: What was walked.
        walk: The walk that pages landed in.
        last_page_number: The number of its last landed page.
        next_cursor: Its stored cursor.
        at_end: Whether it is at its end.
    """

    listing: dict[str, Any]
    walk: int | None
    last_page_number: int | None
    next_cursor: str | int | None
    at_end: bool

    def as_dict(self) -> dict[str, Any]:
        """The state as JSON values."""
        return {
            "listing": self.listing,
            "walk": self.walk,
            "last_page_number": self.last_page_number,
            "next_cursor": self.next_cursor,
            "more_available": not self.at_end,
        }


@dataclass
class Summary:
    """What one run did. It counts while the run goes on and is complete at every moment.

    Attributes:
        model_version_id: The version collected.
        run_id: The run; None where none was recorded.
        model_id: The version's model; None while unknown, as are the names.
        model_name: The model's name.
        version_name: The version's name.
        branch: ``initial`` if nothing of the version had landed before the run, else ``additional``.
        listing: What was walked; of several listings, the one walked last, as are the walk, its cursor and end.
        remark: What a person should know though nothing went wrong since; becomes the error where there is no other.
        earlier_listings: Where the listings walked before it were left.
        waiting_listings: How many listings the run has yet to walk.
        walk: The walk that pages landed in.
        stop_reason: Why it stopped; None while it goes on.
        at_end: Whether the walk is at its end.
        pages: Pages landed, confirmations among them.
        tally: What became of their items.
        max_items: The most items the run was to ask for.
        reported_total: How many images the API says there are; None when it does not say.
        prompts_before: Distinct images with a prompt held before the run.
        next_cursor: The stored cursor of the walk.
        last_page_number: The number of the walk's last landed page.
        requests: Requests sent.
        retries: Requests sent again after a failure.
        waited_s: Seconds slept between a failure and the next try.
        elapsed_s: Seconds from start to finish.
        started_at: When it started.
        finished_at: When it stopped; None while it goes on.
        last_successful_fetch_at: When the walk's last landed page was fetched.
        sample_image_ids: Some of the images saved.
        error: What went wrong and what to do; None if nothing did.
    """

    model_version_id: int
    run_id: str | None
    started_at: datetime
    listing: dict[str, Any]
    max_items: int | None = None
    model_id: int | None = None
    model_name: str | None = None
    version_name: str | None = None
    branch: str = "initial"
    walk: int | None = None
    stop_reason: StopReason | None = None
    at_end: bool = False
    pages: int = 0
    tally: Tally = field(default_factory=Tally)
    reported_total: int | None = None
    prompts_before: int = 0
    next_cursor: str | int | None = None
    last_page_number: int | None = None
    requests: int = 0
    retries: int = 0
    waited_s: float = 0.0
    elapsed_s: float = 0.0
    finished_at: datetime | None = None
    last_successful_fetch_at: datetime | None = None
    sample_image_ids: list[int] = field(default_factory=list)
    error: str | None = None
    remark: str | None = None
    earlier_listings: list[ListingState] = field(default_factory=list)
    waiting_listings: int = 0

    def turn_to(self, listing: dict[str, Any]) -> None:
        """Leaves the listing walked so far as it stands and goes on with another."""
        self.earlier_listings.append(self._state())
        self.listing = listing
        self.walk = self.last_page_number = self.next_cursor = None
        self.at_end = False

    def _state(self) -> ListingState:
        return ListingState(self.listing, self.walk, self.last_page_number, self.next_cursor, self.at_end)

    @property
    def more_available(self) -> bool:
        """Whether any of the listings goes on."""
        return not self.at_end or self.waiting_listings > 0 or not all(s.at_end for s in self.earlier_listings)

    @property
    def saved(self) -> int:
        """Images whose row is new or changed."""
        return self.tally.outcomes[Outcome.NEW] + self.tally.outcomes[Outcome.UPDATED]

    @property
    def prompts_after(self) -> int:
        """Distinct images with a prompt held after the run."""
        return self.prompts_before + self.tally.outcomes[Outcome.NEW]

    @property
    def planned_total(self) -> int | None:
        """How many items the run set out to ask for; None when that cannot be known."""
        if self.reported_total is None:
            return self.max_items
        remaining = max(0, self.reported_total - self.prompts_before)
        return remaining if self.max_items is None else min(self.max_items, remaining)

    @property
    def failed(self) -> bool:
        """Whether the run brought nothing and met trouble."""
        return self.pages == 0 and self.stop_reason is not None and not self.stop_reason.is_success

    def as_dict(self) -> dict[str, Any]:
        """The summary as JSON values, in the order of the contract; times are ISO 8601 in UTC.

        A run over several listings also says where it left each of them.
        """
        outcomes = self.tally.outcomes
        document: dict[str, Any] = {
            "model_version_id": self.model_version_id,
            "model_id": self.model_id,
            "model_name": self.model_name,
            "version_name": self.version_name,
            "run_id": self.run_id,
            "branch": self.branch,
            "listing": self.listing,
            "walk": self.walk,
            "stop_reason": None if self.stop_reason is None else self.stop_reason.value,
            "more_available": self.more_available,
            "pages": self.pages,
            "attempted": self.tally.attempted,
            "new": outcomes[Outcome.NEW],
            "updated": outcomes[Outcome.UPDATED],
            "duplicate": outcomes[Outcome.DUPLICATE],
            "no_prompt": outcomes[Outcome.NO_PROMPT],
            "version_mismatch": outcomes[Outcome.VERSION_MISMATCH],
            "malformed": outcomes[Outcome.MALFORMED],
            "saved": self.saved,
            "planned_total": self.planned_total,
            "reported_total": self.reported_total,
            "prompts_before": self.prompts_before,
            "prompts_after": self.prompts_after,
            "next_cursor": self.next_cursor,
            "last_page_number": self.last_page_number,
            "requests": self.requests,
            "retries": self.retries,
            "waited_s": round(self.waited_s, 3),
            "elapsed_s": round(self.elapsed_s, 3),
            "started_at": _iso(self.started_at),
            "finished_at": _iso(self.finished_at),
            "last_successful_fetch_at": _iso(self.last_successful_fetch_at),
            "oldest_created_at": _iso(self.tally.oldest_created_at),
            "newest_created_at": _iso(self.tally.newest_created_at),
            "sample_image_ids": list(self.sample_image_ids),
            "error": self.error,
        }
        if self.earlier_listings:
            document["listings"] = [state.as_dict() for state in (*self.earlier_listings, self._state())]
        return document


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()

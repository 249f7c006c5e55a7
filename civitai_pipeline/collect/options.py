"""How a run collects: what a person, a schedule or a watchlist may choose."""

from __future__ import annotations

from dataclasses import dataclass

from civitai_pipeline.civitai.listing import DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE, Listing, Sort

# Landed with each page and kept in a 32-bit column, as the API's own ids are.
MOST_ITEMS = 2**31 - 1
# With the default spacing of a second, some eight minutes.
DEFAULT_MAX_LOOKUPS = 500
# Against answers that each take most of their time-out; a full run stays far below it.
DEFAULT_MAX_MINUTES = 30.0


@dataclass(frozen=True)
class CollectOptions:
    """How a run collects.

    Attributes:
        sort: The order to walk in.
        browsing_level: The maturity bits to ask for, as one listing.
        browsing_levels: Several masks, each a listing of its own, walked one after the other: the server's
            filters make a wider mask no superset of a narrower one. If given, ``browsing_level`` is not used.
        start_cursor: Start a new walk here, where an operator wants to begin elsewhere than at the start.
        strict_version_match: Accept only items that name the version as their checkpoint.
        append_only: Never change a row already held.
        restart: Start a new walk even where one could go on.
        max_items: Stop at the first page boundary at or past this many items, at most ``MOST_ITEMS``; None for
            no limit.
        max_minutes: Stop at the first page boundary past this many minutes; None for no limit.
        page_size: Items to ask for at a time, 1 to 200.

    Raises:
        ValueError: A value is out of range.
    """

    sort: Sort = Sort.OLDEST
    browsing_level: int = 1
    browsing_levels: tuple[int, ...] = ()
    start_cursor: str | None = None
    strict_version_match: bool = False
    append_only: bool = False
    restart: bool = False
    max_items: int | None = None
    max_minutes: float | None = None
    page_size: int = DEFAULT_PAGE_SIZE

    def __post_init__(self) -> None:
        if self.max_items is not None and self.max_items < 1:
            raise ValueError(f"max_items must be 1 or more, not {self.max_items}; leave it out to collect everything")
        if self.max_items is not None and self.max_items > MOST_ITEMS:
            raise ValueError(
                f"max_items must be at most {MOST_ITEMS}, not {self.max_items}; leave it out to collect everything"
            )
        if self.max_minutes is not None and not self.max_minutes > 0:
            raise ValueError(f"max_minutes must be more than 0, not {self.max_minutes}; leave it out for no limit")
        if not 1 <= self.page_size <= MAX_PAGE_SIZE:
            raise ValueError(f"page_size must be from 1 to {MAX_PAGE_SIZE}, not {self.page_size}")
        if len(set(self.browsing_levels)) != len(self.browsing_levels):
            raise ValueError(f"browsing_levels names a level twice: {self.browsing_levels}")
        if self.start_cursor is not None and (not self.start_cursor or len(self.browsing_levels) > 1):
            raise ValueError("start_cursor must be a cursor of one listing; leave it out to go on where a walk stands")

    @property
    def limit(self) -> int:
        """Items to ask for at a time: never more than the run may take."""
        return self.page_size if self.max_items is None else min(self.page_size, self.max_items)

    def listings(self, version: int) -> list[Listing]:
        """What these options walk of a version, in order."""
        return [Listing(version, self.sort, level) for level in self.browsing_levels or (self.browsing_level,)]


@dataclass(frozen=True)
class LookupOptions:
    """How much a run looks up.

    Attributes:
        max_lookups: Stop after this many questions.
        max_minutes: Stop after this many minutes.

    Raises:
        ValueError: A value is out of range.
    """

    max_lookups: int = DEFAULT_MAX_LOOKUPS
    max_minutes: float = DEFAULT_MAX_MINUTES

    def __post_init__(self) -> None:
        if self.max_lookups < 1:
            raise ValueError(f"max_lookups must be 1 or more, not {self.max_lookups}")
        if not self.max_minutes > 0:
            raise ValueError(f"max_minutes must be more than 0, not {self.max_minutes}")

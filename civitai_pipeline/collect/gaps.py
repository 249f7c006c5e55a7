"""Gaps in a walk: pages that were set aside as damaged, and how the API is asked for them again.

Pure decisions over the ledger; nothing here sends a request or lands a page.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from civitai_pipeline.civitai.listing import MAX_PAGE_SIZE
from civitai_pipeline.lake.pages import PageId

if TYPE_CHECKING:
    from collections.abc import Sequence

    from civitai_pipeline.civitai.listing import Cursor
    from civitai_pipeline.civitai.payloads import ImagePage
    from civitai_pipeline.lake.ledger import Ledger
    from civitai_pipeline.lake.pages import LandedPage

_LIMIT = re.compile(r"[?&]limit=([0-9]{1,3})(?:&|$)")


@dataclass(frozen=True)
class Gap:
    """A page of a walk that is to be fetched again.

    Attributes:
        place: Where it belongs.
        cursor: What to ask for; None for the first page of a listing.
        limits: The page sizes to ask with, one after the other, until the answer reaches ``following``.
        following: The page behind it; None if that one is to be fetched again as well, with what this one says.
    """

    place: PageId
    cursor: Cursor | None
    limits: tuple[int, ...]
    following: LandedPage | None

    def is_closed_by(self, page: ImagePage) -> bool:
        """Whether nothing can be missing between an answer and the page behind the gap."""
        return self.following is None or leads_to(page.next_cursor, self.cursor, page.items, self.following)

    def not_closed(self, version: int) -> str:
        """What to say of an answer that does not close it."""
        return (
            f"page {self.place}, fetched again, no longer leads to the page behind it, so images in between may be "
            f"missing; civitai-pipeline collect {version} --restart finds those that are still shown"
        )


def gap_at(ledger: Ledger, place: PageId, page_size: int) -> Gap:
    """How to ask for the page that belongs at ``place``; the pages before it must be there.

    Raises:
        LakeError: The ledger cannot be read.
    """
    cursor: Cursor | None = None
    sizes = []
    if place.page > 1:
        before = ledger.read(PageId(place.walk, place.page - 1))
        # Behind its end, a walk is continued with the cursor of its last page.
        cursor = before.cursor if before.next_cursor is None else before.next_cursor
        sizes.append(_limit_of(before))
    behind = PageId(place.walk, place.page + 1)
    following = None if ledger.is_gap(behind) else ledger.read(behind)
    if following is not None:
        sizes.append(_limit_of(following))
    # How large the lost page was nobody knows; most pages of a walk are of one size.
    usual = max((size for size in sizes if size is not None), default=page_size)
    return Gap(place, cursor, tuple(dict.fromkeys((usual, MAX_PAGE_SIZE))), following)


def leads_to(next_cursor: Cursor | None, cursor: Cursor | None, items: Sequence[object], following: LandedPage) -> bool:
    """Whether ``following`` goes on where a page ended, or shows some of what that page showed.

    Args:
        next_cursor: Where the page ended; None at the end of its listing.
        cursor: What asked for the page.
        items: What it showed.
        following: The page behind it.
    """
    if next_cursor is None or following.cursor in {next_cursor, cursor}:
        return True
    shown = {item.get("id") for item in items if isinstance(item, dict)} - {None}
    return any(isinstance(item, dict) and item.get("id") in shown for item in following.items)


def _limit_of(page: LandedPage) -> int | None:
    found = _LIMIT.search(page.url)
    return None if found is None else min(int(found[1]), MAX_PAGE_SIZE) or None

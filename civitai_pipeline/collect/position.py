"""Where a run takes up a listing: a new walk, an open one, or the last pages of one at its end.

Pure decisions over the ledger; nothing here sends a request or lands a page.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from civitai_pipeline.lake.pages import PageId
from civitai_pipeline.prompts.items import read_item
from civitai_pipeline.prompts.values import canonical_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from civitai_pipeline.civitai.listing import Cursor, Listing
    from civitai_pipeline.lake.ledger import Ledger
    from civitai_pipeline.lake.pages import LandedPage

# Pages of a walk at its end that are asked for again, so that what came in at the seam is not missed.
OVERLAP_PAGES = 1


@dataclass(frozen=True)
class Position:
    """Where a run goes on.

    Attributes:
        next_page: The place in the ledger of the next page to land.
        cursor: What to ask for; None for the first page of a listing.
        last: The walk's last landed page; None in a new walk.
        repeats: The landed pages that the run will ask for again, by the cursor that asks for them.
    """

    next_page: PageId
    cursor: Cursor | None
    last: LandedPage | None = None
    repeats: Mapping[Cursor | None, PageId] = field(default_factory=dict)


def new_walk(ledger: Ledger, cursor: Cursor | None = None) -> Position:
    """The start of a walk of its own, at the listing's beginning or at a cursor."""
    return Position(PageId(max(ledger.walk_numbers(), default=0) + 1, 1), cursor)


def take_up(
    ledger: Ledger,
    listing: Listing,
    *,
    restart: bool,
    start_cursor: Cursor | None = None,
    overlap: int = OVERLAP_PAGES,
) -> Position:
    """Where a run over ``listing`` goes on.

    A walk with a stored cursor is resumed. One at its end is continued from its last pages if the listing
    appends new images there; any other order is walked anew.

    Args:
        ledger: The version's ledger.
        listing: What to walk.
        restart: Start a new walk in any case.
        start_cursor: Start a new walk here in any case.
        overlap: How many of the last pages of a walk at its end to ask for again.

    Raises:
        LakeError: The ledger cannot be read.
    """
    if start_cursor is not None:
        return new_walk(ledger, start_cursor)
    state = None if restart else ledger.latest_walk(listing.as_dict())
    if state is None:
        return new_walk(ledger)
    last = state.last
    following = PageId(last.id.walk, last.id.page + 1)
    if state.is_open:
        return Position(following, last.next_cursor, last)
    if not listing.is_appended:
        return new_walk(ledger)
    repeats = _last_pages(ledger, last, overlap)
    # Dictionaries keep their order: the last one found is the earliest page.
    cursor = next(reversed(repeats))
    return Position(following, cursor, last, repeats)


def _last_pages(ledger: Ledger, last: LandedPage, count: int) -> dict[Cursor | None, PageId]:
    """The pages that the last ``count`` cursors of a walk brought, from the last one backwards."""
    found: dict[Cursor | None, PageId] = {}
    page = last
    while True:
        # A page and its confirmations share a cursor; the newest of them stands first.
        if page.cursor not in found:
            found[page.cursor] = page.confirms or page.id
        # Looked at at once: behind the last page may lie a confirmation for every poll of the last months.
        before = PageId(page.id.walk, page.id.page - 1)
        if len(found) == max(1, count) or not before.page or ledger.is_gap(before):
            return found
        page = ledger.read(before)


def absent_from_repeat(repeated: list[Any], shown: list[Any]) -> frozenset[int] | None:
    """The ids of a page's items that were not shown again; None if ``shown`` is more than a part of that page."""
    # As bytes, because comparing values nested as deeply as strangers like would end in a RecursionError.
    if canonical_json(shown) == canonical_json(repeated):
        return frozenset()
    known = {reading.image_id: reading.fingerprint for reading in map(read_item, repeated)}
    again = {reading.image_id: reading.fingerprint for reading in map(read_item, shown)}
    if None in known or None in again or len(again) != len(shown) or len(known) != len(repeated):
        # Items that cannot be told apart by their id are landed whole rather than guessed at.
        return None
    if any(known.get(image_id) != fingerprint for image_id, fingerprint in again.items()):
        return None
    return frozenset(image_id for image_id in known if image_id is not None and image_id not in again)

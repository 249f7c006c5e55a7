"""Where a page starts and ends on each query path, and the cursor that leads to the next.

Pure functions of the ordered rows, the cursor and the limit. They know neither parameters nor bodies; those
are in ``listing.py``.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from civitai_pipeline.sandbox.replies import ApiError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from civitai_pipeline.sandbox.images import Image

_SHORT_EVERY = 10
_EMPTY_EVERY = 4
_EMPTY_PHASE = 1
_OFFSET_CAP = 20_000
_LEADING_INTEGER = re.compile(r"\s*[+-]?\d+")
_KEYSET = re.compile(r"feed:(\d{1,16}):(\d{1,12})")
_OLD_STYLE = re.compile(r"\d+\|\d+")
_BARE_NUMBER = re.compile(r"\d+")


class Slice(NamedTuple):
    """A page's rows and the cursor after it, None at the end."""

    rows: Sequence[Image]
    next_cursor: str | int | None


@dataclass(frozen=True)
class Gaps:
    """Which pages the post-filter thins out.

    Attributes:
        short: Some rows of a page are dropped after its cursor was computed.
        empty: Now and then all of them are.
    """

    short: bool = False
    empty: bool = False

    def dropped_before(self, slot: int, limit: int) -> int:
        """How many of the first ``slot`` rows of the index never show, for offset paging."""
        emptied = 0
        if self.empty:
            blocks, rest = divmod(slot, limit)
            cycles, block = divmod(blocks, _EMPTY_EVERY)
            emptied = (cycles + (block > _EMPTY_PHASE)) * limit + (rest if block == _EMPTY_PHASE else 0)
        return emptied + ((slot - emptied) // _SHORT_EVERY if self.short else 0)

    def taken(self, limit: int) -> int:
        """How many rows a keyset page of this limit shows."""
        return max(1, limit - 1 - limit // _SHORT_EVERY) if self.short else limit

    def is_empty(self, start: int, limit: int) -> bool:
        """Whether the keyset page that would start at this row shows none."""
        return self.empty and (start // limit) % _EMPTY_EVERY == _EMPTY_PHASE


def offset_of(cursor: str | None) -> int:
    """The row an offset cursor points to. Its second part is not used, and garbage is the first page."""
    parts = (cursor or "").split("|")
    found = _LEADING_INTEGER.match(parts[0]) if len(parts) <= 2 else None  # noqa: PLR2004 - "<offset>|<ms>"
    return max(int(found.group()), 0) if found else 0


def offset_page(rows: Sequence[Image], cursor: str | None, limit: int, gaps: Gaps) -> Slice:
    """A page of the Feed path: plain OFFSET, so rows that arrive ahead of it make the page before repeat."""
    start = offset_of(cursor)
    end = start + limit
    first = start - gaps.dropped_before(start, limit)
    last = end - gaps.dropped_before(end, limit)
    if last >= len(rows):
        return Slice(rows[first:last], None)
    return Slice(rows[first:last], f"{end}|{rows[max(last - 1, 0)].sort_ms}")


def index_page(rows: Sequence[Image], cursor: str | None, limit: int, gaps: Gaps, *, newest: bool) -> Slice:
    """A page of the Index path: offsets, with newcomers hidden from a Newest walk and no empty page passed."""
    _, _, first_ms = (cursor or "").partition("|")
    if first_ms.isdecimal() and newest:
        floored = int(first_ms) // 60_000 * 60_000
        rows = rows[bisect_left(rows, -floored, key=lambda row: -row.sort_ms) :]
    page = offset_page(rows, cursor, limit, gaps)
    if page.next_cursor is None or not page.rows:
        return Slice(page.rows, None)
    anchor = first_ms or str(page.rows[0].sort_ms)
    return Slice(page.rows, f"{offset_of(cursor) + limit}|{anchor}")


def db_page(
    rows: Sequence[Image], cursor: str | None, limit: int, gaps: Gaps, *, oldest: bool, strict: bool, skip: int
) -> Slice:
    """A page of the DB path: keyset on the image id; ``rows`` are in id order.

    Args:
        rows: The rows.
        cursor: A number in text, or None.
        limit: How many rows to show.
        gaps: The post-filter.
        oldest: Ids ascend.
        strict: Descending walks lose the row the cursor names.
        skip: Rows to skip (``page`` mode).

    Raises:
        ApiError: 400, the cursor is not one of this path.
    """
    start = skip
    if cursor is not None:
        parts = cursor.split("|")
        if len(parts) != 1:
            message = f"Invalid cursor: expected 1 value(s) for this sort, received {len(parts)}"
            raise ApiError(400, {"error": message, "code": "BAD_REQUEST"})
        if not _BARE_NUMBER.fullmatch(cursor):
            message = f'Invalid cursor: unparseable numeric value "{cursor}"'
            raise ApiError(400, {"error": message, "code": "BAD_REQUEST"})
        if oldest:
            start = bisect_left(rows, int(cursor), key=lambda row: row.id)
        elif strict:
            start = bisect_right(rows, -int(cursor), key=lambda row: -row.id)
        else:
            start = bisect_left(rows, -int(cursor), key=lambda row: -row.id)
    if cursor is not None and limit and start < len(rows) and gaps.is_empty(start, limit):
        # The empty page leads to a number between two ids, which leads to the row and not to another empty page.
        between = rows[start].id + (-1 if oldest else 1)
        if (
            between > 0
            and any(row.id == int(cursor) for row in rows[max(start - 1, 0) : start + 1])
            and between not in {int(cursor), rows[start - 1].id}
        ):
            return Slice([], between)
    end = start + (gaps.taken(limit) if limit else 0)
    return Slice(rows[start:end], rows[end].id if end < len(rows) else None)


def is_old_style(cursor: str) -> bool:
    """Whether a cursor is finished on the old path by a server that gives out keyset cursors.

    Raises:
        ApiError: 400, it is no cursor at all.
    """
    if _KEYSET.fullmatch(cursor):
        return False
    if _OLD_STYLE.fullmatch(cursor) or (_BARE_NUMBER.fullmatch(cursor) and int(cursor) <= _OFFSET_CAP):
        return True
    raise ApiError(400, {"message": "Invalid cursor"})


def keyset_page(
    rows: Sequence[Image], cursor: str | None, limit: int, gaps: Gaps, *, value: Callable[[Image], int], oldest: bool
) -> Slice:
    """A page of the newer feed service: keyset on sort value and image id, without drift.

    Args:
        rows: The rows, in order of value and id.
        cursor: ``feed:<value>:<id>``, or None.
        limit: How many rows to show.
        gaps: The post-filter.
        value: The sort value of a row.
        oldest: Values ascend.
    """
    sign = 1 if oldest else -1

    def key(row: Image) -> tuple[int, int]:
        return sign * value(row), sign * row.id

    start = 0
    found = _KEYSET.fullmatch(cursor or "")
    if found:
        at = (sign * int(found[1]), sign * int(found[2]))
        start = bisect_right(rows, at, key=key)
        follows_row = start > 0 and key(rows[start - 1]) == at
        between = rows[start].id - sign if start < len(rows) else 0
        if follows_row and between > 0 and gaps.is_empty(start, limit) and (key(rows[start])[0], sign * between) != at:
            return Slice([], f"feed:{value(rows[start])}:{between}")
    end = start + gaps.taken(limit)
    if end >= len(rows):
        return Slice(rows[start:end], None)
    return Slice(rows[start:end], f"feed:{value(rows[end - 1])}:{rows[end - 1].id}")

"""How the stand-in behaves: one switch for each way the real API has been seen to differ.

Only the switches and their meaning are here. What a single request suffers is ``faults.py``; what the
switches do is in ``listing.py`` and ``server.py``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

ApiPath = Literal["auto", "feed", "db", "index", "feed_service"]


class SandboxError(Exception):
    """The stand-in was given something it cannot use; the message is one line for a person."""


@dataclass(frozen=True)
class SandboxOptions:
    """The modes of the stand-in; the defaults are the API at the time of the reference snapshot.

    Attributes:
        path: Which of the API's query paths answers ``/images``. ``auto`` decides by the parameters as the
            API does; the others force one.
        feed_cursors: ``offset`` gives ``<offset>|<ms>`` cursors; ``keyset`` the newer ``feed:<sort>:<id>``.
        first_page_old_cursor: With keyset cursors, the first page still ends in an offset cursor, and that
            walk is finished on the old path.
        error_style: ``snapshot`` answers ``{"error", "code"}``; ``newer`` ``{"message"}``, except for 503.
        db_strict_keyset: The DB path loses one image at each page boundary when descending.
        nested_meta: Every ``meta`` arrives as ``{"id", "meta"}``, whatever ``flatMeta`` says.
        short_pages: A post-filter drops rows after the cursor was computed, so that pages hold fewer items
            than asked for. Nothing is lost: the rows dropped are ones that no walk would ever show.
        empty_pages: As ``short_pages``, with pages that lose all their rows.
        edge_cache_s: Seconds for which a 200 is served again for the same URL; 0 turns the edge cache off.
        thumbnail_field: Items carry the newer ``thumbnail`` field.
        region_blocked: Every API request gets the 451.
        restricted_region: The maturity filter is forced to PG and PG-13, whatever is asked for.
        api_keys: The keys that make a session. Any other key is silently anonymous, as with the API.
        latency_s: Seconds to wait before answering.
        published_snap_s: An image added while the server runs becomes visible at the next multiple of this
            many seconds on the clock. The API's value is 300; 0 shows it at once.
        token_echo: ``nextPage`` repeats a ``token`` parameter, as the API does.
        authorization_echo: ``metadata`` repeats the ``Authorization`` header (no API does; for redaction tests).
        max_total_hits: The search engine's ceiling: the Feed path ends silently at this offset. None for no ceiling.
        blocked_tags: Tag ids the API refuses to filter by; asking for only such tags gives an empty page.
        handled_by: The value of ``X-Handled-By``, or None to leave the header out.
        keep_requests: How many recorded requests are kept, newest last.
    """

    path: ApiPath = "auto"
    feed_cursors: Literal["offset", "keyset"] = "offset"
    first_page_old_cursor: bool = False
    error_style: Literal["snapshot", "newer"] = "snapshot"
    db_strict_keyset: bool = True
    nested_meta: bool = False
    short_pages: bool = False
    empty_pages: bool = False
    edge_cache_s: float = 0.0
    thumbnail_field: bool = False
    region_blocked: bool = False
    restricted_region: bool = False
    api_keys: tuple[str, ...] = field(default=(), repr=False)
    latency_s: float = 0.0
    published_snap_s: float = 0.0
    token_echo: bool = True
    authorization_echo: bool = False
    max_total_hits: int | None = None
    blocked_tags: frozenset[int] = frozenset({5161})
    handled_by: str | None = "sandbox-0"
    keep_requests: int = 100_000

"""``GET /api/v1/images``: from parameters to a page.

Chooses the query path, filters and orders the world's images, has ``cursors.py`` cut the page, and writes its
items and metadata. Reading parameters is ``params.py``; statuses of the whole server are ``server.py``.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from urllib.parse import quote

from civitai_pipeline.sandbox.cursors import Gaps, Slice, db_page, index_page, is_old_style, keyset_page, offset_page
from civitai_pipeline.sandbox.images import NULL, Image, encode
from civitai_pipeline.sandbox.params import ValidationError, parse
from civitai_pipeline.sandbox.replies import CURSOR_FILTERS, PAGING_CAP, ApiError, error_body

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from civitai_pipeline.sandbox.options import SandboxOptions
    from civitai_pipeline.sandbox.params import Params
    from civitai_pipeline.sandbox.world import World

_PAGE_CAP = 1000
_DAY_MS = 86_400_000
_PERIOD_DAYS = {"Day": 1, "Week": 7, "Month": 30, "Year": 365}
_FIVE_MINUTES_MS = 300_000
_REMEMBERED_CURSORS = 20_000
_REMEMBERED_WALKS = 64

_SORT_VALUES: dict[str, Callable[[Image], int]] = {
    "Most Reactions": lambda image: image.reactions,
    "Most Comments": lambda image: image.comments,
    "Most Collected": lambda image: image.collected,
    # Random silently falls through to Newest.
    "Random": lambda image: image.sort_ms,
    "Newest": lambda image: image.sort_ms,
    "Oldest": lambda image: image.sort_ms,
}


@dataclass
class Page:
    """The parts of a page's body, still apart so that a fault can twist them."""

    items: list[bytes]
    metadata: dict[str, object] = field(default_factory=dict)

    def body(self) -> bytes:
        """The JSON."""
        return b"".join((b'{"items":[', b",".join(self.items), b'],"metadata":', encode(self.metadata), b"}"))


@dataclass(frozen=True)
class ListingRequest:
    """What of an HTTP request matters to a listing.

    Attributes:
        query: The parameters in the order received.
        host: The ``Host`` header.
        path: The URL's path.
        authorization: The ``Authorization`` header, or an empty text.
    """

    query: tuple[tuple[str, str], ...]
    host: str
    path: str = "/api/v1/images"
    authorization: str = ""

    def without_cursor(self) -> tuple[tuple[str, str], ...]:
        """What must stay the same while a walk follows its cursors."""
        return tuple(sorted(pair for pair in self.query if pair[0] not in {"cursor", "limit", "token"}))


class Listing:
    """Answers listing requests over a world. Safe for many threads."""

    def __init__(self, world: World, options: SandboxOptions) -> None:
        self.world = world
        self.options = options
        self.gaps = Gaps(options.short_pages, options.empty_pages)
        self._lock = threading.Lock()
        self._issued: OrderedDict[str, set[object]] = OrderedDict()
        self._last_items: OrderedDict[object, list[bytes]] = OrderedDict()

    def page(self, request: ListingRequest, twist: str | None = None) -> Page:
        """The page a request gets.

        Args:
            request: The request.
            twist: The name of a fault that changes which page is served, or None.

        Raises:
            ApiError: The API answers with an error.
        """
        if twist == "restart_at_first_page":
            query = tuple(pair for pair in request.query if pair[0] != "cursor")
            request = ListingRequest(query, request.host, request.path, request.authorization)
        try:
            params = parse(request.query)
        except ValidationError as error:
            raise ApiError(400, error.body) from error
        if params.page and not params.cursor and params.page * params.limit > _PAGE_CAP:
            raise ApiError(429, PAGING_CAP)
        page = self._page(request, params)
        if twist == "empty_no_cursor":
            return Page([])
        if twist == "same_cursor" and params.cursor:
            page.metadata["nextCursor"] = params.cursor
        return self._remember(request, page, repeat=twist == "repeat_previous_page")

    def _page(self, request: ListingRequest, params: Params) -> Page:
        with self.world.lock:
            path = self._path(params)
            if path == "db":
                part = self._db(params)
            elif path == "feed_service":
                part = self._feed_service(request, params)
            else:
                part = self._offset(params, path)
            items = [self._item(image, params, path) for image in part.rows]
        return Page(items, self._metadata(request, params, part.next_cursor))

    # -- which path

    def _path(self, params: Params) -> str:
        if self.options.path in {"feed", "db", "index"}:
            return self.options.path
        if self.options.path == "auto":
            looked_up = params.image_id or params.ids or (params.model_id and not params.model_version_id)
            if looked_up:
                return "db"
            if self.options.feed_cursors == "offset":
                return "feed"
        if params.requiring_meta or not params.limit or params.sort == "Random" or params.post_id:
            return "feed"
        if params.cursor is None:
            return "feed" if self.options.first_page_old_cursor else "feed_service"
        return "feed" if is_old_style(params.cursor) else "feed_service"

    def _offset(self, params: Params, path: str) -> Slice:
        rows: Sequence[Image] = self._rows(params, path)
        if self.options.max_total_hits is not None:
            rows = rows[: self.options.max_total_hits]
        if not params.limit:
            if rows:
                message = "Cannot read properties of undefined (reading 'sortAtUnixMs')"
                raise ApiError(500, error_body(self.options, message))
            return Slice([], None)
        if path == "index":
            newest = params.sort in {"Newest", "Random"}
            return index_page(rows, params.cursor, params.limit, self.gaps, newest=newest)
        return offset_page(rows, params.cursor, params.limit, self.gaps)

    def _db(self, params: Params) -> Slice:
        if params.sort == "Random":
            raise ApiError(400, error_body(self.options, "Random sort requires a collectionId", "BAD_REQUEST"))
        skip = (params.page - 1) * params.limit if params.page > 0 and not params.cursor else 0
        return db_page(
            self._rows(params, "db"),
            params.cursor or None,
            params.limit,
            self.gaps,
            oldest=params.sort == "Oldest",
            strict=self.options.db_strict_keyset,
            skip=skip,
        )

    def _feed_service(self, request: ListingRequest, params: Params) -> Slice:
        filters = request.without_cursor()
        with self._lock:
            known = self._issued.get(params.cursor or "", {filters})
        if filters not in known:
            raise ApiError(400, CURSOR_FILTERS)
        rows = self._rows(params, "feed_service")
        value = _SORT_VALUES[params.sort]
        part = keyset_page(rows, params.cursor, params.limit, self.gaps, value=value, oldest=params.sort == "Oldest")
        if isinstance(part.next_cursor, str):
            with self._lock:
                self._issued.setdefault(part.next_cursor, set()).add(filters)
                if len(self._issued) > _REMEMBERED_CURSORS:
                    self._issued.popitem(last=False)
        return part

    # -- which images

    def _rows(self, params: Params, path: str) -> list[Image]:
        if path in {"db", "index"} and params.username and not self._user_exists(params.username):
            raise ApiError(404, error_body(self.options, "User not found", "NOT_FOUND"))
        tags = tuple(tag for tag in params.tags if tag not in self.options.blocked_tags)
        nothing = (params.tags and not tags) or (params.requiring_meta and path != "db") or params.user_id
        level = 3 if self.options.restricted_region else params.level
        if nothing or (not level and path != "db"):
            return []
        snap = self.options.published_snap_s
        shown_until = time.time() // snap * snap if snap else float("inf")
        since = self._since(params.period, path)
        order = ("Oldest" if params.sort == "Oldest" else "Newest") if path == "db" else params.sort
        key = (
            path, order, params.model_version_id, params.model_id, params.image_id, params.ids, params.post_id,
            params.username, params.media, params.base_models, tags, level, since, shown_until,
        )  # fmt: skip

        def matches(image: Image) -> bool:
            return (
                (image.level is None or image.level & (level or 1) != 0)
                and (params.media is None or image.media is None or image.media == params.media)
                and (not params.username or image.username == params.username)
                and (not params.post_id or image.post_id == params.post_id)
                and (not params.base_models or image.base_model in params.base_models)
                and (not tags or _tagged(image, tags, every=path == "feed_service"))
                and (image.uploaded_ms if path == "db" else image.sort_ms) >= since
                and image.available_s <= shown_until
            )

        def build() -> list[Image]:
            rows = [image for image in self._candidates(params) if matches(image)]
            if path == "db":
                return sorted(rows, key=lambda image: image.id, reverse=order != "Oldest")
            value = _SORT_VALUES[order]
            return sorted(rows, key=lambda image: (value(image), image.id), reverse=order != "Oldest")

        return self.world.listing(key, build)

    def _candidates(self, params: Params) -> list[Image]:
        if params.image_id:
            return self.world.find(params.image_id)
        if params.ids:
            return [image for image_id in params.ids for image in self.world.find(image_id)]
        if params.model_version_id:
            return self.world.gallery(params.model_version_id)
        if params.model_id:
            # A join without DISTINCT: an image of two versions of the model comes twice.
            versions = self.world.versions_of(params.model_id)
            return [image for version in versions for image in self.world.gallery(version.id)]
        return self.world.gallery(None)

    def _since(self, period: str, path: str) -> int:
        days = _PERIOD_DAYS.get(period)
        if days is None:
            return 0
        if path != "db":
            return (self.world.now_ms - days * _DAY_MS) // _FIVE_MINUTES_MS * _FIVE_MINUTES_MS
        today = datetime.fromtimestamp(self.world.now_ms / 1000, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        return round((today - timedelta(days=days)).timestamp() * 1000)

    def _user_exists(self, username: str) -> bool:
        return any(image.username == username for image in self.world.images)

    # -- what is written

    def _item(self, image: Image, params: Params, path: str) -> bytes:
        if path == "db":
            head, tail = image.db_pieces()
        elif path == "feed_service":
            head, tail = image.keyset_pieces()
        else:
            head, tail = image.head, image.tail
        if image.meta is None:
            return head
        meta = NULL
        if params.with_meta:
            meta = image.listed_meta
            flat = path != "db" if params.flat_meta is None else params.flat_meta
            if self.options.nested_meta or not flat:
                meta = b'{"id":%d,"meta":%b}' % (image.id, meta)
        if not image.raw:
            if self.options.thumbnail_field:
                tail = b'%b,"thumbnail":%b}' % (tail[:-1], encode(_thumbnail(image)))
            if params.with_tags:
                tags = [{"id": number, "name": name} for number, name in image.tags]
                tail = b'%b,"tags":%b}' % (tail[:-1], encode(tags))
        return head + meta + tail

    def _metadata(self, request: ListingRequest, params: Params, cursor: str | int | None) -> dict[str, object]:
        metadata: dict[str, object] = {}
        paged = bool(params.page) and not params.cursor
        if cursor is not None:
            metadata["nextCursor"] = cursor
        if paged:
            metadata["currentPage"] = params.page
            metadata["pageSize"] = params.limit
        if cursor is not None:
            metadata["nextPage"] = self._next_page(request, ("page", params.page + 1) if paged else ("cursor", cursor))
        if self.options.authorization_echo and request.authorization:
            metadata["authorization"] = request.authorization
        return metadata

    def _next_page(self, request: ListingRequest, changed: tuple[str, str | int]) -> str:
        name, value = changed
        pairs = [(key, str(value) if key == name else text) for key, text in request.query]
        if name not in {key for key, _ in pairs}:
            pairs.append((name, str(value)))
        if not self.options.token_echo:
            pairs = [pair for pair in pairs if pair[0] != "token"]
        query = "&".join(f"{_escape(key)}={_escape(text)}" for key, text in pairs if text)
        return f"https://{request.host}{request.path}?{query}"

    def _remember(self, request: ListingRequest, page: Page, *, repeat: bool) -> Page:
        walk = request.without_cursor()
        with self._lock:
            before = self._last_items.pop(walk, None)
            if repeat and before is not None:
                page = Page(before, page.metadata)
            self._last_items[walk] = page.items
            if len(self._last_items) > _REMEMBERED_WALKS:
                self._last_items.popitem(last=False)
        return page


def _tagged(image: Image, tags: tuple[int, ...], *, every: bool) -> bool:
    held = {number for number, _ in image.tags}
    return held.issuperset(tags) if every else not held.isdisjoint(tags)


def _thumbnail(image: Image) -> object:
    if image.media != "video":
        return None
    return {
        "url": f"https://image.civitai.com/sandbox/thumbnail/original=true/{image.id}.jpeg",
        "width": 512,
        "height": 512,
    }


def _escape(text: str) -> str:
    # encodeURIComponent's set.
    return quote(text, safe="!~*'()")

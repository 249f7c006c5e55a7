"""One image of the world, kept as the bytes the API would send.

An image is stored in three pieces (what stands before ``meta``, ``meta`` itself, what stands after), so that
a page of any meta shape is put together by joining bytes. The fields beside them are what listings filter
and sort by. Which images a request gets is decided in ``listing.py``; where they come from in ``world.py``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from civitai_pipeline import jsontext

if TYPE_CHECKING:
    from collections.abc import Sequence

NULL = b"null"


def encode(value: object) -> bytes:
    """The JSON of any value, as compact bytes.

    Values orjson refuses (integers beyond 64 bits, lone surrogates, hundreds of levels) are written by the patient
    writer, which escapes them: items from tests are served as they are, however odd.
    """
    return jsontext.dumps(value)


def decode(data: bytes) -> object:
    """The value of JSON bytes written by :func:`encode`."""
    value: object = jsontext.loads(data)
    return value


def iso(ms: int) -> str:
    """Milliseconds since 1970 as the API writes times: UTC, three decimals, ``Z``."""
    moment = datetime.fromtimestamp(ms // 1000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{ms % 1000:03d}Z"


def milliseconds(text: object) -> int | None:
    """The time an API item carries, in milliseconds since 1970; None if it carries none that can be read."""
    if not isinstance(text, str):
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return round(moment.timestamp() * 1000)


@dataclass(slots=True)
class Image:
    """An image and what listings need to know about it.

    Attributes:
        id: The image id. An item served raw that has no usable id gets its position here, and keeps its text.
        head: The item's JSON up to and including ``"meta":``, or the whole item if it has no ``meta``.
        meta: The JSON of ``meta``, or None if the item has no such key.
        tail: The item's JSON after ``meta``.
        sort_ms: What Newest and Oldest sort by.
        versions: The versions whose galleries list it, the one it was posted to first.
        level: The maturity bit, or None to pass every filter.
        media: ``image``, ``video`` or ``audio``, or None to pass every filter.
        uploaded_ms: When it was uploaded, which is what the DB path reports and ``sort_ms`` may exceed.
        checkpoint_base: Its first checkpoint's base model, which is what the DB path reports.
        meta_hidden: The uploader hid the prompt: listings say null, ``/model-versions`` does not.
        available_s: The clock time from which it may be shown.
        raw: Served exactly as given, on every path.
    """

    id: int
    head: bytes
    meta: bytes | None
    tail: bytes
    sort_ms: int
    versions: tuple[int, ...]
    level: int | None = None
    media: str | None = None
    username: str | None = None
    post_id: int | None = None
    base_model: str | None = None
    tags: tuple[tuple[int, str], ...] = ()
    reactions: int = 0
    comments: int = 0
    collected: int = 0
    uploaded_ms: int = 0
    checkpoint_base: str | None = None
    meta_hidden: bool = False
    available_s: float = 0.0
    raw: bool = False
    _forms: dict[int, tuple[bytes, bytes]] = field(default_factory=dict, repr=False)

    @property
    def listed_meta(self) -> bytes:
        """The meta a listing shows, as JSON."""
        return NULL if self.meta is None or self.meta_hidden else self.meta

    def item(self) -> object:
        """The item in the Feed path's form, with its meta, hidden or not."""
        return decode(self.head if self.meta is None else self.head + self.meta + self.tail)

    def replace_item(self, item: object) -> None:
        """Serves another item in this one's place, its listing keys kept."""
        self.head, self.meta, self.tail = split(item)
        self._forms.clear()
        self.read_counts(item)

    def read_counts(self, item: object) -> None:
        """Takes the engagement that ranks an image from its item's stats."""
        stats = item.get("stats") if isinstance(item, dict) else None
        counts = stats if isinstance(stats, dict) else {}
        reactions = [_count(counts.get(key)) for key in ("cryCount", "laughCount", "likeCount", "heartCount")]
        self.reactions = sum(reactions)
        self.comments = _count(counts.get("commentCount"))
        # The API tells no collect count; a share of the hearts ranks much like one.
        self.collected = reactions[3] // 2

    def db_pieces(self) -> tuple[bytes, bytes]:
        """Head and tail as the DB path writes them: upload time, all versions, first checkpoint, null user."""
        return self._hydrated(self.uploaded_ms)

    def keyset_pieces(self) -> tuple[bytes, bytes]:
        """Head and tail as the newer feed service writes them: DB rows under the sort time."""
        return self._hydrated(self.sort_ms)

    def _hydrated(self, created_ms: int) -> tuple[bytes, bytes]:
        if created_ms not in self._forms:
            item = self.item()
            if self.raw or not isinstance(item, dict):
                return self.head, self.tail
            item["createdAt"] = iso(created_ms)
            item["username"] = self.username
            item["baseModel"] = self.checkpoint_base
            item["modelVersionIds"] = list(self.versions)
            head, _, tail = split(item)
            self._forms[created_ms] = (head, tail)
        return self._forms[created_ms]


def split(item: object) -> tuple[bytes, bytes | None, bytes]:
    """Cuts an item's JSON before and after the value of ``meta``."""
    if not isinstance(item, dict) or "meta" not in item:
        return encode(item), None, b""
    before: dict[str, object] = {}
    after: dict[str, object] = {}
    side = before
    for key, value in item.items():
        if key == "meta":
            side = after
        else:
            side[key] = value
    head = encode(before)[:-1] + (b"," if before else b"") + b'"meta":'
    tail = (b"," + encode(after)[1:]) if after else b"}"
    # A copy: orjson hands out its working buffer, several times as large as its contents.
    return head, bytes(memoryview(encode(item["meta"]))), tail


def from_item(
    item: object, *, position: int, versions: Sequence[int], sort_ms: int, raw: bool, available_s: float = 0.0
) -> Image:
    """An image from an API-shaped item, or from anything at all.

    Args:
        item: The item.
        position: Stands in for the id if the item has none.
        versions: The versions whose galleries list it.
        sort_ms: What Newest and Oldest sort by.
        raw: Serve it exactly as given on every path.
        available_s: The clock time from which it may be shown.
    """
    fields = item if isinstance(item, dict) else {}
    tags: object = None
    if not raw and "tags" in fields:
        # Sent only when asked for with withTags.
        tags = fields["tags"]
        item = {key: value for key, value in fields.items() if key != "tags"}
    head, meta, tail = split(item)
    level = fields.get("browsingLevel")
    image = Image(
        id=_positive(fields.get("id")) or position,
        head=head,
        meta=meta,
        tail=tail,
        sort_ms=sort_ms,
        versions=tuple(versions),
        level=level if isinstance(level, int) and level > 0 else None,
        media=_text(fields.get("type")),
        username=_text(fields.get("username")),
        post_id=_positive(fields.get("postId")),
        base_model=_text(fields.get("baseModel")),
        tags=_tags(tags),
        uploaded_ms=sort_ms,
        available_s=available_s,
        raw=raw,
    )
    image.checkpoint_base = image.base_model
    image.read_counts(item)
    return image


def _tags(value: object) -> tuple[tuple[int, str], ...]:
    pairs = (
        [(tag.get("id"), tag.get("name")) for tag in value if isinstance(tag, dict)] if isinstance(value, list) else []
    )
    return tuple((number, name) for number, name in pairs if isinstance(number, int) and isinstance(name, str))


def _count(value: object) -> int:
    return value if isinstance(value, int) else 0


def _positive(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None

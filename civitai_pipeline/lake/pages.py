"""One landed page: the envelope, and its bytes on disk.

A page is written once and never changed. Its body is the API's JSON, byte for byte. A page asked for again
without news is landed as a confirmation: the same envelope, naming the page it repeats, without the body.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple

import orjson
import zstandard

from civitai_pipeline import jsontext
from civitai_pipeline.lake.files import LakeError

# A body is bounded where it is fetched; this only stops a damaged or hostile file from filling the memory.
MAX_PAGE_BYTES = 1 << 30
# Level 3 is zstd's own default: prompts shrink fivefold at 200 MB/s, so landing never holds up a walk. Without the
# checksum, a flipped bit in the text of a prompt would go unnoticed for ever.
ZSTD_LEVEL = 3


# What a listing names as its order when its pages came from the older tool's database: nothing was walked.
IMPORT_SORT = "Import"


# The envelope's key ``format`` says of which form it is; without it, it is of the first, as all are so far.
FORMAT = 1


class DamagedPageError(LakeError):
    """A page's file does not hold a landed page."""


class NewerPageError(LakeError):
    """A page's file was written by a newer release, in a form that this one does not know."""


@dataclass(frozen=True, order=True)
class PageId:
    """A page's place in its version's ledger: walk and page number, both from 1."""

    walk: int
    page: int

    def __str__(self) -> str:
        return f"{self.walk}/{self.page}"

    @classmethod
    def parse(cls, text: str) -> PageId:
        """The place that ``str`` wrote.

        Raises:
            ValueError: It is no such text.
        """
        walk, _, page = text.partition("/")
        return cls(int(walk), int(page))


@dataclass(frozen=True)
class Options:
    """The options of a run that decide the outcomes of its items, landed with each page.

    Attributes:
        strict_version_match: Accept only items that name the version as their checkpoint.
        append_only: Never change a row already held.
        max_items: The most items the run was to ask for, for the plan in ``collection_state``.
    """

    strict_version_match: bool = False
    append_only: bool = False
    max_items: int | None = None


@dataclass(frozen=True)
class LandedPage:
    """One successful answer of the API, with the request that got it.

    Attributes:
        id: Where it stands in the ledger.
        model_version_id: The version whose gallery it is of.
        sequence: Its place in the order in which the version's pages landed, over all walks, from 1.
        run_id: The run that landed it.
        listing: What was being walked.
        cursor: The cursor that asked for it; None for a first page.
        url: The address asked, without any key.
        options: The options that decide its items' outcomes.
        fetched_at: When the answer was complete.
        elapsed_s: Seconds from the request to the complete answer.
        items: The API's items; for a confirmation, empty (see ``Ledger.items``).
        metadata: The API's paging metadata.
        confirms: The page it repeats, if it is a confirmation.
        absent: For a confirmation, the ids of that page's items that were not shown again.
    """

    id: PageId
    model_version_id: int
    sequence: int
    run_id: str | None
    listing: dict[str, Any]
    cursor: str | int | None
    url: str
    options: Options
    fetched_at: datetime
    elapsed_s: float
    items: list[Any]
    metadata: dict[str, Any]
    confirms: PageId | None = None
    absent: frozenset[int] = field(default_factory=frozenset)

    @property
    def is_imported(self) -> bool:
        """Whether the older tool fetched it, and not a walk over a listing of the API."""
        return self.listing.get("sort") == IMPORT_SORT

    @property
    def next_cursor(self) -> str | int | None:
        """Where the walk goes on; None if this page was its end."""
        return self.metadata.get("nextCursor")


def encode(page: LandedPage, raw_body: bytes | None) -> bytes:
    """The bytes of a page's file.

    Args:
        page: The envelope.
        raw_body: The API's JSON as it came; None for a confirmation.
    """
    envelope: dict[str, Any] = {
        "model_version_id": page.model_version_id,
        "walk": page.id.walk,
        "page": page.id.page,
        "sequence": page.sequence,
        "run_id": page.run_id,
        "listing": page.listing,
        "request": {"cursor": page.cursor, "url": page.url},
        "options": {
            "strict_version_match": page.options.strict_version_match,
            "append_only": page.options.append_only,
            "max_items": page.options.max_items,
        },
        "response": {
            "fetched_at": page.fetched_at.astimezone(UTC).isoformat(),
            "elapsed_s": round(page.elapsed_s, 6),
            "body": None if raw_body is None else orjson.Fragment(raw_body),
        },
    }
    if page.confirms is not None:
        envelope["confirms"] = str(page.confirms)
        envelope["absent"] = sorted(page.absent)
        envelope["response"]["metadata"] = page.metadata
    return zstandard.ZstdCompressor(ZSTD_LEVEL, write_checksum=True).compress(jsontext.dumps(envelope))


def unpack(data: bytes) -> bytes:
    """The JSON text in the bytes of a page's file.

    Raises:
        DamagedPageError: ``data`` is cut short, changed or no such thing.
    """
    try:
        # Streamed, because a file written by another tool need not say its size in the frame's head.
        with zstandard.ZstdDecompressor().stream_reader(data) as reader:
            text: bytes = reader.read(MAX_PAGE_BYTES)
        size = text_size(data)
    except zstandard.ZstdError as error:
        raise DamagedPageError(f"{type(error).__name__}: {error}") from error
    # A frame that is cut short gives as much as it can without a word.
    if size is not None and size != len(text):
        raise DamagedPageError(f"it holds {len(text):,} of {size:,} bytes")
    return text


def text_size(data: bytes) -> int | None:
    """How long the JSON text in the bytes of a page's file is, by what they say at the start; None if they do not.

    Raises:
        ZstdError: They are no compressed file's.
    """
    size = zstandard.frame_content_size(data)
    return None if size < 0 else size


def decode(data: bytes) -> LandedPage:
    """The page that :func:`encode` wrote.

    Raises:
        DamagedPageError: ``data`` is no such thing.
        NewerPageError: It is one of a form that a newer release writes.
    """
    return decode_text(unpack(data))


def decode_text(text: bytes) -> LandedPage:
    """The page whose JSON text :func:`unpack` gave.

    Raises:
        DamagedPageError: ``text`` is no such thing.
        NewerPageError: It is one of a form that a newer release writes.
    """
    try:
        return _from_envelope(jsontext.loads(text))
    except (jsontext.InvalidJsonError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise DamagedPageError(f"{type(error).__name__}: {error}") from error


class Head(NamedTuple):
    """What a page says of its place before its body.

    Attributes:
        sequence: Its place in the order of landing.
        cursor: The cursor that asked for it.
    """

    sequence: int
    cursor: str | int | None


def frame_fault(data: bytes) -> str | None:
    """What is wrong with a file whose text can be unpacked, in a few words; None if nothing.

    Raises:
        DamagedPageError: It cannot be unpacked.
    """
    frame = zstandard.ZstdDecompressor().decompressobj()
    try:
        frame.decompress(data)
    except zstandard.ZstdError as error:
        raise DamagedPageError(str(error)) from error
    if not frame.eof:
        return "it ends before its checksum"
    return "something follows its end" if frame.unused_data else None


def decode_head(data: bytes) -> Head:
    """The head of the page that :func:`encode` wrote.

    Raises:
        DamagedPageError: ``data`` is no such thing.
        NewerPageError: It is one of a form that a newer release writes.
    """
    try:
        with zstandard.ZstdDecompressor().stream_reader(data) as reader:
            found = _HEAD.match(reader.read(_HEAD_BYTES))
    except zstandard.ZstdError as error:
        raise DamagedPageError(str(error)) from error
    return head_of(unpack(data)) if found is None else _head(found)


def head_of(text: bytes) -> Head:
    """The head of the page whose JSON text :func:`unpack` gave.

    Raises:
        DamagedPageError: ``text`` is no such thing.
        NewerPageError: It is one of a form that a newer release writes.
    """
    found = _HEAD.match(text, 0, _HEAD_BYTES)
    if found is None:
        page = decode_text(text)
        return Head(page.sequence, page.cursor)
    return _head(found)


def _head(found: re.Match[bytes]) -> Head:
    return Head(int(found[1]), jsontext.loads(found[2]))


# The envelope begins with what identifies the page, so that its order and its cursor are known without parsing a
# megabyte of body. What is spelled in another way is parsed whole.
_STRING = rb'"[^"\\]*"'
_HEAD = re.compile(
    rb'\{"model_version_id":\d+,"walk":\d+,"page":\d+,"sequence":(\d+),"run_id":(?:null|' + _STRING + rb"),"
    rb'"listing":\{(?:' + _STRING + rb":(?:" + _STRING + rb"|\d+),?)*\},"
    rb'"request":\{"cursor":(null|-?\d+|' + _STRING + rb"),",
    re.ASCII,
)
_HEAD_BYTES = 1024


def raw_body(data: bytes) -> bytes | None:
    """The API's JSON in a page's file as it came, byte for byte; None for a confirmation.

    Raises:
        DamagedPageError: ``data`` is no page.
        NewerPageError: It is one of a form that a newer release writes.
    """
    return body_in(unpack(data))


def body_in(text: bytes) -> bytes | None:
    """The API's JSON in a page's text as it came, byte for byte; None for a confirmation.

    Raises:
        DamagedPageError: ``text`` is no page.
    """
    page = decode_text(text)
    if page.confirms is not None:
        return None
    body = jsontext.loads(text)["response"]["body"]
    # ``encode`` writes the body last. Another maker may order the keys as he likes, and then its values must do.
    raw = text.partition(b'"body":')[2][:-2]
    written = jsontext.dumps(body)
    try:
        # As bytes, because comparing values nested as deeply as strangers like would end in a RecursionError.
        return raw if jsontext.dumps(jsontext.loads(raw)) == written else written
    except jsontext.InvalidJsonError:
        return written


def _from_envelope(envelope: dict[str, Any]) -> LandedPage:
    form = envelope.get("format", FORMAT)
    if type(form) is not int or form < FORMAT:
        raise ValueError(f"its format is {form!r}")
    if form > FORMAT:
        raise NewerPageError(f"it has page format {form}, and this release knows up to {FORMAT}")
    response, options = envelope["response"], envelope["options"]
    body, confirms = response["body"], envelope.get("confirms")
    metadata = response["metadata"] if confirms is not None else body["metadata"]
    fetched_at = datetime.fromisoformat(response["fetched_at"])
    if not isinstance(metadata, dict) or fetched_at.tzinfo is None:
        raise ValueError("the envelope is incomplete")
    return LandedPage(
        id=PageId(envelope["walk"], envelope["page"]),
        model_version_id=envelope["model_version_id"],
        # Pages of other makers know no sequence; they are then ordered by walk and page alone.
        sequence=envelope.get("sequence", 0),
        run_id=envelope.get("run_id"),
        listing=envelope["listing"],
        cursor=envelope["request"]["cursor"],
        url=envelope["request"]["url"],
        options=Options(options["strict_version_match"], options["append_only"], options.get("max_items")),
        fetched_at=fetched_at,
        elapsed_s=response["elapsed_s"],
        items=[] if confirms is not None else list(body["items"]),
        metadata=metadata,
        confirms=None if confirms is None else PageId.parse(confirms),
        absent=frozenset(envelope.get("absent", ())),
    )

"""Odd answers over HTTP: the stand-in's server, with bodies of its own and cursors as odd as those may be.

Belongs here: what is sent, and which stop reasons a collector may give for it.
"""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from civitai_pipeline.sandbox import Sandbox, World
from civitai_pipeline.sandbox.replies import Reply
from civitai_pipeline_tests.collect.stage import VERSION
from civitai_pipeline_tests.proofs.fragments import FRAGMENTS
from civitai_pipeline_tests.proofs.letters import stored
from civitai_pipeline_tests.proofs.mutations import body

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from random import Random

    from civitai_pipeline.sandbox.faults import Fault
    from civitai_pipeline.sandbox.server import RecordedRequest

CHANGED, UNAVAILABLE, LANDED = "contract_changed", "api_unavailable", "max_items"
_MOST_CURSOR = 1500


@dataclass(frozen=True)
class Twist:
    """One odd answer.

    Attributes:
        name: What is odd about it.
        stops: The stop reasons that it may end a run with.
        body: The body, from the items that belong there as JSON and the JSON of the metadata.
        headers: Headers beyond the usual.
        status: The HTTP status.
    """

    name: str
    stops: tuple[str, ...]
    body: Callable[[bytes, bytes], bytes]
    headers: Mapping[str, str] | None = None
    status: int = 200


def _fixed(text: bytes) -> Callable[[bytes, bytes], bytes]:
    return lambda _items, _metadata: text


def _items_are(value: bytes) -> Callable[[bytes, bytes], bytes]:
    return lambda _items, metadata: b'{"items":' + value + b',"metadata":' + metadata + b"}"


def _metadata_is(value: bytes) -> Callable[[bytes, bytes], bytes]:
    return lambda items, _metadata: b'{"items":' + items + b',"metadata":' + value + b"}"


def _cursor_is(value: bytes) -> Callable[[bytes, bytes], bytes]:
    return _metadata_is(b'{"nextCursor":' + value + b"}")


def _whole(items: bytes, metadata: bytes) -> bytes:
    return b'{"items":' + items + b',"metadata":' + metadata + b"}"


def _twice(items: bytes, metadata: bytes) -> bytes:
    return b'{"items":7,"items":' + items + b',"metadata":[],"metadata":' + metadata + b"}"


def _unknown(items: bytes, metadata: bytes) -> bytes:
    return b'{"\\u0000":{},"items":' + items + b',"__proto__":[],"metadata":' + metadata + b"}"


_GZIP = {"Content-Encoding": "gzip"}
_ODD_VALUES = (b"null", b"true", b"0", b'"text"', b"{}", b"1e999", b'"[]"')
# Cut off at the bound on bodies long before it is unpacked.
BOMB = Twist(
    "gzip that unpacks to 200 MB", (CHANGED,), lambda *_: gzip.compress(b'{"items":[' + b" " * (200 * 2**20), 1), _GZIP
)

TWISTS: tuple[Twist, ...] = (
    *(
        Twist(f"top level {text!r}", (CHANGED,), _fixed(text))
        for text in (b"null", b"[]", b'"items"', b"7", b"{}", b"1e999")
    ),
    # Readable all the same, and no page.
    Twist("100,000 levels of objects", (CHANGED,), _fixed(b'{"a":' * 100_000 + b"1" + b"}" * 100_000)),
    *(Twist(f"items {value!r}", (CHANGED,), _items_are(value)) for value in _ODD_VALUES),
    *(Twist(f"metadata {value!r}", (CHANGED,), _metadata_is(value)) for value in (*_ODD_VALUES[:4], b"[]")),
    *(
        Twist(f"cursor {value[:20]!r}", (CHANGED,), _cursor_is(value))
        for value in (b"true", b"[]", b"{}", b'""', b"1.5", b"1e999", b'"\\ud800"', b"9" * 30)
    ),
    *(
        Twist(name, (UNAVAILABLE,), _fixed(text))
        for name, text in (
            ("an empty body", b""),
            ("a body of zeros", b"\0" * 5000),
            ("a byte order mark", b'\xef\xbb\xbf{"items":[],"metadata":{}}'),
            ("UTF-16", '{"items":[],"metadata":{}}'.encode("utf-16")),
            ("bytes that are no UTF-8", b'{"items":["\xff\xfe"],"metadata":{}}'),
            ("NaN", b'{"items":[NaN],"metadata":{}}'),
            ("a comma too many", b'{"items":[1,],"metadata":{}}'),
            ("1,100,000 levels of lists", b'{"items":' + b"[" * 1_100_000 + b"]" * 1_100_000 + b',"metadata":{}}'),
            ("a string without an end", b'{"items":["' + b"\\" * 1_000_001),
            ("a megabyte of HTML", b"<html><title>" + b"<" * 1_000_000),
        )
    ),
    BOMB,
    Twist("gzip that is none", (UNAVAILABLE,), _fixed(b"\x1f\x8b" + b"x" * 100), _GZIP),
    Twist("an unknown encoding", (LANDED,), _whole, {"Content-Encoding": "rot13"}),
    Twist("a header of 100 kB", (UNAVAILABLE,), _whole, {"X-Long": "y" * 100_000}),
    *(
        Twist(f"Retry-After {value[:20]!r}", (UNAVAILABLE, "rate_limited"), _fixed(b"{}"), {"Retry-After": value}, 503)
        for value in ("9" * 5000, "-1", "1e999", "NaN", "Mon, 99 Foo 0000", "\xb2")
    ),
    *(
        Twist(f"an error, {said[:20]!r}", ("rejected",), _fixed(json.dumps({"error": said}).encode()), status=403)
        for said in ("<script>alert(1)</script>", "\x1b[2J\x00", "\ud800", "a" * 500_000, "[" * 50_000)
    ),
    Twist("keys that come twice", (LANDED,), _twice),
    Twist("keys nobody knows", (LANDED,), _unknown),
    Twist("white space of 2 MB", (LANDED,), lambda items, metadata: b"\n\t " * 700_000 + _whole(items, metadata)),
    Twist("gzip", (LANDED,), lambda items, metadata: gzip.compress(_whole(items, metadata), 1), _GZIP),
)  # fmt: skip


class Wire(Sandbox):
    """The stand-in with one walk of pages given as JSON, each under a cursor of its own.

    Attributes:
        pages: The items of each page.
        twist: What is odd about the next answer; None once it has been given.
        strays: Requests with a cursor that was never handed out.
    """

    def __init__(self, pages: Sequence[list[bytes]], random: Random) -> None:
        world = World()
        world.add_version(9001, VERSION)
        super().__init__(world)
        self.pages = pages
        self.twist: Twist | None = None
        self.strays = 0
        self._cursors: list[str | int | None] = [
            None,
            *(_cursor(random, number) for number in range(1, len(pages))),
            None,
        ]
        self._numbers = {str(cursor): number for number, cursor in enumerate(self._cursors[:-1]) if cursor is not None}

    def answer(self, request: RecordedRequest, target: str, fault: Fault | None) -> Reply:
        """The page of a cursor, or the twist in its place."""
        if request.path != "/api/v1/images":
            return super().answer(request, target, fault)
        asked = request.param("cursor")
        number = 0 if asked is None else self._numbers.get(asked)
        if number is None:
            self.strays += 1
            return Reply(400, b'{"error":"no such cursor was ever given"}')
        following = self._cursors[number + 1]
        items, metadata = b"[" + b",".join(self.pages[number]) + b"]", b"{}"
        if following is not None:
            metadata = b'{"nextCursor":' + json.dumps(following).encode() + b"}"
        twist, self.twist = self.twist, None
        if twist is None:
            return Reply(200, body(self.pages[number], following))
        return Reply(twist.status, twist.body(items, metadata), dict(twist.headers or {}))


def _cursor(random: Random, number: int) -> str | int:
    """A cursor of its own for a page: a number, or any text that can be sent back."""
    if random.random() < 0.2:
        return random.choice((-number, number, 2**62 + number))
    # The first cursors are asked for by the twists, too, and a number cannot be told from its text.
    text = "".join(random.choice(FRAGMENTS) for _ in range(random.randint(1, 3)))[:_MOST_CURSOR]
    return f"{stored(text)}~{number}"

"""JSON as hostile servers write it: fast where it is clean, patient where it is odd.

orjson is an order of magnitude faster than the standard library but refuses lone surrogates, which real
prompts contain. Both directions fall back to something patient for those, and for nothing else that
JSON does not allow: NaN and Infinity stay errors.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, NoReturn

import orjson

# Of an integer of 64 bits, with its sign.
MAX_DIGITS = 20
# Levels kept of a document; what lies deeper is read as null. No honest one has fifty.
KEPT_LEVELS = 5_000
# A document nested deeper is refused: to keep count of its levels would take more memory than the document.
MAX_LEVELS = 1_000_000


class InvalidJsonError(ValueError):
    """The bytes are not JSON."""


def loads(raw: bytes | str) -> Any:  # noqa: ANN401 - any JSON value
    """The value that ``raw`` spells; what lies deeper than ``KEPT_LEVELS`` is read as null.

    Raises:
        InvalidJsonError: It spells none, or one nested deeper than ``MAX_LEVELS``.
    """
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        pass  # not necessarily wrong: lone surrogates are legal JSON
    try:
        # Left to itself, the standard library would also take UTF-16 and byte order marks, which cannot be
        # copied into a document of ours.
        text = raw if isinstance(raw, str) else raw.decode("utf-8", "surrogatepass")
        try:
            return json.loads(text, parse_int=_number, parse_constant=_refuse_constant)
        except RecursionError:
            return _Patience(text).read()
    except ValueError as error:
        raise InvalidJsonError(str(error)) from error


def dumps(value: Any, *, sort_keys: bool = False) -> bytes:  # noqa: ANN401 - any JSON value
    """``value`` as compact UTF-8 JSON; ``orjson.Fragment`` is copied as it is.

    Whatever :func:`loads` returns can be written. A number beyond the range of a double becomes null.

    Raises:
        TypeError: ``value`` is no JSON value.
    """
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS if sort_keys else 0)
    except orjson.JSONEncodeError:
        return _write_patiently(value, sort_keys=sort_keys)


class _Written(bytes):
    """A part of the document that is spelled already."""

    __slots__ = ()


def _write_patiently(value: Any, *, sort_keys: bool) -> bytes:  # noqa: ANN401 - any JSON value
    """What orjson refuses: lone surrogates, integers beyond 64 bits, more than 254 levels.

    Without recursion, since the standard library's writer fails on 1,000 levels and its reader does not.
    """
    written = bytearray()
    pending: list[Any] = [value]
    while pending:
        part = pending.pop()
        if isinstance(part, _Written):
            written += part
        elif isinstance(part, orjson.Fragment):
            written += orjson.dumps(part)
        elif isinstance(part, dict):
            inside: list[Any] = []
            for key in sorted(part) if sort_keys else part:
                if not isinstance(key, str):
                    raise TypeError(f"{type(key).__name__} is no key of a JSON object")
                inside += [_Written(b"," if inside else b"{"), key, _Written(b":"), part[key]]
            pending += [_Written(b"}" if inside else b"{}"), *reversed(inside)]
        elif isinstance(part, list | tuple):
            inside = []
            for element in part:
                inside += [_Written(b"," if inside else b"["), element]
            pending += [_Written(b"]" if inside else b"[]"), *reversed(inside)]
        elif isinstance(part, float) and not math.isfinite(part):
            written += b"null"
        else:
            written += json.dumps(part).encode("ascii")
    return bytes(written)


_TOKEN = re.compile(
    r"[ \t\n\r]*(?:(?P<mark>[\[\]{},:])|(?P<quote>\")"
    r"|(?P<whole>-?(?:0|[1-9][0-9]*))(?P<rest>(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)|(?P<word>true|false|null)|(?P<end>\Z))"
)
_STRINGS = json.JSONDecoder()
_WORDS = {"true": True, "false": False, "null": None}
# What may come next: a value, a value or the end of a list, a key, a key or the end of an object, a colon, what
# follows a value, nothing.
_VALUE, _FIRST, _KEY, _FIRST_KEY, _COLON, _AFTER, _NOTHING = range(7)


class _Patience:
    """Reads a document without recursion: the standard library fails beyond some 1,000 levels, orjson beyond 1,024."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._open: list[dict[str, Any] | list[Any] | None] = []
        self._brackets = bytearray()
        self._keys: list[str] = []
        self._state = _VALUE
        self._value: Any = None

    def read(self) -> Any:  # noqa: ANN401 - any JSON value
        place = 0
        while True:
            token = _TOKEN.match(self._text, place)
            if token is None:
                raise ValueError(f"no JSON at character {place}")
            place = token.end()
            if token["end"] is not None:
                if self._state != _NOTHING:
                    raise ValueError("the document ends too soon")
                return self._value
            if token["mark"] is not None:
                self._mark(token["mark"])
            elif token["quote"] is not None:
                text, place = _STRINGS.raw_decode(self._text, place - 1)
                self._string(text)
            elif token["word"] is not None:
                self._put(_WORDS[token["word"]])
            else:
                whole, rest = token["whole"], token["rest"]
                self._put(float(whole + rest) if rest else _number(whole))

    def _mark(self, mark: str) -> None:
        if mark in "[{":
            self._begin(mark)
        elif mark in "]}":
            self._end(mark)
        elif mark == ":" and self._state == _COLON:
            self._state = _VALUE
        elif mark == "," and self._state == _AFTER:
            self._state = _KEY if self._brackets[-1:] == b"}" else _VALUE
        else:
            raise ValueError(f"misplaced {mark}")

    def _begin(self, mark: str) -> None:
        if len(self._open) >= MAX_LEVELS:
            raise ValueError(f"nested deeper than {MAX_LEVELS:,} levels")
        inside: dict[str, Any] | list[Any] | None = [] if mark == "[" else {}
        if len(self._open) >= KEPT_LEVELS:
            inside = None
        self._put(inside)
        self._open.append(inside)
        self._brackets += b"]" if mark == "[" else b"}"
        self._state = _FIRST if mark == "[" else _FIRST_KEY

    def _end(self, mark: str) -> None:
        if self._brackets[-1:] != mark.encode() or self._state not in {_AFTER, _FIRST, _FIRST_KEY}:
            raise ValueError(f"misplaced {mark}")
        self._open.pop()
        self._brackets.pop()
        self._state = _AFTER if self._open else _NOTHING

    def _string(self, text: str) -> None:
        if self._state in {_KEY, _FIRST_KEY}:
            self._keys.append(text)
            self._state = _COLON
        else:
            self._put(text)

    def _put(self, value: object) -> None:
        if self._state not in {_VALUE, _FIRST}:
            raise ValueError("a value where none belongs")
        if not self._open:
            self._value, self._state = value, _NOTHING
            return
        inside = self._open[-1]
        if self._brackets[-1:] == b"}":
            key = self._keys.pop()
            if isinstance(inside, dict):
                inside[key] = value
        elif isinstance(inside, list):
            inside.append(value)
        self._state = _AFTER


def _number(digits: str) -> int | float:
    """As orjson reads it, so that a value does not depend on what stands beside it in the document."""
    if len(digits) > MAX_DIGITS:
        return float(digits)
    number = int(digits)
    return number if -(2**63) <= number < 2**64 else float(number)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")

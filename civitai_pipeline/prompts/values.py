"""One JSON value to one value a column can hold, or None. Nothing here raises, whatever it is given.

Belongs here: conversions of a single value and the canonical bytes of a whole one. Which key holds
which fact is in ``metadata``.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime

import orjson

from civitai_pipeline.prompts.text import storable

INT32_MAX = 2**31 - 1
INT64_MAX = 2**63 - 1
_UINT64_MAX = 2**64 - 1

# Bounded, so that int() never sees the 4,300 digits at which Python refuses, nor a Unicode digit.
_NUMBER = re.compile(r"[+-]?(?:[0-9]{1,40}(?:\.[0-9]{0,40})?|\.[0-9]{1,40})(?:[eE][+-]?[0-9]{1,3})?", re.ASCII)
_INTEGER = re.compile(r"[+-]?[0-9]{1,40}", re.ASCII)


def whole(value: object, low: int = -INT32_MAX - 1, high: int = INT32_MAX) -> int | None:
    """``value`` as an integer from ``low`` to ``high``; None if it is no such number.

    A string of digits counts, and so does a float without a fraction (``7.0``): older rows hold both.
    A boolean is no number.
    """
    if type(value) is not int:  # most numbers are; a boolean is not of this type
        if isinstance(value, str):
            text = value.strip()
            value = int(text) if _INTEGER.fullmatch(text) else real(text)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if type(value) is not int:
            return None
    return value if low <= value <= high else None


def real(value: object) -> float | None:
    """``value`` as a finite float; None if it is no number. A numeric string is one, a boolean is not."""
    if isinstance(value, str):
        text = value.strip()
        value = float(text) if _NUMBER.fullmatch(text) else None
    elif type(value) is int:
        try:
            value = float(value)
        except OverflowError:  # beyond the largest float
            return None
    return value if type(value) is float and math.isfinite(value) else None


def words(value: object) -> str | None:
    """``value`` as stored text; None if it is not text, or blank: blank names nothing."""
    if not isinstance(value, str) or not value or value.isspace():
        return None
    return storable(value)


def text_of(value: object) -> str | None:
    """``value`` as stored text, blank or not; None if it is not text."""
    return storable(value) if isinstance(value, str) else None


def moment(value: object) -> datetime | None:
    """``value``, an ISO 8601 time, in UTC; None if it is none. Without an offset it is taken as UTC."""
    if not isinstance(value, str):
        return None
    try:
        parsed = datetime.fromisoformat(value.strip())
        return parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed.astimezone(UTC)
    except (ValueError, OverflowError):  # an offset can carry the first and last day out of the calendar
        return None


def kind_of(value: object) -> str:
    """What ``value`` is in JSON's words, with an article, for a sentence."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "text"
    return "an object" if isinstance(value, dict) else "a list"


def nested_deeper(value: object, levels: int) -> bool:
    """Whether objects and lists nest in ``value`` more than so many levels deep."""
    layer = [value]
    for _ in range(levels):
        layer = [
            inner
            for outer in layer
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not layer:
            return False
    return any(isinstance(outer, dict | list) for outer in layer)


def parse_json(text: str) -> object:
    """The value that ``text`` writes in JSON; None if it is not JSON.

    Forgives what tools that join strings into JSON leave behind: ``undefined``, ``NaN`` and
    ``Infinity`` outside of strings read as null, a lone surrogate as U+FFFD, a control character in a
    string as itself; and NULs at the ends, which pictures' text fields are padded with, do not count.
    """
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        pass
    patched = _TOKENS.sub(_patched_token, storable(text).strip("\0"))
    try:
        return orjson.loads(patched)
    except orjson.JSONDecodeError:
        return None


# A string is matched whole so that its content is never taken for a token; it ends at the text's end
# if unclosed, for then there is no JSON to save.
_TOKENS = re.compile(r'(?P<string>"[^"\\]*(?:\\.[^"\\]*)*(?:"|\Z))|-?\b(?:undefined|NaN|Infinity)\b', re.DOTALL)
# Four hex digits after \u that name half a character; the other half, if it follows, comes along.
_ESCAPED_SURROGATE = re.compile(
    r"\\\\|(?P<pair>\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})"
    r"|(?P<lone>\\u[dD][89a-fA-F][0-9a-fA-F]{2})"
)

_ESCAPED_CONTROLS = {code: f"\\u{code:04x}" for code in range(32)}


def _patched_token(match: re.Match[str]) -> str:
    string = match["string"]
    if string is None:
        return "null"
    if not string.isprintable():
        string = string.translate(_ESCAPED_CONTROLS)
    if "\\ud" not in string and "\\uD" not in string:
        return string
    return _ESCAPED_SURROGATE.sub(lambda m: "\\ufffd" if m["lone"] else m[0], string)


def canonical_json(value: object) -> bytes:
    """``value`` as JSON without white space, keys in order: equal values give equal bytes.

    NaN and the infinities are written as null. An integer beyond 64 bits is written as the float a
    64-bit parser makes of it, so the bytes do not depend on which parser read the page.
    """
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except orjson.JSONEncodeError:  # too deep, too large an integer, or a lone surrogate
        return bytes(_emit(value))


def _emit(value: object) -> bytearray:
    """``value`` in orjson's format; a stack of its own, so depth costs no recursion."""
    # Not a list of pieces to join: what orjson returns holds 4 KB, however short. 120,000 short values took 500 MB.
    written = bytearray()
    pending: list[object] = [value]
    while pending:
        current = pending.pop()
        if isinstance(current, bytes):  # punctuation: JSON has no bytes of its own
            written += current
        elif isinstance(current, dict):
            written += b"{"
            pending.append(b"}")
            for place, key in reversed(list(enumerate(sorted(current, key=str)))):
                name = orjson.dumps(storable(str(key)))
                pending += (current[key], b"," * (place > 0) + name + b":")
        elif isinstance(current, list | tuple):
            written += b"["
            pending.append(b"]")
            for place in range(len(current) - 1, -1, -1):
                pending += (current[place], b"," * (place > 0))
        elif isinstance(current, str):
            written += orjson.dumps(storable(current))
        elif isinstance(current, int) and not -INT64_MAX - 1 <= current <= _UINT64_MAX:
            written += orjson.dumps(real(current))
        else:
            written += orjson.dumps(current, default=kind_of)
    return written

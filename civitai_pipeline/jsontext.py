"""JSON as hostile servers write it: fast where it is clean, patient where it is odd.

orjson is an order of magnitude faster than the standard library but refuses lone surrogates, which real
prompts contain. Both directions fall back to something patient for those, and for nothing else that
JSON does not allow: NaN and Infinity stay errors.
"""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

import orjson

# Of an integer of 64 bits, with its sign.
MAX_DIGITS = 20


class InvalidJsonError(ValueError):
    """The bytes are not JSON."""


def loads(raw: bytes | str) -> Any:  # noqa: ANN401 - any JSON value
    """The value that ``raw`` spells.

    Raises:
        InvalidJsonError: It spells none, or one nested too deeply to hold.
    """
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        pass  # not necessarily wrong: lone surrogates are legal JSON
    try:
        # Left to itself, the standard library would also take UTF-16 and byte order marks, which cannot be
        # copied into a document of ours.
        text = raw if isinstance(raw, str) else raw.decode("utf-8", "surrogatepass")
        return json.loads(text, parse_int=_number, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
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
    written: list[bytes] = []
    pending: list[Any] = [value]
    while pending:
        part = pending.pop()
        if isinstance(part, _Written):
            written.append(part)
        elif isinstance(part, orjson.Fragment):
            written.append(orjson.dumps(part))
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
            written.append(b"null")
        else:
            written.append(json.dumps(part).encode("ascii"))
    return b"".join(written)


def _number(digits: str) -> int | float:
    """As orjson reads it, so that a value does not depend on what stands beside it in the document."""
    if len(digits) > MAX_DIGITS:
        return float(digits)
    number = int(digits)
    return number if -(2**63) <= number < 2**64 else float(number)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")

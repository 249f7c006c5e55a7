"""JSON as hostile servers write it: fast where it is clean, patient where it is odd.

orjson is an order of magnitude faster than the standard library but refuses lone surrogates, which real
prompts contain. Both directions fall back to the standard library for those, and for nothing else that
JSON does not allow: NaN and Infinity stay errors.
"""

from __future__ import annotations

import json
from typing import Any, NoReturn

import orjson


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
        return json.loads(raw, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise InvalidJsonError(str(error)) from error


def dumps(value: Any, *, sort_keys: bool = False) -> bytes:  # noqa: ANN401 - any JSON value
    """``value`` as compact UTF-8 JSON; ``orjson.Fragment`` is copied as it is.

    Raises:
        TypeError: ``value`` is no JSON value.
    """
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS if sort_keys else 0)
    except orjson.JSONEncodeError:
        # Lone surrogates and integers beyond 64 bits, which the standard library writes as ASCII.
        return json.dumps(value, separators=(",", ":"), sort_keys=sort_keys, default=_fragment).encode("ascii")


def _fragment(value: object) -> Any:  # noqa: ANN401 - any JSON value
    if isinstance(value, orjson.Fragment):
        return loads(value.contents)
    raise TypeError(f"{type(value).__name__} is no JSON value")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")

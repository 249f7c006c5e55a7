"""The parameters of ``/images``: how the API reads them, and the 400 it answers when it cannot.

The API validates with zod; the texts here are zod 4's. What the parameters select is in ``listing.py``.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from civitai_pipeline.sandbox.base_models import BASE_MODELS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Issue = dict[str, object]
T = TypeVar("T")

SORTS = ("Most Reactions", "Most Comments", "Most Collected", "Newest", "Oldest", "Random")
PERIODS = ("Day", "Week", "Month", "Year", "AllTime")
MEDIA_TYPES = ("image", "video", "audio")
MAX_LIMIT = 200
DEFAULT_LIMIT = 100
# Six bits exist; the sixth (Blocked) can never be asked for.
SELECTABLE_LEVELS = 31
_TRUE = {"true", "1", "yes", "on", "y", "enabled"}
_FALSE = {"false", "0", "no", "off", "n", "disabled"}
_NSFW_LEVELS = {"None": 1, "Soft": 3, "Mature": 7, "X": 31, "Blocked": 32}
# nsfw=true means R and up, without PG and PG-13; Blocked is among its bits and is stripped like anywhere.
_NSFW_TRUE = 60
_JS_NUMBER = re.compile(r"[+-]?(\d+\.?\d*([eE][+-]?\d+)?|\.\d+([eE][+-]?\d+)?)|0[xX][0-9a-fA-F]+")
_USERNAME = re.compile(r"[A-Za-z0-9_]*")
_BOOLEAN_ISSUES: list[list[Issue]] = [
    [
        {
            "expected": "boolean",
            "code": "invalid_type",
            "path": [],
            "message": "Invalid input: expected boolean, received string",
        }
    ],
    [{"code": "invalid_value", "values": [*sorted(_TRUE), *sorted(_FALSE)], "path": [], "message": "Invalid option"}],
]


class ValidationError(Exception):
    """The parameters do not pass; ``body`` is what the API answers with its 400."""

    def __init__(self, issues: Sequence[Issue]) -> None:
        super().__init__(f"{len(issues)} invalid parameters")
        self.body = {"error": {"name": "ZodError", "message": json.dumps(issues, indent=2, ensure_ascii=False)}}


@dataclass(frozen=True)
class Params:
    """The parameters of one request, defaults filled in. Ids are 0 when absent: the API tests truth."""

    limit: int
    page: int
    cursor: str | None
    model_version_id: int
    model_id: int
    image_id: int
    post_id: int
    user_id: int
    username: str | None
    period: str
    sort: str
    level: int
    tags: tuple[int, ...]
    media: str | None
    base_models: tuple[str, ...]
    ids: tuple[int, ...]
    with_meta: bool
    flat_meta: bool | None
    requiring_meta: bool
    with_tags: bool


def parse(query: Sequence[tuple[str, str]]) -> Params:
    """Reads the query of an ``/images`` request.

    Raises:
        ValidationError: With every failing parameter listed.
    """
    reader = _Reader(query)
    limit = reader.number("limit", low=0, high=MAX_LIMIT)
    page = reader.number("page")
    browsing_level = reader.number("browsingLevel")
    nsfw = reader.nsfw()
    params = Params(
        limit=DEFAULT_LIMIT if limit is None else int(limit),
        page=int(page or 0),
        cursor=reader.text("cursor"),
        model_version_id=reader.integer("modelVersionId"),
        model_id=reader.integer("modelId"),
        image_id=reader.integer("imageId"),
        post_id=reader.integer("postId"),
        user_id=reader.integer("userId"),
        username=reader.username(),
        period=reader.choice("period", PERIODS) or "AllTime",
        sort=reader.choice("sort", SORTS) or "Most Reactions",
        level=_level(None if browsing_level is None else int(browsing_level), nsfw),
        tags=reader.numbers("tags"),
        media=reader.choice("type", MEDIA_TYPES),
        base_models=reader.base_models(),
        ids=reader.numbers("ids"),
        with_meta=reader.boolean("withMeta") or False,
        flat_meta=reader.boolean("flatMeta"),
        requiring_meta=reader.boolean("requiringMeta") or False,
        with_tags=reader.boolean("withTags") or False,
    )
    if reader.issues:
        raise ValidationError(reader.issues)
    return params


def _level(browsing_level: int | None, nsfw: int | None) -> int:
    by_nsfw = 1 if nsfw is None else nsfw
    asked = by_nsfw if browsing_level is None else browsing_level or 1
    return asked & SELECTABLE_LEVELS


def js_number(text: str) -> float | None:
    """What JavaScript's ``Number()`` makes of a text, None for NaN. Nothing but white space is 0."""
    trimmed = text.strip()
    if not trimmed:
        return 0.0
    if not _JS_NUMBER.fullmatch(trimmed):
        return None
    return float(int(trimmed, 16)) if trimmed[:2] in {"0x", "0X"} else float(trimmed)


class _Reader:
    """Reads parameters by name and notes every one that fails."""

    def __init__(self, query: Sequence[tuple[str, str]]) -> None:
        self.values: dict[str, list[str]] = {}
        for key, value in query:
            self.values.setdefault(key, []).append(value)
        self.issues: list[Issue] = []

    def number(self, name: str, low: float = float("-inf"), high: float = float("inf")) -> float | None:
        values = self.values.get(name)
        if values is None:
            return None
        if len(values) > 1:
            self._note(
                name, expected="number", code="invalid_type", message="Invalid input: expected number, received array"
            )
            return None
        value = js_number(values[0])
        if value is None:
            self._note(name, code="custom", message=f"'{values[0]}' cannot be converted to a number")
        elif value > high:
            self._note(
                name,
                origin="number",
                code="too_big",
                maximum=MAX_LIMIT,
                inclusive=True,
                message=f"Too big: expected number to be <={MAX_LIMIT}",
            )
        elif value < low:
            self._note(
                name,
                origin="number",
                code="too_small",
                minimum=0,
                inclusive=True,
                message="Too small: expected number to be >=0",
            )
        else:
            return value
        return None

    def integer(self, name: str) -> int:
        return int(self.number(name) or 0)

    def numbers(self, name: str) -> tuple[int, ...]:
        found = []
        for text in [part for value in self.values.get(name, []) for part in value.split(",")]:
            value = js_number(text)
            if value is None:
                self._note(name, code="custom", message=f"'{text}' cannot be converted to a number")
            else:
                found.append(int(value))
        return tuple(found)

    def text(self, name: str) -> str | None:
        return self._scalar(name, lambda value: value, self._union)

    def username(self) -> str | None:
        def read(value: str) -> str | None:
            if _USERNAME.fullmatch(value):
                return value
            self._note(
                "username",
                origin="string",
                code="invalid_format",
                format="regex",
                pattern="/^[A-Za-z0-9_]*$/",
                message="Invalid string: must match pattern /^[A-Za-z0-9_]*$/",
            )
            return None

        return self._scalar("username", read, self._not_a_string) or None

    def choice(self, name: str, options: Sequence[str]) -> str | None:
        def read(value: str) -> str | None:
            if value in options:
                return value
            self._bad_option(name, options)
            return None

        return self._scalar(name, read, lambda name: self._bad_option(name, options))

    def base_models(self) -> tuple[str, ...]:
        names = [part for value in self.values.get("baseModels", []) for part in value.split(",")]
        if any(name not in BASE_MODELS for name in names):
            self._bad_option("baseModels", BASE_MODELS)
        return tuple(names)

    def boolean(self, name: str) -> bool | None:
        def read(value: str) -> bool | None:
            word = value.lower()
            if word in _TRUE or word in _FALSE:
                return word in _TRUE
            self._union(name)
            return None

        return self._scalar(name, read, self._union)

    def nsfw(self) -> int | None:
        def read(value: str) -> int | None:
            word = value.lower()
            if value in _NSFW_LEVELS:
                return _NSFW_LEVELS[value]
            if word in _TRUE or word in _FALSE:
                return _NSFW_TRUE if word in _TRUE else 1
            self._union("nsfw")
            return None

        return self._scalar("nsfw", read, self._union)

    def _scalar(self, name: str, read: Callable[[str], T | None], repeated: Callable[[str], None]) -> T | None:
        values = self.values.get(name)
        if values is None:
            return None
        if len(values) > 1:
            repeated(name)
            return None
        return read(values[0])

    def _union(self, name: str) -> None:
        self._note(name, code="invalid_union", errors=_BOOLEAN_ISSUES, message="Invalid input")

    def _not_a_string(self, name: str) -> None:
        self._note(
            name, expected="string", code="invalid_type", message="Invalid input: expected string, received array"
        )

    def _bad_option(self, name: str, options: Sequence[str]) -> None:
        listed = "|".join(f'"{option}"' for option in options)
        self._note(
            name, code="invalid_value", values=list(options), message=f"Invalid option: expected one of {listed}"
        )

    def _note(self, name: str, *, message: str, **rest: object) -> None:
        self.issues.append({**rest, "path": [name], "message": message})

"""What the pages say of an image's prompt, read without the product's help: its letters must stand in the tables."""

from __future__ import annotations

import json
import re
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import zstandard

if TYPE_CHECKING:
    from collections.abc import Iterator

# More than any page that landed has.
_LEVELS = 20_000
_PAIR = re.compile("([\ud800-\udbff])([\udc00-\udfff])")
_LONE = re.compile("[\ud800-\udfff]")
_WRITTEN_STRING = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_LARGEST_ID = 2**63 - 1
_EXACT_DIGITS = 19


def stored(text: str) -> str:
    """A text as a table must hold it: the same, but for lone surrogates."""
    paired = _PAIR.sub(lambda pair: chr(0x10000 + ((ord(pair[1]) - 0xD800) << 10) + ord(pair[2]) - 0xDC00), text)
    return _LONE.sub("\ufffd", paired)


class Letters:
    """The prompts of all items seen, by image id.

    Attributes:
        ids: Every id that an item had.
    """

    def __init__(self) -> None:
        self.ids: set[int] = set()
        self._items: dict[int, list[Any]] = {}

    def read(self, data: bytes) -> list[Any]:
        """The items of a landed page's file; none for a confirmation, which holds no body."""
        text = zstandard.ZstdDecompressor().stream_reader(data).read().decode("utf-8", "surrogatepass")
        landed = _loads(text)["response"]["body"]
        items: list[Any] = [] if landed is None else landed["items"]
        return items

    def take(self, item: object) -> int | None:
        """Takes an item in and returns its id; None without one that can be used."""
        image_id = item.get("id") if isinstance(item, dict) else None
        if not isinstance(image_id, int) or isinstance(image_id, bool) or not 1 <= image_id <= _LARGEST_ID:
            return None
        self.ids.add(image_id)
        self._items.setdefault(image_id, []).append(item)
        return image_id

    def problem(self, image_id: int, prompt: str) -> str | None:
        """What is wrong with a row's prompt; None if it is to the letter."""
        items = self._items.get(image_id, [])
        plain = [_plain(item.get("meta")) for item in items]
        if plain and plain[-1] is not None:
            # The last sighting with a prompt decides, and this one has one.
            return None if prompt == stored(plain[-1]) else f"a prompt is not to the letter, as of {image_id}"
        known = {stored(text) for item in items for text in _texts(item.get("meta"))}
        if prompt in known or any(f"{a}, {b}" == prompt for a, _, b in _parted(prompt, known)):
            return None
        return f"a prompt that stands in no metadata, as of {image_id}"


def _parted(prompt: str, known: set[str]) -> list[tuple[str, str, str]]:
    """The ways to part a prompt into two known texts: an SDXL encoder's two, joined."""
    places = [place.start() for place in re.finditer(", ", prompt)]
    parted = ((prompt[:place], ", ", prompt[place + 2 :]) for place in places)
    return [parts for parts in parted if parts[0] in known and parts[2] in known]


def _loads(text: str) -> Any:  # noqa: ANN401 - any JSON value
    """The value that a text spells, however deep: in a thread with room for as many levels as any body has."""
    with _room_for(_LEVELS), ThreadPoolExecutor(1) as thread:
        return thread.submit(json.loads, text, parse_int=_whole).result()


@contextmanager
def _room_for(levels: int) -> Iterator[None]:
    limit, size = sys.getrecursionlimit(), threading.stack_size(1024 * levels)
    sys.setrecursionlimit(levels)
    try:
        yield
    finally:
        sys.setrecursionlimit(limit)
        threading.stack_size(size)


def _whole(digits: str) -> float:
    number = float(digits) if len(digits) > _EXACT_DIGITS + 1 else int(digits)
    return number if -(2**63) <= number < 2**64 else float(number)


def _plain(meta: Any) -> str | None:  # noqa: ANN401 - any JSON
    """The prompt under the key that every tool fills first; None where it stands elsewhere or nowhere."""
    if isinstance(meta, dict) and meta.keys() == {"id", "meta"} and isinstance(meta["meta"], dict):
        meta = meta["meta"]
    prompt = meta.get("prompt") if isinstance(meta, dict) else None
    return prompt if isinstance(prompt, str) and prompt.strip() else None


def _texts(value: Any) -> set[str]:  # noqa: ANN401 - any JSON
    """Every text in a value, and in the JSON that texts in it hold, as far as it is whole."""
    found: set[str] = set()
    pending = [value]
    while pending:
        one = pending.pop()
        if isinstance(one, dict):
            pending += one.values()
        elif isinstance(one, list):
            pending += one
        elif isinstance(one, str) and one not in found:
            found.add(one)
            if '"' in one:
                pending += _written(one)
    return found


def _written(text: str) -> list[Any]:
    try:
        return [json.loads(text, strict=False)]
    except (ValueError, RecursionError):
        pass
    strings = []
    for written in _WRITTEN_STRING.findall(text):
        try:
            strings.append(json.loads(f'"{written}"', strict=False))
        except ValueError:
            continue
    return strings

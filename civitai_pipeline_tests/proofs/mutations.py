"""Real-shaped items spoilt in every way that JSON allows, and pages of them; the same for the same seed.

Belongs here: how an item is changed and written. The texts put into it are in ``fragments``; what must hold of the
tables made of it is in ``hostile``.
"""

from __future__ import annotations

import json
import re
from functools import cache
from random import Random
from typing import Any

import orjson

from civitai_pipeline import jsontext
from civitai_pipeline.sandbox import World
from civitai_pipeline_tests.prompts.strategies import STYLES, item
from civitai_pipeline_tests.proofs.fragments import BAIT, FRAGMENTS

Json = dict[str, Any]

# Levels that an item may nest; json's own limit is a little above, that of orjson 1,024.
MOST_LEVELS = 900
PAGE_ITEMS = 200
_BASES = 1500
_LONG, _VERY_LONG = 20_000, 1_000_000

_KEYS = (
    "id", "meta", "stats", "prompt", "Prompt", "negativePrompt", "comfy", "workflow", "Model", "Model hash", "VAE",
    "hashes",
    "resources", "civitaiResources", "additionalResources", "models", "vaes", "versionIds", "type", "name", "hash",
    "weight", "air",
    "modelVersionId", "modelName", "class_type", "inputs", "text", "positive", "lora_name", "seed", "Version",
    "software", "other",
    "sui_image_params", "Lora hashes", "TI hashes", "username", "createdAt", "url", "browsingLevel", "sampler", "",
    "__proto__",
    "constructor", "prompt\x00", "\ud800",
)  # fmt: skip
_NUMBERS = (
    0, -1, 1, True, False, None, 2**31, 2**31 - 1, -(2**31) - 1, 2**53 + 1, 2**63, 2**63 - 1, -(2**63), 2**64,
    10**30, 0.1, -0.0, 1e308,
    5e-324, 7.0, 1.5,
)  # fmt: skip
# Spelled as no Python number would be.
_SPELLED = (
    "1e999",
    "-1e999",
    "1E+2",
    "-0",
    "0.1e-999",
    "9" * 5000,
    "-" + "9" * 25,
    "1." + "3" * 400,
    "100000000000000000000e-20",
)
_DATES = (
    "2026-08-01T09:15:30.123Z", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2026-02-30T00:00:00Z",
    "2026-08-01",
    "20260801T091530Z", "2026-W31-6", "\u0662\u0660\u0662\u0666-08-01", "1969-12-31T23:59:59Z", "-0001-01-01",
    "24:00", "1754000000",
)  # fmt: skip
_HOLE = re.compile(r'(?<!\\)"@hole:(\d{1,5})@"')


@cache
def bases() -> tuple[bytes, ...]:
    """Ordinary items of every style of metadata, as JSON."""
    made = World.synthetic(seed=11, images=_BASES)
    found = [orjson.dumps(image.item()) for image in made.images]
    return (*found, *(orjson.dumps(item(meta=style)) for style in STYLES * 40))


class Hostile:
    """A source of items that never ends.

    Args:
        seed: Draws other ones.
        spoilt: The share of items that are changed at all.
    """

    def __init__(self, seed: int, spoilt: float = 0.85) -> None:
        self._random = Random(f"hostile-{seed}")  # noqa: S311 - reproducible, no secret
        self._spoilt = spoilt
        self._holes: list[str] = []
        self._last_id = 0

    def page(self, count: int = PAGE_ITEMS) -> list[bytes]:
        """Some items as JSON."""
        return [self.item() for _ in range(count)]

    def item(self) -> bytes:
        """One item as JSON, spoilt or not; most have an id of their own."""
        random = self._random
        self._last_id += random.randint(1, 3)
        whole: Any = orjson.loads(random.choice(bases()))
        whole["id"] = self._last_id
        self._holes.clear()
        if random.random() >= self._spoilt:
            return orjson.dumps(whole)
        held = [whole]
        for _ in range(random.choice((1, 1, 2, 3, 6))):
            self._change(held)
        return self._written(held[0])

    def again(self, items: list[bytes]) -> list[bytes]:
        """Other items under the ids of these."""
        again = []
        for found in map(jsontext.loads, items):
            image_id = found.get("id") if isinstance(found, dict) else None
            usable = isinstance(image_id, int) and 0 < image_id < 2**63
            again.append(orjson.dumps(orjson.loads(self._random.choice(bases())) | {"id": image_id if usable else 1}))
        return again

    def text(self) -> str:
        """A hostile text: fragments, a long row of bait, or both."""
        random = self._random
        chance = random.random()
        if chance < 0.6:
            return "".join(
                random.choice(("", " ", ", ", "a", "\n")) + random.choice(FRAGMENTS)
                for _ in range(random.choice((1, 1, 2, 5)))
            )
        if chance < 0.98:
            return random.choice(FRAGMENTS) * random.choice((1, 2, 2, 30))
        return bait(random, _VERY_LONG if chance > 0.9995 else random.choice((500, 500, 3000, _LONG)))

    def _change(self, held: list[Any]) -> None:
        """Changes something, most often in the metadata."""
        random = self._random
        holder: Any = held
        key: Any = 0
        while True:
            inside = holder[key]
            if not inside or not isinstance(inside, dict | list) or (holder is not held and random.random() < 0.3):
                break
            if holder is held and isinstance(inside, dict) and "meta" in inside and random.random() < 0.6:
                holder, key = inside, "meta"
                continue
            holder = inside
            key = random.choice(list(inside)) if isinstance(inside, dict) else random.randrange(len(inside))
        self._spoil(holder, key)

    def _spoil(self, holder: Any, key: Any) -> None:  # noqa: ANN401 - any JSON
        random, old = self._random, holder[key]
        how = random.choice(_HOW)
        if how == "text":
            holder[key] = self.text()
        elif how == "spliced" and isinstance(old, str):
            place = random.randint(0, len(old))
            holder[key] = old[:place] + self.text() + old[place:]
        elif how == "number":
            holder[key] = random.choice(_NUMBERS) if random.random() < 0.7 else self._hole(random.choice(_SPELLED))
        elif how == "date":
            holder[key] = random.choice(_DATES)
        elif how == "stringified":
            holder[key] = json.dumps(old)
        elif how == "wrapped":
            holder[key] = random.choice(
                ({"meta": old, "id": 1}, {"meta": old}, [old], {"prompt": old}, {"prompt": old, "workflow": old})
            )
        elif how == "deep":
            levels, opened, closed = random.randint(20, MOST_LEVELS), *random.choice((("[", "]"), ('{"prompt":', "}")))
            holder[key] = self._hole(opened * levels + '"deep"' + closed * levels)
        elif how == "repeated":
            holder[key] = [old] * (600 if len(written := json.dumps(old)) < 100 and "@" not in written else 2)
        elif isinstance(holder, dict):
            self._rekey(how, holder, key)

    def _rekey(self, how: str, holder: Json, key: str) -> None:
        random = self._random
        if how == "dropped":
            del holder[key]
        elif how == "renamed":
            holder[random.choice(_KEYS)] = holder.pop(key)
        elif how == "doubled":
            # A second value under the same key, before or after the first.
            holder[self._hole(json.dumps(key))] = random.choice((self.text(), None, 7, {}, []))
        elif how == "odd key":
            holder[self.text()[:200]] = holder[key]
        elif how == "crowded":
            holder.update(
                (f"{random.choice(_KEYS)}{number}", self.text()[:50]) for number in range(random.choice((5, 5, 200)))
            )

    def _filled(self, hole: re.Match[str]) -> str:
        # A number spliced into a hole makes it one that nobody made.
        number = int(hole[1])
        return self._holes[number] if number < len(self._holes) else hole[0]

    def _hole(self, spelled: str) -> str:
        self._holes.append(spelled)
        return f"@hole:{len(self._holes) - 1}@"

    def _written(self, value: object) -> bytes:
        """The JSON of a value, escaped as one server or the other would; lone surrogates as escapes or as bytes."""
        text = json.dumps(
            value, ensure_ascii=self._random.random() < 0.5, separators=self._random.choice(((",", ":"), (", ", " : ")))
        )
        if self._holes:
            text = _HOLE.sub(self._filled, text)
        return text.encode("utf-8", "surrogatepass")


_HOW = (
    "text", "text", "text", "spliced", "spliced", "spliced", "number", "number", "date", "stringified", "wrapped",
    "deep", "repeated",
    "dropped", "renamed", "doubled", "odd key", "crowded",
)  # fmt: skip


def bait(random: Random, length: int) -> str:
    """A text of about this length that is dear to read for whoever goes back and forth in it."""
    parts = [
        "".join(random.choice(BAIT) for _ in range(random.choice((1, 1, 2, 3))))
        for _ in range(random.choice((1, 1, 2, 3)))
    ]
    ends = [random.choice((*BAIT, "")) for _ in parts]
    return grown(parts, ends, length)


def grown(parts: list[str], ends: list[str], length: int) -> str:
    """Each of ``parts`` as often as it takes for a text of about this length, with its end behind."""
    return "".join(part * (length // len(parts) // len(part) + 1) + end for part, end in zip(parts, ends, strict=True))


def body(items: list[bytes], next_cursor: str | int | None) -> bytes:
    """The API's JSON of a page."""
    cursor = b"" if next_cursor is None else b'"nextCursor":' + json.dumps(next_cursor).encode()
    return b'{"items":[' + b",".join(items) + b'],"metadata":{' + cursor + b"}}"

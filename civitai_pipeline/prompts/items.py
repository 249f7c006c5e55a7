"""Reads one item of the API's image listing: its id, prompt, facts and fingerprint.

Belongs here: the item's own fields, and what makes an item malformed or without a prompt. Its metadata
is read by ``metadata``; what becomes of the item (an ``Outcome``) is decided by the callers, who know
what is already held and which options are set.
"""

from __future__ import annotations

from enum import StrEnum
from hashlib import blake2b
from typing import Any, NamedTuple

import orjson

from civitai_pipeline.prompts.metadata import Json, MetaReader, unwrapped
from civitai_pipeline.prompts.values import (
    INT32_MAX,
    INT64_MAX,
    canonical_json,
    kind_of,
    moment,
    nested_deeper,
    whole,
    words,
)

# The levels of an item that is read: orjson reads 1,024, of which a landed page has four around it. No honest item has
# fifty.
MOST_LEVELS = 1_020


class Outcome(StrEnum):
    """What became of a fetched item; exactly one each. In order of precedence where several would fit."""

    MALFORMED = "malformed"
    VERSION_MISMATCH = "version_mismatch"
    NO_PROMPT = "no_prompt"
    DUPLICATE = "duplicate"
    UPDATED = "updated"
    NEW = "new"


class Reading(NamedTuple):
    """What one item says.

    Attributes:
        problem: Why the item is malformed, in one sentence; None for an item that can be used.
        image_id: CivitAI's id of the image; None where ``problem`` says that there is none.
        prompt: The prompt, to the letter; None without one, a prompt of white space being none.
        no_prompt_reason: Why there is no prompt, in one sentence; None where there is one.
        facts: The columns of ``prompts`` that stand in the item, by name, each in its column's type and
            range or None. Empty only for an item that is no object.
        meta: The metadata, unwrapped; None where it is null or no object.
        fingerprint: A signed 64-bit hash of metadata, counts and maturity. Equal for the flat and the
            nested delivery and for any order of keys; differs when a later sighting brings news.
    """

    problem: str | None
    image_id: int | None
    prompt: str | None
    no_prompt_reason: str | None
    facts: dict[str, Any]
    meta: Json | None
    fingerprint: int

    def names_checkpoint(self, version_id: int) -> bool:
        """Whether ``civitaiResources`` names a checkpoint of exactly this version.

        The types' spelling varies in case, and old rows hold ids as text; both are tolerated.
        """
        resources = self.meta.get("civitaiResources") if self.meta else None
        if not isinstance(resources, list):
            return False
        for entry in resources:
            if isinstance(entry, dict) and whole(entry.get("modelVersionId"), 1, INT64_MAX) == version_id:
                kind = entry.get("type")
                if isinstance(kind, str) and kind.strip().lower() == "checkpoint":
                    return True
        return False


# Column of the table, key in the item's stats.
_COUNTS = (
    ("cry_count", "cryCount"),
    ("laugh_count", "laughCount"),
    ("like_count", "likeCount"),
    ("heart_count", "heartCount"),
    ("dislike_count", "dislikeCount"),
    ("comment_count", "commentCount"),
)
_REACTIONS = ("cry_count", "laugh_count", "like_count", "heart_count")


def read_item(item: object) -> Reading:
    """Read one item of a page, of whatever shape. Never raises, whatever JSON it is given."""
    if not isinstance(item, dict):
        problem = f"The item is not an object but {kind_of(item)}."
        return Reading(problem, None, None, "The item has no metadata.", {}, None, _hash64(item))
    image_id, unusable = _image_id(item)
    facts: dict[str, Any] = {
        "post_id": whole(item.get("postId"), 1, INT64_MAX),
        "username": words(item.get("username")),
        "created_at": moment(item.get("createdAt")),
        "base_model": words(item.get("baseModel")),
        "browsing_level": whole(item.get("browsingLevel"), 0),
        "nsfw_level": words(item.get("nsfwLevel")),
        "width": whole(item.get("width"), 0),
        "height": whole(item.get("height"), 0),
        "url": words(item.get("url")),
    }
    stats = item.get("stats")
    counts = _counts(stats if isinstance(stats, dict) else {})
    facts.update(counts)
    facts["reaction_count"] = _reaction_count(counts)

    raw_meta = unwrapped(item.get("meta"))
    stated = [raw_meta, list(counts.values()), facts["browsing_level"]]
    try:
        written = orjson.dumps(stated, option=orjson.OPT_SORT_KEYS)
    except orjson.JSONEncodeError:  # odd, and perhaps too deep
        if _is_too_deep(raw_meta):
            return _too_deep(item)
        written = canonical_json(stated)
    if any(_is_too_deep(value) for key, value in item.items() if key != "meta"):
        return _too_deep(item)
    meta = raw_meta if isinstance(raw_meta, dict) else None
    reader = MetaReader(meta or {})
    prompt: str | None = None
    reason: str | None
    if meta is not None:
        prompt, reason = reader.prompt()
    elif raw_meta is not None:
        reason = f"The metadata is not an object but {kind_of(raw_meta)}."
    elif "meta" in item:
        reason = "The metadata is null: the uploader gave none or hides it."
    else:
        reason = "The item has no metadata."
    facts.update(reader.facts())

    return Reading(unusable, image_id, prompt, reason, facts, meta, _hash_of(written))


def _too_deep(item: Json) -> Reading:
    problem = f"The item is nested deeper than {MOST_LEVELS:,} levels."
    return Reading(problem, None, None, "The item has no metadata.", {}, None, _hash64(item))


def _is_too_deep(value: object) -> bool:
    """Whether a value of an item's field nests so deep that no reader can be expected to follow."""
    return isinstance(value, dict | list) and nested_deeper(value, MOST_LEVELS - 1)


def _image_id(item: Json) -> tuple[int | None, str | None]:
    """The item's id, or None with what is wrong with it. An id is a number: text is not taken for one."""
    value = item.get("id")
    if isinstance(value, int) and not isinstance(value, bool):
        if 1 <= value <= INT64_MAX:
            return value, None
        return None, "The item's id is out of range."
    if value is None:
        return None, "The item has no id."
    return None, f"The item's id is not a whole number but {kind_of(value)}."


def _counts(stats: Json) -> dict[str, int | None]:
    return {column: whole(stats.get(key), 0) for column, key in _COUNTS}


def _reaction_count(counts: dict[str, int | None]) -> int | None:
    """The sum of the reactions that are known; None if none is, or the sum leaves the column's range."""
    known = [count for name in _REACTIONS if (count := counts[name]) is not None]
    total = sum(known)
    return total if known and total <= INT32_MAX else None


def _hash64(value: object) -> int:
    return _hash_of(canonical_json(value))


def _hash_of(written: bytes) -> int:
    return int.from_bytes(blake2b(written, digest_size=8).digest(), "big", signed=True)

"""The distinct resources of an image: mentions that mean the same thing merged into one.

Belongs here: when two mentions are one resource, and which of their values is kept. Where resources
are mentioned is in ``mentions``; asking the API what an id or hash stands for is no business of ours.

Two mentions mean the same resource if they share the version id, the first ten digits of the file hash
(tools cut SHA-256 at 10 or 12 digits, or not at all), or type and name, the name compared in lower case
without folders and file extension. Different version ids are never one resource.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from civitai_pipeline.prompts.mentions import Json, Mention, mentions
from civitai_pipeline.prompts.values import canonical_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# Metadata is written by strangers. The most resources seen in one real image are dozens; a list beyond
# this is noise or an attack on whoever spreads it into rows.
MAX_RESOURCES = 500
_MAX_MENTIONS = 10 * MAX_RESOURCES
# A ComfyUI node can hold a picture; what one source says is kept as evidence up to this many bytes.
MAX_RAW_BYTES = 10_000

_EXTENSION = re.compile(r"\.(?:safetensors|ckpt|pt|pth|bin|gguf|sft|onnx)$")
# The least a hash must have in common: A1111's short form.
_SHORT_HASH = 10
# A LoCon or DoRA is called by <lora:…> tags as well, so these compare as one type.
_FAMILY = {"lycoris": "lora", "dora": "lora"}


class Resource(NamedTuple):
    """One resource of an image.

    Attributes:
        resource_type: ``checkpoint``, ``lora``, …, ``unknown``.
        name: Its name as the most trusted source that names it writes it.
        model_id: CivitAI's model id.
        version_id: CivitAI's model version id.
        hash: The longest file hash known, lower case.
        weight: Its strength; None when no source gives one: unknown is not 1.0.
        source: The source that names it first, in the order of ``mentions.mentions``.
        sources: Every source that names it, in that order.
        raw: What the first source says, as it says it.
    """

    resource_type: str
    name: str | None
    model_id: int | None
    version_id: int | None
    hash: str | None
    weight: float | None
    source: str
    sources: tuple[str, ...]
    raw: Any


def extract_resources(meta: Json | None, prompt: str | None) -> list[Resource]:
    """The distinct resources that ``meta`` and ``prompt`` name, in the order in which they are first named.

    Of mentions that mean the same resource, each field is taken from the first, in the order of trust
    that ``mentions.mentions`` states, that has it; only of hashes the longest is kept. At most
    ``MAX_RESOURCES`` are given. Never raises.
    """
    named = mentions(meta, prompt)[:_MAX_MENTIONS]
    return [_merged(named, places) for places in _grouped(named)[:MAX_RESOURCES]]


def resources_json(resources: Iterable[Resource]) -> str:
    """The resources as a JSON list of objects whose keys are the columns of ``prompt_resources``.

    ``raw`` is JSON in a string; beyond ``MAX_RAW_BYTES`` it is cut out and only its size is kept, as
    ``{"cut_bytes": n}``.
    """
    rows = [
        {
            "resource_type": one.resource_type,
            "resource_name": one.name,
            "resource_model_id": one.model_id,
            "resource_version_id": one.version_id,
            "resource_hash": one.hash,
            "weight": one.weight,
            "source": one.source,
            "sources": one.sources,
            "raw": _raw_json(one.raw),
        }
        for one in resources
    ]
    return orjson.dumps(rows).decode()


# Images of one model name the same files over and over; names are bounded, so this is at most some megabytes.
@lru_cache(maxsize=8192)
def normalised_name(name: str) -> str:
    """A resource's name for comparing: lower case, without folders and the extension of a model file."""
    base = name.replace("\\", "/").rstrip("/").rpartition("/")[2].strip().lower()
    return _EXTENSION.sub("", base)


def _raw_json(raw: object) -> str:
    text = canonical_json(raw)
    return text.decode() if len(text) <= MAX_RAW_BYTES else f'{{"cut_bytes":{len(text)}}}'


class _Group:
    """Mentions found to mean one resource, by their places; empty once united with another group."""

    __slots__ = ("family", "places", "united_with", "version_id")

    def __init__(self, place: int, family: str, version_id: int | None) -> None:
        self.places = [place]
        self.family = family
        self.version_id = version_id
        self.united_with: _Group | None = None


def _grouped(named: Sequence[Mention]) -> list[list[int]]:
    """The places of ``named`` that mean one resource, group by group, in the order of first places.

    An id, a hash or a name leads to the first group that has it. That is the one for mentions without a
    version id; others find theirs by that id. So the work grows with the number of mentions, not its square.
    """
    groups: list[_Group] = []
    by_id: dict[int | str, _Group] = {}  # version ids, and the starts of hashes
    by_name: dict[str, dict[str, _Group]] = {}  # and family
    for place, mention in enumerate(named):
        kind = mention.resource_type
        family = _FAMILY.get(kind, kind)
        group = _Group(place, family, mention.version_id)
        groups.append(group)
        if mention.version_id:
            group = _united(by_id.setdefault(mention.version_id, group), group)
        if mention.hash:
            group = _united(by_id.setdefault(mention.hash[:_SHORT_HASH], group), group)
        if mention.name:
            namesakes = by_name.setdefault(normalised_name(mention.name), {})
            group = _united(namesakes.setdefault(family, group), group)
            # What has no type may be of any, and anything may be what has none, until its type is found.
            other = next(iter(namesakes.values())) if family == "unknown" else namesakes.get("unknown", group)
            group = _united(other, group, of_one_family=True)
    return sorted(sorted(group.places) for group in groups if group.places)


def _united(first: _Group, second: _Group, *, of_one_family: bool = False) -> _Group:
    """The group of both; ``second`` alone if they are of different versions or of families that have to agree."""
    while first.united_with is not None:
        first = first.united_with
    if first is second:
        return first
    if first.version_id and second.version_id and first.version_id != second.version_id:
        return second
    if of_one_family and first.family != second.family and "unknown" not in (first.family, second.family):
        return second
    if len(first.places) < len(second.places):
        first, second = second, first
    first.places += second.places
    first.version_id = first.version_id or second.version_id
    if first.family == "unknown":
        first.family = second.family
    second.places, second.united_with = [], first
    return first


def _merged(named: Sequence[Mention], places: Sequence[int]) -> Resource:
    """The resource that the mentions at ``places`` mean, the most trusted first."""
    source, kind, raw, name, model_id, version_id, digest, weight = named[places[0]]
    sources = [source]
    for place in places[1:]:
        other = named[place]
        if other.source not in sources:
            sources.append(other.source)
        if kind == "unknown":
            kind = other.resource_type
        if other.hash and (digest is None or len(other.hash) > len(digest)):
            digest = other.hash
        if weight is None:
            weight = other.weight
        name = name or other.name
        model_id = model_id or other.model_id
        version_id = version_id or other.version_id
    return Resource(kind, name, model_id, version_id, digest, weight, source, tuple(sources), raw)

"""The distinct resources of an image: mentions that mean the same thing merged into one.

Belongs here: when two mentions are one resource, and which of their values is kept. Where resources
are mentioned is in ``mentions``; asking the API what an id or hash stands for is no business of ours.

Two mentions mean the same resource if they share the version id, the first ten digits of the file hash
(tools cut SHA-256 at 10 or 12 digits, or not at all), or type and name, the name compared in lower case
without folders and file extension. Different version ids are never one resource.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import orjson

from civitai_pipeline.prompts.mentions import Json, Mention, mentions
from civitai_pipeline.prompts.values import canonical_json

if TYPE_CHECKING:
    from collections.abc import Iterable

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


@dataclass(frozen=True, slots=True)
class Resource:
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


class _Group:
    """Mentions found to mean one resource; empty once merged into another."""

    __slots__ = ("members", "version_id")

    def __init__(self) -> None:
        self.members: list[tuple[int, Mention]] = []
        self.version_id: int | None = None

    def accepts(self, version_id: int | None) -> bool:
        return version_id is None or self.version_id is None or version_id == self.version_id

    def absorb(self, members: Iterable[tuple[int, Mention]]) -> None:
        for place, mention in members:
            self.members.append((place, mention))
            self.version_id = self.version_id or mention.version_id


def extract_resources(meta: Json | None, prompt: str | None) -> list[Resource]:
    """The distinct resources that ``meta`` and ``prompt`` name, in the order in which they are first named.

    Of mentions that mean the same resource, each field is taken from the first, in the order of trust
    that ``mentions.mentions`` states, that has it; only of hashes the longest is kept. At most
    ``MAX_RESOURCES`` are given. Never raises.
    """
    groups: list[_Group] = []
    by_key: dict[tuple[str, ...], list[_Group]] = {}
    for place, mention in enumerate(islice(mentions(meta, prompt), _MAX_MENTIONS)):
        target: _Group | None = None
        for key in _keys_sought(mention):
            for group in by_key.get(key, ()):
                if group is target or not group.members:
                    continue
                if target is None:
                    if group.accepts(mention.version_id):
                        target = group
                        target.absorb([(place, mention)])
                elif target.accepts(group.version_id):
                    target.absorb(group.members)
                    for _, moved in group.members:
                        _register(by_key, moved, target)
                    group.members = []
        if target is None:
            target = _Group()
            target.absorb([(place, mention)])
            groups.append(target)
        _register(by_key, mention, target)
    found = sorted((sorted(group.members, key=_place) for group in groups if group.members), key=_first_place)
    return [_merged([mention for _, mention in members]) for members in found[:MAX_RESOURCES]]


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


def normalised_name(name: str) -> str:
    """A resource's name for comparing: lower case, without folders and the extension of a model file."""
    base = name.replace("\\", "/").rstrip("/").rpartition("/")[2].strip().lower()
    return _EXTENSION.sub("", base)


def _raw_json(raw: object) -> str:
    text = canonical_json(raw)
    return text.decode() if len(text) <= MAX_RAW_BYTES else f'{{"cut_bytes":{len(text)}}}'


def _place(member: tuple[int, Mention]) -> int:
    return member[0]


def _first_place(members: list[tuple[int, Mention]]) -> int:
    return members[0][0]


def _keys(mention: Mention) -> list[tuple[str, ...]]:
    keys: list[tuple[str, ...]] = []
    if mention.version_id:
        keys.append(("version", str(mention.version_id)))
    if mention.hash:
        keys.append(("hash", mention.hash[:_SHORT_HASH]))
    if mention.name:
        name = normalised_name(mention.name)
        keys.append((_FAMILY.get(mention.resource_type, mention.resource_type), name))
        keys.append(("any type", name))
    return keys


def _keys_sought(mention: Mention) -> list[tuple[str, ...]]:
    """The keys under which the same resource would stand: a mention without a type may be of any."""
    keys = _keys(mention)
    if mention.name:
        name = normalised_name(mention.name)
        if mention.resource_type != "unknown":
            keys[-1] = ("unknown", name)
    return keys


def _register(by_key: dict[tuple[str, ...], list[_Group]], mention: Mention, group: _Group) -> None:
    for key in _keys(mention):
        listed = by_key.setdefault(key, [])
        if group not in listed:
            listed.append(group)


def _merged(members: list[Mention]) -> Resource:
    first = members[0]
    return Resource(
        resource_type=next((m.resource_type for m in members if m.resource_type != "unknown"), "unknown"),
        name=next((m.name for m in members if m.name), None),
        model_id=next((m.model_id for m in members if m.model_id), None),
        version_id=next((m.version_id for m in members if m.version_id), None),
        hash=max((m.hash for m in members if m.hash), key=len, default=None),
        weight=next((m.weight for m in members if m.weight is not None), None),
        source=first.source,
        sources=tuple(dict.fromkeys(m.source for m in members)),
        raw=first.raw,
    )

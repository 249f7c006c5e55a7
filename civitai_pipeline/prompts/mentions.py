"""Every mention of a resource in an image's metadata and prompt, one by one, unmerged.

Belongs here: where resources are named and how each place spells type, id, hash and weight. Which
mentions mean the same resource is decided in ``resources``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from itertools import islice
from typing import Any, NamedTuple

from civitai_pipeline.prompts.comfy import graph_of, loaded_files
from civitai_pipeline.prompts.metadata import MetaReader
from civitai_pipeline.prompts.text import storable
from civitai_pipeline.prompts.values import INT64_MAX, real, whole

Json = dict[str, Any]

# SHA-256 of no bytes, in A1111's short form: tools write it for a file they could not read.
EMPTY_FILE_HASH = "e3b0c44298"

# A graph that loads more files than this never ran.
_MAX_FILES = 500
# A name is a file name or a title; what is longer is something else, kept in ``raw``.
_MAX_NAME = 500

_TYPES = {
    "checkpoint": "checkpoint", "model": "checkpoint", "ckpt": "checkpoint", "refiner": "checkpoint",
    "unet": "checkpoint", "diffusionmodel": "checkpoint", "diffusion_model": "checkpoint",
    "lora": "lora", "loras": "lora",
    "lyco": "lycoris", "lycoris": "lycoris", "locon": "lycoris", "loha": "lycoris", "lokr": "lycoris",
    "dora": "dora",
    "embed": "embedding", "embedding": "embedding", "embeddings": "embedding", "textualinversion": "embedding",
    "textual_inversion": "embedding", "ti": "embedding",
    "hypernet": "hypernet", "hypernetwork": "hypernet",
    "vae": "vae", "upscaler": "upscaler", "upscale": "upscaler", "controlnet": "controlnet",
}  # fmt: skip

# An id ends where no letter or digit follows it. A version may be followed by a file id or a format.
_AIR = re.compile(
    r"(?:urn:)?(?:air:)?(?:(?:[\w/-]+:)?(?P<type>[\w/-]+):)?"
    r"civitai:(?P<model>[0-9]{1,19})(?![\w/-])(?:@(?P<version>[0-9]{1,19})(?![\w/-]))?",
    re.ASCII | re.IGNORECASE,
)
_AIR_IN_TEXT = re.compile(r"urn:air:[^\s,()<>\[\]]{1,300}", re.IGNORECASE)
_HASH = re.compile(r"[0-9a-f]{8,64}")
# SHA-256 in digits, and room for 0x and some white space.
_MAX_HASH = 80
# Bounded, so that a prompt of nothing but "<a:" costs no more than its length.
_PROMPT_TAG = re.compile(r"<(\w{2,20}):([^<>:]{1,300})((?::[^<>:]{0,300}){0,12})>")
_PROMPT_EMBEDDING = re.compile(
    r"(?<![<\w])embedding:([^\s,:()<>\[\]]{1,300})(?::([+-]?[0-9]{0,9}\.?[0-9]{1,9})\))?", re.IGNORECASE
)


class Mention(NamedTuple):
    """One place that names a resource; None for what the place does not say."""

    source: str
    resource_type: str
    raw: Any
    name: str | None = None
    model_id: int | None = None
    version_id: int | None = None
    hash: str | None = None
    weight: float | None = None


def mentions(meta: Json | None, prompt: str | None) -> list[Mention]:
    """The mentions of resources, in the order in which sources are trusted.

    Sources: ``civitai_resources``; ``air`` (an AIR in ``Model`` or the prompt); ``resources``;
    ``additional_resources``; ``models``, ``vaes``, ``upscalers``, ``controlnets`` (the lists of those
    names); ``version_ids``;
    ``model_keys`` (``Model``, ``Model hash``, ``VAE``, ``Hires upscaler``);
    ``hashes`` (with ``Lora hashes`` and ``TI hashes``); ``comfy``; ``prompt_tag`` (tags and embeddings
    in the prompt or the negative prompt).
    """
    given = meta or {}
    found: list[Mention] = []
    for key, add in _BEFORE_PROMPT:
        if key in given:
            add(found, given)
    _add_airs_in_text(found, prompt)
    for key, add in _AFTER_PROMPT:
        if key in given:
            add(found, given)
    _add_tags_in_text(found, prompt)
    negative = given.get("negativePrompt")
    _add_tags_in_text(found, negative if isinstance(negative, str) else MetaReader(given).negative_prompt())
    return found


def resource_type(value: object) -> str:
    """A type as the tables spell it: the known ones unified, others in lower case, ``unknown`` without one."""
    if not isinstance(value, str):
        return "unknown"
    if value in _TYPES:
        return _TYPES[value]
    lowered = storable(value).strip().lower()[:40]
    return _TYPES.get(lowered, lowered) or "unknown"


def file_hash(value: object) -> str | None:
    """A file hash in lower case without ``0x``; None if it is none, or the hash of an empty file."""
    return _file_hash(value) if isinstance(value, str) and len(value) <= _MAX_HASH else None


# An item names a file by its hash twice or more, and images of one model share their files.
@lru_cache(maxsize=8192)
def _file_hash(text: str) -> str | None:
    lowered = text.strip().lower().removeprefix("0x")
    return lowered if _HASH.fullmatch(lowered) and not lowered.startswith(EMPTY_FILE_HASH) else None


def air_parts(value: object) -> tuple[str, int, int | None] | None:
    """Type, model id and version id of an AIR on CivitAI; None for any other text.

    The version may contain dots, so a format written straight after it is dropped; the ids of other
    hosts than CivitAI are no ids of ours.
    """
    if not isinstance(value, str) or ":" not in value:
        return None
    match = _AIR.match(value.strip())
    if match is None:
        return None
    model_id, version_id = _id(match["model"]), _id(match["version"])
    return None if model_id is None else (resource_type(match["type"]), model_id, version_id)


def _id(value: object) -> int | None:
    return whole(value, 1, INT64_MAX)


def _name(value: object) -> str | None:
    if not isinstance(value, str) or not value or value.isspace():
        return None
    return storable(value)[:_MAX_NAME]


def _entries(value: object) -> list[Json]:
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def _add_named(
    found: list[Mention],
    source: str,
    kind: str,
    value: object,
    raw: object,
    *,
    digest: str | None = None,
    weight: float | None = None,
) -> None:
    """Add a mention by a name that may be an AIR instead, unless it would name nothing."""
    air = air_parts(value)
    if air:
        air_type, model_id, version_id = air
        kind = air_type if kind == "unknown" else kind
        found.append(Mention(source, kind, raw, None, model_id, version_id, digest, weight))
        return
    name = _name(value)
    if name or digest:
        found.append(Mention(source, kind, raw, name, None, None, digest, weight))


def _add_civitai_resources(found: list[Mention], meta: Json) -> None:
    for entry in _entries(meta["civitaiResources"]):
        kind = resource_type(entry.get("type"))
        version_id, model_id = _id(entry.get("modelVersionId")), _id(entry.get("modelId"))
        air = air_parts(entry.get("air"))
        if air:
            kind = air[0] if kind == "unknown" else kind
            model_id, version_id = model_id or air[1], version_id or air[2]
        name = _name(entry.get("modelName")) or _name(entry.get("modelVersionName"))
        if version_id or model_id or name:
            weight = real(entry.get("weight"))
            found.append(Mention("civitai_resources", kind, entry, name, model_id, version_id, None, weight))


def _add_air_of_model(found: list[Mention], meta: Json) -> None:
    model = meta["Model"]
    if air_parts(model):
        _add_named(found, "air", "unknown", model, model)


def _add_airs_in_text(found: list[Mention], text: str | None) -> None:
    if text and ":" in text and "urn:air:" in text.lower():
        for air in _AIR_IN_TEXT.findall(text):
            if air_parts(air):
                _add_named(found, "air", "unknown", air, air)


def _add_resources(found: list[Mention], meta: Json) -> None:
    for entry in _entries(meta["resources"]):
        kind = resource_type(entry.get("type"))
        # A VAE's hash is no key to it: the server ignores such hashes, for many files share one.
        digest = None if kind == "vae" else file_hash(entry.get("hash"))
        _add_named(found, "resources", kind, entry.get("name"), entry, digest=digest, weight=real(entry.get("weight")))


def _add_additional_resources(found: list[Mention], meta: Json) -> None:
    for entry in _entries(meta["additionalResources"]):
        air = entry.get("air")
        name = air if air_parts(air) else entry.get("name")
        strength = real(entry.get("strength"))
        weight = real(entry.get("weight")) if strength is None else strength
        _add_named(found, "additional_resources", resource_type(entry.get("type")), name, entry, weight=weight)


def _add_list(key: str, kind: str) -> _Add:
    def add(found: list[Mention], meta: Json) -> None:
        values = meta[key]
        for value in values if isinstance(values, list) else ():
            _add_named(found, key.lower(), kind, value, value)

    return add


def _add_version_ids(found: list[Mention], meta: Json) -> None:
    values = meta["versionIds"]
    for value in values if isinstance(values, list) else ():
        version_id = _id(value)
        if version_id:
            found.append(Mention("version_ids", "unknown", value, version_id=version_id))


def _add_model(found: list[Mention], meta: Json) -> None:
    model, digest = meta.get("Model"), file_hash(meta.get("Model hash"))
    if digest or not air_parts(model):
        raw = {key: meta[key] for key in ("Model", "Model hash") if key in meta}
        _add_named(found, "model_keys", "checkpoint", model, raw, digest=digest)


def _add_model_hash(found: list[Mention], meta: Json) -> None:
    if "Model" not in meta:
        _add_model(found, meta)


def _add_vae(found: list[Mention], meta: Json) -> None:
    vae = meta["VAE"]
    if isinstance(vae, str) and vae.lower() not in ("none", "automatic"):
        _add_named(found, "model_keys", "vae", vae, {"VAE": vae})


def _add_upscaler(found: list[Mention], meta: Json) -> None:
    upscaler = meta["Hires upscaler"]
    # "Latent" and its kin enlarge without a file.
    if isinstance(upscaler, str) and upscaler.lower() != "none" and not upscaler.lower().startswith("latent"):
        _add_named(found, "model_keys", "upscaler", upscaler, {"Hires upscaler": upscaler})


def _add_hashes(found: list[Mention], meta: Json) -> None:
    hashes = meta["hashes"]
    for key, value in hashes.items() if isinstance(hashes, dict) else ():
        digest = file_hash(value)
        prefix, colon, name = key.partition(":")
        prefix = prefix.lower()
        if digest is None or prefix == "vae":
            continue
        kind = "unknown"
        if colon and prefix in _TYPES:
            kind = _TYPES[prefix]
        elif prefix == "model":
            kind, name = "checkpoint", meta.get("Model")
        elif prefix == "refiner":
            kind, name = "checkpoint", None
        else:
            name = key
        _add_named(found, "hashes", kind, name, {key: value}, digest=digest)


def _add_listed_hashes(key: str, kind: str) -> _Add:
    def add(found: list[Mention], meta: Json) -> None:
        listed = meta[key]
        for part in listed.split(",") if isinstance(listed, str) else ():
            name, _, value = part.strip(' "').rpartition(":")
            digest = file_hash(value)
            if digest:
                _add_named(found, "hashes", kind, name.strip(), {key: part.strip()}, digest=digest)

    return add


def _add_files_of_graph(found: list[Mention], meta: Json) -> None:
    graph = graph_of(meta)
    for kind, name, strength, node in islice(loaded_files(graph), _MAX_FILES) if graph else ():
        raw = {"class_type": node.kind, "inputs": node.inputs}
        _add_named(found, "comfy", kind, name, raw, weight=real(strength))


_Add = Callable[[list[Mention], Json], None]
# Keys of metadata and what reads them, in the order of trust.
_BEFORE_PROMPT: tuple[tuple[str, _Add], ...] = (
    ("civitaiResources", _add_civitai_resources),
    ("Model", _add_air_of_model),
)
_AFTER_PROMPT: tuple[tuple[str, _Add], ...] = (
    ("resources", _add_resources),
    ("additionalResources", _add_additional_resources),
    ("models", _add_list("models", "checkpoint")),
    ("vaes", _add_list("vaes", "vae")),
    ("upscalers", _add_list("upscalers", "upscaler")),
    ("controlNets", _add_list("controlNets", "controlnet")),
    ("versionIds", _add_version_ids),
    ("Model", _add_model),
    ("Model hash", _add_model_hash),
    ("VAE", _add_vae),
    ("Hires upscaler", _add_upscaler),
    ("hashes", _add_hashes),
    ("Lora hashes", _add_listed_hashes("Lora hashes", "lora")),
    ("TI hashes", _add_listed_hashes("TI hashes", "embedding")),
    ("comfy", _add_files_of_graph),
)


def _add_tags_in_text(found: list[Mention], text: str | None) -> None:
    if not text or ":" not in text:
        return
    if "<" in text:
        for tag in _PROMPT_TAG.finditer(text):
            kind = _TYPES.get(tag[1].lower())
            if kind:
                _add_tag(found, kind, *tag.group(0, 2, 3))
    if "embedding:" in text.lower():
        for match in _PROMPT_EMBEDDING.finditer(text):
            name = match[1].rstrip(".;")
            if name:
                found.append(Mention("prompt_tag", "embedding", match[0], _name(name), weight=real(match[2])))


def _add_tag(found: list[Mention], kind: str, tag: str, name: str, arguments: str) -> None:
    name = name.strip()
    if name.lower() == "urn":
        # An AIR in place of the name brings colons of its own.
        name += arguments
        air = _AIR.match(name)
        arguments = name[air.end() :] if air else ""
    _add_named(found, "prompt_tag", kind, name, tag, weight=_tag_weight(arguments))


@lru_cache(maxsize=1024)
def _tag_weight(arguments: str) -> float | None:
    """The weight in a tag's ``:0.8`` or ``:unet=0.8:te=0.5``; of several the image's side goes first."""
    named: dict[str, float] = {}
    for argument in arguments.split(":")[1:]:
        key, separator, value = argument.partition("=")
        number = real(value if separator else key)
        if number is not None:
            named.setdefault(key.strip().lower() if separator else "", number)
    return next((named[key] for key in ("", "unet", "te") if key in named), None)

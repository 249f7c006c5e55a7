"""Every mention of a resource in an image's metadata and prompt, one by one, unmerged.

Belongs here: where resources are named and how each place spells type, id, hash and weight. Which
mentions mean the same resource is decided in ``resources``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

from civitai_pipeline.prompts.comfy import graph_of, loaded_files
from civitai_pipeline.prompts.text import storable
from civitai_pipeline.prompts.values import INT64_MAX, real, whole

if TYPE_CHECKING:
    from collections.abc import Iterator

Json = dict[str, Any]

# SHA-256 of no bytes, in A1111's short form: tools write it for a file they could not read.
EMPTY_FILE_HASH = "e3b0c44298"

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

_AIR = re.compile(
    r"(?:urn:)?(?:air:)?(?:(?:[\w/-]+:)?(?P<type>[\w/-]+):)?civitai:(?P<model>[0-9]{1,19})(?:@(?P<version>[0-9]{1,19}))?",
    re.ASCII | re.IGNORECASE,
)
_HASH = re.compile(r"[0-9a-f]{8,64}")
# Bounded, so that a prompt of nothing but "<a:" costs no more than its length.
_PROMPT_TAG = re.compile(r"<(\w{2,20}):([^<>:]{1,300})((?::[^<>:]{0,300}){0,8})>")
_PROMPT_EMBEDDING = re.compile(
    r"(?<![<\w])embedding:([^\s,:()<>\[\]]{1,300})(?::([0-9]{0,9}\.?[0-9]{1,9})\))?", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Mention:
    """One place that names a resource; None for what the place does not say."""

    source: str
    resource_type: str
    raw: Any
    name: str | None = None
    model_id: int | None = None
    version_id: int | None = None
    hash: str | None = None
    weight: float | None = None


def mentions(meta: Json | None, prompt: str | None) -> Iterator[Mention]:
    """The mentions of resources, in the order in which sources are trusted.

    Sources: ``civitai_resources``; ``air`` (an AIR in ``Model`` or the prompt); ``resources``;
    ``additional_resources``; ``models``, ``vaes``, ``upscalers``, ``controlnets`` (the lists of those
    names); ``version_ids``;
    ``model_keys`` (``Model``, ``Model hash``, ``VAE``, ``Hires upscaler``);
    ``hashes`` (with ``Lora hashes`` and ``TI hashes``); ``comfy``; ``prompt_tag`` (tags and embeddings
    in the prompt or the negative prompt).
    """
    given = meta or {}
    negative = given.get("negativePrompt")
    return chain(
        _civitai_resources(given),
        _airs(given, prompt),
        _resources(given),
        _additional_resources(given),
        _lists(given),
        _model_keys(given),
        _hashes(given),
        _comfy(given),
        _in_text(prompt),
        _in_text(negative),
    )


def resource_type(value: object) -> str:
    """A type as the tables spell it: the known ones unified, others in lower case, ``unknown`` without one."""
    if not isinstance(value, str) or not value.strip():
        return "unknown"
    lowered = storable(value).strip().lower()[:40]
    return _TYPES.get(lowered, lowered)


def file_hash(value: object) -> str | None:
    """A file hash in lower case without ``0x``; None if it is none, or the hash of an empty file."""
    if not isinstance(value, str):
        return None
    lowered = value.strip().lower().removeprefix("0x")
    if not _HASH.fullmatch(lowered) or lowered.startswith(EMPTY_FILE_HASH):
        return None
    return lowered


def air_parts(value: object) -> tuple[str, int, int | None] | None:
    """Type, model id and version id of an AIR on CivitAI; None for any other text.

    The version may contain dots, so a format written straight after it is dropped; the ids of other
    hosts than CivitAI are no ids of ours.
    """
    match = _AIR.match(value.strip()) if isinstance(value, str) else None
    if match is None:
        return None
    model_id = _id(match["model"])
    version = _id(match["version"])
    return None if model_id is None else (resource_type(match["type"]), model_id, version)


def _id(value: object) -> int | None:
    return whole(value, 1, INT64_MAX)


def _name(value: object) -> str | None:
    if not isinstance(value, str) or not value.strip():
        return None
    return storable(value)[:_MAX_NAME]


def _entries(meta: Json, key: str) -> Iterator[Json]:
    value = meta.get(key)
    if isinstance(value, list):
        yield from (entry for entry in value if isinstance(entry, dict))


def _named(source: str, kind: str, value: object, raw: object, **said: Any) -> Iterator[Mention]:  # noqa: ANN401 - fields of Mention
    """A mention by a name that may be an AIR instead."""
    air = air_parts(value)
    if air:
        air_type, model_id, version_id = air
        kind = air_type if kind == "unknown" else kind
        yield Mention(source, kind, raw, model_id=model_id, version_id=version_id, **said)
    else:
        name = _name(value)
        if name or said.get("hash"):
            yield Mention(source, kind, raw, name=name, **said)


def _civitai_resources(meta: Json) -> Iterator[Mention]:
    for entry in _entries(meta, "civitaiResources"):
        air = air_parts(entry.get("air"))
        kind = resource_type(entry.get("type"))
        if kind == "unknown" and air:
            kind = air[0]
        version_id = _id(entry.get("modelVersionId")) or (air[2] if air else None)
        model_id = _id(entry.get("modelId")) or (air[1] if air else None)
        name = _name(entry.get("modelName")) or _name(entry.get("modelVersionName"))
        if version_id or model_id or name:
            weight = real(entry.get("weight"))
            yield Mention("civitai_resources", kind, entry, name, model_id, version_id, None, weight)


def _airs(meta: Json, prompt: str | None) -> Iterator[Mention]:
    model = meta.get("Model")
    if air_parts(model):
        yield from _named("air", "unknown", model, model)
    if prompt and "urn:air:" in prompt:
        for word in prompt.split("urn:air:")[1:]:
            yield from (m for m in _named("air", "unknown", "urn:air:" + word, "urn:air:" + word[:200]) if m.model_id)


def _resources(meta: Json) -> Iterator[Mention]:
    for entry in _entries(meta, "resources"):
        kind = resource_type(entry.get("type"))
        # A VAE's hash is no key to it: the server ignores such hashes, for many files share one.
        said = {"hash": None if kind == "vae" else file_hash(entry.get("hash")), "weight": real(entry.get("weight"))}
        yield from _named("resources", kind, entry.get("name"), entry, **said)


def _additional_resources(meta: Json) -> Iterator[Mention]:
    for entry in _entries(meta, "additionalResources"):
        kind = resource_type(entry.get("type"))
        name = entry.get("air") if air_parts(entry.get("air")) else entry.get("name")
        strength = real(entry.get("strength"))
        weight = real(entry.get("weight")) if strength is None else strength
        yield from _named("additional_resources", kind, name, entry, weight=weight)


def _lists(meta: Json) -> Iterator[Mention]:
    for key, kind in (
        ("models", "checkpoint"),
        ("vaes", "vae"),
        ("upscalers", "upscaler"),
        ("controlNets", "controlnet"),
    ):
        values = meta.get(key)
        for value in values if isinstance(values, list) else ():
            yield from _named(key.lower(), kind, value, value)
    for value in meta["versionIds"] if isinstance(meta.get("versionIds"), list) else ():
        version_id = _id(value)
        if version_id:
            yield Mention("version_ids", "unknown", value, version_id=version_id)


def _model_keys(meta: Json) -> Iterator[Mention]:
    model, model_hash = meta.get("Model"), meta.get("Model hash")
    if (model or model_hash) and not air_parts(model):
        raw = {key: meta[key] for key in ("Model", "Model hash") if key in meta}
        yield from _named("model_keys", "checkpoint", model, raw, hash=file_hash(model_hash))
    vae = meta.get("VAE")
    if isinstance(vae, str) and vae.lower() not in ("none", "automatic"):
        yield from _named("model_keys", "vae", vae, {"VAE": vae})
    upscaler = meta.get("Hires upscaler")
    # "Latent" and its kin enlarge without a file.
    if isinstance(upscaler, str) and upscaler.lower() != "none" and not upscaler.lower().startswith("latent"):
        yield from _named("model_keys", "upscaler", upscaler, {"Hires upscaler": upscaler})


def _hashes(meta: Json) -> Iterator[Mention]:
    hashes = meta.get("hashes")
    for key, value in hashes.items() if isinstance(hashes, dict) else ():
        digest = file_hash(value)
        kind, separator, name = str(key).partition(":")
        lowered = kind.lower()
        if digest is None or lowered == "vae":
            continue
        raw = {str(key): value}
        if lowered == "model":
            model = meta.get("Model")
            yield Mention("hashes", "checkpoint", raw, None if air_parts(model) else _name(model), hash=digest)
        elif lowered == "refiner":
            yield Mention("hashes", "checkpoint", raw, hash=digest)
        elif separator and lowered in _TYPES:
            yield Mention("hashes", _TYPES[lowered], raw, _name(name), hash=digest)
        else:
            yield Mention("hashes", "unknown", raw, _name(str(key)), hash=digest)
    for key, kind in (("Lora hashes", "lora"), ("TI hashes", "embedding")):
        listed = meta.get(key)
        for part in listed.split(",") if isinstance(listed, str) else ():
            name, _, value = part.strip(' "').rpartition(":")
            digest = file_hash(value)
            if digest:
                yield Mention("hashes", kind, {key: part.strip()}, _name(name.strip()), hash=digest)


def _comfy(meta: Json) -> Iterator[Mention]:
    graph = graph_of(meta) if "comfy" in meta else None
    for kind, name, strength, node in loaded_files(graph) if graph else ():
        raw = {"class_type": node.kind, "inputs": node.inputs}
        yield from _named("comfy", kind, name, raw, weight=real(strength))


def _in_text(text: object) -> Iterator[Mention]:
    if not isinstance(text, str):
        return
    if "<" in text:
        for tag in _PROMPT_TAG.finditer(text):
            kind = _TYPES.get(tag[1].lower())
            if kind:
                yield Mention("prompt_tag", kind, tag[0], _name(tag[2].strip()), weight=_tag_weight(tag[3]))
    if "embedding:" in text or "Embedding:" in text:
        for match in _PROMPT_EMBEDDING.finditer(text):
            name = match[1].rstrip(".;")
            if name:
                yield Mention("prompt_tag", "embedding", match[0], _name(name), weight=real(match[2]))


def _tag_weight(arguments: str) -> float | None:
    """The weight in a tag's ``:0.8`` or ``:unet=0.8:te=0.5``; of several the image's side goes first."""
    named: dict[str, float] = {}
    for argument in arguments.split(":")[1:]:
        key, separator, value = argument.partition("=")
        number = real(value if separator else key)
        if number is not None:
            named.setdefault(key.strip().lower() if separator else "", number)
    return next((named[key] for key in ("", "unet", "te") if key in named), None)

"""Reads an image's metadata, whatever tool wrote it: prompt, settings and the tool itself.

Belongs here: which key, in which tool's spelling, holds which fact. How a value becomes a column's is
in ``values``, what a ComfyUI graph means in ``comfy``, resources in ``resources``.

Styles read: AUTOMATIC1111 and its forks, CivitAI's own generator, ComfyUI (keys, else the graph),
SwarmUI (flattened by CivitAI, or ``sui_image_params``), RuinedFooocus (``software``, ``other``),
Fooocus, InvokeAI; any other tool by whichever of these keys it shares.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from civitai_pipeline.prompts.comfy import graph_of, graph_prompts, graph_settings, loaded_files
from civitai_pipeline.prompts.text import storable
from civitai_pipeline.prompts.values import INT64_MAX, kind_of, parse_json, real, whole, words

Json = dict[str, Any]

# Keys in order of trust: CivitAI's spelling, A1111's, then other tools'.
_PROMPT = ("prompt", "Prompt", "positivePrompt", "positive_prompt", "Positive prompt")
_NEGATIVE = ("negativePrompt", "Negative prompt", "negative_prompt", "negativeprompt", "Negative", "uc")
_STEPS = ("steps", "Steps", "num_inference_steps")
_CFG = ("cfgScale", "CFG scale", "cfg_scale", "cfgscale", "cfg", "guidance_scale", "Guidance Scale", "guidance")
_SAMPLER = ("sampler", "Sampler", "sampler_name", "originalSampler", "comfyuisampler")
_SCHEDULER = ("scheduler", "Schedule type", "Scheduler", "schedule_type")
_SEED = ("seed", "Seed", "noise_seed")
_CLIP_SKIP = ("clipSkip", "Clip skip", "clip_skip", "CLIP skip")
_MODEL = ("Model", "model", "checkpoint", "base_model_name", "base_model", "Base Model", "ckpt_name")

# Objects inside metadata that hold more of the same, where a tool's own layout was kept.
_INNER = ("sui_image_params", "invokeai_metadata", "other")


def unwrapped(item_meta: object) -> object:
    """An item's metadata without the wrapper ``{"id", "meta"}`` of the nested delivery.

    Only exactly these two keys make a wrapper: a tool's own metadata may hold a key ``meta`` among others.
    """
    if isinstance(item_meta, dict) and item_meta.keys() == {"id", "meta"}:
        inner = item_meta["meta"]
        if inner is None or isinstance(inner, dict):
            return inner
    return item_meta


class MetaReader:
    """The facts of one image's metadata.

    A ComfyUI graph can be a megabyte of JSON in a string, so it is parsed only for a fact that stands
    nowhere else.
    """

    __slots__ = ("_has_graph", "_meta", "_settings", "_sources")

    def __init__(self, meta: Json) -> None:
        """Read ``meta``, unwrapped."""
        self._meta = meta
        self._sources = [meta]
        for name in _INNER:
            inner = meta.get(name)
            if isinstance(inner, str) and inner.lstrip().startswith("{"):
                inner = parse_json(inner)
            if isinstance(inner, dict):
                self._sources.append(inner)
        self._has_graph = "comfy" in meta or isinstance(meta.get("prompt"), dict)
        self._settings: Json | None = None

    def prompt(self) -> tuple[str | None, str | None]:
        """The prompt to the letter, or None with the reason why there is none, as a sentence."""
        blank = False
        for source in self._sources:
            for key in _PROMPT:
                value = source.get(key)
                if isinstance(value, str):
                    if value and not value.isspace():
                        return storable(value), None
                    blank = True
        text = self._graph_texts()[0]
        if text:
            return storable(text), None
        if blank:
            return None, "The prompt is blank."
        value = self._meta.get("prompt")
        if value is not None:
            return None, f"The prompt is not text but {kind_of(value)}."
        return None, "The metadata holds no prompt."

    def facts(self) -> Json:
        """The columns of ``prompts`` that metadata decides, by name; None where it says nothing usable."""
        facts: Json = {"negative_prompt": self._negative_prompt()}
        for column, (keys, setting, read) in _FACTS.items():
            facts[column] = self._first(keys, setting, read)
        facts["checkpoint_name"] = self._checkpoint_name()
        facts["generator"] = generator_of(self._meta)
        return facts

    def _first(self, keys: tuple[str, ...], setting: str, read: Reader) -> str | float | None:
        for source in self._sources:
            for key in keys:
                value = source.get(key)
                if value is not None:
                    usable = read(value)
                    if usable is not None:
                        return usable
        if not self._has_graph:
            return None
        if self._settings is None:
            graph = graph_of(self._meta)
            self._settings = graph_settings(graph) if graph else {}
        return read(self._settings.get(setting))

    def _negative_prompt(self) -> str | None:
        for source in self._sources:
            for key in _NEGATIVE:
                value = source.get(key)
                if isinstance(value, str):
                    return storable(value)
        text = self._graph_texts()[1]
        return None if text is None else storable(text)

    def _checkpoint_name(self) -> str | None:
        for source in self._sources:
            for key in _MODEL:
                value = source.get(key)
                if isinstance(value, dict):  # InvokeAI describes the model by an object
                    value = value.get("name", value.get("model_name"))
                name = _file_name(value)
                if name:
                    return name
        models = self._meta.get("models")
        for value in models if isinstance(models, list) else ():
            name = _file_name(value)
            if name:
                return name
        graph = graph_of(self._meta) if self._has_graph else None
        files = loaded_files(graph) if graph else ()
        return next((_file_name(name) for kind, name, _, _ in files if kind == "checkpoint" and _file_name(name)), None)

    def _graph_texts(self) -> tuple[str | None, str | None]:
        graph = graph_of(self._meta) if self._has_graph else None
        return graph_prompts(graph) if graph else (None, None)


Reader = Callable[[object], str | float | None]


def _steps(value: object) -> int | None:
    return whole(value, 0)


def _seed(value: object) -> int | None:
    return whole(value, -INT64_MAX - 1, INT64_MAX)


# Column: keys in metadata, name in ``comfy.graph_settings``, conversion.
_FACTS: dict[str, tuple[tuple[str, ...], str, Reader]] = {
    "steps": (_STEPS, "steps", _steps),
    "cfg_scale": (_CFG, "cfgScale", real),
    "sampler": (_SAMPLER, "sampler", words),
    "scheduler": (_SCHEDULER, "scheduler", words),
    "seed": (_SEED, "seed", _seed),
    "clip_skip": (_CLIP_SKIP, "clipSkip", whole),
}


def _file_name(value: object) -> str | None:
    """``value`` as a checkpoint's name; None for an AIR, which is an id, and resources keep that."""
    name = words(value)
    return None if name is None or name[:4].lower() == "urn:" else name


# A tool's name in "Version", "version", "software", "App" or "engine", lower case, to our word for it. In order: the
# longer name goes before the one it contains.
_TOOL_NAMES: tuple[tuple[str, str], ...] = (
    ("ruinedfooocus", "ruinedfooocus"),
    ("fooocus", "fooocus"),
    ("swarm", "swarmui"),
    ("comfy", "comfyui"),
    ("invoke", "invokeai"),
    ("novelai", "novelai"),
    ("sd.next", "sdnext"),
    ("sdnext", "sdnext"),
    ("easy diffusion", "easydiffusion"),
    ("draw things", "drawthings"),
    ("reforge", "forge"),
    ("forge", "forge"),
    ("neo", "forge"),
    ("civitai", "civitai"),
)
_TOOL_KEYS = (
    ("sui_image_params", "swarmui"),
    ("comfy", "comfyui"),
    ("invokeai_metadata", "invokeai"),
    ("originalSampler", "swarmui"),
)
_A1111_KEYS = ("Model hash", "Lora hashes", "Denoising strength", "Hires upscale", "Clip skip", "Schedule type", "ENSD")


def generator_of(meta: Json) -> str:
    """The tool that made the image, by the first of these rules that holds.

    1. ``software``, ``App``, ``Version``, ``version`` or ``engine`` names a tool: that tool
       (``ruinedfooocus``, ``fooocus``, ``swarmui``, ``comfyui``, ``invokeai``, …, ``civitai``).
    2. A key that one tool alone leaves: ``sui_image_params`` is ``swarmui``, ``comfy`` is ``comfyui``,
       ``invokeai_metadata`` is ``invokeai``, ``originalSampler`` is ``swarmui``.
    3. CivitAI's own rule for "Made on Civitai": ``civitaiResources``, no ``Version``, and no ``Model``
       unless it is an AIR: ``civitai``.
    4. ``Version`` as Forge counts (``f2.0.1…``): ``forge``; in any other form: ``a1111``.
    5. A key of A1111's own: ``a1111``, whose text form others copy.
    6. ``unknown``.
    """
    for key in ("software", "App", "Version", "version", "engine"):
        value = meta.get(key)
        if isinstance(value, str):
            lowered = value.lower()
            for name, tool in _TOOL_NAMES:
                if name in lowered:
                    return tool
    for key, tool in _TOOL_KEYS:
        if key in meta:
            return tool
    version, model = meta.get("Version"), meta.get("Model")
    is_air = isinstance(model, str) and model.lower().startswith("urn:air:")
    if meta.get("civitaiResources") and not version and (not model or is_air):
        return "civitai"
    if isinstance(version, str) and version:
        return "forge" if version[0] in "fF" and version[1:2].isdigit() else "a1111"
    return "a1111" if any(key in meta for key in _A1111_KEYS) else "unknown"

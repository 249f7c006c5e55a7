"""Reads an image's metadata, whatever tool wrote it: prompt, settings and the tool itself.

Belongs here: which key, in which tool's spelling, holds which fact. How a value becomes a column's is
in ``values``, what a ComfyUI graph means in ``comfy``, resources in ``resources``.

Styles read: AUTOMATIC1111 and its forks, CivitAI's own generator, ComfyUI (keys, else the graph),
SwarmUI (flattened by CivitAI, or ``sui_image_params``), RuinedFooocus (``software``, ``other``),
Fooocus, InvokeAI; any other tool by whichever of these keys it shares.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

from civitai_pipeline.prompts.comfy import (
    Graph,
    graph_of,
    graph_prompts,
    graph_settings,
    has_graph,
    loaded_files,
    may_set_clip_skip,
)
from civitai_pipeline.prompts.values import INT64_MAX, kind_of, parse_json, real, text_of, whole, words

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

Json = dict[str, Any]
T = TypeVar("T")

# Keys in order of trust: CivitAI's spelling, A1111's, then other tools'.
_PROMPT = ("prompt", "Prompt", "positivePrompt", "positive_prompt", "Positive prompt")
_NEGATIVE = (
    "negativePrompt",
    "Negative prompt",
    "Negative Prompt",
    "negative_prompt",
    "negativeprompt",
    "Negative",
    "uc",
)
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

    __slots__ = ("_graph_read", "_meta", "_sources")

    def __init__(self, meta: Json) -> None:
        """Read ``meta``, unwrapped."""
        self._meta = meta
        self._sources = [meta]
        for name in _INNER:
            if name in meta:
                inner = meta[name]
                if isinstance(inner, str) and inner.lstrip().startswith("{"):
                    inner = parse_json(inner)
                if isinstance(inner, dict):
                    self._sources.append(inner)
        self._graph_read: Graph | None = None

    def prompt(self) -> tuple[str | None, str | None]:
        """The prompt to the letter, or None with the reason why there is none, as a sentence."""
        text = self._first(_PROMPT, words)
        if text is None:
            text = words(graph_prompts(self._graph())[0])
        if text is not None:
            return text, None
        if self._first(_PROMPT, text_of) is not None:
            return None, "The prompt is blank."
        value = self._meta.get("prompt")
        if value is not None:
            return None, f"The prompt is not text but {kind_of(value)}."
        return None, "The metadata holds no prompt."

    def negative_prompt(self) -> str | None:
        """The negative prompt to the letter, perhaps blank; None without one."""
        text = self._first(_NEGATIVE, text_of)
        return text if text is not None or not has_graph(self._meta) else text_of(graph_prompts(self._graph())[1])

    def facts(self) -> Json:
        """The columns of ``prompts`` that metadata decides, by name; None where it says nothing usable."""
        facts: Json = {column: self._first(keys, read) for column, (keys, read) in _FACTS.items()}
        if facts["checkpoint_name"] is None and "models" in self._meta:
            models = self._meta["models"]
            facts["checkpoint_name"] = _first_file(models if isinstance(models, list) else ())
        if has_graph(self._meta):
            self._add_facts_of_graph(facts)
        facts["generator"] = generator_of(self._meta)
        return facts

    def _first(self, keys: tuple[str, ...], read: Callable[[object], T | None]) -> T | None:
        """The first usable value under ``keys``; metadata itself goes before the objects in it."""
        for source in self._sources:
            for key in keys:
                if key in source:
                    usable = read(source[key])
                    if usable is not None:
                        return usable
        return None

    def _graph(self) -> Graph:
        if self._graph_read is None:
            self._graph_read = graph_of(self._meta) or {}
        return self._graph_read

    def _add_facts_of_graph(self, facts: Json) -> None:
        missing = [column for column in _FACTS if facts[column] is None]
        # What ComfyUI's graph says is mostly repeated in keys, but for the clip skip, which few graphs set.
        if not missing or (missing == ["clip_skip"] and not may_set_clip_skip(self._meta)):
            return
        graph = self._graph()
        said = graph_settings(graph)
        said["negative_prompt"] = graph_prompts(graph)[1]
        said["checkpoint_name"] = _first_file(name for kind, name, _, _ in loaded_files(graph) if kind == "checkpoint")
        for column in missing:
            _, read = _FACTS[column]
            facts[column] = read(said.get(column))


def _steps(value: object) -> int | None:
    return whole(value, 0)


def _seed(value: object) -> int | None:
    return whole(value, -INT64_MAX - 1, INT64_MAX)


def _model(value: object) -> str | None:
    """A checkpoint's name; None for an AIR, which is an id, and resources keep that."""
    if isinstance(value, dict):  # InvokeAI describes the model by an object
        value = value.get("name", value.get("model_name"))
    return _file(value)


def _file(value: object) -> str | None:
    name = words(value)
    return None if name is None or name[:4].lower() == "urn:" else name


def _first_file(values: Iterable[object]) -> str | None:
    return next((name for name in map(_file, values) if name), None)


# Column: keys in metadata, conversion.
_FACTS: dict[str, tuple[tuple[str, ...], Callable[[object], str | float | None]]] = {
    "negative_prompt": (_NEGATIVE, text_of),
    "steps": (_STEPS, _steps),
    "cfg_scale": (_CFG, real),
    "sampler": (_SAMPLER, words),
    "scheduler": (_SCHEDULER, words),
    "seed": (_SEED, _seed),
    "clip_skip": (_CLIP_SKIP, whole),
    "checkpoint_name": (_MODEL, _model),
}


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
    for key in _TOOL_NAMED_BY:
        if key in meta:
            tool = _tool_in(meta[key])
            if tool:
                return tool
    for key, tool in _TOOL_KEYS:
        if meta.get(key) is not None:
            return tool
    version, model = meta.get("Version"), meta.get("Model")
    is_air = isinstance(model, str) and model[:8].lower() == "urn:air:"
    if meta.get("civitaiResources") and not version and (not model or is_air):
        return "civitai"
    if isinstance(version, str) and version:
        return "forge" if version[0] in "fF" and version[1:2].isdigit() else "a1111"
    return "a1111" if any(key in meta for key in _A1111_KEYS) else "unknown"


_TOOL_NAMED_BY = ("software", "App", "Version", "version", "engine")
# A tool names itself at once; what is longer is no name, and need not be kept in memory.
_MAX_TOOL_NAME = 200


def _tool_in(value: object) -> str | None:
    return _tool_named(value[:_MAX_TOOL_NAME]) if isinstance(value, str) else None


@lru_cache(maxsize=1024)
def _tool_named(text: str) -> str | None:
    lowered = text.lower()
    return next((tool for name, tool in _TOOL_NAMES if name in lowered), None)

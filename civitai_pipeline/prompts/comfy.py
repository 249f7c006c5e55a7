"""Reads a ComfyUI graph: which prompt, settings and files its samplers use.

Belongs here: what nodes and links mean. Which of a graph's facts an item needs is decided in
``metadata`` and ``resources``.

A graph maps node ids to ``{"class_type": …, "inputs": {…}}``; an input is a value or a link,
``[node id, output slot]``. Facts hang on samplers: ``KSampler`` holds them itself, ``SamplerCustom``
and ``SamplerCustomAdvanced`` link to nodes for guidance, noise, sampler and schedule.
"""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple, TypeGuard

from civitai_pipeline.prompts.values import parse_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# A chain of links in a real graph is a few dozen long; a longer one is a trap or an accident.
_MAX_HOPS = 200
# So is a graph with more nodes to start from than this; every one may cost all the hops.
_MAX_STARTS = 100

# What the saved workflow lists without names, in order, for the nodes whose facts we read. "" is a
# widget that is none of ours (the "after generate" switch beside a seed).
_WIDGETS: dict[str, tuple[str, ...]] = {
    "CLIPTextEncode": ("text",),
    "KSampler": ("seed", "", "steps", "cfg", "sampler_name", "scheduler", "denoise"),
    "KSamplerAdvanced": ("", "noise_seed", "", "steps", "cfg", "sampler_name", "scheduler"),
    "CheckpointLoaderSimple": ("ckpt_name",),
    "UNETLoader": ("unet_name", "weight_dtype"),
    "UnetLoaderGGUF": ("unet_name",),
    "LoraLoader": ("lora_name", "strength_model", "strength_clip"),
    "LoraLoaderModelOnly": ("lora_name", "strength_model"),
    "VAELoader": ("vae_name",),
    "ControlNetLoader": ("control_net_name",),
    "UpscaleModelLoader": ("model_name",),
    "HypernetworkLoader": ("hypernetwork_name", "strength"),
    "CLIPSetLastLayer": ("stop_at_clip_layer",),
    "KSamplerSelect": ("sampler_name",),
    "BasicScheduler": ("scheduler", "steps", "denoise"),
    "RandomNoise": ("noise_seed", ""),
    "CFGGuider": ("cfg",),
    "FluxGuidance": ("guidance",),
}

_TEXT_INPUTS = (
    "text", "text_g", "text_l", "t5xxl", "clip_l", "prompt", "positive_prompt", "populated_text", "wildcard_text",
    "string", "String", "value", "Value", "Text", "text_0", "text1", "string_a", "conditioning", "conditioning_1",
    "conditioning_to", "cond", "output", "any_01", "source", "anything",
)  # fmt: skip
_NUMBER_INPUTS = ("value", "Value", "int", "number", "seed", "noise_seed", "float", "a")


class Node(NamedTuple):
    """One node of a graph."""

    kind: str
    inputs: dict[str, Any]


Graph = dict[str, Node]


def has_graph(meta: dict[str, Any]) -> bool:
    """Whether metadata has something in a place where graphs stand."""
    return "comfy" in meta or isinstance(meta.get("prompt"), dict)


def may_set_clip_skip(meta: dict[str, Any]) -> bool:
    """Whether the graph of ``meta`` may hold a clip skip, as far as can be told without parsing it."""
    holder = meta.get("comfy")
    return not isinstance(holder, str) or "stop_at_clip_layer" in holder or "CLIPSetLastLayer" in holder


def graph_of(meta: dict[str, Any]) -> Graph | None:
    """The graph that metadata holds, in ``comfy`` or in place of the prompt; None without one.

    The graph that ran (``prompt``) goes before the editor's picture of it (``workflow``).
    """
    holder = meta.get("comfy")
    graph = _graph_in_text(holder) if isinstance(holder, str) else _graph(holder)
    return graph or _nodes(meta.get("prompt"))


# Items are read for their facts and then for their resources; a megabyte of JSON is parsed once.
@lru_cache(maxsize=1)
def _graph_in_text(text: str) -> Graph | None:
    parsed = parse_json(text)
    return _graph(_parts_of_broken_json(text) if parsed is None else parsed)


def _parts_of_broken_json(text: str) -> dict[str, object]:
    """The graph and the workflow in ``{"prompt": {…}, "workflow": {…}}`` where one of them, or the end, is broken."""
    parts: dict[str, object] = {}
    for name, start_of in _PARTS.items():
        start = start_of.search(text)
        if start:
            parts[name] = parse_json(text[start.end() : _end_of_object(text, start.end())])
    return parts


_PARTS = {name: re.compile(rf'"{name}"\s*:\s*(?=\{{)') for name in ("prompt", "workflow")}
# A string is matched whole, so that brackets in it do not count, and to the text's end if it is not closed.
_STRINGS_AND_BRACKETS = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\Z)|[{}]', re.DOTALL)


def _end_of_object(text: str, start: int) -> int:
    """Where the JSON object that opens at ``start`` ends; the end of the text if it does not."""
    depth = 0
    for match in _STRINGS_AND_BRACKETS.finditer(text, start):
        depth += {"{": 1, "}": -1}.get(match[0], 0)
        if depth == 0:
            return match.end()
    return len(text)


def _graph(holder: object) -> Graph | None:
    if not isinstance(holder, dict):
        return None
    prompt = holder.get("prompt")
    if isinstance(prompt, str):
        prompt = parse_json(prompt)
    workflow = holder.get("workflow")
    if isinstance(workflow, str):
        workflow = parse_json(workflow)
    return _nodes(prompt) or _nodes_of_workflow(workflow) or _nodes(holder)


def _nodes(graph: object) -> Graph | None:
    if not isinstance(graph, dict):
        return None
    nodes: Graph = {}
    for key, node in graph.items():
        if isinstance(node, dict) and isinstance(node.get("class_type"), str):
            inputs = node.get("inputs")
            nodes[str(key)] = Node(node["class_type"], inputs if isinstance(inputs, dict) else {})
    return nodes or None


def _nodes_of_workflow(workflow: object) -> Graph | None:
    """The graph behind an editor's workflow, as far as its nodes' widgets are known."""
    if not isinstance(workflow, dict) or not isinstance(workflow.get("nodes"), list):
        return None
    ends: dict[int, list[object]] = {}
    links = workflow.get("links")
    for link in links if isinstance(links, list) else ():
        if isinstance(link, list) and len(link) >= 3 and isinstance(link[0], int):  # noqa: PLR2004 - id, node, slot
            ends[link[0]] = [link[1], link[2]]
    nodes: Graph = {}
    for node in workflow["nodes"]:
        # Modes 2 and 4 are muted and bypassed: such a node did not run.
        if isinstance(node, dict) and isinstance(node.get("type"), str) and node.get("mode") not in (2, 4):
            nodes[str(node.get("id"))] = Node(node["type"], _workflow_inputs(node, ends))
    return nodes or None


def _workflow_inputs(node: dict[str, Any], ends: dict[int, list[object]]) -> dict[str, Any]:
    """A workflow node's widgets by name, and its links as the graph that runs has them."""
    inputs: dict[str, Any] = {}
    values = node.get("widgets_values")
    if isinstance(values, dict):
        inputs.update((key, value) for key, value in values.items() if isinstance(key, str))
    elif isinstance(values, list):
        names = _WIDGETS.get(node["type"], ())
        inputs.update((name, value) for name, value in zip(names, values, strict=False) if name)
    slots = node.get("inputs")
    for slot in slots if isinstance(slots, list) else ():
        if isinstance(slot, dict) and isinstance(slot.get("name"), str):
            link_id = slot.get("link")
            if isinstance(link_id, int) and link_id in ends:
                inputs[slot["name"]] = ends[link_id]
    return inputs


def graph_prompts(graph: Graph) -> tuple[str | None, str | None]:
    """The prompt and the negative prompt of the first sampler that has a prompt.

    Samplers that start from an empty picture go first: a second pass may refine with other words. In a
    graph without a sampler we know, the first text encoder's text is the prompt.
    """
    for sampler in samplers(graph)[:_MAX_STARTS]:
        guider = _linked(graph, sampler.inputs.get("guider"))
        holder = guider.inputs if guider and "positive" not in sampler.inputs else sampler.inputs
        positive = _text(graph, holder.get("positive", holder.get("conditioning")), "positive")
        if _says(positive):
            return positive, _text(graph, holder.get("negative"), "negative")
    encoders = (node for node in graph.values() if "TextEncode" in node.kind)
    for node in islice(encoders, _MAX_STARTS):
        text = _text_of_node(graph, node, "positive")
        if _says(text):
            return text, None
    return None, None


def graph_settings(graph: Graph) -> dict[str, Any]:
    """Settings of the first sampler, by column: steps, cfg_scale, sampler, scheduler, seed, clip_skip.

    Values are as the graph spells them, a link followed to the value behind it. What is not said is left out.
    """
    found: dict[str, Any] = {}
    for sampler in samplers(graph)[:1]:
        parts = [_linked(graph, sampler.inputs.get(name)) for name in ("guider", "sigmas", "sampler", "noise")]
        if parts[1] and "sigmas" in parts[1].inputs:  # steps split between two samplers
            parts[1] = _linked(graph, parts[1].inputs["sigmas"])
        for part in (sampler, *(part for part in parts if part)):
            for name, fact in _SETTINGS.items():
                value = _scalar(graph, part.inputs.get(name))
                if value is not None:
                    found.setdefault(fact, value)
    layers = (node.inputs["stop_at_clip_layer"] for node in graph.values() if "stop_at_clip_layer" in node.inputs)
    for layer in (_scalar(graph, layer) for layer in islice(layers, _MAX_STARTS)):
        if isinstance(layer, int):
            # ComfyUI counts from the end, -2 being what everyone else calls a clip skip of 2.
            found["clip_skip"] = abs(layer)
            break
    return found


_SETTINGS = {
    "steps": "steps",
    "cfg": "cfg_scale",
    "sampler_name": "sampler",
    "scheduler": "scheduler",
    "seed": "seed",
    "noise_seed": "seed",
}


def samplers(graph: Graph) -> list[Node]:
    """The nodes that sample, those that start from an empty picture first, else in the graph's order."""
    found = [node for node in graph.values() if "positive" in node.inputs and _samples(node)]
    found += [node for node in graph.values() if "guider" in node.inputs]

    def starts_from_picture(node: Node) -> bool:
        latent = _linked(graph, node.inputs.get("latent_image"))
        return latent is None or "Empty" not in latent.kind

    return sorted(found, key=starts_from_picture)


def _samples(node: Node) -> bool:
    return "Sampler" in node.kind or ("steps" in node.inputs and "cfg" in node.inputs)


def loaded_files(graph: Graph) -> Iterator[tuple[str, str, object, Node]]:
    """Each file the graph loads: its resource type, name, strength as given (else None), and node."""
    for node in graph.values():
        for name, (kind, strengths) in _FILE_INPUTS.items():
            value = node.inputs.get(name)
            if isinstance(value, str) and value not in _NO_FILE:
                weights = (_scalar(graph, node.inputs.get(strength)) for strength in strengths)
                yield kind, value, next((one for one in weights if one is not None), None), node
        if "UpscaleModel" in node.kind and isinstance(node.inputs.get("model_name"), str):
            yield "upscaler", node.inputs["model_name"], None, node
        for key, value in node.inputs.items():
            if "lora" not in key:
                continue
            if isinstance(value, dict):
                # rgthree's Power Lora Loader: lora_1, lora_2, … of {"on", "lora", "strength"}.
                file, strength = value.get("lora"), value.get("strength")
                if isinstance(file, str) and file not in _NO_FILE and value.get("on") is not False:
                    yield "lora", file, strength, Node(node.kind, value)
                continue
            # Stacks: lora_01 with strength_01, lora_name_1 with lora_wt_1 or model_str_1.
            stacked = _STACKED.fullmatch(key)
            if stacked and isinstance(value, str) and value not in _NO_FILE:
                names = [f"{name}_{stacked[1]}" for name in _STACKED_STRENGTHS]
                given = {name: node.inputs[name] for name in names if node.inputs.get(name) is not None}
                yield "lora", value, next(iter(given.values()), None), Node(node.kind, {key: value, **given})


_STACKED = re.compile(r"lora(?:_name)?_([0-9]{1,3})", re.ASCII)
_STACKED_STRENGTHS = ("strength", "lora_wt", "model_str")
_NO_FILE = ("", "None", "none")
_FILE_INPUTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "ckpt_name": ("checkpoint", ()),
    "base_ckpt_name": ("checkpoint", ()),
    "unet_name": ("checkpoint", ()),
    "lora_name": ("lora", ("strength_model", "lora_strength", "strength", "lora_model_strength")),
    "vae_name": ("vae", ()),
    "control_net_name": ("controlnet", ()),
    "hypernetwork_name": ("hypernet", ("strength",)),
}


def _linked(graph: Graph, value: object) -> Node | None:
    if isinstance(value, list) and len(value) == 2 and isinstance(value[0], str | int):  # noqa: PLR2004 - node, slot
        return graph.get(str(value[0]))
    return None


def _text(graph: Graph, value: object, side: str, *, joining: bool = True) -> str | None:
    """The text at the end of ``value``'s links, on the positive or negative ``side`` of nodes that have both.

    An SDXL encoder's two texts are joined as CivitAI joins them, once on the way.
    """
    for _ in range(_MAX_HOPS):
        if isinstance(value, str):
            return value
        node = _linked(graph, value)
        if node is None:
            return None
        if side in node.inputs:  # a ControlNet between encoder and sampler takes and gives both
            value = node.inputs[side]
            continue
        if joining and "text_g" in node.inputs and "text_l" in node.inputs:
            wide, local = (_text(graph, node.inputs[name], side, joining=False) for name in ("text_g", "text_l"))
            return f"{wide}, {local}" if _says(wide) and _says(local) and wide != local else _first_said((wide, local))
        following = [node.inputs[name] for name in _TEXT_INPUTS if name in node.inputs]
        texts = [text for text in following if isinstance(text, str)]
        if texts:
            return _first_said(texts)
        value = next((link for link in following if _linked(graph, link)), None)
    return None


def _text_of_node(graph: Graph, node: Node, side: str) -> str | None:
    for name in _TEXT_INPUTS:
        text = _text(graph, node.inputs.get(name), side)
        if text:
            return text
    return None


def _says(text: str | None) -> TypeGuard[str]:
    return bool(text and not text.isspace())


def _first_said(texts: Sequence[str | None]) -> str | None:
    """The first text that says something, else a blank one if there is one."""
    return next(filter(_says, texts), next((text for text in texts if text is not None), None))


def _scalar(graph: Graph, value: object) -> object:
    """The number or word at the end of ``value``'s links; None if there is none."""
    for _ in range(_MAX_HOPS):
        if isinstance(value, str | int | float):
            return value
        node = _linked(graph, value)
        if node is None:
            return None
        value = next((node.inputs[name] for name in _NUMBER_INPUTS if name in node.inputs), None)
    return None

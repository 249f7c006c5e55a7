"""Hypothesis strategies for hostile JSON, and real-shaped items and their mutations. No tests here."""

from __future__ import annotations

import copy
import json
from typing import Any

from hypothesis import strategies as st

from civitai_pipeline_tests.items import api_item, stats

TEXT = st.text(st.characters(), max_size=30)
HOSTILE_TEXT = TEXT | st.sampled_from(
    ["", " ", "\ud800", "\x00", "<lora:a:1>", "((a:1.2)", "urn:air:sdxl:lora:civitai:1@2", "1e999", "9" * 50, "NaN"]
)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=2**62, max_value=2**70)
    | st.floats()
    | HOSTILE_TEXT
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(HOSTILE_TEXT, inner, max_size=4),
    max_leaves=12,
)


def item(**changes: Any) -> dict[str, Any]:  # noqa: ANN401 - any JSON value may stand in an item
    """An ordinary item as the API gives it, with ``changes``."""
    usual = {
        "id": 501,
        "createdAt": "2026-03-04T05:06:07.089Z",
        "postId": 77,
        "stats": stats(cry=1, laugh=2, like=30, heart=4, comment=5),
        "meta": CIVITAI,
        "username": "someone",
        "modelVersionIds": [900],
    }
    return api_item(501) | usual | changes


CIVITAI: dict[str, Any] = {
    "prompt": "a tin whale above the moor",
    "negativePrompt": "blurry",
    "cfgScale": 5,
    "steps": 30,
    "sampler": "Euler a",
    "seed": 7,
    "clipSkip": 2,
    "workflow": "txt2img",
    "civitaiResources": [
        {"type": "checkpoint", "modelVersionId": 900},
        {"type": "lora", "weight": 0.8, "modelVersionId": 901},
    ],
    "resources": [],
}
A1111: dict[str, Any] = {
    "prompt": "moor at dawn <lora:haze:0.6>",
    "negativePrompt": "",
    "cfgScale": 6.5,
    "steps": 25,
    "sampler": "DPM++ 2M",
    "Schedule type": "Karras",
    "seed": 42,
    "Clip skip": "2",
    "Model": "paperMix_v2",
    "Model hash": "0a1b2c3d4e",
    "Version": "v1.9.0",
    "hashes": {"model": "0a1b2c3d4e", "lora:haze": "a1b2c3d4e5f6", "vae": "1234567890"},
    "resources": [
        {"type": "lora", "name": "haze", "weight": 0.6, "hash": "a1b2c3d4e5f6"},
        {"type": "model", "name": "paperMix_v2", "hash": "0a1b2c3d4e"},
    ],
}
GRAPH: dict[str, Any] = {
    "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "folder\\paperXL.safetensors"}},
    "2": {
        "class_type": "LoraLoader",
        "inputs": {"lora_name": "ink.safetensors", "strength_model": 0.7, "strength_clip": 1, "model": ["1", 0]},
    },
    "3": {"class_type": "CLIPTextEncode", "inputs": {"text": ["9", 0], "clip": ["2", 1]}},
    "4": {"class_type": "CLIPTextEncode", "inputs": {"text": "lowres", "clip": ["2", 1]}},
    "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 1024, "height": 1024}},
    "6": {
        "class_type": "KSampler",
        "inputs": {
            "seed": ["10", 0],
            "steps": 20,
            "cfg": 7.5,
            "sampler_name": "euler",
            "scheduler": "normal",
            "positive": ["3", 0],
            "negative": ["4", 0],
            "latent_image": ["5", 0],
        },
    },
    "9": {"class_type": "PrimitiveString", "inputs": {"value": "ink castle, embedding:bright"}},
    "10": {"class_type": "PrimitiveInt", "inputs": {"value": 99}},
}

SUI: dict[str, Any] = {
    "prompt": "p",
    "negativeprompt": "n",
    "steps": 12,
    "cfgscale": 3.5,
    "seed": 4,
    "model": "base.safetensors",
}
# Metadata in each style, as it stands in items.
STYLES: list[dict[str, Any]] = [
    CIVITAI,
    A1111,
    {"engine": "ComfyUI", "comfy": json.dumps({"prompt": GRAPH, "workflow": {}})},
    {"comfy": {"prompt": GRAPH}},
    {"sui_image_params": SUI},
    {"prompt": "p", "software": "RuinedFooocus", "other": {"sampler_name": "dpmpp_2m", "base_model_name": "m.st"}},
    {"id": 501, "meta": A1111},
    {
        "prompt": "ink castle <lyco:fold:0.5:0.2>, urn:air:sdxl:lora:civitai:5@6 (embedding:bright:1.2)",
        "Model": "urn:air:sdxl:checkpoint:civitai:12@34",
        "Model hash": "0a1b2c3d4e",
        "VAE": "sharp.vae.pt",
        "Hires upscaler": "4x",
        "Lora hashes": "fold: a1b2c3d4e5f6",
        "additionalResources": [{"name": "fold.safetensors", "type": "lora", "strength": 0.7, "strengthClip": 1}],
        "models": ["paper.safetensors"],
        "versionIds": [34, "35"],
    },
]


def deep(levels: int, *, objects: bool) -> object:
    """A value nested so many levels."""
    value: object = "deep"
    for _ in range(levels):
        value = {"prompt": value} if objects else [value]
    return value


@st.composite
def mutated_items(draw: st.DrawFn) -> Any:  # noqa: ANN401 - a mutated item may be anything
    """A real-shaped item with some of its values changed as careless tools and hostile people would change them."""
    mutated: Any = [item(meta=copy.deepcopy(draw(st.sampled_from(STYLES))))]
    for _ in range(draw(st.integers(1, 6))):
        holder, key = draw(st.sampled_from(_places(mutated)))
        _mutate(draw, holder, key, mutated)
    return mutated[0]


def _places(value: Any) -> list[tuple[Any, Any]]:  # noqa: ANN401 - any JSON
    """Every place in ``value`` that holds something, as its holder and key."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else []
    return [place for key in keys for place in [(value, key), *_places(value[key])]]


def _mutate(draw: st.DrawFn, holder: Any, key: Any, whole: Any) -> None:  # noqa: ANN401 - any JSON
    old = holder[key]
    how = draw(
        st.sampled_from(("other", "text", "nested", "dropped", "moved", "renamed", "repeated", "spoilt", "huge"))
    )
    if how == "other":
        holder[key] = draw(JSON)
    elif how == "text":
        holder[key] = json.dumps(old)
    elif how == "nested":
        holder[key] = draw(st.sampled_from(({"meta": old, "id": 1}, [old], {"prompt": old})))
    elif how == "dropped" and isinstance(holder, dict):
        del holder[key]
    elif how == "moved":
        other, place = draw(st.sampled_from(_places(whole)))
        holder[key] = copy.deepcopy(other[place])
    elif how == "renamed" and isinstance(holder, dict):
        holder[draw(st.sampled_from(_KEYS))] = holder.pop(key)
    elif how == "repeated" and len(json.dumps(old)) < 1000:
        holder[key] = [copy.deepcopy(old) for _ in range(20)]
    elif how == "spoilt" and isinstance(old, str):
        place = draw(st.integers(0, len(old)))
        holder[key] = old[:place] + draw(HOSTILE_TEXT) + old[place:]
    elif how == "huge" and isinstance(old, int | float):
        holder[key] = draw(st.sampled_from((old * 2**64, -old, old / 3, float("inf"), str(old), f"{old}.0", bool(old))))


_KEYS = (
    "id", "meta", "stats", "prompt", "negativePrompt", "comfy", "workflow", "Model", "Model hash", "VAE", "hashes",
    "resources", "civitaiResources", "additionalResources", "models", "versionIds", "type", "name", "hash", "weight",
    "air", "modelVersionId", "class_type", "inputs", "text", "positive", "lora_name", "seed", "Version", "software",
    "other",
)  # fmt: skip

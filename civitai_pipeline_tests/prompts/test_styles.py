"""Each tool's metadata worked by hand: what is read of it, facts and resources together."""

from __future__ import annotations

import json
from typing import Any

import pytest

from civitai_pipeline.prompts.items import read_item
from civitai_pipeline.prompts.resources import extract_resources
from civitai_pipeline_tests.prompts.strategies import item

# Type, name, version id, hash, weight, sources.
Found = tuple[str, str | None, int | None, str | None, float | None, tuple[str, ...]]

A1111: tuple[dict[str, Any], dict[str, Any], list[Found]] = (
    {
        "prompt": "harbour <lora:Fog_v2:0.6>, (lamps:1.2)",
        "negativePrompt": "embedding:flatness, people",
        "cfgScale": "6.5",
        "steps": "25",
        "sampler": "DPM++ 2M",
        "Schedule type": "Karras",
        "seed": "18446744073709551615",
        "Size": "832x1216",
        "Clip skip": "2",
        "Model": "paperMix_v2",
        "Model hash": "0A1B2C3D4E",
        "VAE": "sharp.vae.pt",
        "Hires upscaler": "Latent (nearest)",
        "Denoising strength": "0.4",
        "Version": "v1.9.0",
        "hashes": {"model": "0a1b2c3d4e", "lora:fog_v2": "A1B2C3D4E5F6", "vae": "0123456789"},
        "resources": [
            {"type": "lora", "name": "loras/Fog_v2.safetensors", "weight": "0.6", "hash": "a1b2c3d4e5f6"},
            {"type": "model", "name": "paperMix_v2", "hash": "0a1b2c3d4e"},
        ],
    },
    {
        "prompt": "harbour <lora:Fog_v2:0.6>, (lamps:1.2)",
        "negative_prompt": "embedding:flatness, people",
        "cfg_scale": 6.5,
        "steps": 25,
        "sampler": "DPM++ 2M",
        "scheduler": "Karras",
        "seed": None,  # beyond 64 bits with a sign
        "clip_skip": 2,
        "checkpoint_name": "paperMix_v2",
        "generator": "a1111",
    },
    [
        (
            "lora",
            "loras/Fog_v2.safetensors",
            None,
            "a1b2c3d4e5f6",
            0.6,
            ("resources", "hashes", "prompt_tag"),
        ),
        ("checkpoint", "paperMix_v2", None, "0a1b2c3d4e", None, ("resources", "model_keys", "hashes")),
        ("vae", "sharp.vae.pt", None, None, None, ("model_keys",)),
        ("embedding", "flatness", None, None, None, ("prompt_tag",)),
    ],
)
CIVITAI: tuple[dict[str, Any], dict[str, Any], list[Found]] = (
    {
        "prompt": "harbour in fog",
        "cfgScale": 5,
        "steps": 30.0,
        "sampler": "Euler a",
        "seed": 1.5e18,
        "clipSkip": 2,
        "workflow": "txt2img",
        "engine": "Civitai",
        "Model": "urn:air:sdxl:checkpoint:civitai:11@900",
        "civitaiResources": [
            {"type": "Checkpoint", "modelVersionId": 900},
            {"type": "LORA", "weight": 0.8, "modelVersionId": "901", "modelVersionName": "v1.0"},
            {"type": "lora", "modelVersionId": 902},
            {"air": "urn:air:sdxl:embedding:civitai:12@903.safetensors"},
            {"type": "embed", "weight": None, "modelVersionId": 903},
        ],
        "resources": [],
    },
    {
        "negative_prompt": None,
        "steps": 30,
        "seed": 1_500_000_000_000_000_000,
        "clip_skip": 2,
        "checkpoint_name": None,
        "generator": "civitai",
    },
    [
        ("checkpoint", None, 900, None, None, ("civitai_resources", "air")),
        ("lora", "v1.0", 901, None, 0.8, ("civitai_resources",)),
        ("lora", None, 902, None, None, ("civitai_resources",)),
        ("embedding", None, 903, None, None, ("civitai_resources",)),
    ],
)
COMFYUI: tuple[dict[str, Any], dict[str, Any], list[Found]] = (
    {
        "prompt": "harbour",
        "negativePrompt": "text",
        "engine": "ComfyUI",
        "cfgScale": 7,
        "steps": 20,
        "seed": 9,
        "sampler": "Euler",
        "scheduler": "normal",
        "denoise": 1,
        "models": ["paperXL.safetensors"],
        "Model": "paperXL",
        "additionalResources": [
            {"name": "ink.safetensors", "type": "lora", "strength": 0.7, "strengthClip": 1},
            {"name": "urn:air:sdxl:lora:civitai:5@6", "type": "lora", "strength": -0.3},
        ],
        "vaes": [],
        "comfy": '{"prompt": {}, "workflow": {}}',
    },
    {"sampler": "Euler", "scheduler": "normal", "checkpoint_name": "paperXL", "generator": "comfyui"},
    [
        ("lora", "ink.safetensors", None, None, 0.7, ("additional_resources",)),
        ("lora", None, 6, None, -0.3, ("additional_resources",)),
        ("checkpoint", "paperXL.safetensors", None, None, None, ("models", "model_keys")),
    ],
)
FLUX = {
    "1": {"class_type": "UNETLoader", "inputs": {"unet_name": "flux\\sea-dev.safetensors"}},
    "2": {
        "class_type": "Power Lora Loader (rgthree)",
        "inputs": {
            "lora_1": {"on": True, "lora": "Salt.safetensors", "strength": 0.9},
            "lora_2": {"on": False, "lora": "Off.safetensors", "strength": 1},
            "model": ["1", 0],
        },
    },
    "3": {"class_type": "CLIPTextEncode", "inputs": {"text": "harbour, <lora:salt:0.5>"}},
    "4": {"class_type": "FluxGuidance", "inputs": {"guidance": 3.5, "conditioning": ["3", 0]}},
    "5": {"class_type": "BasicGuider", "inputs": {"model": ["2", 0], "conditioning": ["4", 0]}},
    "6": {"class_type": "RandomNoise", "inputs": {"noise_seed": 2**63 - 1}},
    "7": {"class_type": "KSamplerSelect", "inputs": {"sampler_name": "euler"}},
    "8": {"class_type": "BasicScheduler", "inputs": {"scheduler": "simple", "steps": 8}},
    "9": {"class_type": "VAELoader", "inputs": {"vae_name": "ae.safetensors"}},
    "10": {
        "class_type": "SamplerCustomAdvanced",
        "inputs": {"guider": ["5", 0], "noise": ["6", 0], "sampler": ["7", 0], "sigmas": ["8", 0]},
    },
}
COMFYUI_GRAPH: tuple[dict[str, Any], dict[str, Any], list[Found]] = (
    {"comfy": f'{{"prompt": {json.dumps(FLUX)}, "workflow": undefined}}'},
    {
        "prompt": "harbour, <lora:salt:0.5>",
        "negative_prompt": None,
        "steps": 8,
        "cfg_scale": None,
        "sampler": "euler",
        "scheduler": "simple",
        "seed": 2**63 - 1,
        "checkpoint_name": "flux\\sea-dev.safetensors",
        "generator": "comfyui",
    },
    [
        ("checkpoint", "flux\\sea-dev.safetensors", None, None, None, ("comfy",)),
        ("lora", "Salt.safetensors", None, None, 0.9, ("comfy", "prompt_tag")),
        ("vae", "ae.safetensors", None, None, None, ("comfy",)),
    ],
)
SWARMUI: tuple[dict[str, Any], dict[str, Any], list[Found]] = (
    {
        "prompt": "harbour <lora:salt:0.5>",
        "negativePrompt": "",
        "cfgScale": 6.5,
        "steps": 20,
        "seed": "4",
        "sampler": "DPM++ 2M",
        "originalSampler": "dpmpp_2m",
        "scheduler": "karras",
        "Model": "paperXL",
        "version": "0.9.6.1",
        "hashes": {"model": "0x0A1B2C3D4E" + "5" * 54},
    },
    {"negative_prompt": "", "sampler": "DPM++ 2M", "scheduler": "karras", "seed": 4, "generator": "swarmui"},
    [
        ("checkpoint", "paperXL", None, "0a1b2c3d4e" + "5" * 54, None, ("model_keys", "hashes")),
        ("lora", "salt", None, None, 0.5, ("prompt_tag",)),
    ],
)
SWARMUI_OWN: tuple[dict[str, Any], dict[str, Any], list[Found]] = (
    {
        "sui_image_params": json.dumps(
            {
                "prompt": "harbour",
                "negativeprompt": "embedding:flatness",
                "steps": 12,
                "cfgscale": 3.5,
                "seed": 4,
                "model": "base.safetensors",
                "scheduler": "karras",
            }
        )
    },
    {
        "prompt": "harbour",
        "negative_prompt": "embedding:flatness",
        "steps": 12,
        "cfg_scale": 3.5,
        "checkpoint_name": "base.safetensors",
        "generator": "swarmui",
    },
    [("embedding", "flatness", None, None, None, ("prompt_tag",))],
)
RUINED_FOOOCUS: tuple[dict[str, Any], dict[str, Any], list[Found]] = (
    {
        "prompt": "harbour",
        "negativePrompt": "text",
        "cfgScale": 4,
        "steps": 30,
        "seed": -1,
        "sampler": "dpmpp_2m_sde_gpu",
        "scheduler": "karras",
        "denoise": None,
        "software": "RuinedFooocus",
        "Model": "paperXL.safetensors",
        "other": {"loras": [], "start_step": 0},
    },
    {"seed": -1, "scheduler": "karras", "checkpoint_name": "paperXL.safetensors", "generator": "ruinedfooocus"},
    [("checkpoint", "paperXL.safetensors", None, None, None, ("model_keys",))],
)
FOOOCUS: tuple[dict[str, Any], dict[str, Any], list[Found]] = (
    {
        "Prompt": "harbour",
        "Negative Prompt": "text",
        "Guidance Scale": "4.0",
        "Steps": "60",
        "Sampler": "dpmpp_2m_sde_gpu",
        "Scheduler": "karras",
        "Seed": "77",
        "Base Model": "paperXL.safetensors",
        "Version": "Fooocus v2.5.5",
        "Lora hashes": "salt: a1b2c3d4e5",
    },
    {
        "prompt": "harbour",
        "negative_prompt": "text",
        "cfg_scale": 4.0,
        "steps": 60,
        "scheduler": "karras",
        "seed": 77,
        "checkpoint_name": "paperXL.safetensors",
        "generator": "fooocus",
    },
    [("lora", "salt", None, "a1b2c3d4e5", None, ("hashes",))],
)
INVOKEAI: tuple[dict[str, Any], dict[str, Any], list[Found]] = (
    {
        "invokeai_metadata": {
            "positive_prompt": "harbour",
            "negative_prompt": "text",
            "cfg_scale": 7,
            "steps": 24,
            "seed": 3,
            "scheduler": "euler_k",
            "model": {"name": "paperXL", "hash": "blake3:00"},
        }
    },
    {
        "prompt": "harbour",
        "negative_prompt": "text",
        "cfg_scale": 7.0,
        "scheduler": "euler_k",
        "checkpoint_name": "paperXL",
        "generator": "invokeai",
    },
    [],
)
UNKNOWN: tuple[dict[str, Any], dict[str, Any], list[Found]] = (
    {"prompt": "harbour", "external": {"source": {"name": "Paint Harbour"}}, "seed": "12 monkeys", "steps": [20]},
    {"prompt": "harbour", "seed": None, "steps": None, "generator": "unknown"},
    [],
)
STYLES = {
    "a1111": A1111,
    "civitai": CIVITAI,
    "comfyui": COMFYUI,
    "comfyui, the graph alone": COMFYUI_GRAPH,
    "swarmui": SWARMUI,
    "swarmui, its own layout": SWARMUI_OWN,
    "ruinedfooocus": RUINED_FOOOCUS,
    "fooocus": FOOOCUS,
    "invokeai": INVOKEAI,
    "unknown": UNKNOWN,
}


@pytest.mark.parametrize(("meta", "facts", "resources"), STYLES.values(), ids=STYLES.keys())
@pytest.mark.parametrize("nested", [False, True], ids=["flat", "nested"])
def test_a_style_worked_by_hand(
    meta: dict[str, Any], facts: dict[str, Any], resources: list[Found], *, nested: bool
) -> None:
    reading = read_item(item(meta={"id": 501, "meta": meta} if nested else meta))
    read = {"prompt": reading.prompt, **reading.facts}
    assert {name: read[name] for name in facts} == facts
    assert [
        (one.resource_type, one.name, one.version_id, one.hash, one.weight, one.sources)
        for one in extract_resources(reading.meta, reading.prompt)
    ] == resources

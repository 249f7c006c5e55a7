"""The ``meta`` objects of the synthetic dataset, in the forms the generators of the world leave behind.

One function a generator. The prompt is given; what becomes of the image is in ``maker.py``.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from civitai_pipeline.sandbox.dataset.prompts import lora_names

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from random import Random

Meta = dict[str, object]

SAMPLERS = (
    "Euler a", "Euler", "DPM++ 2M", "DPM++ 2M Karras", "DPM++ SDE Karras", "DPM++ 3M SDE", "UniPC", "DDIM", "Heun",
    "LCM",
)  # fmt: skip
_SCHEDULERS = ("normal", "karras", "simple", "beta", "sgm_uniform", "exponential")
_SIZES = ((832, 1216), (1216, 832), (1024, 1024), (896, 1152), (768, 1344), (512, 768), (1536, 1024), (640, 1536))
# Beyond 2^53 a number has been through JavaScript and is rounded.
_EXACT_SEEDS = 2**53
_HOME_MADE, _HOME_MADE_EVERY = "my_own_likeness_v3", 12
_LORA_TAG = re.compile(r"<lora:([^:>]+)(?::([^>]+))?>")
_UPLOAD_KEEPS_NUMBERS_MS = 1_773_273_600_000  # 2026-03-12: from then on width and height instead of Size


@dataclass(frozen=True)
class Checkpoint:
    """What a generator knows of the version it runs.

    Attributes:
        version_id: The version.
        model_id: Its model.
        name: The file's name without extension.
        autov2: The file's short hash, upper case.
        ecosystem: The root family, as in AIR.
        base_model: The base model's family as CivitAI's generator writes it.
    """

    version_id: int
    model_id: int
    name: str
    autov2: str
    ecosystem: str
    base_model: str

    @property
    def air(self) -> str:
        """The version's resource name."""
        return f"urn:air:{self.ecosystem}:checkpoint:civitai:{self.model_id}@{self.version_id}"


@dataclass(frozen=True)
class Task:
    """What an image was made from.

    Attributes:
        prompt: The prompt.
        negative: The negative prompt, perhaps empty.
        checkpoint: The version used.
        pixels: Width and height.
        loras: Version ids of the LoRAs used.
        at_ms: When it was uploaded, milliseconds since 1970.
    """

    prompt: str
    negative: str
    checkpoint: Checkpoint
    pixels: tuple[int, int]
    loras: Sequence[int]
    at_ms: int


def chance(random: Random, share: float) -> bool:
    """True for this share of the draws."""
    return random.random() < share


def size(random: Random) -> tuple[int, int]:
    """Width and height of a new image."""
    return random.choice(_SIZES)


def seed(random: Random) -> int:
    """A seed; a few are beyond what a JavaScript number holds and come rounded."""
    if chance(random, 0.06):
        return int(float(random.randrange(_EXACT_SEEDS, 2**63)))
    return random.randrange(2**32)


def a1111(random: Random, task: Task) -> Meta:
    """What the A1111 web UI and its relatives write; every detail beyond the first few is text."""
    as_text = chance(random, 0.2)  # older rows hold numbers as text
    meta: Meta = {"prompt": task.prompt, "negativePrompt": task.negative}
    cfg, steps = random.choice((4, 5, 6, 6.5, 7, 7.5)), random.randint(14, 50)
    meta["cfgScale"] = str(cfg) if as_text else cfg
    meta["steps"] = str(steps) if as_text else steps
    meta["sampler"] = random.choice(SAMPLERS)
    number = seed(random)
    meta["seed"] = str(number) if as_text else number
    if task.at_ms < _UPLOAD_KEEPS_NUMBERS_MS:
        meta["Size"] = f"{task.pixels[0]}x{task.pixels[1]}"
    else:
        meta["width"], meta["height"] = task.pixels
    hashes: dict[str, str] = {"model": task.checkpoint.autov2.lower()}
    resources: list[Meta] = []
    for name, weight in _LORA_TAG.findall(task.prompt):
        digest = lora_digest(name)
        hashes[f"lora:{name}"] = digest
        resources.append({"type": "lora", "name": name, "weight": float(weight or 1), "hash": digest})
    if number % _HOME_MADE_EVERY == 0:
        # Never published, so that the look-up by hash knows nothing of it.
        digest = lora_digest(_HOME_MADE)
        hashes[f"lora:{_HOME_MADE}"] = digest
        resources.append({"type": "lora", "name": _HOME_MADE, "weight": 0.5, "hash": digest})
    resources.append({"type": "model", "name": task.checkpoint.name, "hash": task.checkpoint.autov2.lower()})
    meta["Model"] = task.checkpoint.name
    meta["Model hash"] = task.checkpoint.autov2.lower()
    if chance(random, 0.5):
        meta["Clip skip" if chance(random, 0.5) else "clipSkip"] = random.choice((1, 2))
    if chance(random, 0.3):
        meta |= {
            "Denoising strength": random.choice(("0.35", "0.4", "0.5")),
            "Hires upscale": "1.5",
            "Hires upscaler": "4x-UltraSharp",
        }
    if chance(random, 0.2):
        meta |= {"VAE": "sdxl_vae.safetensors", "ENSD": "31337"}
    meta["Version"] = random.choice(("v1.9.0", "v1.10.1", "f2.0.1v1.10.1-previous-669-gdfdcbab6", "v1.6.0"))
    if chance(random, 0.85):
        meta["hashes"] = hashes
        meta["resources"] = resources
    return meta


def civitai(random: Random, task: Task) -> Meta:
    """What CivitAI's own generator writes."""
    meta: Meta = {"prompt": task.prompt}
    if task.negative:
        meta["negativePrompt"] = task.negative
    resources: list[Meta] = [
        {"type": "Checkpoint" if chance(random, 0.15) else "checkpoint", "modelVersionId": task.checkpoint.version_id}
    ]
    for lora in task.loras:
        entry: Meta = {"type": random.choice(("lora", "lora", "LORA"))}
        if chance(random, 0.75):  # the rest has no weight, which is not the weight 1
            entry["weight"] = random.choice((0.4, 0.6, 0.8, 1, 1.2))
        entry["modelVersionId"] = lora
        if chance(random, 0.05):  # older rows carry more keys
            entry["modelVersionName"] = "v1.0"
        resources.append(entry)
    if chance(random, 0.05):
        resources.append({"type": random.choice(("embed", "embedding")), "weight": 1, "modelVersionId": 700991})
    random.shuffle(resources)
    meta |= {
        "cfgScale": random.choice((3.5, 5, 6, 7)),
        "steps": random.choice((20, 25, 28, 30, 35)),
        "sampler": random.choice(SAMPLERS[:4]),
        "seed": seed(random),
        "clipSkip": 2,
        "width": task.pixels[0],
        "height": task.pixels[1],
        "workflow": random.choice(("txt2img", "txt2img", "txt2img", "img2img:hires-fix", "img2img")),
        "baseModel": task.checkpoint.base_model,
        "quantity": random.choice((1, 2, 4)),
        "draft": False,
    }
    if chance(random, 0.5):
        meta["engine"] = "Civitai"
    if chance(random, 0.3):
        meta["Model"] = task.checkpoint.air
    if chance(random, 0.04):
        meta["extra"] = {"remixOfId": random.randrange(60_000_000, 69_000_000)}
    meta["civitaiResources"] = resources
    meta["resources"] = []
    return meta


def comfyui(random: Random, task: Task) -> Meta:
    """What ComfyUI leaves: a summary, and the graph as text, which is not always valid JSON."""
    file = f"{task.checkpoint.name}.safetensors"
    width, height = task.pixels
    number = seed(random)
    steps, cfg = random.choice((20, 25, 30)), random.choice((4, 5.5, 7))
    scheduler = random.choice(_SCHEDULERS)
    graph: dict[str, Meta] = {
        "3": {
            "class_type": "KSampler",
            "inputs": {
                "seed": number, "steps": steps, "cfg": cfg, "sampler_name": "euler", "scheduler": scheduler,
                "denoise": 1, "model": ["4", 0], "positive": ["6", 0], "negative": ["7", 0], "latent_image": ["5", 0],
            },
        },
        "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": file}},
        "5": {"class_type": "EmptyLatentImage", "inputs": {"width": width, "height": height, "batch_size": 1}},
        "6": {"class_type": "CLIPTextEncode", "inputs": {"text": task.prompt, "clip": ["4", 1]}},
        "7": {"class_type": "CLIPTextEncode", "inputs": {"text": task.negative, "clip": ["4", 1]}},
        "8": {"class_type": "VAEDecode", "inputs": {"samples": ["3", 0], "vae": ["4", 2]}},
        "9": {"class_type": "SaveImage", "inputs": {"images": ["8", 0], "filename_prefix": "sandbox"}},
    }  # fmt: skip
    extra_loras: list[Meta] = []
    if chance(random, 0.4):
        name = random.choice(lora_names())
        by_air = f"urn:air:{task.checkpoint.ecosystem}:lora:civitai:8101@700101"
        extra_loras.append(
            {
                "name": by_air if chance(random, 0.3) else f"{name}.safetensors",
                "type": "lora",
                "strength": random.choice((0.5, 0.7, 1)),
                "strengthClip": 1,
            }
        )
    workflow = {"nodes": [{"id": int(key), "type": node["class_type"]} for key, node in graph.items()], "version": 0.4}
    meta: Meta = {
        "prompt": task.prompt,
        "negativePrompt": task.negative,
        "engine": "ComfyUI",
        "cfgScale": cfg,
        "steps": steps,
        "seed": number,
        "sampler": "Euler",
        "scheduler": scheduler,
        "denoise": 1,
        "width": task.pixels[0],
        "height": task.pixels[1],
        "models": [task.checkpoint.air if chance(random, 0.15) else file],
        "Model": task.checkpoint.name,
        "additionalResources": extra_loras,
        "vaes": [],
        "comfy": _graph_text(random, graph, workflow),
    }
    if chance(random, 0.1):
        meta |= {"versionIds": [task.checkpoint.version_id], "modelIds": [task.checkpoint.model_id]}
    return meta


def _graph_text(random: Random, graph: dict[str, Meta], workflow: Meta) -> object:
    if chance(random, 0.06):
        return {"prompt": graph, "workflow": workflow}
    text = json.dumps(graph, ensure_ascii=False)
    if chance(random, 0.04):
        return f'{{"prompt": {text}, "workflow": undefined}}'
    if chance(random, 0.04):
        broken = text[:-1] + ', "10": {"class_type": "PreviewAny", "inputs": {"value": [NaN]}}}'
        return f'{{"prompt": {broken}, "workflow": {{}}}}'
    return f'{{"prompt": {text}, "workflow": {json.dumps(workflow)}}}'


def swarmui(random: Random, task: Task) -> Meta:
    """What SwarmUI leaves."""
    return {
        "prompt": task.prompt,
        "negativePrompt": task.negative,
        "cfgScale": 6.5,
        "steps": random.choice((20, 30)),
        "seed": seed(random),
        "sampler": "DPM++ 2M",
        "originalSampler": "dpmpp_2m",
        "scheduler": random.choice(_SCHEDULERS),
        "width": task.pixels[0],
        "height": task.pixels[1],
        "Model": task.checkpoint.name,
        "software": "SwarmUI",
        "version": "0.9.6.1",
        "hashes": {"model": task.checkpoint.autov2.lower()},
    }


def ruined_fooocus(random: Random, task: Task) -> Meta:
    """What RuinedFooocus leaves."""
    return {
        "prompt": task.prompt,
        "negativePrompt": task.negative,
        "cfgScale": 4,
        "steps": 30,
        "seed": seed(random),
        "sampler": "dpmpp_2m_sde_gpu",
        "scheduler": "karras",
        "width": task.pixels[0],
        "height": task.pixels[1],
        "denoise": None,
        "software": "RuinedFooocus",
        "Model": f"{task.checkpoint.name}.safetensors",
        "other": {"loras": [], "start_step": 0},
    }


def unknown(random: Random, task: Task) -> Meta:
    """What an uploader typed into the form, or a tool nobody knows."""
    meta: Meta = {"prompt": task.prompt}
    if task.negative and chance(random, 0.5):
        meta["negativePrompt"] = task.negative
    if chance(random, 0.2):
        meta["external"] = {"source": {"name": "Paint Harbour", "homepage": "https://paintharbour.example"}}
    return meta


def lora_digest(name: str) -> str:
    """The hash every file of a LoRA of this name has."""
    return f"{sum(ord(letter) * 131**n for n, letter in enumerate(name)) % 16**12:012x}"


GENERATORS: Mapping[str, tuple[Callable[[Random, Task], Meta], float]] = {
    "a1111": (a1111, 34),
    "civitai": (civitai, 42),
    "comfyui": (comfyui, 16),
    "swarmui": (swarmui, 3),
    "ruined_fooocus": (ruined_fooocus, 1.5),
    "unknown": (unknown, 3.5),
}
"""How each generator writes, and its share of the images."""

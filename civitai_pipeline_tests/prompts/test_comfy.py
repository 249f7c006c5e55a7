"""ComfyUI graphs: the prompt and settings that stand nowhere else."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from civitai_pipeline.prompts.items import read_item
from civitai_pipeline.prompts.resources import extract_resources
from civitai_pipeline_tests.prompts.strategies import GRAPH, item

FOUND = {
    "prompt": "ink castle, embedding:bright",
    "negative_prompt": "lowres",
    "steps": 20,
    "cfg_scale": 7.5,
    "sampler": "euler",
    "scheduler": "normal",
    "seed": 99,
    "checkpoint_name": "folder\\paperXL.safetensors",
    "generator": "comfyui",
}
WHOLE = json.dumps({"prompt": GRAPH, "workflow": {}})


def read(comfy: object, **keys: object) -> dict[str, Any]:
    reading = read_item(item(meta={"comfy": comfy} | keys))
    return reading.facts | {"prompt": reading.prompt}


@pytest.mark.parametrize(
    "comfy",
    [
        WHOLE,
        {"prompt": GRAPH},
        {"prompt": json.dumps(GRAPH), "workflow": "{}"},
        GRAPH,
        WHOLE.replace('"workflow": {}', '"workflow": undefined'),
        WHOLE.replace('"workflow": {}', '"workflow": {"a": [NaN], "b": -Infinity, "c": "\\ud800 NaN"}'),
    ],
    ids=["string", "object", "strings inside", "bare graph", "undefined", "NaN"],
)
def test_a_graph_alone_gives_every_fact(comfy: object) -> None:
    found = read(comfy)
    assert {name: found[name] for name in FOUND} == FOUND


def test_keys_go_before_the_graph() -> None:
    found = read(WHOLE, prompt="said outright", steps=33)
    assert (found["prompt"], found["steps"], found["sampler"]) == ("said outright", 33, "euler")


def test_tokens_inside_strings_are_left_alone() -> None:
    graph = GRAPH | {"9": {"class_type": "S", "inputs": {"value": 'say "undefined" or NaN \\ Infinity'}}}
    comfy = json.dumps({"prompt": graph}).replace('"seed": ["10", 0]', '"seed": NaN')
    assert read(comfy)["prompt"] == 'say "undefined" or NaN \\ Infinity'


BROKEN_WORKFLOW = WHOLE.replace('"workflow": {}', '"workflow": {"nodes": [{"text": "}{"}, oops')


@pytest.mark.parametrize(
    "comfy",
    [
        WHOLE[:-5],
        BROKEN_WORKFLOW,
        WHOLE.replace('"prompt"', '"workflow": {"a": ], "prompt"', 1),
        "\0" + WHOLE + "\0\0",
        WHOLE.replace("lowres", "low\nres"),
    ],
    ids=["cut short", "workflow broken", "workflow first", "padded", "raw line end"],
)
def test_what_is_whole_of_a_broken_text_is_read(comfy: str) -> None:
    found = read(comfy) | {"negative_prompt": "lowres"}
    assert {name: found[name] for name in FOUND} == FOUND


@pytest.mark.parametrize(
    "comfy", ["", "null", "{", WHOLE[:60], "[1]", '{"prompt": "x", "workflow": 7}', "undefined", 7, None]
)
def test_a_graph_that_cannot_be_read_is_no_graph(comfy: object) -> None:
    reading = read_item(item(meta={"comfy": comfy}))
    assert reading.prompt is None
    assert reading.facts["steps"] is None
    assert extract_resources(reading.meta, None) == []


def test_a_graph_in_place_of_the_prompt_serves_where_comfy_is_broken() -> None:
    assert read("{", prompt=GRAPH)["prompt"] == FOUND["prompt"]


def test_the_sampler_that_starts_from_nothing_goes_first() -> None:
    refiner = {"class_type": "KSampler", "inputs": GRAPH["6"]["inputs"] | {"steps": 5, "latent_image": ["6", 0]}}
    assert read({"prompt": {"0": refiner} | GRAPH})["steps"] == 20


def test_a_controlnet_passes_each_side_on() -> None:
    graph = GRAPH | {
        "6": {
            "class_type": "KSampler",
            "inputs": GRAPH["6"]["inputs"] | {"positive": ["7", 0], "negative": ["7", 1]},
        },
        "7": {
            "class_type": "ControlNetApplyAdvanced",
            "inputs": {"positive": ["3", 0], "negative": ["4", 0], "strength": 1},
        },
    }
    found = read({"prompt": graph})
    assert (found["prompt"], found["negative_prompt"]) == (FOUND["prompt"], "lowres")


def test_a_custom_sampler_is_read_through_its_parts() -> None:
    graph = {
        "1": {"class_type": "CLIPTextEncode", "inputs": {"text": "glass harbour"}},
        "2": {"class_type": "BasicGuider", "inputs": {"conditioning": ["3", 0], "model": ["9", 0]}},
        "3": {"class_type": "FluxGuidance", "inputs": {"conditioning": ["1", 0], "guidance": 3.5}},
        "4": {"class_type": "KSamplerSelect", "inputs": {"sampler_name": "heun"}},
        "5": {"class_type": "BasicScheduler", "inputs": {"scheduler": "beta", "steps": 8}},
        "6": {"class_type": "RandomNoise", "inputs": {"noise_seed": 123}},
        "7": {
            "class_type": "SamplerCustomAdvanced",
            "inputs": {"guider": ["2", 0], "sampler": ["4", 0], "sigmas": ["5", 0], "noise": ["6", 0]},
        },
    }
    found = read({"prompt": graph})
    names = ("prompt", "sampler", "scheduler", "steps", "seed")
    assert [found[name] for name in names] == ["glass harbour", "heun", "beta", 8, 123]


@pytest.mark.parametrize(
    ("wide", "local", "prompt"),
    [
        ("wide", "local", "wide, local"),
        ("same", "same", "same"),
        ("", "local", "local"),
        ("wide", " ", "wide"),
        (["9", 0], "local", "ink castle, embedding:bright, local"),
        (["9", 0], ["9", 0], "ink castle, embedding:bright"),
        (["3", 0], "local", "local"),
        (["99", 0], 5, None),
    ],
)
def test_an_sdxl_encoder_joins_its_two_texts(wide: object, local: object, prompt: str | None) -> None:
    graph = GRAPH | {"3": {"class_type": "CLIPTextEncodeSDXL", "inputs": {"text_g": wide, "text_l": local}}}
    graph["4"] = {"class_type": "Text", "inputs": {}}
    assert read({"prompt": graph})["prompt"] == prompt


def test_steps_split_between_two_samplers_are_those_of_the_schedule() -> None:
    graph = {
        "1": {"class_type": "CLIPTextEncode", "inputs": {"text": "glass harbour"}},
        "2": {"class_type": "BasicScheduler", "inputs": {"scheduler": "beta", "steps": 8}},
        "3": {"class_type": "SplitSigmas", "inputs": {"sigmas": ["2", 0], "step": 4}},
        "4": {"class_type": "SamplerCustom", "inputs": {"positive": ["1", 0], "sigmas": ["3", 0], "cfg": 3}},
    }
    found = read({"prompt": graph})
    assert (found["prompt"], found["steps"], found["scheduler"], found["cfg_scale"]) == (
        "glass harbour",
        8,
        "beta",
        3.0,
    )


@pytest.mark.parametrize("comfy", [{"prompt": GRAPH}, WHOLE])
def test_the_clip_skip_of_a_graph_is_found_where_keys_say_all_else(comfy: object) -> None:
    graph = GRAPH | {"7": {"class_type": "CLIPSetLastLayer", "inputs": {"stop_at_clip_layer": -2}}}
    comfy = {"prompt": graph} if isinstance(comfy, dict) else json.dumps({"prompt": graph})
    others = ("prompt", "negativePrompt", "steps", "cfgScale", "sampler", "scheduler", "seed", "Model")
    assert read(comfy, **dict.fromkeys(others, "1"))["clip_skip"] == 2


def test_the_saved_workflow_serves_where_no_graph_is() -> None:
    workflow = {
        "nodes": [
            {"id": 1, "type": "CLIPTextEncode", "widgets_values": ["moss cathedral"], "inputs": []},
            {"id": 2, "type": "CLIPTextEncode", "widgets_values": ["text"], "inputs": []},
            {
                "id": 3,
                "type": "KSampler",
                "widgets_values": [5, "randomize", 18, 6, "euler", "karras", 1],
                "inputs": [{"name": "positive", "link": 10}, {"name": "negative", "link": 11}],
            },
            {"id": 4, "type": "KSampler", "mode": 4, "widgets_values": [6, "fixed", 99], "inputs": []},
        ],
        "links": [[10, 1, 0, 3, 1, "CONDITIONING"], [11, 2, 0, 3, 2, "CONDITIONING"]],
    }
    found = read(json.dumps({"workflow": workflow}))
    assert (found["prompt"], found["negative_prompt"]) == ("moss cathedral", "text")
    assert (found["seed"], found["steps"], found["scheduler"]) == (5, 18, "karras")


def test_many_links_in_circles_end_soon() -> None:
    # Followed from every node, thirty times the nodes took thirty times as long.
    assert _seconds_in_circles(3000) < 12 * _seconds_in_circles(100)


def _seconds_in_circles(count: int) -> float:
    """Of processor time, that so many nodes take whose links all lead into circles; the least of three looks."""
    nodes = {
        str(place): {
            "class_type": "KSampler TextEncode",
            "inputs": {
                "positive": ["a", 0],
                "text": ["a", 0],
                "steps": ["b", 0],
                "cfg": 1,
                "stop_at_clip_layer": ["b", 0],
                "lora_name": "x",
                "strength_model": ["b", 0],
            },
        }
        for place in range(count)
    }
    circles = {
        "a": {"class_type": "S", "inputs": {"text": ["a", 0]}},
        "b": {"class_type": "S", "inputs": {"value": ["b", 0]}},
    }
    meta = {"comfy": {"prompt": nodes | circles}}
    looks = []
    for _ in range(3):
        started = time.thread_time()
        reading = read_item(item(meta=meta))
        extract_resources(reading.meta, reading.prompt)
        looks.append(time.thread_time() - started)
    return min(looks)


def test_links_in_a_circle_end() -> None:
    graph = GRAPH | {"9": {"class_type": "S", "inputs": {"value": ["9", 0]}}}
    assert read({"prompt": graph})["steps"] == 20

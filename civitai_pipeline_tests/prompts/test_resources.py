"""Resources: where they are named, which mentions are one, and what is kept of them."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import given, settings

from civitai_pipeline.lake.schemas import PROMPT_RESOURCES
from civitai_pipeline.prompts.mentions import air_parts
from civitai_pipeline.prompts.resources import MAX_RAW_BYTES, MAX_RESOURCES, extract_resources, resources_json
from civitai_pipeline_tests.prompts.strategies import A1111, CIVITAI, GRAPH, HOSTILE_TEXT, JSON

Found = tuple[str, str | None, int | None, str | None, float | None, tuple[str, ...]]


def found(meta: dict[str, Any] | None, prompt: str | None = None) -> list[Found]:
    return [
        (one.resource_type, one.name, one.version_id, one.hash, one.weight, one.sources)
        for one in extract_resources(meta, prompt)
    ]


def test_civitai_generator() -> None:
    assert found(CIVITAI) == [
        ("checkpoint", None, 900, None, None, ("civitai_resources",)),
        ("lora", None, 901, None, 0.8, ("civitai_resources",)),
    ]


def test_a1111_names_each_resource_once() -> None:
    assert found(A1111, A1111["prompt"]) == [
        ("lora", "haze", None, "a1b2c3d4e5f6", 0.6, ("resources", "hashes", "prompt_tag")),
        ("checkpoint", "paperMix_v2", None, "0a1b2c3d4e", None, ("resources", "model_keys", "hashes")),
    ]


def test_comfyui_graph_and_the_keys_made_of_it_agree() -> None:
    meta = {
        "comfy": json.dumps({"prompt": GRAPH}),
        "models": ["paperXL.safetensors"],
        "Model": "paperXL",
        "additionalResources": [{"name": "ink.safetensors", "type": "lora", "strength": 0.7, "strengthClip": 1}],
        "vaes": ["sharp.vae.pt"],
        "upscalers": ["4x.pth"],
        "controlNets": ["depth.safetensors"],
    }
    assert found(meta, "ink castle, (embedding:bright:1.2), embedding:dull.pt.") == [
        ("lora", "ink.safetensors", None, None, 0.7, ("additional_resources", "comfy")),
        ("checkpoint", "paperXL.safetensors", None, None, None, ("models", "model_keys", "comfy")),
        ("vae", "sharp.vae.pt", None, None, None, ("vaes",)),
        ("upscaler", "4x.pth", None, None, None, ("upscalers",)),
        ("controlnet", "depth.safetensors", None, None, None, ("controlnets",)),
        ("embedding", "bright", None, None, 1.2, ("prompt_tag",)),
        ("embedding", "dull.pt", None, None, None, ("prompt_tag",)),
    ]


def test_loaders_in_a_graph() -> None:
    nodes = [
        ("UNETLoader", {"unet_name": "u.gguf"}),
        ("VAELoader", {"vae_name": "v.pt"}),
        ("ControlNetLoader", {"control_net_name": "c.pth"}),
        ("UpscaleModelLoader", {"model_name": "4x.pth"}),
        ("Power Lora Loader (rgthree)", {"lora_1": {"on": True, "lora": "p.st", "strength": 0.4}}),
        ("Power Lora Loader (rgthree)", {"lora_1": {"on": False, "lora": "off.st", "strength": 1}}),
        ("Lora Loader Stack", {"lora_01": "s.safetensors", "strength_01": 0.3, "lora_02": "None"}),
        ("LoraLoaderModelOnly", {"lora_name": "m.safetensors", "strength_model": ["99", 0]}),
    ]
    graph = {str(place): {"class_type": kind, "inputs": inputs} for place, (kind, inputs) in enumerate(nodes)}
    assert [(kind, name, weight) for kind, name, _, _, weight, _ in found({"comfy": {"prompt": graph}})] == [
        ("checkpoint", "u.gguf", None),
        ("vae", "v.pt", None),
        ("controlnet", "c.pth", None),
        ("upscaler", "4x.pth", None),
        ("lora", "p.st", 0.4),
        ("lora", "s.safetensors", 0.3),
        ("lora", "m.safetensors", None),
    ]


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("<lora:haze:0.6>", ("lora", "haze", 0.6)),
        ("<lora:haze>", ("lora", "haze", None)),
        ("<LORA:Haze v2 (x):-.5:1>", ("lora", "Haze v2 (x)", -0.5)),
        ("<lora:haze:te=0.2:unet=0.7>", ("lora", "haze", 0.7)),
        ("<lora:haze:1:lbw=ALL>", ("lora", "haze", 1.0)),
        ("<lyco:haze:0.5>", ("lycoris", "haze", 0.5)),
        ("<hypernet:haze:2>", ("hypernet", "haze", 2.0)),
        ("<lora:haze:strong>", ("lora", "haze", None)),
        ("<embedding:haze>", ("embedding", "haze", None)),
    ],
)
def test_prompt_tags(prompt: str, expected: tuple[str, str, float | None]) -> None:
    (one,) = extract_resources(None, f"a, {prompt} b")
    assert (one.resource_type, one.name, one.weight) == expected
    assert one.raw == prompt


@pytest.mark.parametrize("prompt", ["<wildcard:x>", "<lora>", "<lora:>", "<3 :> <a:b", "embedding:", "a<b:c"])
def test_what_is_no_tag(prompt: str) -> None:
    assert extract_resources(None, prompt) == []


def test_embeddings_of_the_negative_prompt_count() -> None:
    assert found({"negativePrompt": "embedding:badhands, blurry"})[0][:2] == ("embedding", "badhands")


@pytest.mark.parametrize(
    ("air", "parts"),
    [
        ("urn:air:sdxl:lora:civitai:12@34", ("lora", 12, 34)),
        ("URN:AIR:sd1:Checkpoint:CivitAI:12@34.safetensors", ("checkpoint", 12, 34)),
        ("civitai:12", ("unknown", 12, None)),
        ("lycoris:civitai:12@34+5.pt", ("lycoris", 12, 34)),
        ("urn:air:flux1:checkpoint:huggingface:a/b@main", None),
        ("urn:air:sdxl:lora:civitai:99999999999999999999@1", None),
        ("plain name", None),
        (7, None),
    ],
)
def test_airs(air: object, parts: tuple[str, int, int | None] | None) -> None:
    assert air_parts(air) == parts


def test_an_air_joins_the_version_id_it_names() -> None:
    meta = {
        "Model": "urn:air:sdxl:checkpoint:civitai:12@34",
        "civitaiResources": [{"type": "Checkpoint", "modelVersionId": "34"}],
        "additionalResources": [{"name": "urn:air:sdxl:lora:civitai:5@6", "strength": 0.2}],
    }
    checkpoint, lora = extract_resources(meta, None)
    assert (checkpoint.model_id, checkpoint.version_id, checkpoint.sources) == (12, 34, ("civitai_resources", "air"))
    assert (lora.resource_type, lora.model_id, lora.version_id, lora.weight) == ("lora", 5, 6, 0.2)


def test_hashes_match_by_their_first_ten_digits_and_the_longest_is_kept() -> None:
    long = "ABCDEF0123" + "4" * 54
    meta = {"resources": [{"type": "lora", "name": "a", "hash": "abcdef0123"}], "hashes": {"lora:other": "0x" + long}}
    assert found(meta) == [("lora", "a", None, long.lower(), None, ("resources", "hashes"))]


def test_vae_hashes_and_the_hash_of_nothing_are_ignored() -> None:
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    meta = {"hashes": {"vae": "1234567890", "lora:x": empty[:12], "embed:y": empty}, "Model hash": empty[:10]}
    assert found(meta) == []
    assert found({"resources": [{"type": "vae", "name": "v", "hash": "1234567890"}]})[0][3] is None


def test_folders_extensions_and_case_make_no_other_resource() -> None:
    meta = {"models": ["SDXL\\Paper.safetensors", "sub/paper.ckpt", "paper"]}
    assert len(found(meta)) == 1


def test_other_versions_are_other_resources() -> None:
    entries = [{"type": "lora", "modelVersionId": number, "modelName": "same"} for number in (1, 2, 2)]
    assert [one[2] for one in found({"civitaiResources": entries})] == [1, 2]


def test_a_later_mention_can_join_two_earlier_ones() -> None:
    meta = {
        "resources": [{"type": "lora", "hash": "abcdef0123"}, {"type": "lora", "name": "a"}],
        "hashes": {"lora:a": "abcdef0123"},
    }
    assert found(meta) == [("lora", "a", None, "abcdef0123", None, ("resources", "hashes"))]


def test_a_hash_without_a_type_takes_the_type_of_its_name() -> None:
    assert found({"hashes": {"haze": "abcdef0123"}}, "<lora:haze:1>")[0][0] == "lora"


def test_old_version_lists_and_a1111_text_keys() -> None:
    meta = {"versionIds": [5, "6", None], "Lora hashes": '"a: abcdef0123, b: 0123abcdef"', "VAE": "Automatic"}
    assert [(one[1], one[2]) for one in found(meta)] == [(None, 5), (None, 6), ("a", None), ("b", None)]


def test_json_has_the_columns_of_the_table() -> None:
    (row, _) = orjson.loads(resources_json(extract_resources(CIVITAI, None)))
    own = {"image_id", "model_version_id", "position"}
    assert row.keys() == {column.name for column in PROMPT_RESOURCES.columns} - own
    assert orjson.loads(row["raw"]) == CIVITAI["civitaiResources"][0]
    assert resources_json([]) == "[]"


def test_lists_and_evidence_are_bounded() -> None:
    many = {"models": [f"m{number}" for number in range(MAX_RESOURCES + 50)]}
    assert len(extract_resources(many, None)) == MAX_RESOURCES
    large = {"resources": [{"type": "lora", "name": "a", "picture": "x" * MAX_RAW_BYTES}]}
    (row,) = orjson.loads(resources_json(extract_resources(large, None)))
    assert orjson.loads(row["raw"])["cut_bytes"] > MAX_RAW_BYTES


@settings(deadline=None)
@given(JSON, HOSTILE_TEXT, JSON)
def test_any_metadata_is_read(value: object, name: str, other: object) -> None:
    keys = ("civitaiResources", "resources", "additionalResources", "models", "versionIds", "hashes", "Model", "VAE")
    meta: dict[str, Any] = dict.fromkeys(keys, value) | {"Lora hashes": other, "negativePrompt": name}
    meta["resources"] = [{"type": name, "name": name, "hash": other, "weight": value}]
    assert orjson.loads(resources_json(extract_resources(meta, name))) is not None

"""Resources: where they are named, which mentions are one, and what is kept of them."""

from __future__ import annotations

import json
import time
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from civitai_pipeline.lake.schemas import PROMPT_RESOURCES
from civitai_pipeline.prompts.mentions import air_parts
from civitai_pipeline.prompts.resources import MAX_RAW_BYTES, MAX_RESOURCES, extract_resources, resources_json
from civitai_pipeline_tests.prompts.strategies import A1111, CIVITAI, GRAPH, HOSTILE_TEXT, JSON

# Types, version ids, names and hashes.
MENTIONED = (("lora", "checkpoint", None), (None, 1, 2), (None, "a", "A.pt", "b"), (None, "abcdef0123", "0123abcdef"))
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
        ("<lora:haze:0.8:0.5>", ("lora", "haze", 0.8)),
        ("<lora:haze:unet=0.8:te=0.5>", ("lora", "haze", 0.8)),
        ("<lora:haze:te=0.5>", ("lora", "haze", 0.5)),
        ("<lora:haze, thin, v2:-1>", ("lora", "haze, thin, v2", -1.0)),
        ("<lora: haze : 0.5 >", ("lora", "haze", 0.5)),
        ("<lora:haze:1e999>", ("lora", "haze", None)),
        ("<lora:civitai:1>", ("lora", "civitai", 1.0)),
        ("embedding:haze", ("embedding", "haze", None)),
        ("EMBEDDING:haze", ("embedding", "haze", None)),
        ("embedding:sub/haze.pt", ("embedding", "sub/haze.pt", None)),
    ],
)
def test_prompt_tags(prompt: str, expected: tuple[str, str, float | None]) -> None:
    (one,) = extract_resources(None, f"a, {prompt} b")
    assert (one.resource_type, one.name, one.weight) == expected
    assert one.raw == prompt


def test_the_weight_of_an_embedding_stands_behind_it_in_its_brackets() -> None:
    prompt = "(embedding:a:1.2), (embedding:b:-0.5), ((embedding:c:.7):1.3), (embedding:d, x:1.1), embedding:e:1.4"
    assert [(name, weight) for _, name, _, _, weight, _ in found(None, prompt)] == [
        ("a", 1.2),
        ("b", -0.5),
        ("c", 0.7),
        ("d", None),
        ("e", None),
    ]


def test_only_closed_tags_count_and_of_nested_ones_the_inner() -> None:
    assert found(None, "<lora:open:0.5, moor <lora:<lora:inner:0.4>:1>, <lora:last:0.3") == [
        ("lora", "inner", None, None, 0.4, ("prompt_tag",))
    ]


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("<lora:urn:air:sdxl:lora:civitai:5@6:0.7>", (5, 6, 0.7)),
        ("<lora:urn:air:sdxl:lora:civitai:5@6.safetensors:0.7:0.2>", (5, 6, 0.7)),
        ("<lora:urn:air:sdxl:lora:civitai:5@6>", (5, 6, None)),
        ("a moor, URN:AIR:sdxl:lora:civitai:5@6+7.safetensors, fog", (5, 6, None)),
    ],
)
def test_an_air_in_the_prompt(prompt: str, expected: tuple[int, int, float | None]) -> None:
    (one,) = extract_resources(None, prompt)
    assert (one.resource_type, one.model_id, one.version_id, one.weight) == ("lora", *expected)
    assert one.source == "air"


@pytest.mark.parametrize("prompt", ["<wildcard:x>", "<lora>", "<lora:>", "<3 :> <a:b", "embedding:", "a<b:c"])
def test_what_is_no_tag(prompt: str) -> None:
    assert extract_resources(None, prompt) == []


@pytest.mark.parametrize("key", ["negativePrompt", "Negative prompt", "uc"])
def test_tags_and_embeddings_of_the_negative_prompt_count(key: str) -> None:
    assert found({key: "embedding:badhands, <lora:dull:-0.5>"}) == [
        ("lora", "dull", None, None, -0.5, ("prompt_tag",)),
        ("embedding", "badhands", None, None, None, ("prompt_tag",)),
    ]


def test_embeddings_of_a_negative_prompt_that_stands_in_the_graph_alone_count() -> None:
    graph = GRAPH | {"4": {"class_type": "CLIPTextEncode", "inputs": {"text": "embedding:badhands"}}}
    assert found({"comfy": {"prompt": graph}})[-1][:2] == ("embedding", "badhands")


@pytest.mark.parametrize(
    ("air", "parts"),
    [
        ("urn:air:sdxl:lora:civitai:12@34", ("lora", 12, 34)),
        ("URN:AIR:sd1:Checkpoint:CivitAI:12@34.safetensors", ("checkpoint", 12, 34)),
        ("civitai:12", ("unknown", 12, None)),
        ("lycoris:civitai:12@34+5.pt", ("lycoris", 12, 34)),
        ("urn:air:sdxl:lora:civitai:12@34b", ("lora", 12, None)),
        ("urn:air:sdxl:lora:civitai:12b@34", None),
        ("urn:air:sdxl:lora:civitai:0@34", None),
        ("urn:air:lora", None),
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


def test_a_model_hash_belongs_to_the_air_beside_it() -> None:
    meta = {
        "Model": "urn:air:sdxl:checkpoint:civitai:12@34",
        "Model hash": "0a1b2c3d4e",
        "hashes": {"model": "0a1b2c3d4e5f"},
    }
    assert found(meta) == [("checkpoint", None, 34, "0a1b2c3d4e5f", None, ("air", "model_keys", "hashes"))]


def test_one_lora_named_by_four_sources_in_four_spellings_is_one() -> None:
    meta = {
        "civitaiResources": [{"type": "LORA", "modelVersionId": 901, "modelName": "Thin Haze"}],
        "resources": [{"type": "lora", "name": "SDXL\\Thin Haze.safetensors", "hash": "ABCDEF0123"}],
        "hashes": {"LORA:thin haze": "0xabcdef012345"},
    }
    assert found(meta, "<lora:folder/THIN HAZE.safetensors:0.4>") == [
        (
            "lora",
            "Thin Haze",
            901,
            "abcdef012345",
            0.4,
            ("civitai_resources", "resources", "hashes", "prompt_tag"),
        )
    ]


def test_the_first_weight_in_the_order_of_trust_is_kept() -> None:
    meta = {
        "resources": [{"type": "lora", "name": "haze", "weight": None}],
        "additionalResources": [{"type": "lora", "name": "haze", "strength": "0.5"}],
    }
    assert found(meta, "<lora:haze:0.9>")[0][4] == 0.5
    assert found(meta | {"civitaiResources": [{"type": "lora", "modelName": "haze", "weight": 0}]})[0][4] == 0.0


def test_one_name_of_two_types_is_two_resources() -> None:
    meta = {"resources": [{"name": "haze"}, {"type": "lora", "name": "haze"}, {"type": "checkpoint", "name": "haze"}]}
    assert [(kind, sources) for kind, *_, sources in found(meta)] == [
        ("lora", ("resources",)),
        ("checkpoint", ("resources",)),
    ]
    entries = [{"type": "lora", "name": "haze"}, {"type": "checkpoint", "name": "haze"}, {"name": "haze"}]
    assert [kind for kind, *_ in found({"resources": entries})] == ["lora", "checkpoint"]


def test_a_type_is_never_taken_for_another_kind_of_key() -> None:
    entries = [
        {"type": "version", "name": "7"},
        {"type": "hash", "name": "abcdef0123"},
        {"type": "any type", "name": "x"},
    ]
    meta = {"civitaiResources": [{"modelVersionId": 7}], "resources": entries, "hashes": {"x": "abcdef0123"}}
    assert len(found(meta)) == 4


@given(st.lists(st.tuples(*map(st.sampled_from, MENTIONED)), max_size=12))
def test_what_shares_an_id_is_one_and_two_versions_never_are(rows: list[tuple[Any, ...]]) -> None:
    entries = [{"type": kind, "modelVersionId": version, "modelName": name} for kind, version, name, _ in rows]
    others = [{"type": kind, "name": name, "hash": digest} for kind, _, name, digest in rows]
    resources = extract_resources({"civitaiResources": entries, "resources": others}, None)
    named = {version for _, version, _, _ in rows if version}
    assert sorted(one.version_id for one in resources if one.version_id) == sorted(named)
    loose = [one for one in resources if not one.version_id]
    assert len({one.hash for one in loose if one.hash}) == sum(1 for one in loose if one.hash)
    assert len({(one.resource_type, one.name) for one in loose if one.name}) == sum(1 for one in loose if one.name)


@pytest.mark.parametrize(
    "entry",
    [
        {"modelVersionId": "{}", "modelName": "same", "type": "lora"},
        {"modelName": "{}", "type": "lora"},
        {"modelName": "same", "type": "type {}"},
    ],
)
def test_many_mentions_take_little_more_than_few(entry: dict[str, str]) -> None:
    entries = [{key: value.replace("{}", str(number)) for key, value in entry.items()} for number in range(1, 20_000)]
    started = time.process_time()
    assert len(extract_resources({"civitaiResources": entries}, None)) == MAX_RESOURCES
    # Compared with each other, 5,000 of one name took seconds.
    assert time.process_time() - started < 1


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
    columns = {column.name for column in PROMPT_RESOURCES.columns if not column.name.startswith("resolved_")}
    assert row.keys() == columns - own
    assert orjson.loads(row["raw"]) == CIVITAI["civitaiResources"][0]
    assert resources_json([]) == "[]"


def test_lists_and_evidence_are_bounded() -> None:
    many = {"models": [f"m{number}" for number in range(MAX_RESOURCES + 50)]}
    assert len(extract_resources(many, None)) == MAX_RESOURCES
    large = {"resources": [{"type": "lora", "name": "a", "picture": "x" * MAX_RAW_BYTES}]}
    (row,) = orjson.loads(resources_json(extract_resources(large, None)))
    assert orjson.loads(row["raw"])["cut_bytes"] > MAX_RAW_BYTES


@given(JSON, HOSTILE_TEXT, JSON)
def test_any_metadata_is_read(value: object, name: str, other: object) -> None:
    keys = ("civitaiResources", "resources", "additionalResources", "models", "versionIds", "hashes", "Model", "VAE")
    meta: dict[str, Any] = dict.fromkeys(keys, value) | {"Lora hashes": other, "negativePrompt": name}
    meta["resources"] = [{"type": name, "name": name, "hash": other, "weight": value}]
    assert orjson.loads(resources_json(extract_resources(meta, name))) is not None

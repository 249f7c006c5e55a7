"""One item: what is malformed, what is no prompt, and which facts are read. Its fingerprint is in a file of its own."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from hypothesis import given, settings

from civitai_pipeline.lake.schemas import BIGINT, DOUBLE, INTEGER, PROMPTS, TIMESTAMPTZ, VARCHAR
from civitai_pipeline.prompts.items import MOST_LEVELS, Reading, read_item
from civitai_pipeline.prompts.resources import MAX_RAW_BYTES, MAX_RESOURCES, extract_resources, resources_json
from civitai_pipeline.prompts.text import normalise_prompt, prompt_counts, prompt_hash, storable
from civitai_pipeline_tests.prompts.strategies import (
    A1111,
    CIVITAI,
    GRAPH,
    JSON,
    STYLES,
    SUI,
    deep,
    item,
    mutated_items,
)

DERIVED = {
    "image_id", "model_version_id", "prompt", "prompt_hash", "duplicate_of", "near_duplicate_group", "prompt_signature",
    "prompt_length",
    "tag_count", "word_count", "quality_score", "engagement", "first_seen_at", "last_seen_at", "prompt_withdrawn_at",
    "first_page", "last_page", "fingerprint", "resources",
}  # fmt: skip
FACTS = {column.name: column.type for column in PROMPTS.columns if column.name not in DERIVED}


def check_reading(reading: Reading) -> None:
    """Every value is one its column can hold, and the parts agree."""
    assert -(2**63) <= reading.fingerprint < 2**63
    assert (reading.image_id is None) == (reading.problem is not None)
    assert reading.image_id is None or 1 <= reading.image_id < 2**63
    assert (reading.prompt is None) == (reading.no_prompt_reason is not None)
    if reading.prompt is not None:
        assert reading.prompt.strip()
        reading.prompt.encode()
        said = reading.meta and reading.meta.get("prompt")
        if isinstance(said, str) and said.strip():
            assert reading.prompt == storable(said)
        normal = normalise_prompt(reading.prompt)
        assert normalise_prompt(normal) == normal
        assert prompt_hash(reading.prompt) == prompt_hash(normal)
        assert prompt_counts(reading.prompt).length == len(reading.prompt)
    assert reading.facts.keys() in (FACTS.keys(), set())
    for name, value in reading.facts.items():
        if value is None:
            assert name != "generator"
        elif FACTS[name] in (INTEGER, BIGINT):
            bits = 31 if FACTS[name] == INTEGER else 63
            assert type(value) is int
            assert -(2**bits) <= value < 2**bits
        elif FACTS[name] == DOUBLE:
            assert type(value) is float
            assert math.isfinite(value)
        elif FACTS[name] == TIMESTAMPTZ:
            assert value.utcoffset() == timedelta(0)
        else:
            assert FACTS[name] == VARCHAR
            value.encode()
    reading.names_checkpoint(900)
    written = resources_json(extract_resources(reading.meta, reading.prompt))
    assert len(written) < MAX_RESOURCES * (2 * MAX_RAW_BYTES + 10_000)
    rows = orjson.loads(written)
    assert all(row["resource_type"] and row["sources"][0] == row["source"] for row in rows)


@given(JSON)
def test_any_json_is_read(value: object) -> None:
    check_reading(read_item(value))


@settings(max_examples=400)
@given(mutated_items())
def test_mutated_items_are_read(mutated: object) -> None:
    check_reading(read_item(mutated))


@given(JSON, JSON)
def test_hostile_graphs_are_read(graph: object, workflow: object) -> None:
    check_reading(read_item(item(meta={"comfy": {"prompt": graph, "workflow": workflow}})))


@pytest.mark.parametrize("key", ["stats", "createdAt", "id", "meta", "url", "width"])
@pytest.mark.parametrize("objects", [True, False])
def test_a_deep_item_is_read(key: str, *, objects: bool) -> None:
    check_reading(read_item(item(**{key: deep(5000, objects=objects)})))
    check_reading(read_item(deep(5000, objects=objects)))


@pytest.mark.parametrize("objects", [True, False])
def test_deep_metadata_is_read(*, objects: bool) -> None:
    nested = deep(1000, objects=objects)
    text = '{"prompt":' * 1000 if objects else "[" * 1000
    keys = (
        "prompt",
        "comfy",
        "seed",
        "Model",
        "VAE",
        "hashes",
        "resources",
        "models",
        "versionIds",
        "other",
        "Version",
    )
    for key in keys:
        for value in (
            nested,
            [nested],
            {"prompt": nested},
            {"name": "a", "type": "lora", "x": nested},
            text,
            "{" + text,
        ):
            check_reading(read_item(item(meta={"prompt": "p", key: value})))
            check_reading(
                read_item(item(meta={key: [{"name": "a", "type": "lora", "hash": "a1b2c3d4e5", "x": value}]}))
            )
    graph = GRAPH | {"2": {"class_type": "LoraLoader", "inputs": {"lora_name": "a", "strength_model": nested}}}
    reading = read_item(item(meta={"comfy": {"prompt": graph}}))
    check_reading(reading)
    assert reading.prompt == "ink castle, embedding:bright"


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("key", ["meta", "stats", "other"])
@pytest.mark.parametrize("objects", [True, False])
def test_an_item_is_malformed_exactly_where_it_nests_too_deep(key: str, *, objects: bool, wrapped: bool) -> None:
    def given(levels: int) -> Reading:
        value: object = deep(levels, objects=objects)
        if key == "meta":
            value = {"prompt": "p", "x": deep(levels - 1, objects=objects)}
            value = {"id": 1, "meta": value} if wrapped else value
        return read_item(item(**{key: value}))

    assert given(MOST_LEVELS - 1).problem is None
    reading = given(MOST_LEVELS)
    check_reading(reading)
    assert (reading.problem, reading.image_id) == ("The item is nested deeper than 1,020 levels.", None)


@pytest.mark.parametrize("value", [None, True, 3, "text", [], 1.5])
def test_what_is_no_object_is_malformed(value: object) -> None:
    reading = read_item(value)
    assert reading.problem is not None
    assert reading.problem.startswith("The item is not an object")
    assert reading.facts == {}


@pytest.mark.parametrize("value", [None, True, "501", 0, -4, 2**63, 1.0, [5]])
def test_an_unusable_id_is_malformed(value: object) -> None:
    reading = read_item(item(id=value))
    assert reading.problem is not None
    assert "id" in reading.problem
    assert reading.image_id is None
    assert reading.prompt == CIVITAI["prompt"]


def test_the_largest_id_is_an_id() -> None:
    assert read_item(item(id=2**63 - 1)).image_id == 2**63 - 1


@pytest.mark.parametrize(
    ("meta", "reason"),
    [
        (None, "null"),
        ({"id": 501, "meta": None}, "null"),
        ("text", "not an object but text"),
        ([], "not an object but a list"),
        ({}, "holds no prompt"),
        ({"prompt": None}, "holds no prompt"),
        ({"prompt": ""}, "is blank"),
        ({"prompt": " \n\u3000"}, "is blank"),
        ({"prompt": 5}, "not text but a number"),
        ({"prompt": ["a"]}, "not text but a list"),
    ],
)
def test_reasons_for_no_prompt(meta: object, reason: str) -> None:
    reading = read_item(item(meta=meta))
    assert reading.prompt is None
    assert reading.no_prompt_reason is not None
    assert reason in reading.no_prompt_reason


def test_an_item_without_meta_says_so() -> None:
    without = item()
    del without["meta"]
    assert read_item(without).no_prompt_reason == "The item has no metadata."


def test_the_prompt_is_kept_to_the_letter() -> None:
    odd = "  (Wide\t:1.2),\r\n<lora:x:1> \x00é́ "
    assert read_item(item(meta={"prompt": odd})).prompt == odd
    assert read_item(item(meta={"prompt": "a\udc00"})).prompt == "a\ufffd"


def test_facts_of_an_ordinary_item() -> None:
    assert read_item(item()).facts == {
        "post_id": 77,
        "username": "someone",
        "created_at": datetime(2026, 3, 4, 5, 6, 7, 89000, tzinfo=UTC),
        "negative_prompt": "blurry",
        "base_model": "Illustrious",
        "browsing_level": 1,
        "nsfw_level": "None",
        "width": 832,
        "height": 1216,
        "url": "https://image.civitai.com/a/501/original=true/501.jpeg",
        "cry_count": 1,
        "laugh_count": 2,
        "like_count": 30,
        "heart_count": 4,
        "dislike_count": 0,
        "comment_count": 5,
        "reaction_count": 37,
        "steps": 30,
        "cfg_scale": 5.0,
        "sampler": "Euler a",
        "scheduler": None,
        "seed": 7,
        "clip_skip": 2,
        "checkpoint_name": None,
        "generator": "civitai",
    }


@pytest.mark.parametrize(
    ("stats", "total"),
    [
        ({}, None),
        (None, None),
        ({"commentCount": 3}, None),
        ({"likeCount": "4", "heartCount": None}, 4),
        ({"likeCount": True, "cryCount": 2}, 2),
        ({"likeCount": -1, "cryCount": 0}, 0),
        ({"likeCount": 2**31 - 1, "cryCount": 1}, None),
    ],
)
def test_reaction_count_is_the_sum_of_the_known(stats: object, total: int | None) -> None:
    assert read_item(item(stats=stats)).facts["reaction_count"] == total


@pytest.mark.parametrize(
    ("meta", "column", "expected"),
    [
        ({"steps": "28"}, "steps", 28),
        ({"steps": 28.0}, "steps", 28),
        ({"steps": 28.5}, "steps", None),
        ({"steps": True}, "steps", None),
        ({"steps": 2**31}, "steps", None),
        ({"cfgScale": " 7.5 "}, "cfg_scale", 7.5),
        ({"cfgScale": float("nan")}, "cfg_scale", None),
        ({"cfgScale": "1e999"}, "cfg_scale", None),
        ({"cfgScale": 10**400}, "cfg_scale", None),
        ({"cfgScale": None, "CFG scale": 4}, "cfg_scale", 4.0),
        ({"seed": 2**63 - 1}, "seed", 2**63 - 1),
        ({"seed": 2**63}, "seed", None),
        ({"seed": "18446744073709551615"}, "seed", None),
        ({"Clip skip": "2"}, "clip_skip", 2),
        ({"sampler": ""}, "sampler", None),
        ({"Schedule type": "Karras"}, "scheduler", "Karras"),
        ({"Model": "urn:air:sdxl:checkpoint:civitai:1@2"}, "checkpoint_name", None),
        ({"models": ["a.safetensors"]}, "checkpoint_name", "a.safetensors"),
    ],
)
def test_values_of_settings(meta: dict[str, Any], column: str, expected: object) -> None:
    assert read_item(item(meta={"prompt": "p"} | meta)).facts[column] == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-03-04T05:06:07Z", datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)),
        ("2026-03-04 05:06:07", datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)),
        ("2026-03-04T05:06:07+02:00", datetime(2026, 3, 4, 3, 6, 7, tzinfo=UTC)),
        ("0001-01-01T00:00:00+05:00", None),
        ("yesterday", None),
        (1700000000, None),
        (None, None),
    ],
)
def test_times(text: object, expected: datetime | None) -> None:
    assert read_item(item(createdAt=text)).facts["created_at"] == expected


@pytest.mark.parametrize(
    ("meta", "expected"),
    [
        (
            A1111,
            {
                "prompt": A1111["prompt"],
                "negative_prompt": "",
                "scheduler": "Karras",
                "checkpoint_name": "paperMix_v2",
                "clip_skip": 2,
                "generator": "a1111",
            },
        ),
        ({"id": 501, "meta": A1111}, {"prompt": A1111["prompt"], "generator": "a1111"}),
        (
            {"sui_image_params": SUI},
            {
                "prompt": "p",
                "negative_prompt": "n",
                "steps": 12,
                "cfg_scale": 3.5,
                "checkpoint_name": "base.safetensors",
            }
            | {"generator": "swarmui"},
        ),
        (
            {"prompt": "p", "sampler": "Euler a", "originalSampler": "euler_ancestral", "Model": "m", "resources": []},
            {"sampler": "Euler a", "generator": "swarmui"},
        ),
        (STYLES[5], {"sampler": "dpmpp_2m", "checkpoint_name": "m.st", "generator": "ruinedfooocus"}),
        (
            {"prompt": "p", "Version": "Fooocus v2.5.5", "Guidance Scale": 4, "Sharpness": 2},
            {"cfg_scale": 4.0, "generator": "fooocus"},
        ),
        (
            {"positive_prompt": "p", "invokeai_metadata": {}, "cfg_scale": 7, "model": {"name": "inv"}},
            {"prompt": "p", "cfg_scale": 7.0, "checkpoint_name": "inv", "generator": "invokeai"},
        ),
        ({"prompt": "p", "Version": "f2.0.1v1.10.1"}, {"generator": "forge"}),
        ({"prompt": "p", "Version": "ComfyUI", "civitaiResources": [{}]}, {"generator": "comfyui"}),
        ({"prompt": "p", "Model": "urn:air:a:b", "civitaiResources": [{}]}, {"generator": "civitai"}),
        ({"prompt": "p", "Model": "named", "civitaiResources": [{}]}, {"generator": "unknown"}),
        ({"prompt": "p", "tool": "mystery"}, {"generator": "unknown"}),
        # A tool's own key called meta makes no wrapper.
        ({"prompt": "outer", "meta": {"prompt": "inner"}, "id": 1}, {"prompt": "outer"}),
    ],
)
def test_metadata_styles(meta: dict[str, Any], expected: dict[str, Any]) -> None:
    reading = read_item(item(meta=meta))
    found = reading.facts | {"prompt": reading.prompt}
    assert {name: found[name] for name in expected} == expected


def test_strict_matching_needs_a_checkpoint_of_that_version() -> None:
    def names(*entries: object) -> bool:
        return read_item(item(meta={"civitaiResources": list(entries)})).names_checkpoint(900)

    assert names({"type": "checkpoint", "modelVersionId": 900})
    assert names("x", {"type": "lora", "modelVersionId": 1}, {"type": "Checkpoint", "modelVersionId": "900"})
    assert not names({"type": "lora", "modelVersionId": 900})
    assert not names({"type": "checkpoint", "modelVersionId": 901})
    assert not names({"modelVersionId": 900})
    assert not read_item(item(meta=None)).names_checkpoint(900)

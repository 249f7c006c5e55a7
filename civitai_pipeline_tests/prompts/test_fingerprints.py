"""The fingerprint of an item: what changes it, and what does not."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import given

from civitai_pipeline.prompts.items import read_item
from civitai_pipeline_tests.prompts.strategies import CIVITAI, JSON, item


def test_the_fingerprint_ignores_delivery_and_order_of_keys() -> None:
    plain = read_item(item()).fingerprint
    assert read_item(item(meta={"id": 501, "meta": CIVITAI})).fingerprint == plain
    assert read_item(item(meta=dict(reversed(CIVITAI.items())))).fingerprint == plain
    assert read_item(item(url="elsewhere", createdAt=None, username="renamed")).fingerprint == plain


@pytest.mark.parametrize(
    "changes",
    [
        {"meta": CIVITAI | {"steps": 31}},
        {"meta": None},
        {"browsingLevel": 4},
        {"stats": {"likeCount": 31}},
        {"id": None, "browsingLevel": 2},
    ],
)
def test_the_fingerprint_differs_with_news(changes: dict[str, Any]) -> None:
    assert read_item(item(**changes)).fingerprint != read_item(item()).fingerprint


def test_the_fingerprint_does_not_depend_on_the_parser() -> None:
    # orjson makes a float of an integer beyond 64 bits, json keeps it.
    text = (
        '{"prompt": "p", "seed": 99999999999999999999, "a": [1, {"c": "é", "b": null}], "t": true, "x": 1.5, "e": {}}'
    )
    one, two = (read_item(item(meta=loads(text))).fingerprint for loads in (orjson.loads, json.loads))
    assert one == two


@given(JSON)
def test_the_fingerprint_survives_a_round_trip(value: object) -> None:
    meta = {"prompt": "p", "extra": value}
    again = json.loads(json.dumps(meta))
    assert read_item(item(meta=again)).fingerprint == read_item(item(meta=meta)).fingerprint

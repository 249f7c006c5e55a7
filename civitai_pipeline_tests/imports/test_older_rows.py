"""One row of the older tool: which item it was made from, and which version it belongs to."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from civitai_pipeline.imports.older_rows import (
    BrokenRowError,
    KnownVersions,
    collected_at,
    item_of_row,
    parse_raw,
    version_of_row,
)
from civitai_pipeline.prompts.items import read_item

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.text(), JSON, min_size=1, max_size=4)
KNOWN = KnownVersions.of(
    [
        {"model_id": "", "version_id": "70"},
        {"model_id": "70", "version_id": "70"},
        {"model_id": "7", "version_id": "70"},
        {"model_id": "8", "version_id": "80"},
        {"model_id": "8", "version_id": "81"},
        {"model_id": "9", "version_id": ""},
    ]
)


def row(**columns: object) -> dict[str, Any]:
    return {"civitai_id": "5", "full_prompt": "a kite", **columns}


@settings(max_examples=40)
@given(OBJECTS)
def test_json_and_what_python_prints_read_the_same(said: dict[str, Any]) -> None:
    assert parse_raw(json.dumps(said)) == said
    assert parse_raw(str(said)) == said
    assert parse_raw(json.dumps(json.dumps(said))) == said


@given(st.text() | st.text(alphabet="([{'\"-+~ 1,:}])\\x").map(lambda text: text * 40) | st.integers() | st.binary())
def test_whatever_stands_in_a_row_it_reads_or_is_broken(value: object) -> None:
    with suppress(BrokenRowError):
        item = item_of_row(row(raw_metadata=value), [{"resource_raw": value, "resource_name": value}])
        assert read_item(item).image_id == 5


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        ("{'id': 5, 'meta': ", "neither JSON nor a Python literal"),
        ("[1, 2]", "not an object but a list"),
        ("{'a': {1, 2}}", "neither JSON nor a Python literal"),
        ("{'a': b'x'}", "neither JSON nor a Python literal"),
        ("{'a': datetime.datetime(2025, 1, 1)}", "neither JSON nor a Python literal"),
        ("__import__('os').getcwd()", "neither JSON nor a Python literal"),
        ("{'a': " + "[" * 200 + "]" * 200 + "}", "nested deeper than 90 levels"),
        ("{'a': " + "-" * 5000 + "1}", "nested deeper than 90 levels"),
        ('{"id": 6, "meta": {}}', "of another"),
    ],
)
def test_a_broken_row_says_why(raw: str, why: str) -> None:
    with pytest.raises(BrokenRowError, match=why):
        item_of_row(row(raw_metadata=raw), [])


@pytest.mark.parametrize("civitai_id", [None, "", "abc", "-4", "0", "1.5", "9" * 30, 3.5])
def test_a_row_that_names_no_image_is_broken(civitai_id: object) -> None:
    with pytest.raises(BrokenRowError, match="not the id of an image"):
        item_of_row(row(civitai_id=civitai_id), [])


def test_brackets_in_a_prompt_are_no_nesting() -> None:
    item = {"id": 5, "meta": {"prompt": "(" * 500 + 'it\'s "a kite"\\'}}
    assert item_of_row(row(raw_metadata=str(item)), []) == item


@pytest.mark.parametrize("raw", [None, "", "  ", "null", "None", "{}"])
def test_an_empty_row_is_rebuilt_from_its_columns_and_claims_no_zeros(raw: object) -> None:
    columns = row(raw_metadata=raw, negative_prompt="fog", reaction_count=0, comment_count=0, download_count=0)
    resources = [
        {"resource_raw": '{"type": "checkpoint", "modelVersionId": 70}'},
        {"resource_raw": "{'type': 'lora', 'name': 'Kite', 'weight': 0.7}"},
        {"resource_raw": "", "resource_type": "lora", "resource_name": "Fog", "resource_model_version_id": "71"},
        {"resource_raw": "broken {", "resource_type": "embedding", "resource_name": "Bad", "resource_model_id": ""},
    ]
    item = item_of_row(columns, resources)
    assert item == {
        "id": 5,
        "createdAt": None,
        "meta": {
            "civitaiResources": [
                {"type": "checkpoint", "modelVersionId": 70},
                {"type": "lora", "modelVersionId": 71, "modelName": "Fog"},
            ],
            "resources": [{"type": "lora", "name": "Kite", "weight": 0.7}, {"type": "embedding", "name": "Bad"}],
            "prompt": "a kite",
            "negativePrompt": "fog",
        },
    }
    facts = read_item(item).facts
    assert [facts[name] for name in ("like_count", "reaction_count", "comment_count", "created_at")] == [None] * 4


def test_counts_above_zero_are_kept_and_comments_are_read() -> None:
    item = item_of_row(row(reaction_count=12, comment_count="3"), [])
    assert item["stats"] == {"reactionCount": 12, "commentCount": 3}
    assert read_item(item).facts["comment_count"] == 3


def test_the_images_own_metadata_alone_is_taken_for_what_it_is() -> None:
    item = item_of_row(row(raw_metadata='{"prompt": "two kites", "steps": 9}'), [])
    assert item == {"id": 5, "meta": {"prompt": "two kites", "steps": 9}}


def test_the_columns_prompt_stands_in_where_the_raw_metadata_has_none_and_nowhere_else() -> None:
    bare = item_of_row(
        row(raw_metadata='{"id": "5", "meta": null, "stats": {"likeCount": 2}}', negative_prompt="fog"), []
    )
    assert bare == {"id": 5, "meta": {"prompt": "a kite", "negativePrompt": "fog"}, "stats": {"likeCount": 2}}
    assert (
        item_of_row(row(raw_metadata='{"id": 5, "meta": {"prompt": "two kites"}}'), [])["meta"]["prompt"] == "two kites"
    )


@pytest.mark.parametrize(
    ("columns", "resources", "version"),
    [
        ({"model_version_id": "71", "model_id": "70"}, [], 71),
        ({"model_version_id": "", "model_id": "70"}, [], 70),
        ({"model_id": "7"}, [], 70),
        ({"raw_metadata": '{"modelVersionId": 75}', "model_id": "7"}, [], 75),
        ({"raw_metadata": "{'modelVersionIds': [75]}"}, [], 75),
        ({"raw_metadata": '{"modelVersionIds": [70, 75]}'}, [], 70),
        ({"raw_metadata": '{"modelVersionIds": [70, 75, 80]}', "model_id": "80"}, [], 80),
        ({"raw_metadata": '{"meta": {"civitaiResources": [{"type": "Checkpoint", "modelVersionId": "75"}]}}'}, [], 75),
        ({}, [{"resource_type": "checkpoint", "resource_model_version_id": "75"}], 75),
        # A model that stands for a version which is a LoRA: the checkpoint used with it is not what was collected.
        ({"model_id": "70"}, [{"resource_type": "checkpoint", "resource_model_version_id": "75"}], 70),
    ],
)
def test_the_version_is_found_where_the_row_tells(
    columns: dict[str, Any], resources: list[dict[str, Any]], version: int
) -> None:
    assert version_of_row(columns, resources, KNOWN) == version


@pytest.mark.parametrize(
    ("columns", "why"),
    [
        ({}, "nothing in the row says"),
        ({"model_id": "8"}, "nothing in the row says"),
        ({"model_id": "12345"}, "nothing in the row says"),
        ({"model_version_id": "0", "model_id": "x"}, "nothing in the row says"),
        ({"raw_metadata": "{broken"}, "nothing in the row says"),
        ({"raw_metadata": '{"modelVersionIds": [75, 76]}'}, r"several model versions .*\(75, 76\)"),
        ({"raw_metadata": '{"modelVersionIds": [80, 81]}', "model_id": "8"}, "several model versions"),
    ],
)
def test_a_version_is_never_guessed(columns: dict[str, Any], why: str) -> None:
    with pytest.raises(BrokenRowError, match=why):
        version_of_row(columns, [], KNOWN)


def test_times_without_a_zone_are_of_the_zone_given() -> None:
    noon = datetime(2025, 9, 27, 12, tzinfo=UTC)
    tokyo = timezone(timedelta(hours=9))
    assert collected_at("2025-09-27 12:00:00", UTC) == noon
    assert collected_at("2025-09-27T21:00:00.000", tokyo) == noon
    assert collected_at("2025-09-27T12:00:00+00:00", tokyo) == noon
    assert [collected_at(value, UTC) for value in (None, "", "yesterday", 17, "0001-01-01T00:00:00+14:00")] == [
        None
    ] * 5

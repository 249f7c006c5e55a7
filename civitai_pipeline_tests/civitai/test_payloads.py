"""Models and versions as the API has been seen to describe them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from civitai_pipeline.civitai.failures import ApiFailure, FailureKind
from civitai_pipeline.civitai.payloads import Model, ModelVersion, parse_payload, split_image_body

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
    max_leaves=12,
)
FIELDS = st.sampled_from(
    ["id", "modelId", "name", "publishedAt", "trainedWords", "model", "modelVersions", "items", "metadata"]
)


def test_absent_fields_are_none_and_unknown_ones_do_no_harm() -> None:
    version = parse_payload(ModelVersion, {"id": 5, "brandNew": [1]})
    assert version.model_dump() == {
        "id": 5,
        "model_id": None,
        "name": None,
        "base_model": None,
        "air": None,
        "published_at": None,
        "trained_words": None,
        "model": None,
    }


def test_a_lone_surrogate_in_a_name_becomes_what_a_file_can_hold() -> None:
    said = {"id": 5, "name": "v\ud800", "trainedWords": ["\udc00", "\U0001f600"], "model": {"name": "Kite \ud83d"}}
    version = parse_payload(ModelVersion, said)
    assert version.model is not None
    assert (version.name, version.model.name) == ("v\ufffd", "Kite \ufffd")
    assert version.trained_words == ["\ufffd", "\U0001f600"]
    assert (
        parse_payload(Model, {"id": 5, "name": "\ud800", "modelVersions": [{"id": 1, "name": "\ud800"}]}).name
        == "\ufffd"
    )


@pytest.mark.parametrize("text", ["", "soon", "2026-13-45T00:00:00Z", "not a date at all", 7, None, {}])
def test_a_date_that_cannot_be_read_is_as_good_as_none(text: object) -> None:
    assert parse_payload(ModelVersion, {"id": 5, "publishedAt": text}).published_at is None
    model = parse_payload(Model, {"id": 1, "modelVersions": [{"id": 5, "publishedAt": text}]})
    assert model.versions[0].published_at is None


def test_a_date_is_read_with_its_zone() -> None:
    version = parse_payload(ModelVersion, {"id": 5, "publishedAt": "2026-08-01T09:15:30.123Z"})
    assert version.published_at == datetime(2026, 8, 1, 9, 15, 30, 123000, tzinfo=UTC)


def test_what_is_off_is_named_by_its_fields() -> None:
    with pytest.raises(ApiFailure) as caught:
        parse_payload(Model, {"id": "x", "modelVersions": [{"id": None}, {}]})
    assert caught.value.kind is FailureKind.CONTRACT_CHANGED
    assert "off at id, modelVersions.0.id, modelVersions.1.id" in caught.value.message


@settings(max_examples=50)
@given(JSON | st.dictionaries(FIELDS, JSON))
def test_no_json_makes_the_edge_fail_otherwise_than_with_a_changed_contract(body: object) -> None:
    for read in (
        lambda: parse_payload(ModelVersion, body),
        lambda: parse_payload(Model, body),
        lambda: split_image_body(body),
    ):
        try:
            read()
        except ApiFailure as failure:
            assert failure.kind is FailureKind.CONTRACT_CHANGED  # noqa: PT017 - any JSON may also be right

"""The contract watch: "CivitAI changed" told apart from "this version has no data"."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from civitai_pipeline.collect.contract import ENOUGH_ITEMS, PROMISED_FIELDS, ContractWatch

from .stage import item

if TYPE_CHECKING:
    from collections.abc import Callable


def watched(*seen: Any) -> ContractWatch:  # noqa: ANN401 - any JSON value
    watch = ContractWatch()
    for each in seen:
        watch.observe(each)
    return watch


def whole(image_id: int, **fields: Any) -> dict[str, Any]:  # noqa: ANN401 - any JSON value
    return {**dict.fromkeys(PROMISED_FIELDS), **item(image_id, "a red kite"), **fields}


def without(name: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda each: {key: value for key, value in each.items() if key != name}


def test_whole_items_breach_nothing() -> None:
    watch = watched(*(whole(n) for n in range(1, 30)))
    assert watch.breaches(held_before=5) == []
    assert watch.oddities() == []


def test_no_items_are_no_breach() -> None:
    assert watched().breaches(held_before=100) == []


@pytest.mark.parametrize("name", sorted(PROMISED_FIELDS))
def test_a_field_that_no_item_has_is_named(name: str) -> None:
    breaches = watched(*(without(name)(whole(n)) for n in range(1, 4))).breaches(held_before=0)
    assert any(name in breach.split() for breach in breaches)


def test_a_field_that_some_items_lack_is_an_oddity_only() -> None:
    watch = watched(whole(1), without("username")(whole(2)))
    assert watch.breaches(held_before=9) == []
    assert watch.oddities() == ["the field username is missing on 1 of 2 items"]


def test_counts_that_are_gone_are_named() -> None:
    breaches = watched(whole(1, stats={"likeCount": 3})).breaches(held_before=0)
    assert "no item has the count stats.heartCount" in breaches
    assert "no item has the count stats.likeCount" not in breaches


def test_null_metadata_throughout_is_a_change_where_there_was_some_before() -> None:
    watch = watched(*(whole(n, meta=None) for n in range(1, 4)))
    assert watch.breaches(held_before=0) == []
    assert watch.breaches(held_before=10) == [
        "the field meta is null on every item of a version that had prompts before"
    ]


def test_null_metadata_on_enough_items_is_a_change_even_of_a_version_never_seen() -> None:
    watch = watched(*(whole(n, meta=None) for n in range(1, ENOUGH_ITEMS + 1)))
    assert watch.breaches(held_before=0) == ["the field meta is null on every item, although withMeta=true was asked"]


def test_one_prompt_shows_that_metadata_still_comes() -> None:
    watch = watched(whole(1), *(whole(n, meta=None) for n in range(2, 200)))
    assert watch.breaches(held_before=500) == []


def test_nested_metadata_and_unknown_fields_are_oddities() -> None:
    watch = watched(whole(1, meta={"id": 1, "meta": {"prompt": "x"}}, surprise=1))
    assert watch.breaches(held_before=1) == []
    assert watch.oddities() == [
        "unknown item field surprise (1 of 1)",
        "metadata came nested on 1 of 1 items, although flat was asked",
    ]


def test_items_that_are_no_objects_are_one_breach() -> None:
    assert watched("a", 1, None).breaches(held_before=0) == ["items are no longer JSON objects"]


@given(
    st.lists(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(),
            lambda c: st.lists(c) | st.dictionaries(st.sampled_from(["id", "meta", "stats", "x"]), c),
        )
    )
)
def test_no_json_breaks_the_watch(seen: list[Any]) -> None:
    watch = watched(*seen)
    watch.breaches(held_before=1)
    watch.oddities()
    assert watch.as_dict()["items"] == len(seen)

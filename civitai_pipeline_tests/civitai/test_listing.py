"""Ids, orders and listings, before anything is sent."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from civitai_pipeline.civitai.hosts import is_loopback
from civitai_pipeline.civitai.listing import MAX_ID, Listing, Sort, parse_id

LISTINGS = st.builds(
    Listing,
    st.integers(1, MAX_ID),
    st.sampled_from(Sort),
    st.integers(1, 31),
    st.sampled_from(["AllTime", "Day"]),
    st.sampled_from(["image", "video"]),
)


@settings(max_examples=50)
@given(st.integers(1, MAX_ID))
def test_a_positive_integer_of_32_bits_is_an_id(number: int) -> None:
    assert parse_id(str(number)) == number


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        "-1",
        "+1",
        "01",
        " 1",
        "1 ",
        "1.0",
        "1e3",
        "1_000",
        "٣",
        "²",
        str(MAX_ID + 1),
        "9" * 5000,
        "1\n",
        "x",
        "../1",
    ],
)
def test_anything_else_is_no_id(text: str) -> None:
    with pytest.raises(ValueError, match="is not a model version id"):
        parse_id(text)


@settings(max_examples=50)
@given(st.text())
def test_what_is_an_id_is_spelled_in_one_way_only(text: str) -> None:
    try:
        number = parse_id(text)
    except ValueError:
        return
    assert str(number) == text


@pytest.mark.parametrize("version", [0, -1, MAX_ID + 1, True])
def test_a_listing_that_would_return_the_gallery_of_all_models_cannot_be_made(version: int) -> None:
    with pytest.raises(ValueError, match="is not a model version id"):
        Listing(version)


@pytest.mark.parametrize("level", [0, 32, -1])
def test_a_browsing_level_that_the_api_would_change_cannot_be_asked_for(level: int) -> None:
    with pytest.raises(ValueError, match="browsing level"):
        Listing(1, browsing_level=level)


@settings(max_examples=50)
@given(LISTINGS)
def test_a_listing_survives_being_landed(listing: Listing) -> None:
    assert Listing.from_dict(json.loads(json.dumps(listing.as_dict()))) == listing


@settings(max_examples=50)
@given(LISTINGS, LISTINGS)
def test_two_listings_are_landed_alike_only_if_they_are_alike(one: Listing, other: Listing) -> None:
    assert (one.as_dict() == other.as_dict()) == (one == other)


@settings(max_examples=50)
@given(LISTINGS, st.integers(1, 200), st.none() | st.text(min_size=1) | st.integers())
def test_following_a_cursor_changes_nothing_else_of_the_request(
    listing: Listing, limit: int, cursor: str | int | None
) -> None:
    params = listing.params(limit, cursor)
    assert params.pop("cursor", None) == (None if cursor is None else str(cursor))
    assert params == listing.params(limit, None)
    assert "page" not in params
    assert int(params["modelVersionId"]) > 0


def test_only_the_oldest_order_grows_at_its_end() -> None:
    assert [sort for sort in Sort if Listing(1, sort).is_appended] == [Sort.OLDEST]


@pytest.mark.parametrize("sort", Sort)
def test_an_order_has_a_name_on_the_command_line(sort: Sort) -> None:
    assert Sort.from_flag(sort.flag) is sort
    assert Sort.from_flag(sort.value) is sort
    assert sort.flag.replace("-", "").islower()


def test_an_unknown_order_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="oldest, newest, most-reactions, most-comments, most-collected"):
        Sort.from_flag("random")


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.8.8.8", "::1"])
def test_these_hosts_are_this_machine(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host",
    [
        "",
        "civitai.com",
        "localhost.evil.test",
        "127.0.0.1.evil.test",
        "10.0.0.1",
        "0.0.0.0",  # noqa: S104 - no address to bind
        "127.1",
    ],
)
def test_these_hosts_may_be_another_machine(host: str) -> None:
    assert not is_loopback(host)

"""The older tool's score by hand, and engagement against its formula and its promises."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from civitai_pipeline.prompts.scores import MIN_COHORT, engagement, engagement_of_columns, quality_score

if TYPE_CHECKING:
    import random

NEWEST = datetime(2026, 6, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("prompt", "reactions", "score"),
    [
        ("", None, 0),
        ("a cat", 4, 0),
        ("a cat", 5, 1),
        ("a cat", 10_000, 20),
        ("Masterpiece, masterpiece, best quality", 0, 4),
        # "ultra-detailed" is "detailed" too, and "unclear" is "clear": letters count, as they did.
        ("ultra-detailed, unclear", 0, 4),
        (" ".join(["word"] * 14), 0, 0),
        (" ".join(["word"] * 15), 0, 3),
        (" ".join(["word"] * 80), 0, 3),
        (" ".join(["word"] * 81), 0, 0),
        (
            "masterpiece best quality ultra-detailed highres high resolution 8k intricate realistic sharp clear "
            + "word " * 15,
            100,
            40,
        ),
    ],
)
def test_quality_score(prompt: str, reactions: int | None, score: int) -> None:
    assert quality_score(prompt, reactions) == score
    assert quality_score(prompt, reactions, words=len(prompt.split())) == score


def test_engagement_by_hand() -> None:
    # One cohort of four: m = 4, squares 36 + 0 + 4 + 16, so var = 56/3 and alpha = 16 / (56/3 - 4) = 12/11.
    found = engagement([10, 4, 2, 0], [NEWEST] * 4)
    mean, variance = 4, (36 + 0 + 4 + 16) / 3
    alpha = mean**2 / (variance - mean)
    assert found == pytest.approx([(alpha + y) / (alpha + mean) for y in (10, 4, 2, 0)])
    # Two images are enough: m = 2, var = 8, alpha = 4 / 6.
    assert engagement([4, 0], [NEWEST] * 2) == pytest.approx([(2 / 3 + 4) / (2 / 3 + 2), (2 / 3) / (2 / 3 + 2)])


def test_what_is_unknown_has_no_engagement() -> None:
    found = engagement([3, None, 3, -1], [NEWEST, NEWEST, None, NEWEST])
    assert [one is None for one in found] == [False, True, True, True]
    assert engagement([], []) == []
    assert engagement([0, 0], [NEWEST, NEWEST]) == [1.0, 1.0]
    with pytest.raises(ValueError, match="2 reaction counts do not go with 1 times"):
        engagement([1, 2], [NEWEST])


def test_an_image_is_held_against_those_of_its_age() -> None:
    young = [(1 + place % 3, NEWEST - timedelta(minutes=place)) for place in range(MIN_COHORT)]
    old = [(100 + 20 * (place % 3), NEWEST - timedelta(days=300 + place)) for place in range(MIN_COHORT)]
    found = engagement([row[0] for row in young + old], [row[1] for row in young + old])
    known = [one for one in found if one is not None]
    assert np.mean(known[:MIN_COHORT]) == pytest.approx(1, abs=1e-9)
    assert np.mean(known[MIN_COHORT:]) == pytest.approx(1, abs=1e-9)


def test_few_reactions_say_little() -> None:
    # Counts as a Poisson process gives them: four reactions where two are usual mean next to nothing.
    counts = np.random.default_rng(5).poisson(2.0, 2000)
    known = [one for one in engagement(counts, [NEWEST] * 2000) if one is not None]
    assert max(known) < 1.5
    assert min(known) > 0.7


@given(
    st.lists(
        st.tuples(
            st.none() | st.integers(0, 2000),
            st.none() | st.datetimes(datetime(2020, 1, 1), datetime(2026, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001 - bounds must be naive
        ),
        max_size=150,
    ),
    st.randoms(use_true_random=False),
)
def test_order_changes_nothing(rows: list[tuple[int | None, datetime | None]], shuffler: random.Random) -> None:
    found = engagement([row[0] for row in rows], [row[1] for row in rows])
    places = list(range(len(rows)))
    shuffler.shuffle(places)
    again = engagement([rows[place][0] for place in places], [rows[place][1] for place in places])
    assert again == [found[place] for place in places]
    assert all(one is None or 0 <= one < float("inf") for one in found)


def test_arrays_are_taken_as_lists_are() -> None:
    times = [NEWEST - timedelta(hours=hours) for hours in (0, 5, 900)]
    array = np.array([moment.replace(tzinfo=None) for moment in times], dtype="datetime64[us]")
    assert engagement(np.array([3, 1, 2]), array) == engagement([3, 1, 2], times)
    array[1] = np.datetime64("NaT")
    assert engagement(np.array([3.0, 1.0, np.nan]), array)[1:] == [None, None]


@given(
    st.lists(
        st.tuples(
            st.none() | st.integers(-2, 2000),
            st.none() | st.datetimes(datetime(2020, 1, 1), datetime(2026, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001 - bounds must be naive
        ),
        max_size=150,
    )
)
def test_columns_are_taken_as_lists_are(rows: list[tuple[int | None, datetime | None]]) -> None:
    reactions, times = [row[0] for row in rows], [row[1] for row in rows]
    columns = (pa.array(reactions, pa.int32()), pa.array(times, pa.timestamp("us", "UTC")))
    found = engagement_of_columns(*(column.to_numpy(zero_copy_only=False) for column in columns))
    assert [None if np.isnan(one) else one for one in found] == engagement(reactions, times)


def test_columns_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="1 reaction counts do not go with 0 times"):
        engagement_of_columns(np.array([1.0]), np.array([], dtype="datetime64[us]"))


def test_a_million_images_take_seconds() -> None:
    counts = np.random.default_rng(1).poisson(20, 1_000_000)
    times = np.datetime64("2026-01-01", "us") - np.arange(1_000_000).astype("timedelta64[m]")
    started = time.perf_counter()
    engagement_of_columns(counts, times)
    assert time.perf_counter() - started < 10

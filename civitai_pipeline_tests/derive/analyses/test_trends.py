from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from .examples import MONDAY, Row, analyses, image, pick

if TYPE_CHECKING:
    import pyarrow as pa


def posted(image_id: int, prompt: str, author: str | None, week: int, **fields: object) -> Row:
    """An image of a Thursday some weeks after the first of them."""
    return image(image_id, prompt, author, created_at=MONDAY + timedelta(days=7 * week + 3), **fields)


# Five authors post the sea each week. Ann posts a kite in the first week, and ten in the last; so does a nameless one.
IMAGES = [posted(10 * week + n, f"sea, {week} {n}", f"author {n}", week) for week in range(5) for n in range(1, 5)]
IMAGES += [posted(100 + week, "sea, dunes", "ann", week) for week in (1, 2, 3)]
IMAGES += [posted(200, "sea, kite", "ann", 0), *(posted(201 + n, "sea, kite", "ann", 4) for n in range(10))]
IMAGES += [posted(220, "kite", None, 4), image(221, "kite", "eve", created_at=None)]


@pytest.fixture(scope="module")
def trends() -> pa.Table:
    return analyses(IMAGES)["weekly_trends"]


def test_an_author_weighs_no_more_than_another(trends: pa.Table) -> None:
    names = ("week", "images", "authors", "images_total", "authors_total", "share", "author_share")
    assert pick(trends, *names, kind="tag", term_key="kite") == [
        ("2026-W06", 1, 1, 5, 5, 0.2, 0.2),
        ("2026-W07", 0, 0, 5, 5, 0.0, 0.0),
        ("2026-W08", 0, 0, 5, 5, 0.0, 0.0),
        ("2026-W09", 0, 0, 5, 5, 0.0, 0.0),
        ("2026-W10", 11, 1, 15, 5, 11 / 15, 0.2),
    ]


def test_a_change_is_against_the_four_weeks_before_where_all_have_authors_enough(trends: pa.Table) -> None:
    found = pick(trends, "author_share_before", "change", kind="tag", term_key="kite")
    assert found[:4] == [(None, None)] * 4
    assert found[4] == pytest.approx((0.05, 0.15))
    few = [row for row in IMAGES if row["username"] != "author 1" or row["image_id"] // 10 != 2]
    assert pick(analyses(few)["weekly_trends"], "change", kind="tag", term_key="kite")[-1] == (None,)


def test_a_week_begins_on_monday_and_is_named_by_iso(trends: pa.Table) -> None:
    assert pick(trends, "week", "week_start", kind="tag", term_key="dunes")[0] == (
        "2026-W07",
        MONDAY + timedelta(days=7),
    )
    last, first = MONDAY + timedelta(days=-36, hours=23, minutes=59), MONDAY + timedelta(days=-35)
    found = analyses([image(1, "a", created_at=last), image(2, "a, b", created_at=first)])["weekly_trends"]
    assert pick(found, "week", kind="tag", term_key="a") == [("2025-W52",), ("2026-W01",)]


def test_weeks_without_images_are_left_out_and_a_gap_is_no_week_before() -> None:
    images = [posted(10 * week + n, "sea", f"author {n}", week) for week in (0, 1, 2, 4) for n in range(5)]
    found = analyses(images)["weekly_trends"]
    assert pick(found, "week", "change", kind="tag", term_key="sea") == [
        (f"2026-W{week:02}", None) for week in (6, 7, 8, 10)
    ]


def test_every_kind_is_followed() -> None:
    images = [posted(n, "sea", f"author {n}", 0, sampler="Euler") for n in range(3)]
    found = analyses(images, categories=[(n, "mood") for n in range(3)])["weekly_trends"]
    assert pick(found, "kind", "term_key", "images", "images_total") == [
        ("category", "mood", 3, 3),
        ("sampler", "Euler", 3, 3),
        ("tag", "sea", 3, 3),
    ]

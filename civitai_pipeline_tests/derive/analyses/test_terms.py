from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from civitai_pipeline.derive.analyses import terms
from civitai_pipeline.derive.analyses.cooccurrence import count_together

from .examples import MONDAY, analyses, image, pick

if TYPE_CHECKING:
    import pyarrow as pa

IMAGES = [
    image(1, "kite, sea, kite", "ann", negative_prompt="blur"),
    image(2, "Kite, (sea:1.2)", "ann", negative_prompt="blur"),
    image(3, "sun, (kite)", "bob", negative_prompt="blur, text"),
    image(4, "sea", None),
    image(5, "moon", "bob"),
    image(6, "a long sentence of more than sixty characters that is no tag at all", "bob"),
    image(7, "kite, kite, sun", "eve", prompt_withdrawn_at=MONDAY),
]
COUNTS = ("rank", "tag", "images", "prompts", "authors", "images_total", "share", "mean_position")


@pytest.fixture(scope="module")
def tables() -> dict[str, pa.Table]:
    return analyses(IMAGES)


def test_tags_are_counted_once_an_image_with_their_first_place(tables: dict[str, pa.Table]) -> None:
    # Places of kite: 1, 1 and 2; of sea: 2, 2 and 1. Five standing images have a tag; sun and moon have one image.
    assert pick(tables["tag_frequencies"], *COUNTS, side="prompt") == [
        (1, "kite", 3, 3, 2, 5, 0.6, 4 / 3),
        (2, "sea", 3, 3, 1, 5, 0.6, 5 / 3),
    ]


def test_equal_prompts_are_one_prompt() -> None:
    found = analyses([image(1, "kite, sea"), image(2, "KITE,  sea"), image(3, "sun, kite")])["tag_frequencies"]
    assert pick(found, "tag", "images", "prompts") == [("kite", 3, 2), ("sea", 2, 1)]


def test_negative_prompts_have_tags_of_their_own(tables: dict[str, pa.Table]) -> None:
    assert pick(tables["tag_frequencies"], *COUNTS, side="negative") == [(1, "blur", 3, 2, 2, 3, 1.0, 1.0)]


def test_the_table_ends_with_the_most_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terms, "MOST_TAGS", 2)
    images = [image(n, "zoo, bee, ant" if n < 3 else "zoo") for n in range(4)]
    assert pick(analyses(images)["tag_frequencies"], "rank", "tag") == [(1, "zoo"), (2, "ant")]


def test_pairs_against_chance() -> None:
    # Five distinct prompts of three authors have both, one of them in two images; eight prompts have a tag.
    images = [image(n, f"kite, sea, odd {n}", author) for n, author in enumerate(["a", "b", "c", "c", "c"])]
    images += [image(10, "kite, sea, odd 4", "c"), image(11, "kite", "d"), image(12, "sun", "d"), image(13, "sun 2")]
    found = analyses(images)["tag_pairs"]
    columns = ("tag", "other_tag", "images", "prompts", "authors", "prompts_tag", "prompts_other", "prompts_total")
    assert pick(found, *columns) == [("kite", "sea", 6, 5, 3, 6, 5, 8)]
    assert pick(found, "lift") == [(pytest.approx((5 / 8) / ((6 / 8) * (5 / 8))),)]


@pytest.mark.parametrize(("prompts", "authors"), [(4, 3), (5, 2)])
def test_a_pair_of_few_prompts_or_authors_is_no_pair(prompts: int, authors: int) -> None:
    images = [image(n, f"kite, sea, odd {n}", f"author {n % authors}") for n in range(prompts)]
    assert len(analyses(images)["tag_pairs"]) == 0


USES = st.lists(st.tuples(st.integers(-1, 3), st.booleans(), st.sets(st.integers(0, 69), max_size=6)), max_size=12)


@given(USES)
def test_counting_with_bits_is_counting(rows: list[tuple[int, bool, set[int]]]) -> None:
    rows = sorted(rows, key=lambda row: row[0])
    pairs = [(row, term) for row, (_, _, used) in enumerate(rows) for term in used]
    found = count_together(
        np.array([row for row, _ in pairs], dtype=np.int32),
        np.array([term for _, term in pairs], dtype=np.int32),
        terms=70,
        first=np.array([first for _, first, _ in rows], dtype=bool),
        author=np.array([author for author, _, _ in rows], dtype=np.int32),
    )
    for one in range(70):
        for other in range(one, 70):
            both = [(author, first) for author, first, used in rows if {one, other} <= used]
            assert found.images[one, other] == len(both)
            assert found.prompts[one, other] == sum(first for _, first in both)
            assert found.authors[one, other] == len({author for author, _ in both if author >= 0})

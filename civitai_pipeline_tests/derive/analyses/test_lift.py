from __future__ import annotations

import math

import numpy as np
import pytest

from civitai_pipeline.derive.analyses import build_analyses
from civitai_pipeline.derive.analyses.basis import PROMPT_COLUMNS
from civitai_pipeline.derive.analyses.student import critical_value, two_sided_p
from civitai_pipeline.lake import schemas
from civitai_pipeline.lake.tables import from_rows

from .examples import Row, analyses, image, pick

COUNTS = ("images_with", "authors_with", "images_without", "authors_without")


def shown(image_id: int, prompt: str, author: str | None, log: float | None) -> Row:
    """An image of a given log engagement."""
    return image(image_id, prompt, author, engagement=None if log is None else math.exp(log))


def within_reach(middle: float, error: float, degrees: float) -> list[float]:
    reach = float(critical_value(np.array([degrees]), 0.95)[0]) * error
    return [math.exp(middle), math.exp(middle - reach), math.exp(middle + reach)]


def test_authors_with_against_authors_without_by_welch() -> None:
    # With kite: ann's two images mean 1, the others 2, 3, 4, 5: mean 3, variance 2.5. Without: 0, 1, 2, 1, 1: mean 1,
    # variance 0.5. Of nobody, or without engagement, none is compared.
    images = [shown(1, "kite", "ann", 0.0), shown(2, "kite", "ann", 2.0)]
    images += [shown(2 + n, f"kite, odd {n}", f"with {n}", float(n)) for n in (2, 3, 4, 5)]
    images += [shown(20 + n, f"sea, odd {n}", f"without {n}", x) for n, x in enumerate([0.0, 1.0, 2.0, 1.0, 1.0])]
    images += [shown(40, "kite", None, 9.0), shown(41, "kite", "eve", None), shown(42, "sea", "unknown", 9.0)]
    found = analyses(images)["term_lift"]
    assert pick(found, *COUNTS, kind="tag", term_key="kite") == [(6, 5, 5, 5)]
    error, degrees = 0.6, 0.6**2 / (0.5**2 / 4 + 0.1**2 / 4)
    ((ratio, low, high, p),) = pick(found, "ratio", "ratio_low", "ratio_high", "p_value", kind="tag", term_key="kite")
    assert [ratio, low, high] == pytest.approx(within_reach(2.0, math.sqrt(error), degrees), rel=1e-5)
    assert p == pytest.approx(float(two_sided_p(np.array([2 / math.sqrt(error)]), np.array([degrees]))[0]), rel=1e-4)
    # sea is used by the others: the same numbers the other way round.
    assert pick(found, "ratio", kind="tag", term_key="sea") == [(pytest.approx(math.exp(-2), rel=1e-5),)]


def test_the_same_author_with_and_without_by_paired_differences() -> None:
    # Differences 1 to 5 over a level of the author's own, which drops out: mean 3, variance 2.5, four degrees.
    images = [shown(n, f"kite, odd {n}", f"author {n}", 2.0 * n + n) for n in range(1, 6)]
    images += [shown(10 + n, f"sea, odd {n}", f"author {n}", 2.0 * n) for n in range(1, 6)]
    found = analyses(images)["term_lift"]
    row = {"kind": "tag", "term_key": "kite", "comparison": "within_authors"}
    assert pick(found, *COUNTS, **row) == [(5, 5, 5, 5)]
    ((*numbers, q, comparisons),) = pick(found, "ratio", "ratio_low", "ratio_high", "q_value", "comparisons", **row)
    # 2.776 is the printed 5 % point of four degrees.
    reach = 2.776 * math.sqrt(2.5 / 5)
    assert numbers == pytest.approx([math.exp(3), math.exp(3 - reach), math.exp(3 + reach)], rel=1e-3)
    # Two comparisons, kite and sea, with the same p: the correction leaves it as it is.
    assert comparisons == 2
    assert q == pick(found, "p_value", **row)[0][0]


def test_p_values_are_corrected_for_all_comparisons_of_their_kind() -> None:
    # Three tags of ten authors each, against all the others; a sampler is a kind of its own.
    tags, rows = ("kite", "sea", "sun"), []
    for n in range(30):
        row = shown(n, f"{tags[n % 3]}, odd {n}", f"author {n}", (n % 3) * 0.4 + (n % 7) / 5)
        rows.append({**row, "sampler": "Euler" if n % 2 else "UniPC"})
    found = analyses(rows)["term_lift"]
    p = dict(pick(found, "term_key", "p_value", kind="tag", comparison="between_authors"))
    low, middle, high = sorted(tags, key=lambda tag: p[tag])
    q = dict(pick(found, "term_key", "q_value", kind="tag", comparison="between_authors"))
    assert q[high] == p[high]
    assert q[middle] == pytest.approx(min(p[middle] * 3 / 2, p[high]))
    assert q[low] == pytest.approx(min(p[low] * 3, q[middle]))
    assert q[low] > p[low]
    assert {n for (n,) in pick(found, "comparisons", kind="tag")} == {3}
    assert {n for (n,) in pick(found, "comparisons", kind="sampler")} == {2}


def test_a_prolific_author_counts_once() -> None:
    images = [shown(n, f"kite, odd {n}", f"author {n}", 1.0 + n % 2) for n in range(6)]
    images += [shown(10 + n, f"sea, odd {n}", f"other {n}", 1.0 + n % 2) for n in range(6)]
    images += [shown(100 + n, f"kite, more {n}", "author 0", 1.0) for n in range(200)]
    assert pick(analyses(images)["term_lift"], "images_with", "ratio", kind="tag", term_key="kite") == [(206, 1.0)]


def test_below_five_authors_on_either_side_there_is_no_row() -> None:
    images = [shown(n, "kite", f"author {n}", 1.0) for n in range(4)]
    images += [shown(10 + n, "sea, sun", f"other {n}", 2.0) for n in range(5)]
    assert len(analyses(images)["term_lift"]) == 0


def test_where_authors_do_not_vary_there_is_no_interval() -> None:
    images = [shown(n, "kite", f"author {n}", 1.0) for n in range(5)]
    images += [shown(10 + n, "sea", f"other {n}", 0.0) for n in range(5)]
    found = analyses(images)["term_lift"]
    names = ("ratio", "ratio_low", "ratio_high", "p_value", "q_value", "comparisons")
    assert pick(found, *names, term_key="kite") == [(pytest.approx(math.e), None, None, None, None, 0)]


def test_other_kinds_are_compared_among_images_that_tell_the_kind() -> None:
    images = [
        image(n, f"kite {n}", f"author {n}", engagement=1.0 + n, sampler=[None, "Euler", "UniPC"][n % 3])
        for n in range(18)
    ]
    found = analyses(images, categories=[(n, "style" if n % 2 else "mood") for n in range(18)])["term_lift"]
    assert pick(found, *COUNTS, kind="sampler", term_key="Euler") == [(6, 6, 6, 6)]
    assert pick(found, *COUNTS, kind="category", term_key="mood") == [(9, 9, 9, 9)]


def test_no_score_that_counts_words_is_looked_at() -> None:
    images = [shown(n, f"kite, odd {n}", f"author {n}", n / 7) for n in range(12)]
    images += [shown(100 + n, f"sea, odd {n}", f"author {n}", n / 5) for n in range(12)]
    assert "quality_score" not in PROMPT_COLUMNS
    prompts = from_rows(schemas.PROMPTS, [{**row, "quality_score": row["image_id"] % 40} for row in images])
    others = [table.arrow_schema.empty_table() for table in (schemas.PROMPT_RESOURCES, schemas.PROMPT_CATEGORIES)]
    without = build_analyses(prompts.drop_columns(["quality_score"]), *others)
    assert without["term_lift"].num_rows
    assert {name: table.to_pylist() for name, table in without.items()} == {
        name: table.to_pylist() for name, table in build_analyses(prompts, *others).items()
    }

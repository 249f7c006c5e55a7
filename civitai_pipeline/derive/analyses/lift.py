"""Does engagement differ where a term is used? term_lift.

Looks at engagement and nothing else: a score that counts words, such as ``quality_score``, would find the very words
it counts. An author's images are alike, so the author is what is counted: each gives one value, the mean of the log
engagement of the author's images, however many they are. Logs, because engagement is a ratio whose spread grows with
its size; differences of logs are ratios of geometric means.

What is compared are uses that people chose. A difference is no proof that the term made it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from civitai_pipeline.derive.analyses.student import benjamini_hochberg, critical_value, two_sided_p

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from civitai_pipeline.derive.analyses.basis import Basis

# Below, an interval rests on next to nothing. It takes as many on either side.
LEAST_AUTHORS = 5
CONFIDENCE = 0.95
_MILLIONTH = 1e-6


def term_lift(basis: Basis) -> pa.Table:
    """Compares each term's images with those without it.

    ``between_authors``: the means of the authors that used the term, over their images with it, against the means of
    all authors over their images without. Welch's interval for two means of unequal variance ("The generalization of
    'Student's' problem when several different population variances are involved", Biometrika 34, 1947). Authors with
    images on both sides make the two sides alike, which Welch's formula does not know: the interval is then too wide
    rather than too narrow.

    ``within_authors``: for each author with images on both sides, the mean with less the mean without. Student's
    interval for paired differences ("The probable error of a mean", Biometrika 6, 1908). Popular authors cannot make a
    term look good here.
    """
    basis.execute(_SUMS.format(least=LEAST_AUTHORS))
    between, within = basis.columns(_BETWEEN), basis.columns(_WITHIN)
    basis.register("compared", pa.concat_tables([_compared(between), _compared(within)]))
    return basis.table(_LIFT)


def _compared(sums: dict[str, NDArray[np.float64]]) -> pa.Table:
    """The ratio, its interval and its p-values, from each side's number, sum and spread."""
    mean_with, error_with = _mean_and_error(sums["n_with"], sums["sum_with"], sums["spread_with"])
    if "n_without" in sums:
        mean_without, error_without = _mean_and_error(sums["n_without"], sums["sum_without"], sums["spread_without"])
        degrees = _welch_degrees(error_with, sums["n_with"], error_without, sums["n_without"])
    else:
        mean_without, error_without = np.zeros_like(mean_with), np.zeros_like(mean_with)
        degrees = sums["n_with"] - 1.0
    difference, error = mean_with - mean_without, np.sqrt(error_with + error_without)
    varies = error > 0
    low, high, p = (np.full(len(difference), np.nan) for _ in range(3))
    reach = critical_value(degrees[varies], CONFIDENCE) * error[varies]
    low[varies], high[varies] = difference[varies] - reach, difference[varies] + reach
    p[varies] = two_sided_p(difference[varies] / error[varies], degrees[varies])
    q, comparisons = np.full(len(p), np.nan), np.zeros(len(p), dtype=np.int64)
    for kind in np.unique(sums["kind"]):
        family = sums["kind"] == kind
        comparisons[family] = np.count_nonzero(family & varies)
        q[family & varies] = benjamini_hochberg(p[family & varies])
    columns = {"ratio": np.exp(difference), "ratio_low": np.exp(low), "ratio_high": np.exp(high), "p_value": p,
               "q_value": q}  # fmt: skip
    return pa.table(
        {
            "term": sums["term"],
            "comparison": pa.array(sums["comparison"].tolist(), type=pa.string()),
            **{name: pa.array(values, from_pandas=True) for name, values in columns.items()},
            "comparisons": comparisons,
        }
    )


def _mean_and_error(
    n: NDArray[np.float64], total: NDArray[np.float64], spread: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The mean and the square of its standard error: variance / n, with variance = spread / (n * (n - 1))."""
    return total / n * _MILLIONTH, spread / (n * n * (n - 1)) * _MILLIONTH**2


def _welch_degrees(
    error: NDArray[np.float64], n: NDArray[np.float64], other: NDArray[np.float64], m: NDArray[np.float64]
) -> NDArray[np.float64]:
    with np.errstate(invalid="ignore"):
        return (error + other) ** 2 / (error**2 / (n - 1) + other**2 / (m - 1))


# Sums of a term's images per author; the sums of the images without it are what is left of the author's own.
_SUMS = """
CREATE TEMP TABLE author_sums AS
SELECT kind, author, count(*) AS n, sum(log_engagement)::BIGINT AS total,
       round(sum(log_engagement) / count(*))::BIGINT AS mean
FROM kind_images WHERE author IS NOT NULL AND log_engagement IS NOT NULL GROUP BY kind, author;

CREATE TEMP TABLE sides AS
WITH used AS (
    SELECT term, author, count(*) AS n, sum(log_engagement)::BIGINT AS total
    FROM term_images WHERE author IS NOT NULL AND log_engagement IS NOT NULL GROUP BY term, author
)
SELECT kind, term, used.n AS n_with, author_sums.n - used.n AS n_without, author_sums.mean AS mean_of_all,
       round(used.total / used.n)::BIGINT AS mean_with,
       CASE WHEN author_sums.n > used.n
           THEN round((author_sums.total - used.total) / (author_sums.n - used.n))::BIGINT END AS mean_without
FROM used JOIN terms USING (term) JOIN author_sums USING (kind, author);

CREATE TEMP TABLE compared_sums AS
WITH everybody AS (
    SELECT kind, count(*) AS authors, sum(n)::BIGINT AS images, sum(mean)::HUGEINT AS total,
           sum(mean * mean)::HUGEINT AS squares
    FROM author_sums GROUP BY kind
),
users AS (
    SELECT kind, term, count(*) AS authors_with, sum(n_with)::BIGINT AS images_with, sum(mean_with) AS sum_with,
           sum(mean_with * mean_with) AS squares_with, count(mean_without) AS authors_both,
           coalesce(sum(mean_without), 0) - sum(mean_of_all) AS sum_moved,
           coalesce(sum(mean_without * mean_without), 0) - sum(mean_of_all * mean_of_all) AS squares_moved,
           sum(n_with) FILTER (mean_without IS NOT NULL) AS images_with_both,
           sum(n_without) FILTER (mean_without IS NOT NULL) AS images_without_both,
           coalesce(sum(mean_with - mean_without), 0) AS sum_apart,
           coalesce(sum((mean_with - mean_without) * (mean_with - mean_without)), 0) AS squares_apart
    FROM sides GROUP BY kind, term
)
SELECT users.*, authors - authors_with + authors_both AS authors_without, images - images_with AS images_without,
       total + sum_moved AS sum_without, squares + squares_moved AS squares_without
FROM users JOIN everybody USING (kind)
WHERE authors_with >= {least} AND authors_without >= {least};
"""

# n * sum(x^2) - sum(x)^2 in whole numbers, so that nothing is lost where the two are nearly equal.
_BETWEEN = """
SELECT kind, term, 'between_authors' AS comparison,
       authors_with::DOUBLE AS n_with, sum_with::DOUBLE AS sum_with,
       (authors_with * squares_with - sum_with * sum_with)::DOUBLE AS spread_with,
       authors_without::DOUBLE AS n_without, sum_without::DOUBLE AS sum_without,
       (authors_without * squares_without - sum_without * sum_without)::DOUBLE AS spread_without
FROM compared_sums ORDER BY term
"""

_WITHIN = f"""
SELECT kind, term, 'within_authors' AS comparison, authors_both::DOUBLE AS n_with, sum_apart::DOUBLE AS sum_with,
       (authors_both * squares_apart - sum_apart * sum_apart)::DOUBLE AS spread_with
FROM compared_sums WHERE authors_both >= {LEAST_AUTHORS} ORDER BY term
"""  # noqa: S608 - our own number

_LIFT = """
SELECT s.kind, term_key, label AS term, comparison,
       CASE comparison WHEN 'between_authors' THEN images_with ELSE images_with_both END AS images_with,
       CASE comparison WHEN 'between_authors' THEN authors_with ELSE authors_both END AS authors_with,
       CASE comparison WHEN 'between_authors' THEN images_without ELSE images_without_both END AS images_without,
       CASE comparison WHEN 'between_authors' THEN authors_without ELSE authors_both END AS authors_without,
       ratio, ratio_low, ratio_high, p_value, q_value, comparisons
FROM compared c JOIN compared_sums s ON s.term = c.term JOIN terms t ON t.term = c.term
ORDER BY s.kind, term_key, comparison
"""

"""Scores of a prompt: the older tool's quality score, and engagement, reactions against an image's age.

Belongs here: formulas. A score that counts words (``quality_score``) must never be used to judge words;
``engagement`` looks at none.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_TWO_POINTS = ("masterpiece", "best quality", "ultra-detailed", "highres", "high resolution", "8k")
_ONE_POINT = ("intricate", "detailed", "realistic", "sharp", "clear")
_REACTIONS_PER_POINT = 5
_MOST_REACTION_POINTS = 20
_WORDS_LEAST, _WORDS_MOST, _WORDS_POINTS = 15, 80, 3

# Ages are compared on a scale on which each step is the square root of two: three hours against four
# matter as much as three months against four. An hour is the least age told apart.
_STEPS_PER_DOUBLING = 2
_HOUR_S = 3600.0
# A mean over fewer images says little; a cohort takes in its neighbours until it holds this many.
MIN_COHORT = 50
# Bounds of the shrinkage: below, a single reaction would decide; above, the images are alike and
# alpha only says so.
_ALPHA_LEAST, _ALPHA_MOST = 0.1, 1e6


def quality_score(prompt: str, reaction_count: int | None, words: int | None = None) -> int:
    """The older tool's quality score, 0 to 40, for continuity.

    2 points for each of "masterpiece", "best quality", "ultra-detailed", "highres", "high resolution",
    "8k" that occurs, 1 for each of "intricate", "detailed", "realistic", "sharp", "clear", 1 for every 5
    reactions up to 20, and 3 for 15 to 80 words. As there, a word counts wherever its letters stand
    ("unclear" is "clear") and once however often. The reactions are cry + laugh + like + heart; the
    older tool read a field the API never had, so all its scores lack this part. Who has counted the
    ``words`` of the prompt already hands them in.
    """
    lowered = prompt.lower()
    points = 2 * sum(map(lowered.__contains__, _TWO_POINTS)) + sum(map(lowered.__contains__, _ONE_POINT))
    points += min(max(reaction_count or 0, 0) // _REACTIONS_PER_POINT, _MOST_REACTION_POINTS)
    if _WORDS_LEAST <= (len(prompt.split()) if words is None else words) <= _WORDS_MOST:
        points += _WORDS_POINTS
    return points


def engagement(
    reactions: Sequence[int | None] | NDArray[Any], created_at: Sequence[datetime | None] | NDArray[Any]
) -> list[float | None]:
    """Each image's reactions against those of images of its age; 1.0 is typical.

    With y an image's reactions and m the mean reactions of its cohort, the images of about its age::

        engagement = (alpha + y) / (alpha + m)

    This is the posterior mean of y/m under a gamma prior with mean 1 and shape alpha and Poisson counts
    (empirical Bayes: Casella, "An Introduction to Empirical Bayes Data Analysis", The American
    Statistician 39, 1985): where few reactions are usual, a few more say little and the value stays
    near 1. Alpha is estimated over all cohorts by the method of moments: counts that spread no wider
    than Poisson would give a large alpha, wide ones a small. Since var = m + m²/alpha::

        alpha = sum(m²) / sum((y - m)² · n/(n - 1) - m)

    summed over images, n the cohort's size.

    An age is counted from the newest image of the sequence, not from now, so that the result is a
    function of the images alone. Cohorts are steps of age by half a doubling, merged from the youngest
    until each has ``MIN_COHORT`` images. Order does not matter.

    Args:
        reactions: The images' reactions; None, NaN or a negative number where unknown.
        created_at: Their times, aware or as ``datetime64`` in UTC; None or NaT where unknown.

    Returns:
        One value an image, None where reactions or time are unknown.

    Raises:
        ValueError: The two are not equally long.
    """
    if not (isinstance(created_at, np.ndarray) and created_at.dtype.kind == "M"):
        created_at = np.array([moment and _naive(moment) for moment in created_at], "datetime64[us]")
    values = engagement_of_columns(np.array(reactions, np.float64), created_at)
    return [None if math.isnan(value) else value for value in values.tolist()]


def _naive(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment


def engagement_of_columns(reactions: NDArray[Any], created_at: NDArray[np.datetime64]) -> NDArray[np.float64]:
    """``engagement`` of columns: arrays of numbers and of ``datetime64`` in UTC, as Arrow and pandas give them.

    NaN or a negative number, and NaT, stand for what is unknown; the result is NaN there.

    Raises:
        ValueError: The two are not equally long.
    """
    if len(reactions) != len(created_at):
        raise ValueError(f"{len(reactions)} reaction counts do not go with {len(created_at)} times")
    y = reactions.astype(np.float64)
    micros = created_at.astype("datetime64[us]")
    known = np.isfinite(y) & (y >= 0) & ~np.isnat(micros)
    result = np.full(len(y), np.nan)
    if not known.any():
        return result
    counts, seconds = y[known], micros[known].astype(np.int64) / 1e6
    cohort = _cohorts(seconds.max() - seconds)
    size = np.bincount(cohort)
    # Sums of integers are exact in a float up to 2**53, so no order of the images changes them.
    mean: NDArray[np.float64] = np.bincount(cohort, weights=counts) / size
    alpha = _alpha(size, mean, np.bincount(cohort, weights=counts * counts))
    result[known] = (alpha + counts) / (alpha + mean[cohort])
    return result


def _cohorts(age_s: NDArray[Any]) -> NDArray[np.int64]:
    """The number of each image's cohort, from 0 for the youngest."""
    step = np.floor(np.log2(1 + age_s / _HOUR_S) * _STEPS_PER_DOUBLING).astype(np.int64)
    sizes = np.bincount(step)
    numbers = np.zeros(len(sizes), dtype=np.int64)
    number, held = 0, 0
    for place, size in enumerate(sizes.tolist()):
        if held >= MIN_COHORT:
            number, held = number + 1, 0
        numbers[place] = number
        held += size
    if held < MIN_COHORT and number:
        # What is left over among the oldest joins the cohort before it.
        numbers[numbers == number] = number - 1
    cohorts: NDArray[np.int64] = numbers[step]
    return cohorts


def _alpha(size: NDArray[Any], mean: NDArray[Any], squares: NDArray[Any]) -> float:
    several = size > 1
    n, m = size[several].astype(np.float64), mean[several]
    spread = (squares[several] - n * m * m) * n / (n - 1)
    excess = float(np.sum(spread - n * m))
    square = float(np.sum(n * m * m))
    if square <= 0:
        return 1.0  # nobody reacted to anything, so every image is typical with any alpha
    return float(np.clip(square / excess, _ALPHA_LEAST, _ALPHA_MOST)) if excess > 0 else _ALPHA_MOST

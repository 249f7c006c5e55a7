"""Student's t distribution, and the correction of many p-values.

Numpy has neither, and nothing else here would need a package of statistics.

Belongs here: functions of numbers, whole arrays at a time. What is compared is for ``lift``.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

# The continued fraction converges in a few dozen steps for all but enormous degrees of freedom, for which it takes
# about the square root of them.
_STEPS = 2_000
_ENOUGH = 1e-13
_TINY = 1e-300
# Newton's steps towards a critical value: a dozen for one degree of freedom, five for many.
_NEWTON_STEPS = 50
_NEAR = 1e-10


def two_sided_p(t: NDArray[np.float64], degrees: NDArray[np.float64]) -> NDArray[np.float64]:
    """The chance that a variable of Student's distribution lies as far from 0 as ``t``.

    It is I(nu / (nu + t^2); nu / 2, 1 / 2), the regularised incomplete beta function (Abramowitz and Stegun, Handbook
    of Mathematical Functions, 26.7.1 with 26.5.27).

    Args:
        t: The values.
        degrees: Their degrees of freedom, above 0 and not necessarily whole.
    """
    square = t * t
    return _incomplete_beta(degrees / (degrees + square), square / (degrees + square), degrees / 2)


def critical_value(degrees: NDArray[np.float64], confidence: float) -> NDArray[np.float64]:
    """Within which distance of 0 a variable of Student's distribution lies with this ``confidence``.

    By Newton's method. The tail is convex, so from the left of the solution, where the normal distribution has its
    own, no step goes too far.
    """
    value = np.full_like(degrees, NormalDist().inv_cdf((1 + confidence) / 2))
    for _ in range(_NEWTON_STEPS):
        step = (two_sided_p(value, degrees) - (1 - confidence)) / (2 * _density(value, degrees))
        value = value + step
        if np.all(np.abs(step) <= _NEAR * value):
            break
    return value


def _density(t: NDArray[np.float64], degrees: NDArray[np.float64]) -> NDArray[np.float64]:
    front = np.array(
        [math.lgamma((one + 1) / 2) - math.lgamma(one / 2) - math.log(one * math.pi) / 2 for one in degrees]
    )
    return np.exp(front - (degrees + 1) / 2 * np.log1p(t * t / degrees))


def _incomplete_beta(x: NDArray[np.float64], rest: NDArray[np.float64], a: NDArray[np.float64]) -> NDArray[np.float64]:
    """I(x; a, 1/2); ``rest`` is 1 - x, given apart because the difference of near equals would be noise."""
    half = np.full_like(a, 0.5)
    # The continued fraction converges fast on one side; on the other, I(x; a, b) = 1 - I(1 - x; b, a).
    is_direct = x < (a + 1) / (a + 2.5)
    p, q = np.where(is_direct, a, half), np.where(is_direct, half, a)
    near, far = np.where(is_direct, x, rest), np.where(is_direct, rest, x)
    log_beta = np.array([math.lgamma(one) - math.lgamma(one + 0.5) for one in a]) + math.lgamma(0.5)
    with np.errstate(divide="ignore"):
        front = np.exp(p * np.log(near) + q * np.log(far) - log_beta) / p
    value = np.where(near > 0, front * _continued_fraction(near, p, q), 0.0)
    return np.clip(np.where(is_direct, value, 1 - value), 0.0, 1.0)


def _continued_fraction(x: NDArray[np.float64], a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """The continued fraction of the incomplete beta function (DLMF 8.17.22) by the modified Lentz method."""
    c = np.ones_like(x)
    d = 1 / _away_from_zero(1 - (a + b) * x / (a + 1))
    value = d.copy()
    for step in range(1, _STEPS):
        even = step * (b - step) * x / ((a + 2 * step - 1) * (a + 2 * step))
        odd = -(a + step) * (a + b + step) * x / ((a + 2 * step) * (a + 2 * step + 1))
        for coefficient in (even, odd):
            d = 1 / _away_from_zero(1 + coefficient * d)
            c = _away_from_zero(1 + coefficient / c)
            value = value * c * d
        if np.all(np.abs(c * d - 1) < _ENOUGH):
            break
    return value


def _away_from_zero(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(np.abs(values) < _TINY, _TINY, values)


def benjamini_hochberg(p_values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The least false discovery rate at which each comparison would count as a finding.

    With the p-values in ascending order, q(i) is the least of p(j) * m / j over j >= i (Benjamini and Hochberg,
    "Controlling the false discovery rate", Journal of the Royal Statistical Society B 57, 1995).
    """
    m = len(p_values)
    order = np.argsort(p_values, kind="stable")
    scaled = p_values[order] * (m / np.arange(1, m + 1))
    q_values = np.empty(m)
    q_values[order] = np.minimum.accumulate(scaled[::-1])[::-1]
    return np.minimum(q_values, 1.0)

"""Histograms and quantiles from counted values: pure arithmetic on (value, count) pairs.

The pairs come from a ``GROUP BY``, so their number is that of distinct values, not of images.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class Bin:
    """Values from ``low`` up to but not including ``high``; ``high`` is None for the open last bin."""

    low: float
    high: float | None
    count: int

    def label(self, *, whole: bool) -> str:
        """The bin's range as text; ``whole`` for values that are integers."""
        if self.high is None:
            return f"{self.low:g} and more"
        if whole:
            last = self.high - 1
            return f"{self.low:g}" if last == self.low else f"{self.low:g} to {last:g}"
        return f"{self.low:g} to under {self.high:g}"


def quantile(pairs: Sequence[tuple[float, int]], q: float) -> float | None:
    """The smallest value with at least a share ``q`` of the observations at or below it."""
    total = sum(count for _, count in pairs)
    reached = 0
    for value, count in sorted(pairs):
        reached += count
        if reached >= q * total and reached:
            return value
    return None


def nice_width(span: float, bins: int, *, whole: bool) -> float:
    """A width of 1, 2, 2.5 or 5 times a power of ten that cuts ``span`` into about ``bins`` pieces."""
    raw = max(span / bins, 1e-9)
    power = 10.0 ** math.floor(math.log10(raw))
    width = next(step * power for step in (1, 2, 2.5, 5, 10) if step * power >= raw * (1 - 1e-9))
    return max(1.0, float(math.ceil(width))) if whole else width


def binned(pairs: Sequence[tuple[float, int]], *, bins: int = 30, whole: bool = False, tail: float = 0.99) -> list[Bin]:
    """Equal bins from the smallest value to the ``tail`` quantile, and an open one for what lies above.

    A few prompts of ten thousand characters would otherwise squeeze all others into one bar.
    """
    if not pairs:
        return []
    values = sorted(pairs)
    upper = quantile(values, tail)
    lowest, highest = values[0][0], values[-1][0]
    top = highest if upper is None else upper
    width = nice_width(max(top - lowest, 0) or 1, bins, whole=whole)
    first = math.floor(lowest / width + 1e-9)
    last = math.floor(top / width + 1e-9)
    counts = dict.fromkeys(range(first, last + 1), 0)
    above = 0
    for value, count in values:
        slot = math.floor(value / width + 1e-9)
        if slot > last:
            above += count
        else:
            counts[slot] += count
    # Rounded so that 3 * 0.1 is written 0.3.
    result = [Bin(round(slot * width, 9), round((slot + 1) * width, 9), count) for slot, count in counts.items()]
    if above:
        result.append(Bin(round((last + 1) * width, 9), None, above))
    return result

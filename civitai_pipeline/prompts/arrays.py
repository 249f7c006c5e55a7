"""Runs of equal values and ranges in numpy arrays, for what is done to whole columns at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def changes(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Where a value differs from the one before it; true for the first."""
    return np.concatenate([np.ones(min(1, len(values)), bool), values[1:] != values[:-1]])


def spread(starts: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """The numbers from each start on, as many as its count, one range after the other."""
    behind = np.cumsum(counts)
    return np.repeat(starts - behind + counts, counts) + np.arange(behind[-1] if len(behind) else 0)

"""Which rows belong together, and how groups of rows are dealt out to splits. Pure, on numpy arrays.

Rows that share a value of any key belong to one group, and so do rows linked through others: the connected
components of the rows.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    Ints = npt.NDArray[np.int64]

TRAIN, VALIDATION, TEST = "train", "validation", "test"
SPLITS = (TRAIN, VALIDATION, TEST)
# The shares of validation and test; the rest is train.
_SHARE = 0.1


def components(rows: int, keys: Sequence[Ints]) -> Ints:
    """The group of each row, as the number of the group's first row.

    Args:
        rows: How many rows there are.
        keys: Arrays of a code for each row, from 0 up; rows of equal code belong together, -1 links to nothing.
    """
    # Union-find with path halving. Spreading the lowest number over arrays instead took half a minute for a chain of
    # 100,000 rows, this takes a fraction of a second for any links.
    parent = list(range(rows))

    def root(row: int) -> int:
        while parent[row] != row:
            parent[row] = row = parent[parent[row]]
        return row

    for codes in keys:
        linked = np.flatnonzero(codes >= 0)
        _, firsts, places = np.unique(codes[linked], return_index=True, return_inverse=True)
        for row, other in zip(linked.tolist(), linked[firsts][places].tolist(), strict=True):
            if row != other:
                low, high = sorted((root(row), root(other)))
                parent[high] = low
    return np.array([root(row) for row in range(rows)], dtype=np.int64)


def deal_out(group: Ints, ids: Ints, seed: int) -> Ints:
    """The split of each row, as its place in ``SPLITS``; a group is never divided.

    A group's split follows from the hash of its smallest id and the seed, so that it stays when other rows come
    and go. A group of more than a tenth of all rows goes to train, which alone has room for it. Where there are
    groups at all, train has one: the largest, if none was drawn for it. If validation or test would be empty, it is
    given the smallest group of a split that keeps another, of train first.
    """
    if not len(group):
        return group.copy()
    firsts, place, sizes = np.unique(group, return_inverse=True, return_counts=True)
    smallest = np.full(len(firsts), np.iinfo(np.int64).max)
    np.minimum.at(smallest, place, ids)
    draws = np.array([_draw(seed, int(key)) for key in smallest])
    split = np.where(draws < _SHARE, SPLITS.index(TEST), np.where(draws < 2 * _SHARE, SPLITS.index(VALIDATION), 0))
    split[sizes > max(1, _SHARE * len(group))] = 0
    if split.all():
        split[max(range(len(split)), key=lambda n: (sizes[n], draws[n]))] = 0
    for wanting in (1, 2):
        held = np.bincount(split, minlength=len(SPLITS))
        spare = np.flatnonzero(held[split] > 1)
        if not held[wanting] and len(spare):
            split[min(spare, key=lambda n: (split[n], sizes[n], draws[n]))] = wanting
    dealt: Ints = split.astype(np.int64)[place]
    return dealt


def _draw(seed: int, key: int) -> float:
    """A number from 0 to 1 that depends on ``seed`` and ``key`` alone, on every machine."""
    digest = blake2b(f"{seed}/{key}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64

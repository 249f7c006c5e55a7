"""How often each two of some terms stand together, counted with bits.

A join of uses with themselves makes a row for each pair of each prompt: twelve million for 100,000 prompts and
200 terms, which took 3.5 s and 900 MB. A bit for each image and term takes a tenth of both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

# Some 20 MB for 200 terms; an author's rows stay together, however many they are.
_CHUNK_ROWS = 50_000


class Together(NamedTuple):
    """Square matrices over the terms, of which the upper half is filled; on the diagonal stands each term alone.

    Attributes:
        images: Images with both.
        prompts: Distinct prompts with both.
        authors: Distinct named authors of images with both.
    """

    images: NDArray[np.int64]
    prompts: NDArray[np.int64]
    authors: NDArray[np.int64]


def count_together(
    row: NDArray[np.integer],
    term: NDArray[np.integer],
    *,
    terms: int,
    first: NDArray[np.bool_],
    author: NDArray[np.integer],
) -> Together:
    """Counts each two terms.

    Args:
        row: For each use of a term, the image's row. Rows are in the order of authors.
        term: For each use, the term, from 0.
        terms: How many terms there are.
        first: For each row, whether it is the image that counts as the prompt.
        author: For each row, its author; negative where nobody is named.
    """
    images, prompts, authors = (np.zeros((terms, terms), dtype=np.int64) for _ in range(3))
    for begin, end in _chunks(author):
        here = (row >= begin) & (row < end)
        used = np.zeros((terms, end - begin), dtype=bool)
        used[term[here], row[here] - begin] = True
        images += _count_rows(_packed(used))
        prompts += _count_rows(_packed(used & first[begin:end]))
        named = np.flatnonzero(author[begin:end] >= 0)
        authors += _count_authors(used[:, named], author[begin:end][named])
    return Together(images, prompts, authors)


def _chunks(author: NDArray[np.integer]) -> Iterator[tuple[int, int]]:
    """Where to cut the rows so that no named author is in two pieces."""
    ends = np.flatnonzero((np.diff(author, append=-2) != 0) | (author < 0))
    begin = 0
    while begin < len(author):
        end = int(ends[np.searchsorted(ends, min(begin + _CHUNK_ROWS, len(author)) - 1)]) + 1
        yield begin, end
        begin = end


def _count_rows(columns: NDArray[np.uint64]) -> NDArray[np.int64]:
    """For each two terms, given the bits of each, the rows that have both."""
    counted = np.zeros((len(columns), len(columns)), dtype=np.int64)
    for term, column in enumerate(columns):
        counted[term, term:] = np.bitwise_count(columns[term:] & column).sum(axis=1, dtype=np.int64)
    return counted


def _count_authors(used: NDArray[np.bool_], author: NDArray[np.integer]) -> NDArray[np.int64]:
    """For each two terms, the authors with a row that has both."""
    terms = len(used)
    counted = np.zeros((terms, terms), dtype=np.int64)
    packed = _packed(used.T)
    for term in range(terms):
        rows = np.flatnonzero(used[term])
        if len(rows):
            starts = np.flatnonzero(np.diff(author[rows], prepend=-1))
            by_author = np.bitwise_or.reduceat(packed[rows], starts, axis=0)
            counted[term] = np.unpackbits(by_author.view(np.uint8), axis=1, count=terms).sum(axis=0, dtype=np.int64)
    return np.triu(counted)


def _packed(used: NDArray[np.bool_]) -> NDArray[np.uint64]:
    """The bits of each row, filled up to whole 64-bit numbers."""
    bits = np.packbits(used, axis=1)
    filled = np.zeros((len(bits), -(-bits.shape[1] // 8) * 8), dtype=np.uint8)
    filled[:, : bits.shape[1]] = bits
    return filled.view(np.uint64)

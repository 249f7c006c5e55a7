"""Near duplicates: prompts that say nearly the same, found by MinHash signatures and locality-sensitive hashing.

Belongs here: signatures and groups, arrays in and arrays out. What of a prompt is compared is in ``shingles``;
equal prompts are recognised by ``text.prompt_hash``.

How alike two prompts are is the Jaccard similarity of their sets of shingles: those in both over those in
either. A signature estimates it: 64 slots, in each of which two prompts agree with that probability (Broder, "On the
resemblance and containment of documents", 1997). One byte of each slot is kept, so unlike slots agree by
chance once in 256 times (Li and König, "b-Bit minwise hashing", 2010). docs/decisions/0011-near-duplicates.md has the
figures behind the constants.
"""

from __future__ import annotations

import math
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
from rensa import RMinHash

from civitai_pipeline.prompts.shingles import Shingler

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

SLOTS = 64
# What a stored signature depends on beside the prompt: raise the first number with SLOTS, the seed or the shingles;
# the second is the library's. Signatures of different versions cannot be compared.
SIGNATURE_VERSION = f"1.{RMinHash.ALGORITHM_VERSION}"
_SEED = 20_260_101

# Prompts as alike as this are near duplicates: one part in six replaced, or four added to ten.
THRESHOLD = 0.7
NO_GROUP = 0

_BYTE_CHANCE = 1 / 256
_AGREEING = math.ceil(SLOTS * (THRESHOLD + (1 - THRESHOLD) * _BYTE_CHANCE))
# A band is four slots, read as one number. Prompts that agree in all slots of a band are compared: of pairs exactly as
# alike as the threshold 98.8 % do in one band at least, at 0.8 all but one in 4,800.
_BAND = "<u4"
# A band that many strangers agree in (they share a long beginning, say) must not cost time squared: each is compared
# with this many leaders only, the latest, since who varies a prompt does so within days.
_MOST_LEADERS = 8

# Small enough for the processor's caches: chunks of two million take a fifth longer.
_CHUNK_CHARACTERS = 250_000
_CHUNK_ROWS = 8192


def signatures(normal_forms: Sequence[str]) -> NDArray[np.uint8]:
    """The signature of each prompt.

    The same on every machine and in every process, as long as ``SIGNATURE_VERSION`` is the same. Memory is bounded
    by the longest prompt, beside the result.

    Args:
        normal_forms: Prompts as ``normalise_prompt`` gives them. Equal ones are looked at once.

    Returns:
        ``SLOTS`` bytes a prompt, of shape ``(len(normal_forms), SLOTS)``.

    Raises:
        ValueError: A prompt has several lines, which no normal form has.
    """
    numbers: dict[str, int] = {}
    number_of = np.fromiter((numbers.setdefault(form, len(numbers)) for form in normal_forms), dtype=np.int64)
    distinct = np.empty((len(numbers), SLOTS), dtype=np.uint8)
    shingler = Shingler()
    done = 0
    for chunk in _chunks(list(numbers)):
        hashes, offsets = shingler.shingles(chunk)
        matrix = RMinHash.digest_matrix_from_flat_token_hashes(hashes, offsets, num_perm=SLOTS, seed=_SEED)
        slots = np.fromiter(chain.from_iterable(matrix.to_rows()), dtype=np.uint32, count=len(chunk) * SLOTS)
        distinct[done : done + len(chunk)] = slots.astype(np.uint8).reshape(-1, SLOTS)
        done += len(chunk)
    return distinct[number_of]


def near_duplicate_groups(image_ids: NDArray[np.int64], signatures: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Groups images by their prompts' signatures.

    Images are taken in the order of their ids. Each joins the leader its prompt is most like, if it is as alike as
    ``THRESHOLD`` by the signatures, the first of several; else it becomes a leader itself. A group is a leader with
    those that joined it, and its number is the leader's id, the smallest of the group. Hence:

    * the order of the rows does not matter, and equal prompts are always together;
    * every member is like the leader, so prompts varied step by step fall into several groups rather than one
      long chain. Two members may be less alike, and a prompt may be like a member of a group it is not in;
    * an image with a larger id than all others changes nobody's group, but that an image alone may become its leader.

    Time grows with the number of rows, whatever the signatures are.

    Args:
        image_ids: The images' ids, all different, at least 1.
        signatures: Their prompts' signatures, as ``signatures`` makes them.

    Returns:
        The group of each image, ``NO_GROUP`` for one that is alone.

    Raises:
        ValueError: There are not as many signatures as ids, or they are of another size, or an id is there twice
            or below 1.
    """
    if signatures.shape != (len(image_ids), SLOTS):
        raise ValueError(f"{len(image_ids)} ids do not go with signatures of shape {signatures.shape}")
    if not len(image_ids):
        return np.zeros(0, dtype=np.int64)
    order = np.argsort(image_ids)
    ids = image_ids[order]
    if ids[0] <= NO_GROUP or (ids[1:] == ids[:-1]).any():
        raise ValueError("image ids must be positive and all different")
    ordered = np.ascontiguousarray(signatures[order])
    # The first row with the same signature stands for all of them.
    first = _firsts(ordered)
    kinds = np.flatnonzero(first == np.arange(len(first)))
    distinct = ordered[kinds]
    del ordered
    leader_of_kind = kinds[_leaders(distinct)]
    leader = leader_of_kind[np.searchsorted(kinds, first)]
    sizes = np.bincount(leader, minlength=len(ids))
    groups = np.empty(len(ids), dtype=np.int64)
    groups[order] = np.where(sizes[leader] > 1, ids[leader], NO_GROUP)
    return groups


def _chunks(texts: list[str]) -> Iterator[list[str]]:
    start, characters = 0, 0
    for end, text in enumerate(texts):
        characters += len(text)
        if characters > _CHUNK_CHARACTERS and end > start:
            yield texts[start:end]
            start, characters = end, len(text)
    if start < len(texts):
        yield texts[start:]


# The leaders in each bucket; most have one at most, which needs no list.
_Leading = list[int | list[int] | None]


def _firsts(signatures: NDArray[np.uint8]) -> NDArray[np.int64]:
    """For each row the first that has the same signature.

    By sorting: a dictionary of them would take three times the memory of the signatures themselves.
    """
    words = signatures.view(np.uint64)
    order = np.lexsort(words.T)
    opens = np.ones(len(order), dtype=np.bool_)
    opens[1:] = False
    for column in words.T:
        sorted_column = column[order]
        opens[1:] |= sorted_column[1:] != sorted_column[:-1]
    first = np.empty(len(order), dtype=np.int64)
    # Equal ones stay in their order when they are sorted.
    first[order] = order[opens][np.cumsum(opens) - 1]
    return first


def _leaders(signatures: NDArray[np.uint8]) -> NDArray[np.int64]:
    """The leader of each of several different signatures, by their places; a leader's is itself."""
    leaders = np.arange(len(signatures))
    buckets = _buckets(signatures)
    # One piece, cut where it is needed: as many pieces as there are signatures would take twice the memory.
    together = signatures.tobytes()
    in_bucket: _Leading = [None] * (int(buckets.max(initial=-1)) + 1)
    sharing = np.flatnonzero((buckets >= 0).any(axis=1))
    for start in range(0, len(sharing), _CHUNK_ROWS):
        rows = sharing[start : start + _CHUNK_ROWS]
        shared = buckets[rows] >= 0
        every_bucket, end = buckets[rows][shared].tolist(), 0
        for row, count in zip(rows.tolist(), shared.sum(axis=1).tolist(), strict=True):
            own_buckets = every_bucket[end : end + count]
            end += count
            best, most = row, _AGREEING - 1
            number = _number(together, row)
            for candidate in sorted(_leaders_in(in_bucket, own_buckets)):
                agreeing = _agreeing(number, _number(together, candidate))
                if agreeing > most:
                    best, most = candidate, agreeing
            if best != row:
                leaders[row] = best
                continue
            _lead(in_bucket, own_buckets, row)
    return leaders


def _leaders_in(in_bucket: _Leading, buckets: Sequence[int]) -> set[int]:
    found: set[int] = set()
    for bucket in buckets:
        there = in_bucket[bucket]
        if isinstance(there, int):
            found.add(there)
        elif there is not None:
            found.update(there)
    return found


def _lead(in_bucket: _Leading, buckets: Sequence[int], row: int) -> None:
    for bucket in buckets:
        there = in_bucket[bucket]
        if there is None:
            in_bucket[bucket] = row
        elif isinstance(there, int):
            in_bucket[bucket] = [there, row]
        else:
            there.append(row)
            if len(there) > _MOST_LEADERS:
                del there[0]


def _buckets(signatures: NDArray[np.uint8]) -> NDArray[np.int32]:
    """For each signature and band the number of those that agree in the band, -1 where no other does."""
    bands = signatures.view(_BAND)
    buckets = np.full(bands.shape, -1, dtype=np.int32)
    used = 0
    for band in range(bands.shape[1]):
        order = np.argsort(bands[:, band])
        keys = bands[order, band]
        opens = np.ones(len(keys), dtype=np.bool_)
        opens[1:] = keys[1:] != keys[:-1]
        number = np.cumsum(opens) - 1
        shared = np.bincount(number) > 1
        names = np.where(shared, np.cumsum(shared) - 1 + used, -1)
        buckets[order, band] = names[number]
        used += int(shared.sum())
    return buckets


_HIGH = int.from_bytes(b"\x80" * SLOTS, "little")
_LOW = int.from_bytes(b"\x7f" * SLOTS, "little")


def _number(signatures: bytes, row: int) -> int:
    return int.from_bytes(signatures[row * SLOTS : (row + 1) * SLOTS], "little")


def _agreeing(one: int, other: int) -> int:
    """In how many bytes two signatures agree, as numbers; numpy would take ten times as long for a pair."""
    differing = one ^ other
    # A byte's high bit comes up when its low seven bits are not all zero, or when it was up before.
    return SLOTS - ((((differing & _LOW) + _LOW) | differing) & _HIGH).bit_count()

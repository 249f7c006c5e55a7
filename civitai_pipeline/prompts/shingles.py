"""The shingles of a prompt: the small pieces by which two prompts are compared, as 64-bit hashes.

Belongs here: what counts as a piece, and how many prompts are cut up at once. What is made of the pieces
is in ``near_duplicates``; the normal form they are cut from is in ``text``.

A prompt's shingles are its words and the pairs of neighbouring words within a comma-separated part. So
parts may change places at no cost, and a changed word costs itself and the pairs it stands in.
"""

from __future__ import annotations

import re
from collections import defaultdict
from hashlib import blake2b
from itertools import count, islice
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

# Parts that say how good a picture should be, not what it shows. They stand in most prompts of a collection, up to
# a dozen at a time, and would make strangers of a few words alike. Given as words: "_" and "-" are spaces here.
BOILERPLATE = (
    "masterpiece", "best quality", "high quality", "highest quality", "top quality", "good quality", "great quality",
    "amazing quality", "quality", "absurdres", "highres", "high res", "hires", "high resolution", "ultra highres",
    "very aesthetic", "newest", "award winning", "hd", "full hd", "ultra hd", "uhd", "hdr", "2k", "4k", "8k", "16k",
    "4k uhd", "8k uhd", "4k hdr", "8k hdr", "8k wallpaper", "raw", "raw photo", "detailed", "highly detailed",
    "very detailed", "ultra detailed", "super detailed", "extremely detailed", "insanely detailed", "hyper detailed",
    "intricate", "intricate details", "high detail", "high details", "fine details", "sharp focus", "break",
    "score 9", "score 9 up", "score 8", "score 8 up", "score 7", "score 7 up", "score 6", "score 6 up",
    "score 5", "score 5 up", "score 4", "score 4 up",
)  # fmt: skip

# A word of text that is not plain ASCII: one character where a script writes no spaces (Thai, Lao, Burmese, Khmer,
# kana, Han), a run of letters and digits elsewhere. Commas are kept, to part by.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_WORD = re.compile(f"[,{_UNSPACED}]|[^\\W_{_UNSPACED}]+")

_PART_END, _PROMPT_START = 0, 1
_ASCII = 0x80
# What is neither letter nor digit stands between words. No normal form holds the end of a line, so it parts prompts.
_SPACED = bytes(
    {",": ord(","), "\n": ord(";")}.get(chr(byte), byte if byte >= _ASCII or chr(byte).isalnum() else ord(" "))
    for byte in range(256)
)
_LEFT, _RIGHT, _HALF = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F), np.uint64(32)


class Shingler:
    """Cuts prompts up, and remembers the hashes of the words it has met.

    Args:
        most_word_bytes: With more of words than that it starts anew: random text could fill any memory, and to hash
            a word again costs a microsecond.
    """

    def __init__(self, most_word_bytes: int = 16_000_000) -> None:
        self._most_word_bytes = most_word_bytes
        self._words = _Words()
        sums = [_hashes_of(part.encode().split()).sum() for part in BOILERPLATE]
        self._boilerplate = np.sort(np.array(sums, dtype=np.uint64))

    def shingles(self, normal_forms: Sequence[str]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
        """The shingles of prompts, those of one prompt after those of another.

        Boilerplate is left out where anything else is left. A prompt without a word, of emoji say, is one
        shingle. A shingle may come up several times.

        Args:
            normal_forms: Prompts as ``normalise_prompt`` gives them, at least one.

        Returns:
            The hashes; and where each prompt's begin among them, with their number as the last.

        Raises:
            ValueError: A prompt has several lines, which no normal form has.
        """
        if self._words.bytes > self._most_word_bytes:
            self._words = _Words()
        tokens = self._words.numbers_of(_spaced_out(normal_forms).split())
        prompts = np.flatnonzero(tokens == _PROMPT_START)
        if len(prompts) != len(normal_forms):
            raise ValueError("a prompt has several lines; give prompts in their normal form")
        hashes = self._words.hashes[tokens]
        is_word = tokens > _PROMPT_START
        chosen = is_word & ~self._is_boilerplate(tokens, hashes)
        only_boilerplate = ~np.logical_or.reduceat(chosen, prompts)
        chosen |= is_word & np.repeat(only_boilerplate, np.diff(prompts, append=len(tokens)))

        # A row for each token: the word, and the pair it makes with the next.
        table = np.empty((len(tokens), 2), dtype=np.uint64)
        table[:, 0] = hashes
        pairs = hashes * _LEFT
        pairs[:-1] += hashes[1:] * _RIGHT
        pairs ^= pairs >> _HALF
        table[:, 1] = pairs * _LEFT
        present = np.zeros(table.shape, dtype=np.bool_)
        present[:, 0] = chosen
        present[:-1, 1] = chosen[:-1] & chosen[1:]
        # A prompt without a word: the token that opens it stands for the whole.
        for number in np.flatnonzero(~np.logical_or.reduceat(chosen, prompts)).tolist():
            place = prompts[number]
            table[place, 0] = _hashes_of([normal_forms[number].encode("utf-8", "surrogatepass")])[0]
            present[place, 0] = True
        ends = np.cumsum(np.add.reduceat(present.sum(axis=1), prompts))
        return table[present], np.concatenate([[0], ends]).astype(np.uint64)

    def _is_boilerplate(self, tokens: NDArray[np.int32], hashes: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Whether each token is of a part that is boilerplate."""
        parts = np.flatnonzero(tokens <= _PROMPT_START)
        sums = np.add.reduceat(hashes, parts)
        nearest = np.searchsorted(self._boilerplate, sums)
        found = self._boilerplate.take(nearest, mode="clip") == sums
        return np.repeat(found, np.diff(parts, append=len(tokens)))


class _Words:
    """Words by numbers, in the order in which they were met; the separators are the first two.

    Attributes:
        hashes: The hash of each word, by its number; 0 for the separators.
        bytes: How long the words are together.
    """

    def __init__(self) -> None:
        separators = {b",": _PART_END, b";": _PROMPT_START}
        # Counting without a line of Python: a word not met before gets the next number. The length of the dictionary
        # would do as well, but what refers to itself is freed by the garbage collector alone, which may be off.
        self._numbers: defaultdict[bytes, int] = defaultdict(count(len(separators)).__next__, separators)
        self.hashes: NDArray[np.uint64] = np.zeros(len(self._numbers), dtype=np.uint64)
        self.bytes = 0

    def numbers_of(self, words: list[bytes]) -> NDArray[np.int32]:
        known = len(self._numbers)
        numbers = np.fromiter(map(self._numbers.__getitem__, words), dtype=np.int32, count=len(words))
        fresh = list(islice(self._numbers, known, None))
        if fresh:
            self.hashes = np.concatenate([self.hashes, _hashes_of(fresh)])
            self.bytes += sum(map(len, fresh))
        return numbers


def _spaced_out(normal_forms: Sequence[str]) -> bytes:
    """The words of prompts between spaces, a semicolon before each prompt and a comma between its parts."""
    in_words = (form if form.isascii() else " ".join(_WORD.findall(form)) for form in normal_forms)
    text = "\n".join(["", *in_words]).encode().translate(_SPACED)
    return text.replace(b",", b" , ").replace(b";", b" ; ")


def _hashes_of(words: Sequence[bytes]) -> NDArray[np.uint64]:
    digests = b"".join(blake2b(word, digest_size=8).digest() for word in words)
    return np.frombuffer(digests, dtype="<u8").astype(np.uint64, copy=False)

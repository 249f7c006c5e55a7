"""Phrases found in segments: which evidence each distinct segment of a batch holds.

Belongs here: the automaton, the order in which phrases win, patterns and negations. How text becomes
tokens is in ``segments``; what evidence adds up to, in ``categories``.

Within a segment the longest phrase wins at each place, and its words are used up: "light blue" is listed
as no evidence, so its "light" is none. One automaton of all phrases finds this in a single pass over the
token text (leftmost, then longest). A match in the scope of a negation ("no shadows", "without any nudity")
does not count; the few segments with a negation are walked through token by token.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

import ahocorasick_rs
import numpy as np

from civitai_pipeline.prompts.arrays import spread

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from civitai_pipeline.prompts.segments import Segments
    from civitai_pipeline.prompts.taxonomy import Evidence, Taxonomy

_NEGATIONS = frozenset(
    ("no", "not", "non", "without", "never", "zero", "minus", "lacking", "lacks", "avoid", "isn't", "aren't", "don't")
)
# A negation reaches over three words ("no visible harsh shadows") and ends where another thing begins.
_NEGATION_REACH = 3
_NEGATION_ENDS = frozenset(
    (
        "and", "but", "in", "on", "at", "with", "under", "from", "by", "while", "beside", "behind", "through", "over",
        "is", "are", "as", "only", "just", "wearing", ";",
    )
)  # fmt: skip
# Words with which prompts divide themselves; no phrase reaches over them.
_DIVIDERS = frozenset(("break", "addcomm", "addrow", "addcol", "addbase"))
_NEGATIONS_AS_BYTES = frozenset(word.encode() for word in _NEGATIONS)
_NEGATION_ENDS_AS_BYTES = frozenset(word.encode() for word in _NEGATION_ENDS | _DIVIDERS)


@dataclass(frozen=True)
class Found:
    """The evidence in the segments of a batch: one entry for each piece, by segment and place.

    Attributes:
        segment: The segment it is in.
        phrase: What says so, an index into ``phrases``.
        term: The term it is a piece of evidence for, an index into the matcher's ``terms``.
        strength: How much it is worth, in halves.
        phrases: The phrases, and after them the tokens that matched patterns in this batch.
    """

    segment: NDArray[np.int64]
    phrase: NDArray[np.int64]
    term: NDArray[np.int64]
    strength: NDArray[np.int64]
    phrases: Sequence[str]


class Matcher:
    """The phrases of one taxonomy, ready to be found.

    Attributes:
        term_category: The category of each term, an index into the taxonomy's categories.
    """

    def __init__(self, taxonomy: Taxonomy) -> None:
        """Build the automaton; takes some 0.1 s for the packaged taxonomy."""
        phrases = {phrase: said for phrase, said in taxonomy.phrases.items() if _DIVIDERS.isdisjoint(phrase.split(" "))}
        negations = sorted(_NEGATIONS - phrases.keys())
        self._phrases = (*phrases, *negations)
        self._first_negation = len(phrases)
        self._patterns = taxonomy.patterns
        terms: dict[tuple[str, str], int] = {}
        everything = chain(*phrases.values(), (evidence for _, evidence in taxonomy.patterns))
        self._terms = {
            evidence: terms.setdefault((evidence.category, evidence.term), len(terms)) for evidence in everything
        }
        self.term_category = np.array([taxonomy.categories.index(category) for category, _ in terms], np.int64)
        self._said = self._listed([*phrases.values(), *([()] * len(negations))])
        self._automaton = ahocorasick_rs.BytesAhoCorasick(
            [f" {phrase.replace(' ', '  ')} ".encode() for phrase in self._phrases],
            matchkind=ahocorasick_rs.MatchKind.LeftmostLongest,
            # Of the three the fastest on tag lists: 8 us a prompt against 10 and 13.
            implementation=ahocorasick_rs.Implementation.ContiguousNFA,
        )

    def find(self, segments: Segments) -> Found:
        """The evidence in ``segments``."""
        found = self._automaton.find_matches_as_indexes(segments.text)
        matches = np.fromiter(chain.from_iterable(found), np.int64, 3 * len(found)).reshape(-1, 3)
        del found
        tokens = list(self._tokens_with_digits(segments.text, matches))
        phrases, said = self._phrases, self._said
        if tokens:
            more = {token: number for number, token in enumerate(dict.fromkeys(token for token, _ in tokens))}
            said = said.followed_by(self._listed([self._by_pattern(token) for token in more]))
            extra = [
                (len(phrases) + more[token], start - 1, start + len(token.encode()) + 1) for token, start in tokens
            ]
            phrases = (*phrases, *more)
            matches = np.concatenate([matches, np.array(extra, np.int64)])
            matches = matches[np.argsort(matches[:, 1], kind="stable")]
        phrase, start = matches[:, 0], matches[:, 1]
        stands = np.searchsorted(segments.begins, start, side="right") - 1
        counts = said.counts[phrase]
        counts[self._taken_back(segments, matches, stands)] = 0
        segment = np.repeat(segments.numbers[stands], counts)
        evidence = spread(said.starts[phrase], counts)
        phrase = np.repeat(phrase, counts)
        kept = np.flatnonzero(segment >= 0)
        order = kept[np.argsort(segment[kept], kind="stable")]
        return Found(segment[order], phrase[order], said.term[evidence[order]], said.strength[evidence[order]], phrases)

    def _taken_back(self, segments: Segments, matches: NDArray[np.int64], stands: NDArray[np.int64]) -> list[int]:
        """The matches that a negation takes back."""
        phrase, start, end = matches[:, 0], matches[:, 1], matches[:, 2]
        is_negation = (phrase >= self._first_negation) & (phrase < len(self._phrases))
        back: list[int] = []
        for place in np.unique(stands[is_negation]).tolist():
            first, behind = np.searchsorted(stands, [place, place + 1]).tolist()
            here = {
                int(start[match]): (match, int(end[match])) for match in range(first, behind) if not is_negation[match]
            }
            begin = int(segments.begins[place])
            last = int(segments.begins[place + 1]) - 1 if place + 1 < len(segments.begins) else len(segments.text)
            back.extend(_negated(segments.text[begin:last].split(), begin + 1, here))
        return back

    def _listed(self, said: Sequence[Sequence[Evidence]]) -> _Said:
        counts = np.array([len(evidence) for evidence in said], np.int64)
        everything = list(chain.from_iterable(said))
        return _Said(
            np.cumsum(counts) - counts,
            counts,
            np.array([self._terms[evidence] for evidence in everything], np.int64),
            np.array([2 * evidence.strength for evidence in everything]).astype(np.int64),
        )

    def _by_pattern(self, token: str) -> list[Evidence]:
        return [evidence for pattern, evidence in self._patterns if pattern.fullmatch(token)]

    def _tokens_with_digits(self, text: bytes, matches: NDArray[np.int64]) -> Iterator[tuple[str, int]]:
        """The tokens that match a pattern, with their places, where no phrase has used them up."""
        codes = np.frombuffer(text, np.uint8)
        digits = np.flatnonzero((codes >= ord("0")) & (codes <= ord("9")))
        spaces = np.flatnonzero(codes == ord(" "))
        begins = np.unique(spaces[np.searchsorted(spaces, digits) - 1]) + 1
        if len(matches):
            before = np.maximum(np.searchsorted(matches[:, 1], begins) - 1, 0)
            begins = begins[(matches[before, 1] >= begins) | (matches[before, 2] <= begins)]
        matching: dict[bytes, bool] = {}
        for begin in begins.tolist():
            token = text[begin : text.index(b" ", begin)]
            known = matching.get(token)
            if known is None:
                known = matching[token] = bool(self._by_pattern(token.decode()))
            if known:
                yield token.decode(), begin


@dataclass(frozen=True)
class _Said:
    """What each phrase is evidence of: ``counts`` entries of ``term`` and ``strength`` from ``starts`` on."""

    starts: NDArray[np.int64]
    counts: NDArray[np.int64]
    term: NDArray[np.int64]
    strength: NDArray[np.int64]

    def followed_by(self, other: _Said) -> _Said:
        return _Said(
            np.concatenate([self.starts, other.starts + len(self.term)]),
            np.concatenate([self.counts, other.counts]),
            np.concatenate([self.term, other.term]),
            np.concatenate([self.strength, other.strength]),
        )


def _negated(tokens: list[bytes], at: int, matches: dict[int, tuple[int, int]]) -> Iterator[int]:
    """The matches in a segment that a negation takes back.

    Args:
        tokens: The segment's tokens.
        at: Where the space before the first of them is in the text.
        matches: Where matches begin: which they are, and where they end.
    """
    negated_until, used_until = -1, at
    for place, token in enumerate(tokens):
        if at >= used_until:
            if at in matches:
                match, used_until = matches[at]
                if place <= negated_until:
                    yield match
            elif token in _NEGATIONS_AS_BYTES:
                negated_until = place + _NEGATION_REACH
            elif token in _NEGATION_ENDS_AS_BYTES:
                negated_until = -1
            elif token in {b"or", b"nor"} and 0 <= negated_until >= place - 1:
                negated_until = place + _NEGATION_REACH
        at += len(token) + len("  ")

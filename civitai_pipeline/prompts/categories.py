"""Which categories a prompt speaks of, with the words that say so.

Belongs here: matching and confidence. The words themselves are in ``taxonomy.toml``.

A prompt is normalised (tags, weights, brackets and case gone) and cut into segments at commas, line ends
and the ends of sentences. Within a segment the longest phrase wins at each place, and its words are used
up: "light blue" is listed as no evidence, so its "light" is none. A match in the scope of a negation
("no shadows", "without any nudity") does not count.

The primary category is the one with the most distinct evidence, counted in terms; among equals the one
with the stronger terms, then the taxonomy's order of categories.

Confidence is ``e / (e + 0.35)``, e the summed strength of the distinct terms (strong 1.5, ordinary 1,
weak 0.5): 0.59 for one weak term, 0.74 for an ordinary, 0.81 for a strong, 0.90 for three ordinary ones,
always below 1. Of the tests' labelled prompts, whose author also wrote the taxonomy, single strong matches
were right 64 times in 68, single lesser ones 3 in 7, several together always; prompts by other hands go
worse, so the constant keeps single matches well below what was counted there.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from civitai_pipeline.prompts.taxonomy import UNCATEGORIZED, Evidence, Taxonomy, tokens_of
from civitai_pipeline.prompts.text import normalise_prompt

if TYPE_CHECKING:
    from collections.abc import Iterator

# The evidence at which confidence is one half; see the module's first lines.
_HALF_EVIDENCE = 0.35

# Comma tags repeat a great deal (1.95 million in 50,000 prompts, 167,000 distinct), so what a segment
# says is kept. Sentences rarely repeat: longer segments are not worth their room.
_KEPT_SEGMENTS = 200_000
_KEPT_LENGTH = 64

_SEGMENT = re.compile(r"[,;|!?\n]+|\.+(?=\s|$)|:(?=\s)|\b(?:break|addcomm|addrow|addcol|addbase)\b")
_EMBEDDING = re.compile(r"\bembedding:[^\s,]+", re.IGNORECASE)

_NEGATIONS = frozenset(
    ("no", "not", "non", "without", "never", "zero", "minus", "lacking", "lacks", "avoid", "isn't", "aren't", "don't")
)
# A negation reaches over three words ("no visible harsh shadows") and ends where another thing begins.
_NEGATION_REACH = 3
_NEGATION_ENDS = frozenset(
    (
        "and", "but", "in", "on", "at", "with", "under", "from", "by", "while", "beside", "behind", "through", "over",
        "is", "are", "as", "only", "just", "wearing",
    )
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class CategoryMatch:
    """One category of a prompt.

    Attributes:
        category: Its name, or ``uncategorized``.
        confidence: From 0 (uncategorized) to below 1; its meaning is in the module's first lines.
        is_primary: True for exactly one match of a prompt.
        matched_keywords: The evidence: each distinct phrase as the prompt words it, without case,
            hyphens and underscores, in order; the spellings of one term are listed once.
    """

    category: str
    confidence: float
    is_primary: bool
    matched_keywords: tuple[str, ...]


class Categorizer:
    """Finds the categories of prompts by one taxonomy."""

    def __init__(self, taxonomy: Taxonomy) -> None:
        """Prepare ``taxonomy`` for matching."""
        self.taxonomy = taxonomy
        self._patterns = taxonomy.patterns
        self._order = {category: place for place, category in enumerate(taxonomy.categories)}
        self._phrases = taxonomy.phrases
        self._longest: dict[str, int] = {}
        for phrase in taxonomy.phrases:
            tokens = phrase.split(" ")
            if len(tokens) > self._longest.get(tokens[0], 0):
                self._longest[tokens[0]] = len(tokens)
        self._kept: dict[str, tuple[tuple[str, tuple[Evidence, ...]], ...]] = {}

    def categorize(self, prompt: str) -> list[CategoryMatch]:
        """The categories of ``prompt`` in the taxonomy's order; ``uncategorized`` alone if none matches."""
        found: dict[str, dict[str, tuple[str, float]]] = {}
        for phrase, evidence in self._matches(prompt):
            for one in evidence:
                found.setdefault(one.category, {}).setdefault(one.term, (phrase, one.strength))
        if not found:
            return [CategoryMatch(UNCATEGORIZED, 0.0, is_primary=True, matched_keywords=())]
        weights = {name: sum(strength for _, strength in terms.values()) for name, terms in found.items()}
        ranked = sorted(found, key=self._order.__getitem__)
        primary = max(ranked, key=lambda name: (len(found[name]), weights[name]))
        return [
            CategoryMatch(
                name,
                weights[name] / (weights[name] + _HALF_EVIDENCE),
                is_primary=name == primary,
                matched_keywords=tuple(dict.fromkeys(phrase for phrase, _ in found[name].values())),
            )
            for name in ranked
        ]

    def _matches(self, prompt: str) -> Iterator[tuple[str, tuple[Evidence, ...]]]:
        text = prompt.replace("\n", ",")
        if "mbedding:" in text:
            text = _EMBEDDING.sub(" ", text)
        text = (
            normalise_prompt(text).replace("_", " ").replace("\N{RIGHT SINGLE QUOTATION MARK}", "'").replace("\\", "")
        )
        kept = self._kept
        for segment in _SEGMENT.split(text):
            matches = kept.get(segment)
            if matches is None:
                matches = tuple(self._segment_matches(segment))
                if len(segment) <= _KEPT_LENGTH:
                    if len(kept) >= _KEPT_SEGMENTS:
                        kept.clear()
                    kept[segment] = matches
            yield from matches

    def _segment_matches(self, segment: str) -> Iterator[tuple[str, tuple[Evidence, ...]]]:
        tokens = tokens_of(segment)
        place, negated_until = 0, -1
        while place < len(tokens):
            token = tokens[place]
            matched, evidence = self._longest_at(tokens, place)
            if matched:
                if evidence and place > negated_until:
                    yield " ".join(tokens[place : place + matched]), evidence
                place += matched
                continue
            if token in _NEGATIONS:
                negated_until = place + _NEGATION_REACH
            elif token in _NEGATION_ENDS:
                negated_until = -1
            elif token in ("or", "nor") and place <= negated_until + 1 and negated_until >= 0:
                negated_until = place + _NEGATION_REACH
            place += 1

    def _longest_at(self, tokens: list[str], place: int) -> tuple[int, tuple[Evidence, ...]]:
        """How many tokens the longest phrase at ``place`` has, and its evidence; 0 if there is none."""
        token = tokens[place]
        longest = self._longest.get(token, 0)
        for length in range(min(longest, len(tokens) - place), 0, -1):
            evidence = self._phrases.get(" ".join(tokens[place : place + length]) if length > 1 else token)
            if evidence is not None:
                return length, evidence
        if not token.isalpha() and any(map(str.isdigit, token)):
            said = tuple(one for pattern, one in self._patterns if pattern.fullmatch(token))
            if said:
                return 1, said
        return 0, ()

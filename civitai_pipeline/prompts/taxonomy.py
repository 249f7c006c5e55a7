"""The taxonomy: which words and phrases speak for which category, read from ``taxonomy.toml``.

Belongs here: the file's format, its checks and the expansion of its terms into what a prompt may hold.
Matching is in ``categories``. The format, for whoever edits the file, is described in its first lines.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from itertools import product
from pathlib import Path
from typing import Any

from civitai_pipeline.prompts.segments import tokens_of

DEFAULT_TAXONOMY = Path(__file__).with_name("taxonomy.toml")
UNCATEGORIZED = "uncategorized"

# What a term's list says of its specificity: how much one match is worth as evidence. What confidence a
# single match has by it, and how often such matches are right, stands in ``categories``.
STRENGTHS: dict[str, float] = {"strong": 1.5, "terms": 1.0, "weak": 0.5}

# More spellings of one term than this is a slip in its brackets.
_MAX_SPELLINGS = 5_000

_GROUP = re.compile(r"\(([^()]*)\)")
_SET = re.compile(r"<([^<>]*)>")


class TaxonomyError(ValueError):
    """A taxonomy file that cannot be used; the message names file, category and term."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What one match says: this term, for this category, this strongly.

    ``term`` is the phrase without inflection, so that its singular, plural, verb forms and joined
    spellings are one piece of evidence, while the alternatives of a bracket are one each.
    """

    category: str
    term: str
    strength: float


# One is as good as another only if it is the same one: what is prepared from it is kept by it.
@dataclass(frozen=True, eq=False)
class Taxonomy:
    """A taxonomy, ready for matching.

    Attributes:
        version: The version its file states; kept beside every decision.
        categories: The categories, in the order that breaks ties.
        phrases: What each phrase, tokens joined by spaces, is evidence of. Nothing, for a phrase that
            only keeps its words from being taken for evidence.
        patterns: Evidence of a single token that holds a digit and matches as a whole.
        terms: How many terms the file lists for each category.
        fingerprint: Hash of the file: eight hexadecimal digits.
    """

    version: str
    categories: tuple[str, ...]
    phrases: dict[str, tuple[Evidence, ...]]
    patterns: tuple[tuple[re.Pattern[str], Evidence], ...]
    terms: dict[str, int]
    fingerprint: str


def load_taxonomy(path: Path | None = None) -> Taxonomy:
    """Read the taxonomy in ``path``, or the one that comes with the package.

    The file is read each time; what is made of it is the same object as long as the file says the same.

    Raises:
        TaxonomyError: The file is missing, is no TOML, or breaks the format.
    """
    source = path or DEFAULT_TAXONOMY
    try:
        return _read(source, source.read_text(encoding="utf-8"))
    except OSError as error:
        raise TaxonomyError(f"{source}: cannot be read: {error.strerror}; name a file that exists") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise TaxonomyError(f"{source}: is not TOML: {error}; mend that line") from error


# Half a second, which a process that brings up many versions would spend on each.
@lru_cache(maxsize=1)
def _read(source: Path, text: str) -> Taxonomy:
    return _Loader(source, tomllib.loads(text)).taxonomy(blake2b(text.encode(), digest_size=4).hexdigest())


class _Loader:
    def __init__(self, source: Path, document: dict[str, Any]) -> None:
        self._source = source
        self._document = document
        self._sets: dict[str, str] = {}
        self._found: dict[str, dict[str, Evidence]] = {}
        self._plurals: list[tuple[str, Evidence | None]] = []
        self._patterns: list[tuple[re.Pattern[str], Evidence]] = []

    def taxonomy(self, fingerprint: str) -> Taxonomy:
        version = self._document.get("version")
        if not isinstance(version, str) or not version.strip():
            raise TaxonomyError(f'{self._source}: states no version; write version = "1" at its top, as text')
        for name in self._document.keys() - {"version", "sets", "ignore", "categories"}:
            raise TaxonomyError(
                f"{self._source}: '{name}' is not part of the format; remove it, or put it under [categories]"
            )
        for name, members in self._table("sets").items():
            self._sets[name] = "|".join(self._texts(members, f"sets.{name}"))
        categories = self._table("categories")
        if not categories or UNCATEGORIZED in categories:
            raise TaxonomyError(
                f"{self._source}: needs categories, none of them '{UNCATEGORIZED}'; begin one with [categories.style]"
            )
        terms = {category: self._category(category, lists) for category, lists in categories.items()}
        for phrase in self._texts(self._table("ignore").get("terms", []), "ignore"):
            for spelling in self._spellings(phrase, "ignore"):
                self._list(spelling, None)
        self._add_plurals()
        phrases = {phrase: tuple(held.values()) for phrase, held in self._found.items()}
        return Taxonomy(version.strip(), tuple(categories), phrases, tuple(self._patterns), terms, fingerprint)

    def _list(self, spelling: str, evidence: Evidence | None, *, plural: bool = True) -> None:
        """Hold ``spelling`` as evidence, or as none."""
        held = self._found.setdefault(spelling, {})
        if evidence:
            held.setdefault(evidence.category, evidence)
        if plural:
            self._plurals += [(word, evidence) for word in _plurals(spelling)]

    def _add_plurals(self) -> None:
        # A plural made by rule never overrules what the file lists.
        listed = set(self._found)
        for plural, evidence in self._plurals:
            if plural not in listed:
                held = self._found.setdefault(plural, {})
                if evidence:
                    held.setdefault(evidence.category, evidence)

    def _category(self, category: str, lists: object) -> int:
        if not isinstance(lists, dict):
            raise TaxonomyError(
                f"{self._source}: category '{category}' is not a table; put lists under [categories.{category}]"
            )
        count = 0
        seen: set[str] = set()
        for name, terms in lists.items():
            if name not in STRENGTHS:
                known = ", ".join(STRENGTHS)
                raise TaxonomyError(
                    f"{self._source}: category '{category}': '{name}' is none of {known}; rename the list"
                )
            for term in self._texts(terms, category):
                count += 1
                if term in seen:
                    raise TaxonomyError(f"{self._source}: category '{category}': '{term}' is listed twice; remove one")
                seen.add(term)
                if len(term) > 1 and term[0] == term[-1] == "/":
                    evidence = Evidence(category, term, STRENGTHS[name])
                    self._patterns.append((self._pattern(term, category), evidence))
                    continue
                for spelling, base in self._spellings(term.removeprefix("="), category).items():
                    evidence = Evidence(category, base, STRENGTHS[name])
                    self._list(spelling, evidence, plural=not term.startswith("="))
        return count

    def _table(self, name: str) -> dict[str, Any]:
        value = self._document.get(name, {})
        if not isinstance(value, dict):
            raise TaxonomyError(f"{self._source}: '{name}' is not a table; write [{name}] and lists under it")
        return value

    def _texts(self, value: object, where: str) -> list[str]:
        if not isinstance(value, list):
            raise TaxonomyError(
                f'{self._source}: category \'{where}\': its terms are not a list; write them as ["one", "another"]'
            )
        for one in value:
            if not isinstance(one, str) or not one.strip():
                raise TaxonomyError(
                    f"{self._source}: category '{where}': term {one!r} is not text; put it in quotes, or remove it"
                )
        return value

    def _pattern(self, term: str, category: str) -> re.Pattern[str]:
        try:
            return re.compile(term[1:-1])
        except re.error as error:
            raise TaxonomyError(
                f"{self._source}: category '{category}': pattern '{term}' is no regular expression: {error}; mend it"
            ) from error

    def _spellings(self, term: str, category: str) -> dict[str, str]:
        """Every phrase that ``term`` stands for, with the uninflected phrase it is a spelling of."""

        def members(match: re.Match[str]) -> str:
            if match[1] not in self._sets:
                raise TaxonomyError(
                    f"{self._source}: category '{category}': '{term}': there is no set '{match[1]}'; add it to [sets]"
                )
            return f"({self._sets[match[1]]})"

        expanded = _SET.sub(members, term.lower())
        pieces = _GROUP.split(expanded)
        if any(bracket in piece for piece in pieces for bracket in "()"):
            raise TaxonomyError(
                f"{self._source}: category '{category}': '{term}': brackets do not pair up; close each, and nest none"
            )
        choices = [piece.split("|") if place % 2 else [piece] for place, piece in enumerate(pieces)]
        found: dict[str, str] = {}
        for count, parts in enumerate(product(*choices)):
            if count >= _MAX_SPELLINGS:
                raise TaxonomyError(
                    f"{self._source}: category '{category}': '{term}' has too many spellings; make several terms of it"
                )
            text = "".join(parts).replace("_", " ")
            base = " ".join(tokens_of(text))
            if not base:
                raise TaxonomyError(f"{self._source}: category '{category}': '{term}' holds no word; remove it")
            base = base if base.endswith("ss") else base.removesuffix("s")
            variants = [text, text.replace("-", "")] if "-" in text else [text]
            for variant in _verb_forms(variants):
                found.setdefault(" ".join(tokens_of(variant)), base)
        return found


_VOWELS = "aeiou"
# The shortest word that has a plural of its own: not "3d" or "hd".
_SHORTEST = 3


def _plurals(phrase: str) -> list[str]:
    """The plural of a phrase's last word by the rules of English; none for a word that takes none."""
    word = phrase.rpartition(" ")[2]
    if len(word) < _SHORTEST or not word.isalpha() or word.endswith(("ed", "ly", "ous", "ful", "ive")):
        return []
    if word.endswith("y") and word[-2] not in _VOWELS:
        return [phrase[:-1] + "ies"]
    if word.endswith(("ss", "x", "ch", "sh")):
        return [phrase + "es"]
    return [] if word.endswith("s") else [phrase + "s"]


def _verb_forms(texts: list[str]) -> list[str]:
    """Each text; one that ends in ``~`` with its -s, -ed and -ing forms."""
    forms: list[str] = []
    for text in texts:
        if not text.endswith("~"):
            forms.append(text)
            continue
        verb = text[:-1]
        stem = verb.removesuffix("e")
        if verb.endswith("y") and verb[-2:-1] not in _VOWELS:
            forms += [verb, verb[:-1] + "ies", verb[:-1] + "ied", verb + "ing"]
        else:
            sibilant = verb.endswith(("s", "sh", "ch", "x"))
            forms += [verb, verb + ("es" if sibilant else "s"), stem + "ed", stem + "ing"]
    return forms

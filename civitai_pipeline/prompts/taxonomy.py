"""The taxonomy: which words and phrases speak for which category, read from ``taxonomy.toml``.

Belongs here: the file's format, its checks and the expansion of its terms into what a prompt may hold.
Matching is in ``categories``. The format, for whoever edits the file, is described in its first lines.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

DEFAULT_TAXONOMY = Path(__file__).with_name("taxonomy.toml")
UNCATEGORIZED = "uncategorized"

# What a term's list says of its specificity: how much one match is worth as evidence. Chosen so that the
# confidence of a single match (see ``categories``) is near the share of such matches that is right.
STRENGTHS: dict[str, float] = {"strong": 1.5, "terms": 1.0, "weak": 0.5}

# More spellings of one term than this is a slip in its brackets.
_MAX_SPELLINGS = 5_000

WORD = re.compile(r"f/?\d+(?:\.\d+)?(?![^\W_])|\d+(?:[.:/]\d+)+|[^\W_]+(?:'[^\W_]+)*")
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


@dataclass(frozen=True)
class Taxonomy:
    """A taxonomy, ready for matching.

    Attributes:
        version: The version its file states; kept beside every decision.
        categories: The categories, in the order that breaks ties.
        phrases: What each phrase, tokens joined by spaces, is evidence of. Nothing, for a phrase that
            only keeps its words from being taken for evidence.
        patterns: Evidence of a single token that holds a digit and matches as a whole.
        terms: How many terms the file lists for each category.
    """

    version: str
    categories: tuple[str, ...]
    phrases: dict[str, tuple[Evidence, ...]]
    patterns: tuple[tuple[re.Pattern[str], Evidence], ...]
    terms: dict[str, int]


def tokens_of(text: str) -> list[str]:
    """The tokens of lower-case ``text``: words without possessive, numbers with their dots, ``f/1.4``, ``16:9``."""
    return [token.removesuffix("'s") if "'" in token else token for token in WORD.findall(text)]


def load_taxonomy(path: Path | None = None) -> Taxonomy:
    """Read the taxonomy in ``path``, or the one that comes with the package.

    Raises:
        TaxonomyError: The file is missing, is no TOML, or breaks the format.
    """
    source = path or DEFAULT_TAXONOMY
    try:
        document = tomllib.loads(source.read_text(encoding="utf-8"))
    except OSError as error:
        raise TaxonomyError(f"{source}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise TaxonomyError(f"{source}: is not TOML: {error}") from error
    return _Loader(source, document).taxonomy()


class _Loader:
    def __init__(self, source: Path, document: dict[str, Any]) -> None:
        self._source = source
        self._document = document
        self._sets: dict[str, str] = {}
        self._found: dict[str, dict[str, Evidence]] = {}
        self._listed: set[str] = set()
        self._patterns: list[tuple[re.Pattern[str], Evidence]] = []

    def taxonomy(self) -> Taxonomy:
        version = self._document.get("version")
        if not isinstance(version, str) or not version.strip():
            raise TaxonomyError(f"{self._source}: states no version (a text, at the top)")
        categories = self._table("categories")
        if not categories:
            raise TaxonomyError(f"{self._source}: has no categories")
        for name in self._document.keys() - {"version", "sets", "ignore", "categories"}:
            raise TaxonomyError(f"{self._source}: '{name}' is not part of the format")
        for name, members in self._table("sets").items():
            self._sets[name] = "|".join(self._texts(members, f"sets.{name}"))
        terms: dict[str, int] = {}
        plurals: list[tuple[str, Evidence]] = []
        for category, lists in categories.items():
            if category == UNCATEGORIZED:
                raise TaxonomyError(f"{self._source}: '{UNCATEGORIZED}' stands for no match and has no terms")
            terms[category] = self._category(category, lists, plurals)
        for phrase in self._texts(self._table("ignore").get("terms", []), "ignore"):
            for spelling in self._spellings(phrase, "ignore"):
                self._listed.add(spelling)
                self._found.setdefault(spelling, {})
                plurals += [(plural, _NOTHING) for plural in _plurals(spelling)]
        # A plural made by rule never overrules what the file lists: "cocked" and "stripes" are words too.
        for plural, evidence in plurals:
            if plural not in self._listed:
                held = self._found.setdefault(plural, {})
                if evidence is not _NOTHING:
                    held.setdefault(evidence.category, evidence)
        phrases = {phrase: tuple(held.values()) for phrase, held in self._found.items()}
        return Taxonomy(version.strip(), tuple(categories), phrases, tuple(self._patterns), terms)

    def _category(self, category: str, lists: object, plurals: list[tuple[str, Evidence]]) -> int:
        if not isinstance(lists, dict):
            raise TaxonomyError(f"{self._source}: category '{category}' is not a table")
        count = 0
        seen: dict[str, str] = {}
        for name, terms in lists.items():
            if name not in STRENGTHS:
                known = ", ".join(STRENGTHS)
                raise TaxonomyError(f"{self._source}: category '{category}': '{name}' is none of {known}")
            for term in self._texts(terms, category):
                count += 1
                if term in seen:
                    raise TaxonomyError(f"{self._source}: category '{category}': '{term}' is listed twice")
                seen[term] = name
                if len(term) > 1 and term[0] == term[-1] == "/":
                    evidence = Evidence(category, term, STRENGTHS[name])
                    self._patterns.append((self._pattern(term, category), evidence))
                    continue
                for spelling, base in self._spellings(term.removeprefix("="), category).items():
                    evidence = Evidence(category, base, STRENGTHS[name])
                    self._listed.add(spelling)
                    self._found.setdefault(spelling, {}).setdefault(category, evidence)
                    if not term.startswith("="):
                        plurals += [(plural, evidence) for plural in _plurals(spelling)]
        return count

    def _table(self, name: str) -> dict[str, Any]:
        value = self._document.get(name, {})
        if not isinstance(value, dict):
            raise TaxonomyError(f"{self._source}: '{name}' is not a table")
        return value

    def _texts(self, value: object, where: str) -> list[str]:
        if not isinstance(value, list):
            raise TaxonomyError(f"{self._source}: category '{where}': its terms are not a list")
        for one in value:
            if not isinstance(one, str) or not one.strip():
                raise TaxonomyError(f"{self._source}: category '{where}': term {one!r} is not text")
        return value

    def _pattern(self, term: str, category: str) -> re.Pattern[str]:
        try:
            return re.compile(term[1:-1])
        except re.error as error:
            raise TaxonomyError(f"{self._source}: category '{category}': pattern '{term}': {error}") from error

    def _spellings(self, term: str, category: str) -> dict[str, str]:
        """Every phrase that ``term`` stands for, with the uninflected phrase it is a spelling of."""

        def members(match: re.Match[str]) -> str:
            if match[1] not in self._sets:
                raise TaxonomyError(f"{self._source}: category '{category}': '{term}': there is no set '{match[1]}'")
            return f"({self._sets[match[1]]})"

        expanded = _SET.sub(members, term.lower())
        pieces = _GROUP.split(expanded)
        if any(bracket in piece for piece in pieces for bracket in "()"):
            raise TaxonomyError(f"{self._source}: category '{category}': '{term}': brackets do not pair up")
        choices = [piece.split("|") if place % 2 else [piece] for place, piece in enumerate(pieces)]
        found: dict[str, str] = {}
        for count, parts in enumerate(product(*choices)):
            if count >= _MAX_SPELLINGS:
                raise TaxonomyError(f"{self._source}: category '{category}': '{term}' has too many spellings")
            text = "".join(parts).replace("_", " ")
            base = " ".join(tokens_of(text))
            if not base:
                raise TaxonomyError(f"{self._source}: category '{category}': '{term}' holds no word")
            base = base if base.endswith("ss") else base.removesuffix("s")
            variants = [text, text.replace("-", "")] if "-" in text else [text]
            for variant in _verb_forms(variants):
                found.setdefault(" ".join(tokens_of(variant)), base)
        return found


_NOTHING = Evidence("", "", 0.0)
_VOWELS = "aeiou"


def _plurals(phrase: str) -> list[str]:
    """The plural of a phrase's last word by the rules of English; none for what holds a digit or is too short."""
    word = phrase.rpartition(" ")[2]
    if len(word) < 3 or not word.isalpha() or word.endswith(("s", "ing", "ed", "ly", "y")):  # noqa: PLR2004 - "3d", "hd"
        if len(word) > 3 and word.endswith("y") and word[-2] not in _VOWELS:  # noqa: PLR2004 - "sky", not "ray"
            return [phrase[:-1] + "ies"]
        return [phrase + "es"] if word.endswith("ss") else [phrase + "s"] if word.endswith(("ing", "ay")) else []
    return [phrase + ("es" if word.endswith(("x", "ch", "sh")) else "s")]


def _verb_forms(texts: list[str]) -> list[str]:
    """Each text; one that ends in ``~`` with its -s, -ed and -ing forms."""
    forms: list[str] = []
    for text in texts:
        if not text.endswith("~"):
            forms.append(text)
            continue
        verb = text[:-1]
        stem = verb[:-1] if verb.endswith("e") else verb
        past = verb[:-1] + "ied" if verb.endswith("y") and verb[-2:-1] not in _VOWELS else stem + "ed"
        third = verb[:-1] + "ies" if past.endswith("ied") else verb + ("es" if verb.endswith(("s", "sh", "ch", "x")) else "s")
        forms += [verb, third, past, stem + "ing"]
    return forms

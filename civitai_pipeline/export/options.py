"""What a person may choose of an export: the one list of options that the command line and the job share.

Belongs here: names, defaults, meanings and ranges. What an option does to the rows is in ``selection``.
Values are plain text and numbers, so that run config, the command line and JSON hold the same.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field, fields
from datetime import date
from typing import Any

FILE_FORMATS = ("csv", "jsonl", "parquet")
FOLDER_FORMATS = ("huggingface", "wildcards")
FORMATS = FILE_FORMATS + FOLDER_FORMATS
DISTINCT = ("none", "exact", "near")
SPLIT_BY = ("both", "near", "author")
# As CivitAI's bits; 32 means blocked and can never be asked for.
LEVELS = {"PG": 1, "PG-13": 2, "R": 4, "X": 8, "XXX": 16}
ALL_LEVELS = 31
# DuckDB's LIMIT and the counts of rows are 64-bit, Dagster's integers in GraphQL 32-bit.
MOST = 2**31 - 1
_DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)


_LEAST = {
    "min_reactions": 0,
    "max_per_author": 1,
    "max_per_version": 1,
    "limit": 1,
    "seed": 0,
    "min_images": 1,
    "min_authors": 1,
    "max_terms": 1,
}
_NAMES = ("category", "primary_category", "resource", "sampler", "base_model")


class OptionError(ValueError):
    """An option holds something unusable; the message says what it takes."""


def _option(text: str, *, default: Any) -> Any:  # noqa: ANN401 - a field of any type
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True)
class ExportOptions:
    """What to export, and how. Each option's meaning is its ``help``; rows must pass all filters.

    Raises:
        OptionError: A value is out of range, or two contradict each other.
    """

    format: str = _option(
        "The format: csv, jsonl or parquet for a file, huggingface or wildcards for a folder.", default="csv"
    )
    columns: str | None = _option(
        "Columns to write, separated by commas; 'default' stands for those written otherwise.", default=None
    )
    max_level: str | None = _option(
        "The highest maturity to export: PG, PG-13, R, X, XXX, or a number; by default what was asked for when "
        "collecting.",
        default=None,
    )
    include_unknown_level: bool = _option(
        "Also images whose maturity is unknown, which otherwise counts as too high.", default=False
    )
    include_withdrawn: bool = _option("Also prompts that their makers have withdrawn since.", default=False)
    category: tuple[str, ...] = _option("Only prompts of this category, primary or not.", default=())
    primary_category: tuple[str, ...] = _option("Only prompts whose primary category this is.", default=())
    resource: tuple[str, ...] = _option(
        "Only images made with this resource: its name, or its model version's id.", default=()
    )
    sampler: tuple[str, ...] = _option("Only images of this sampler.", default=())
    base_model: tuple[str, ...] = _option("Only images of this base model.", default=())
    min_reactions: int | None = _option("Only images with at least this many reactions.", default=None)
    since: str | None = _option("Only images created on this day or later, as YYYY-MM-DD in UTC.", default=None)
    until: str | None = _option("Only images created on this day or earlier, as YYYY-MM-DD in UTC.", default=None)
    distinct: str = _option(
        "Keep one image of those with equal prompts (exact) or near duplicates (near).", default="none"
    )
    max_per_author: int | None = _option("At most this many rows of one author, drawn by --seed.", default=None)
    max_per_version: int | None = _option("At most this many rows of one model version, drawn by --seed.", default=None)
    limit: int | None = _option("At most this many rows, the first by version and image id.", default=None)
    hash_authors: bool = _option(
        "Write author_hash instead of username: a keyed hash; huggingface always does so.", default=False
    )
    bom: bool = _option("Begin a csv file with a byte order mark, by which Excel knows UTF-8.", default=False)
    split_by: str = _option(
        "What a huggingface folder keeps in one split: near duplicates, authors or both.", default="both"
    )
    seed: int = _option("What draws the rows of the caps and the splits; the same seed draws the same.", default=0)
    min_images: int = _option("Terms of wildcards stand in at least this many images' prompts.", default=2)
    min_authors: int = _option("Terms of wildcards are used by at least this many authors.", default=2)
    max_terms: int = _option("At most this many terms in a file of wildcards.", default=500)

    def __post_init__(self) -> None:
        for name, known in (("format", FORMATS), ("distinct", DISTINCT), ("split_by", SPLIT_BY)):
            if getattr(self, name) not in known:
                raise OptionError(f"{name} must be one of {', '.join(known)}, not {getattr(self, name)!r}")
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if value is not None and not least <= value <= MOST:
                raise OptionError(f"{name} must be from {least} to {MOST}, not {value}")
        if any(not value.strip() for name in _NAMES for value in getattr(self, name)):
            raise OptionError(f"{', '.join(_NAMES)} must not be empty; leave out what shall not filter")
        if self.max_level is not None:
            level_bit(self.max_level)
        self._check_days()
        self._check_format()

    def _check_days(self) -> None:
        since, until = _day("since", self.since), _day("until", self.until)
        if since and until and since > until:
            raise OptionError(f"since {since} is later than until {until}: no image can be both")

    def _check_format(self) -> None:
        if self.bom and self.format != "csv":
            raise OptionError(f"bom is for csv alone; {self.format} needs none")
        if self.format == "wildcards" and self.columns is not None:
            raise OptionError("wildcards hold terms, not columns; leave columns out")

    @property
    def highest_level(self) -> int | None:
        """The maturity bit of ``max_level``; None if each version's own decides."""
        return None if self.max_level is None else level_bit(self.max_level)

    @property
    def hides_authors(self) -> bool:
        """Whether user names are replaced by hashes."""
        return self.hash_authors or self.format == "huggingface"

    def chosen(self) -> dict[str, Any]:
        """The options that differ from their defaults, by name."""
        defaults = {option.name: option.default for option in fields(self)}
        return {name: value for name, value in asdict(self).items() if value != defaults[name]}


def help_of(name: str) -> str:
    """What an option means, in one or two sentences.

    Raises:
        KeyError: There is no such option.
    """
    texts: dict[str, str] = {option.name: option.metadata["help"] for option in fields(ExportOptions)}
    return texts[name]


def level_bit(text: str) -> int:
    """The maturity bit that a level's name or number spells; of a sum of bits, the highest.

    Raises:
        OptionError: It spells none.
    """
    bit = LEVELS.get(text.strip().upper())
    if bit is not None:
        return bit
    if text.strip() in map(str, range(1, ALL_LEVELS + 1)):
        return highest_bit(int(text))
    names = ", ".join(LEVELS)
    raise OptionError(f"max_level must be one of {names}, or a sum of 1, 2, 4, 8, 16, from 1 to 31, not {text!r}")


def highest_bit(mask: int) -> int:
    """The highest maturity bit of a sum of them."""
    return 1 << (mask.bit_length() - 1)


def level_name(bit: int) -> str:
    """A maturity bit in words."""
    return next((name for name, known in LEVELS.items() if known == bit), str(bit))


def _day(name: str, text: str | None) -> date | None:
    if text is None:
        return None
    try:
        # Python also takes weeks and days without hyphens.
        day = date.fromisoformat(text) if _DAY.fullmatch(text) else None
    except ValueError:
        day = None
    if day is None:
        raise OptionError(f"{name} must be a day like 2026-01-31, not {text!r}")
    return day

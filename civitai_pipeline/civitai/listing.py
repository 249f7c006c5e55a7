"""What is being walked: a listing, and the request that asks for one page of it.

The rules come from the API's behaviour: ask with an explicit everything, follow the cursor and nothing
else, and never send an id that would silently return the gallery of all models.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

# The API stores ids as 32-bit integers; a larger one cannot exist there.
MAX_ID = 2**31 - 1
MAX_PAGE_SIZE = 200
DEFAULT_PAGE_SIZE = 100
ALL_LEVELS = 31

Cursor = str | int
"""An opaque scalar: the API's JSON number or string, sent back as it came."""


class Sort(StrEnum):
    """The orders a listing can be asked in, spelled as the API spells them."""

    OLDEST = "Oldest"
    NEWEST = "Newest"
    MOST_REACTIONS = "Most Reactions"
    MOST_COMMENTS = "Most Comments"
    MOST_COLLECTED = "Most Collected"

    @property
    def flag(self) -> str:
        """The order's name on the command line."""
        return self.value.lower().replace(" ", "-")

    @classmethod
    def from_flag(cls, flag: str) -> Sort:
        """The order called ``flag`` on the command line.

        Raises:
            ValueError: There is none.
        """
        for sort in cls:
            if flag in {sort.flag, sort.value}:
                return sort
        raise ValueError(f"no such order: {flag!r}; there are {', '.join(s.flag for s in cls)}")


def parse_id(text: str, what: str = "model version id") -> int:
    """The id that ``text`` spells in plain decimal digits.

    Raises:
        ValueError: It is not a positive 32-bit integer in plain decimal digits. An empty or zero
            ``modelVersionId`` makes the API return the gallery of all models, so it never gets that far.
    """
    plain = text.isascii() and text.isdigit() and not text.startswith("0") and len(text) <= len(str(MAX_ID))
    if not plain or int(text) > MAX_ID:
        raise ValueError(
            f"{text!r} is not a {what}: it must be a whole number from 1 to {MAX_ID}, "
            "like the one after modelVersionId= in the address of the model's page"
        )
    return int(text)


@dataclass(frozen=True)
class Listing:
    """One order of one part of a model version's gallery.

    Two walks of one listing can be compared; two listings cannot, since a wider maturity mask is not a
    superset of a narrower one.

    Attributes:
        model_version_id: The version whose gallery is asked for.
        sort: The order.
        browsing_level: The maturity bits asked for, 1 to 31.
        period: How far back; everything by default.
        type: The kind of media.

    Raises:
        ValueError: A field is out of range.
    """

    model_version_id: int
    sort: Sort = Sort.OLDEST
    browsing_level: int = 1
    period: str = "AllTime"
    type: str = "image"

    def __post_init__(self) -> None:
        parse_id(str(self.model_version_id))
        if not 1 <= self.browsing_level <= ALL_LEVELS:
            raise ValueError(
                f"browsing level {self.browsing_level} is not a sum of 1 (PG), 2 (PG-13), 4 (R), 8 (X), 16 (XXX)"
            )

    @property
    def is_appended(self) -> bool:
        """Whether new images come at the end, so that a finished walk can be continued."""
        return self.sort is Sort.OLDEST

    def as_dict(self) -> dict[str, Any]:
        """The listing as it is landed and reported."""
        return {
            "model_version_id": self.model_version_id,
            "sort": self.sort.value,
            "browsing_level": self.browsing_level,
            "period": self.period,
            "type": self.type,
        }

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Listing:
        """The listing that :meth:`as_dict` wrote.

        Raises:
            ValueError, KeyError, TypeError: ``fields`` is no such thing.
        """
        return cls(
            model_version_id=fields["model_version_id"],
            sort=Sort(fields["sort"]),
            browsing_level=fields["browsing_level"],
            period=fields["period"],
            type=fields["type"],
        )

    def params(self, limit: int, cursor: Cursor | None) -> dict[str, str]:
        """The query that asks for one page.

        ``flatMeta`` makes the metadata's shape the same on every path through the server; without
        ``withMeta`` every item's metadata is null. ``page`` is never sent: the API ignores it for
        versions and answers 429 for good beyond page times limit of 1000.
        """
        params = {
            "modelVersionId": str(self.model_version_id),
            "limit": str(limit),
            "sort": self.sort.value,
            "period": self.period,
            "browsingLevel": str(self.browsing_level),
            "type": self.type,
            "withMeta": "true",
            "flatMeta": "true",
        }
        if cursor is not None:
            params["cursor"] = str(cursor)
        return params

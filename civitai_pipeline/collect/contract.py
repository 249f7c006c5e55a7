"""The contract check: what came back, compared with what the API promises of each item.

Tells "CivitAI changed" apart from "this version has no data", and names the field. It watches; what becomes
of an item is decided elsewhere.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

# As the API's source of August 2026 builds an item; thumbnail and tags come with newer servers and withTags.
PROMISED_FIELDS = frozenset(
    [
        "id",
        "url",
        "hash",
        "width",
        "height",
        "nsfwLevel",
        "type",
        "nsfw",
        "browsingLevel",
        "createdAt",
        "postId",
        "stats",
        "meta",
        "username",
        "baseModel",
        "modelVersionIds",
    ]
)
TOLERATED_FIELDS = frozenset({"tags", "thumbnail"})
PROMISED_STATS = frozenset(["cryCount", "laughCount", "likeCount", "dislikeCount", "heartCount", "commentCount"])
# Uploaders hide the metadata of one image in eight; twenty in a row by chance is one in 10^18.
ENOUGH_ITEMS = 20


@dataclass
class ContractWatch:
    """Counts, over the items of a run, where they differ from what the API promises.

    Attributes:
        items: Items seen.
        no_object: Items that are no JSON object.
        null_meta: Items whose metadata is null or missing.
        nested_meta: Items whose metadata came wrapped, although flat was asked for.
        missing_fields: How often each promised field was missing.
        missing_stats: How often each promised count was missing.
        unknown_fields: How often each field that nobody promised was there.
    """

    items: int = 0
    no_object: int = 0
    null_meta: int = 0
    nested_meta: int = 0
    missing_fields: Counter[str] = field(default_factory=Counter)
    missing_stats: Counter[str] = field(default_factory=Counter)
    unknown_fields: Counter[str] = field(default_factory=Counter)

    def observe(self, item: Any) -> None:  # noqa: ANN401 - any JSON value
        """Takes note of one item."""
        self.items += 1
        if not isinstance(item, dict):
            self.no_object += 1
            return
        self.missing_fields.update(PROMISED_FIELDS - item.keys())
        self.unknown_fields.update(item.keys() - PROMISED_FIELDS - TOLERATED_FIELDS)
        meta, stats = item.get("meta"), item.get("stats")
        self.nested_meta += isinstance(meta, dict) and meta.keys() == {"id", "meta"}
        self.null_meta += meta is None or (
            isinstance(meta, dict) and meta.keys() == {"id", "meta"} and not meta["meta"]
        )
        self.missing_stats.update(PROMISED_STATS - (stats.keys() if isinstance(stats, dict) else set()))

    def breaches(self, *, held_before: int) -> list[str]:
        """What the API no longer keeps to, one sentence each, naming the field.

        A field counts as gone when no item has it. Null metadata throughout is a change only of a version
        of which prompts were held before, or over enough items; a version may honestly have little data.

        Args:
            held_before: Prompts of the version held before the run.
        """
        if self.items == 0:
            return []
        found = [f"no item has the field {name}" for name in _always(self.missing_fields, self.items)]
        if "stats" not in self.missing_fields or self.missing_fields["stats"] < self.items:
            found += [f"no item has the count stats.{name}" for name in _always(self.missing_stats, self.items)]
        if self.no_object == self.items:
            found = ["items are no longer JSON objects"]
        all_null = self.null_meta == self.items and "meta" not in _always(self.missing_fields, self.items)
        if all_null and self.items >= ENOUGH_ITEMS:
            found.append("the field meta is null on every item, although withMeta=true was asked")
        elif all_null and held_before:
            found.append("the field meta is null on every item of a version that had prompts before")
        return found

    def oddities(self) -> list[str]:
        """What differs but is understood all the same, one sentence each."""
        found = [f"unknown item field {name} ({count} of {self.items})" for name, count in self._unknown()]
        if self.nested_meta:
            found.append(f"metadata came nested on {self.nested_meta} of {self.items} items, although flat was asked")
        partly = {n: c for n, c in self.missing_fields.items() if c < self.items}
        found += [f"the field {n} is missing on {c} of {self.items} items" for n, c in sorted(partly.items())]
        return found

    def _unknown(self) -> list[tuple[str, int]]:
        # Names come from the server; many or long ones must not swell the event log.
        return [(name[:80], count) for name, count in self.unknown_fields.most_common(20)]

    def as_dict(self) -> dict[str, Any]:
        """The counts as JSON values."""
        return {
            "items": self.items,
            "no_object": self.no_object,
            "null_meta": self.null_meta,
            "nested_meta": self.nested_meta,
            "missing_fields": dict(sorted(self.missing_fields.items())),
            "missing_stats": dict(sorted(self.missing_stats.items())),
            "unknown_fields": dict(self._unknown()),
        }


def _always(counter: Counter[str], items: int) -> list[str]:
    return sorted(name for name, count in counter.items() if count == items)

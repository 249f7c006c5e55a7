"""What is held of one version, and what therefore becomes of the next item seen.

The collector counts outcomes with it while pages land, and the tables are folded with it afterwards, so
that a summary and the tables cannot disagree.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, NamedTuple

from civitai_pipeline.prompts.items import Outcome, Reading, read_item

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from civitai_pipeline.lake.pages import Options


class Effect(Enum):
    """What an item does to the tables."""

    NOTHING = auto()
    CONTENT = auto()
    """It becomes the image's row."""
    SIGHTING = auto()
    """It only shows that the image is still there."""
    WITHDRAWAL = auto()
    """It shows that the prompt is gone; the row stays as last known."""


class Sighting(NamedTuple):
    """What one item says that decides its outcome: little enough to be handed from process to process.

    Attributes:
        image_id: CivitAI's id of the image; None for a malformed item.
        fingerprint: Differs when a later sighting brings news.
        has_prompt: Whether it holds a prompt.
        flaw: Why it is malformed or has no prompt, in one sentence; None for one that is neither.
        is_of_version: Whether it is what a strict run accepts; True where the run was not strict.
        created_at: When the image was made.
    """

    image_id: int | None
    fingerprint: int
    has_prompt: bool
    flaw: str | None
    is_of_version: bool
    created_at: datetime | None

    @classmethod
    def of(cls, reading: Reading, version: int, options: Options) -> Sighting:
        """What ``reading`` says to a run for ``version`` with ``options``."""
        return cls(
            reading.image_id,
            reading.fingerprint,
            reading.prompt is not None,
            reading.no_prompt_reason if reading.problem is None else reading.problem,
            not options.strict_version_match or reading.names_checkpoint(version),
            reading.facts.get("created_at"),
        )

    @property
    def is_acceptable(self) -> bool:
        """Whether the image is accepted, unless it is held already."""
        return self.has_prompt and self.image_id is not None and self.is_of_version


class Receipt(NamedTuple):
    """What became of one item.

    Attributes:
        outcome: Exactly one of the six.
        effect: What it does to the tables.
        reason: Why it was not accepted, in one sentence; None where it was.
    """

    outcome: Outcome
    effect: Effect
    reason: str | None = None


_APPENDED_DUPLICATE = Receipt(Outcome.DUPLICATE, Effect.NOTHING)
_NEW = Receipt(Outcome.NEW, Effect.CONTENT)
_DUPLICATE = Receipt(Outcome.DUPLICATE, Effect.SIGHTING)
_UPDATED = Receipt(Outcome.UPDATED, Effect.CONTENT)
_WITHDRAWN = Receipt(Outcome.UPDATED, Effect.WITHDRAWAL)


class Holdings:
    """The images of one version accepted so far, each with a fingerprint of what was last known of it."""

    def __init__(self, fingerprints: dict[int, int] | None = None, withdrawn: set[int] | None = None) -> None:
        self._fingerprints = fingerprints if fingerprints is not None else {}
        self._withdrawn = withdrawn if withdrawn is not None else set()

    def __len__(self) -> int:
        return len(self._fingerprints)

    def __contains__(self, image_id: int | None) -> bool:
        return image_id in self._fingerprints

    def receive(self, sighting: Sighting, version: int, options: Options) -> Receipt:
        """Takes in one item and says what became of it.

        The order of the questions is the precedence of outcomes: malformed, version_mismatch, no_prompt,
        then duplicate, updated or new.
        """
        image_id = sighting.image_id
        if image_id is None:
            return Receipt(Outcome.MALFORMED, Effect.NOTHING, sighting.flaw)
        if not sighting.is_of_version:
            reason = f"its metadata does not name model version {version} as a checkpoint"
            return Receipt(Outcome.VERSION_MISMATCH, Effect.NOTHING, reason)
        known = self._fingerprints.get(image_id)
        if known is None and not sighting.has_prompt:
            return Receipt(Outcome.NO_PROMPT, Effect.NOTHING, sighting.flaw)
        if known is not None and options.append_only:
            return _APPENDED_DUPLICATE
        if not sighting.has_prompt:
            return self._receive_without_prompt(image_id)
        self._fingerprints[image_id] = sighting.fingerprint
        if known is None:
            return _NEW
        if known == sighting.fingerprint and image_id not in self._withdrawn:
            return _DUPLICATE
        self._withdrawn.discard(image_id)
        return _UPDATED

    def _receive_without_prompt(self, image_id: int) -> Receipt:
        if image_id in self._withdrawn:
            return _DUPLICATE
        self._withdrawn.add(image_id)
        return _WITHDRAWN


@dataclass
class Tally:
    """What became of the items of one page, or of several.

    Attributes:
        outcomes: How many items had each outcome.
        oldest_created_at: The earliest ``created_at`` among them.
        newest_created_at: The latest.
    """

    outcomes: Counter[Outcome] = field(default_factory=Counter)
    oldest_created_at: datetime | None = None
    newest_created_at: datetime | None = None

    @property
    def attempted(self) -> int:
        """How many items there were: the sum of the six outcomes."""
        return self.outcomes.total()

    @property
    def brought_news(self) -> bool:
        """Whether anything was new or updated."""
        return bool(self.outcomes[Outcome.NEW] or self.outcomes[Outcome.UPDATED])

    def count(self, outcome: Outcome, created_at: datetime | None) -> None:
        """Adds one item."""
        self.outcomes[outcome] += 1
        self.reach(created_at, created_at)

    def add(self, other: Tally) -> None:
        """Adds the items of another tally."""
        self.outcomes.update(other.outcomes)
        self.reach(other.oldest_created_at, other.newest_created_at)

    def reach(self, oldest: datetime | None, newest: datetime | None) -> None:
        """Widens the span of ``created_at``."""
        if oldest is not None and (self.oldest_created_at is None or oldest < self.oldest_created_at):
            self.oldest_created_at = oldest
        if newest is not None and (self.newest_created_at is None or newest > self.newest_created_at):
            self.newest_created_at = newest


def receive_items(
    holdings: Holdings, items: Sequence[Any], version: int, options: Options, tally: Tally
) -> list[tuple[int | None, Receipt]]:
    """Takes in a page's items in order, counting them in ``tally``; the image id and receipt of each."""
    received = []
    for item in items:
        sighting = Sighting.of(read_item(item), version, options)
        receipt = holdings.receive(sighting, version, options)
        tally.count(receipt.outcome, sighting.created_at)
        received.append((sighting.image_id, receipt))
    return received

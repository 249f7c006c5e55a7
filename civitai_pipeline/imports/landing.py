"""Lands pages that were fetched elsewhere behind a version's own, counting what becomes of their items."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from civitai_pipeline import jsontext
from civitai_pipeline.derive.holdings import Effect, Holdings, Tally, receive_items
from civitai_pipeline.lake import schemas, tables
from civitai_pipeline.lake.ledger import Ledger
from civitai_pipeline.lake.pages import PageId
from civitai_pipeline.prompts.items import Outcome

if TYPE_CHECKING:
    from datetime import datetime

    from civitai_pipeline.lake.pages import LandedPage
    from civitai_pipeline.lake.paths import Lake


@dataclass
class VersionImport:
    """What came of one model version.

    Attributes:
        model_version_id: The version.
        prompts_before: Distinct images with a prompt held before.
        walks: The walks that pages landed in.
        pages: Pages landed, or that would land.
        tally: What became of their items.
        items_here_already: Items that were not landed, since they or a later sighting are here.
        error: Why the version was left alone; None if it was not.
    """

    model_version_id: int
    prompts_before: int = 0
    walks: list[int] = field(default_factory=list)
    pages: int = 0
    tally: Tally = field(default_factory=Tally)
    items_here_already: int = 0
    error: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """As JSON values; ``attempted`` is the sum of the six outcomes."""
        outcomes = self.tally.outcomes
        return {
            "model_version_id": self.model_version_id,
            "walks": self.walks,
            "pages": self.pages,
            "items_here_already": self.items_here_already,
            "attempted": self.tally.attempted,
            **{
                outcome.value: outcomes[outcome]
                for outcome in (
                    Outcome.NEW,
                    Outcome.UPDATED,
                    Outcome.DUPLICATE,
                    Outcome.NO_PROMPT,
                    Outcome.VERSION_MISMATCH,
                    Outcome.MALFORMED,
                )
            },
            "prompts_before": self.prompts_before,
            "prompts_after": self.prompts_before + outcomes[Outcome.NEW],
            "error": self.error,
        }


class Landing:
    """Lands pages of one version; the caller holds its lock.

    Attributes:
        ledger: Where they land.
        holdings: The images accepted so far.
        seen_at: When each held image was last seen, kept up where it is given.
        result: What came of it so far.
    """

    def __init__(
        self,
        ledger: Ledger,
        holdings: Holdings,
        *,
        dry_run: bool,
        seen_at: dict[int, datetime] | None = None,
    ) -> None:
        self.ledger = ledger
        self.holdings = holdings
        self.seen_at = seen_at if seen_at is not None else {}
        self.result = VersionImport(ledger.version, prompts_before=len(holdings))
        self._dry_run = dry_run
        self._sequence = ledger.next_sequence()
        self._last_pages = ledger.covered()

    @property
    def next_sequence(self) -> int:
        """The place of the next page in the order of landing."""
        return self._sequence

    def new_walk(self) -> int:
        """A walk of its own."""
        return max(self._last_pages, default=0) + 1

    def next_page(self, walk: int) -> PageId:
        """The place of the next page of a walk."""
        return PageId(walk, self._last_pages.get(walk, 0) + 1)

    def land(self, page: LandedPage, items: list[Any], raw: bytes | None) -> None:
        """Lands a page at the place that :meth:`next_page` gave.

        Args:
            page: The page, with ``next_sequence``.
            items: What it shows.
            raw: Its body; None for a confirmation.

        Raises:
            LakeError: The lake cannot be written, or another process writes to it.
        """
        if not self._dry_run:
            self.ledger.land(page, raw)
        result = self.result
        received = receive_items(self.holdings, items, page.model_version_id, page.options, result.tally)
        for image_id, receipt in received:
            if receipt.effect is not Effect.NOTHING and image_id is not None:
                self.seen_at[image_id] = page.fetched_at
        result.pages += 1
        if page.id.walk not in result.walks:
            result.walks.append(page.id.walk)
        self._sequence += 1
        self._last_pages[page.id.walk] = max(page.id.page, self._last_pages.get(page.id.walk, 0))


def body_of(items: list[Any], metadata: dict[str, Any]) -> bytes:
    """The body of a page whose items the API did not send as one answer."""
    return jsontext.dumps({"items": items, "metadata": metadata})


def is_behind(lake: Lake, version: int) -> bool:
    """Whether a version's tables do not reach to the end of its ledger.

    Raises:
        LakeError: The lake cannot be read.
    """
    ledger = Ledger(lake, version)
    covered, gaps = ledger.covered(), ledger.all_gaps()
    if not covered:
        return False
    for table in (schemas.PROMPTS, schemas.PROMPT_RESOURCES, schemas.PROMPT_CATEGORIES):
        try:
            origin = tables.read_provenance(lake, table, version)
        except tables.DamagedTableError:
            return True
        if origin is None or (origin.covered, origin.gaps) != (covered, gaps):
            return True
    return not lake.database.exists()

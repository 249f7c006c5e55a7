"""Where a version's wanted listings stand, read from its ledger: the only module here that reads the lake."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from civitai_pipeline.civitai.listing import Listing
from civitai_pipeline.lake import schemas, tables
from civitai_pipeline.lake.files import LakeError
from civitai_pipeline.lake.ledger import Ledger
from civitai_pipeline.lake.pages import PageId

if TYPE_CHECKING:
    from datetime import datetime

    from civitai_pipeline.lake.pages import LandedPage
    from civitai_pipeline.lake.paths import Lake
    from civitai_pipeline.watchlist import Options, Watchlist


class Walked(StrEnum):
    """How far a listing has been walked."""

    NEVER = "never walked"
    OPEN = "open"
    AT_END = "at its end"


@dataclass(frozen=True)
class Standing:
    """Where one listing stands.

    Attributes:
        listing: The listing.
        walked: How far its newest walk got.
        fetched_at: When that walk's last page was fetched.
    """

    listing: Listing
    walked: Walked
    fetched_at: datetime | None = None


@dataclass(frozen=True)
class VersionState:
    """Where a version stands.

    Attributes:
        version: The model version.
        options: How it is to be collected.
        standings: Its wanted listings, in the order in which to walk them.
        watched: Whether the watchlist names it, itself or by its model.
        model_id: Its model; None if unknown.
    """

    version: int
    options: Options
    standings: tuple[Standing, ...]
    watched: bool = True
    model_id: int | None = None

    @property
    def is_complete(self) -> bool:
        """Whether every wanted listing is at its end."""
        return all(standing.walked is Walked.AT_END for standing in self.standings)


def state_of(
    lake: Lake, version: int, watchlist: Watchlist, *, model_id: int | None, default_level: int
) -> VersionState:
    """Where a version stands.

    Of a watched version the watchlist says which listings are wanted; of another, those that somebody began
    are, with the options of their last pages.

    Args:
        lake: The lake.
        version: The model version.
        watchlist: What is watched, and how.
        model_id: The version's model; None if unknown.
        default_level: The maturity mask of a version that is given none.

    Raises:
        LakeError: The ledger cannot be read.
    """
    ledger, options = Ledger(lake, version), watchlist.options_for(version, model_id)
    if watchlist.watches(version, model_id):
        wanted = [Listing(version, options.sort, level) for level in options.browsing_levels or [default_level]]
        lasts = [ledger.latest_walk(listing.as_dict()) for listing in wanted]
        standings = [
            _standing(ledger, a, None if walk is None else walk.last) for a, walk in zip(wanted, lasts, strict=True)
        ]
        return VersionState(version, options, tuple(standings), watched=True, model_id=model_id)
    begun = _begun(ledger)
    standings = sorted((_standing(ledger, listing, last) for listing, last in begun.items()), key=_oldest_order_first)
    unfinished = [begun[standing.listing] for standing in standings if standing.walked is Walked.OPEN]
    if unfinished:
        landed = unfinished[0].options
        as_begun = {"strict_version_match": landed.strict_version_match, "append_only": landed.append_only}
        options = options.model_copy(update=as_begun)
    return VersionState(version, options, tuple(standings), watched=False, model_id=model_id)


def not_walked_since(lake: Lake, state: VersionState, moment: datetime) -> frozenset[Listing]:
    """The wanted listings that were walked, but not from their start since a moment.

    Raises:
        LakeError: The ledger cannot be read.
    """
    ledger = Ledger(lake, state.version)
    walks = ((listing, ledger.latest_walk(listing.as_dict())) for listing in (s.listing for s in state.standings))
    begun = ((listing, ledger.read(PageId(walk.last.id.walk, 1))) for listing, walk in walks if walk is not None)
    return frozenset(listing for listing, first in begun if first.fetched_at < moment)


def model_of(lake: Lake, version: int) -> int | None:
    """The model of a version, as far as the lake knows."""
    try:
        rows = tables.read_table(lake, schemas.MODEL_VERSION_INFO, version).to_pylist()
    except (OSError, LakeError):
        return None
    return rows[0]["model_id"] if rows else None


def is_begun(lake: Lake, version: int) -> bool:
    """Whether pages of a walk over the version have landed; what was imported was not walked here.

    Raises:
        LakeError: The ledger cannot be read.
    """
    return any(not walk.last.is_imported for walk in Ledger(lake, version).walks())


def _begun(ledger: Ledger) -> dict[Listing, LandedPage]:
    """The last page of the newest walk of each listing that has pages and that a run can ask for."""
    found: dict[Listing, LandedPage] = {}
    for walk in ledger.walks():
        try:
            listing = Listing.from_dict(walk.last.listing)
        except (ValueError, KeyError, TypeError):
            continue
        known = found.get(listing)
        is_newest = known is None or walk.last.fetched_at >= known.fetched_at
        if is_newest and listing == Listing(ledger.version, listing.sort, listing.browsing_level):
            found[listing] = walk.last
    return found


def _standing(ledger: Ledger, listing: Listing, last: LandedPage | None) -> Standing:
    if last is None:
        return Standing(listing, Walked.NEVER)
    # A page that was set aside is fetched again by the next run, as the rest of an open walk is.
    is_open = last.next_cursor is not None or ledger.gaps(last.id.walk)
    return Standing(listing, Walked.OPEN if is_open else Walked.AT_END, last.fetched_at)


def _oldest_order_first(standing: Standing) -> tuple[bool, str, int]:
    listing = standing.listing
    return not listing.is_appended, listing.sort.value, listing.browsing_level

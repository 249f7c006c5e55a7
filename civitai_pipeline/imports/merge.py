"""Merges another lake into this one, page by page.

A page lands with its envelope as it was, but for its place. An item that is older than the last sighting of its
image here must change nothing; such items land in a page of their own with ``append_only``, before the page's
other items. So of an image that both lakes know, the newest sighting stands.
"""

from __future__ import annotations

from collections import Counter
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from civitai_pipeline import jsontext
from civitai_pipeline.derive.holdings import Holdings, Tally, receive_items
from civitai_pipeline.derive.prompt_tables import load_held, load_last_seen
from civitai_pipeline.derive.version_info import unknown_info
from civitai_pipeline.imports.landing import Landing, VersionImport, body_of
from civitai_pipeline.lake import schemas, tables
from civitai_pipeline.lake.files import LakeError
from civitai_pipeline.lake.ledger import Ledger
from civitai_pipeline.lake.locks import LockedError, sole_writer
from civitai_pipeline.lake.pages import PageId, body_in
from civitai_pipeline.prompts.items import Outcome
from civitai_pipeline.prompts.text import storable
from civitai_pipeline.prompts.values import canonical_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from civitai_pipeline.lake.pages import LandedPage
    from civitai_pipeline.lake.paths import Lake

_Key = tuple[str, str | None, datetime, str | None]
"""What makes a page the same page in any lake: its listing, its run, its time and the cursor that asked for it."""


class NoLakeError(Exception):
    """There is no other lake at the place given; the message says what there is."""


def merge_lake(
    lake: Lake,
    other: Lake,
    *,
    dry_run: bool = False,
    on_progress: Callable[[VersionImport], None] = lambda _: None,
) -> list[VersionImport]:
    """Lands the pages of another lake that are not here yet.

    Args:
        lake: Where to.
        other: The other lake; it is only read.
        dry_run: Say what would come, and write nothing.
        on_progress: Called at each version's start and after each page with what was done of it so far.

    Returns:
        What came of each version. One that another process writes to, or of which the other lake holds a damaged
        page, is left as far as it got, which its ``error`` says.

    Raises:
        NoLakeError: There is no other lake.
        LakeError: This lake cannot be written.
    """
    if other.root == lake.root:
        raise NoLakeError(f"{other.root} is the lake that everything would be merged into; name another one")
    versions = other.versions()
    if not versions:
        raise NoLakeError(f"{other.root} is no lake: it has no folder pages with landed pages in it")
    return [_merge_one(lake, other, version, dry_run=dry_run, on_progress=on_progress) for version in versions]


def _merge_one(
    lake: Lake, other: Lake, version: int, *, dry_run: bool, on_progress: Callable[[VersionImport], None]
) -> VersionImport:
    result = VersionImport(version)
    try:
        with nullcontext() if dry_run else sole_writer(lake, version):
            merge = _Merge(lake, other, version, dry_run=dry_run)
            result = merge.landing.result
            on_progress(result)
            merge.run(on_progress)
            if not dry_run:
                _keep_names(lake, other, version)
    except (LockedError, LakeError) as error:
        result.error = str(error)
        on_progress(result)
    return result


@dataclass(frozen=True)
class _Sighting:
    """One item of a page, and what became of it in its own lake."""

    item: Any
    image_id: int | None
    outcome: Outcome


@dataclass(frozen=True)
class _Part:
    """Some of a page's items, to be landed as one page."""

    items: list[Any]
    append_only: bool


class _Merge:
    """One version of another lake, on its way into this one."""

    def __init__(self, lake: Lake, other: Lake, version: int, *, dry_run: bool) -> None:
        held, seen_at = load_last_seen(lake, version)
        our_rows = held.landed_pages.to_pylist()
        self._theirs = Ledger(other, version)
        self.landing = Landing(Ledger(lake, version), held.holdings, dry_run=dry_run, seen_at=seen_at)
        self._here: dict[_Key, list[tuple[PageId, int]]] = {}
        for row in our_rows:
            self._here.setdefault(_key_of_row(row), []).append((PageId(row["walk"], row["page"]), row["attempted"]))
        self._their_rows = load_held(other, version).landed_pages.to_pylist()
        self._our_walks = _walks_to_go_on(our_rows, self._their_rows)
        # What their items became in their own lake: an option there may have kept one from counting.
        self._their_holdings = Holdings()

    def run(self, on_progress: Callable[[VersionImport], None]) -> None:
        """Lands their pages in the order in which they landed there."""
        result = self.landing.result
        if all(self._is_here(_key_of_row(row), row["attempted"]) for row in self._their_rows):
            result.items_here_already = sum(row["attempted"] for row in self._their_rows)
            return
        for page in self._theirs.pages():
            items = self._theirs.items(page)
            sightings = self._sightings(page, items)
            key = _key_of(page)
            if self._is_here(key, len(items)):
                result.items_here_already += len(items)
                continue
            if key in self._here:
                sightings = self._without_landed(key, sightings)
                result.items_here_already += len(items) - len(sightings)
            for part in self._parts(page, sightings):
                self._land(page, part, is_whole=len(part.items) == len(items))
            on_progress(result)

    def _is_here(self, key: _Key, attempted: int) -> bool:
        return key in self._here and sum(count for _, count in self._here[key]) >= attempted

    def _sightings(self, page: LandedPage, items: list[Any]) -> list[_Sighting]:
        received = receive_items(self._their_holdings, items, page.model_version_id, page.options, Tally())
        return [
            _Sighting(item, image_id, receipt.outcome)
            for item, (image_id, receipt) in zip(items, received, strict=True)
        ]

    def _without_landed(self, key: _Key, sightings: list[_Sighting]) -> list[_Sighting]:
        """What is left of a page of which a merge that was killed had landed a part."""
        ledger = self.landing.ledger
        pages = (ledger.read(place) for place, _ in self._here[key])
        landed = Counter(canonical_json(item) for page in pages for item in ledger.items(page))
        left = []
        for sighting in sightings:
            text = canonical_json(sighting.item)
            if landed[text]:
                landed[text] -= 1
            else:
                left.append(sighting)
        return left

    def _parts(self, page: LandedPage, sightings: list[_Sighting]) -> list[_Part]:
        """A page's items by how they must be landed, those that may change nothing first."""
        if not sightings:
            return [_Part([], page.options.append_only)]
        quiet: list[Any] = []
        loud: list[Any] = []
        for sighting in sightings:
            seen_at = None if sighting.image_id is None else self.landing.seen_at.get(sighting.image_id)
            is_older = seen_at is not None and page.fetched_at < seen_at
            if page.options.append_only:
                # New there and newer than what is here: the option had no earlier row to keep.
                changes = seen_at is not None and not is_older and sighting.outcome is Outcome.NEW
            else:
                changes = not is_older
            (loud if changes else quiet).append(sighting.item)
        parts = [_Part(quiet, append_only=True), _Part(loud, append_only=False)]
        return [part for part in parts if part.items]

    def _land(self, page: LandedPage, part: _Part, *, is_whole: bool) -> None:
        if page.id.walk not in self._our_walks:
            self._our_walks[page.id.walk] = self.landing.new_walk()
        repeated = self._repeated(page) if is_whole else None
        landed = replace(
            page,
            id=self.landing.next_page(self._our_walks[page.id.walk]),
            sequence=self.landing.next_sequence,
            options=replace(page.options, append_only=part.append_only),
            items=[],
            confirms=repeated,
            absent=page.absent if repeated is not None else frozenset(),
        )
        raw = None
        if repeated is None:
            raw = (body_in(self._theirs.text(page.id)) if is_whole else None) or body_of(part.items, page.metadata)
        self.landing.land(landed, part.items, raw)
        self._here.setdefault(_key_of(page), []).append((landed.id, len(part.items)))

    def _repeated(self, page: LandedPage) -> PageId | None:
        """Where the page that a confirmation repeats stands here; None if it is no confirmation, or nowhere whole."""
        if page.confirms is None:
            return None
        repeated = self._theirs.read(page.confirms)
        found = self._here.get(_key_of(repeated), [])
        whole = [place for place, count in found if count == len(repeated.items)]
        return whole[0] if whole and len(found) == 1 else None


def _walks_to_go_on(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> dict[int, int]:
    """Their walks of which a walk here holds the first pages and nothing else: it is gone on with."""
    our_keys, their_keys = _keys_by_walk(ours), _keys_by_walk(theirs)
    return {
        their_walk: our_walk
        for their_walk, keys in their_keys.items()
        for our_walk, first in our_keys.items()
        if keys[: len(first)] == first
    }


def _keys_by_walk(rows: list[dict[str, Any]]) -> dict[int, list[_Key]]:
    found: dict[int, list[_Key]] = {}
    for row in sorted(rows, key=lambda row: (row["walk"], row["page"])):
        keys = found.setdefault(row["walk"], [])
        # A page that was landed in two parts is one page all the same.
        if not keys or keys[-1] != _key_of_row(row):
            keys.append(_key_of_row(row))
    return found


def _key_of(page: LandedPage) -> _Key:
    listing = jsontext.dumps(page.listing, sort_keys=True).decode()
    cursor = None if page.cursor is None else storable(str(page.cursor))
    return listing, page.run_id, page.fetched_at.astimezone(UTC), cursor


def _key_of_row(row: dict[str, Any]) -> _Key:
    return row["listing"], row["run_id"], row["fetched_at"].astimezone(UTC), row["cursor"]


def _keep_names(lake: Lake, other: Lake, version: int) -> None:
    """Takes over what the other lake knows of a version's names where nothing is known here."""
    if tables.table_exists(lake, schemas.MODEL_VERSION_INFO, version):
        return
    known = tables.read_earlier(other, schemas.MODEL_VERSION_INFO, version)
    tables.write_table(lake, schemas.MODEL_VERSION_INFO, version, unknown_info(version) if known is None else known)

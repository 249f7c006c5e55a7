"""One run over one model version: walks a listing from where the ledger stands and lands its pages.

Land, then advance: a page is on disk before the next cursor is followed, so that a crash between the two
fetches one page again and can skip none. What the pages mean is counted with ``derive.holdings``.
"""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from civitai_pipeline.civitai.failures import ApiFailure, FailureKind
from civitai_pipeline.collect.circles import Trail
from civitai_pipeline.collect.contract import ContractWatch
from civitai_pipeline.collect.gaps import gap_at
from civitai_pipeline.collect.position import Position, absent_from_repeat, new_walk, take_up
from civitai_pipeline.collect.summary import SAMPLE_SIZE, StopReason, Summary
from civitai_pipeline.derive.holdings import Holdings, Tally, receive_items
from civitai_pipeline.derive.prompt_tables import load_held
from civitai_pipeline.lake.files import LakeError, sweep_abandoned
from civitai_pipeline.lake.ledger import Ledger, PageExistsError
from civitai_pipeline.lake.locks import LockedError, sole_writer
from civitai_pipeline.lake.pages import LandedPage, Options, PageId
from civitai_pipeline.prompts.items import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable

    from civitai_pipeline.civitai.client import CivitaiClient
    from civitai_pipeline.civitai.listing import Cursor
    from civitai_pipeline.civitai.payloads import ImagePage
    from civitai_pipeline.collect.options import CollectOptions
    from civitai_pipeline.lake.paths import Lake

log = logging.getLogger(__name__)

# On one of the API's paths a query that ran out of its 20 s is answered with an empty page without a cursor,
# so an empty end is asked for a second time, after a pause, before it is believed.
EMPTY_END_PAUSE_S = 3.0


class _Stop(Exception):  # noqa: N818 - the end of a run, not an error
    """Ends the run for a reason."""

    def __init__(self, reason: StopReason, error: str | None = None) -> None:
        super().__init__(error)
        self.reason = reason
        self.error = error


class Collector:
    """One run over one model version.

    Attributes:
        summary: What the run has done so far; complete at every moment.
        contract: How what came back compares with what the API promises.
    """

    def __init__(
        self,
        client: CivitaiClient,
        lake: Lake,
        version: int,
        options: CollectOptions,
        *,
        run_id: str | None = None,
        on_page: Callable[[Summary], None] | None = None,
    ) -> None:
        """A run that has done nothing yet.

        Args:
            client: Speaks to the API.
            lake: Where pages land.
            version: The model version to collect.
            options: How to collect it.
            run_id: The run's id, landed with its pages.
            on_page: Called with the summary after each landed page.

        Raises:
            ValueError: ``version`` cannot be a model version's id.
        """
        self._client = client
        self._lake = lake
        self._options = options
        self._on_page = on_page
        self._listings = options.listings(version)
        self._listing = self._listings[0]
        self._ledger = Ledger(lake, version)
        self._landed_options = Options(options.strict_version_match, options.append_only, options.max_items)
        self._holdings = Holdings()
        self._sequence = 1
        self._started_anew = False
        self._landing: tuple[LandedPage, Tally, list[int]] | None = None
        self._started = time.monotonic()
        self.contract = ContractWatch()
        self.summary = Summary(
            model_version_id=version,
            run_id=run_id,
            started_at=datetime.now(UTC),
            listing=self._listing.as_dict(),
            max_items=options.max_items,
            waiting_listings=len(self._listings) - 1,
        )

    def run(self) -> Summary:
        """Collects until there is a reason to stop, and says what was done.

        Trouble with the API or the lake is a stop reason in the summary, not an exception.

        Raises:
            KeyboardInterrupt: The run was interrupted; the summary says so. Other interrupts that are no
                ``Exception`` likewise.
        """
        try:
            self._lake.check_writable()
            with sole_writer(self._lake, self.summary.model_version_id):
                sweep_abandoned(self._lake.root)
                position = self._take_stock()
                self._look_up_names()
                self._walk_all(position)
        except _Stop as stop:
            self._finish(stop.reason, stop.error)
        except LockedError as error:
            self._take_stock_if_possible()
            self._finish(StopReason.CONFLICT, str(error))
        except PageExistsError as error:
            self._finish(StopReason.CONFLICT, str(error))
        except LakeError as error:
            self._take_stock_if_possible()
            self._finish(StopReason.LAKE_UNAVAILABLE, str(error))
        except Exception as error:
            self._finish(StopReason.INTERNAL_ERROR, f"{type(error).__name__}: {error}")
            raise
        except BaseException:
            # Dagster cancels a run, and Ctrl-C a command, with exceptions that are no Exception.
            self._settle_interrupted()
            self._finish(StopReason.CANCELED, "the run was cancelled; run again to go on from the last landed page")
            raise
        return self.summary

    def refused(self, reason: StopReason, error: str) -> Summary:
        """The summary of a run that may not even begin: nothing done, and what is held all the same."""
        self._take_stock_if_possible()
        self._finish(reason, error)
        return self.summary

    def _finish(self, reason: StopReason, error: str | None) -> None:
        self._measure()
        self.summary.stop_reason = reason
        self.summary.error = error or self.summary.remark
        self.summary.finished_at = datetime.now(UTC)
        self._client.reported = self._client.usage.copy()

    def _measure(self) -> None:
        spent = self._client.usage.since(self._client.reported)
        self.summary.requests, self.summary.retries = spent.requests, spent.retries
        self.summary.waited_s = spent.waited_s
        self.summary.elapsed_s = time.monotonic() - self._started

    def _look_up_names(self) -> None:
        version = self.summary.model_version_id
        try:
            found = self._client.model_version(version)
        except ApiFailure as failure:
            if failure.kind is FailureKind.NOT_FOUND:
                raise _Stop(
                    StopReason.REJECTED, f"there is no model version {version} on the site: {failure}"
                ) from None
            log.warning("the names of model version %d stay unknown: %s", version, failure)
            return
        self.summary.model_id = found.model_id
        self.summary.version_name = found.name
        self.summary.model_name = found.model.name if found.model is not None else None

    def _take_stock(self) -> Position:
        """Notes what is held and where the walk stands, which a summary says however soon the run stops."""
        held = load_held(self._lake, self.summary.model_version_id)
        self._holdings = held.holdings
        self._sequence = self._ledger.next_sequence()
        self.summary.prompts_before = len(held.holdings)
        self.summary.branch = "additional" if len(held.landed_pages) else "initial"
        position = self._position()
        self._stand_at(position)
        return position

    def _position(self) -> Position:
        return take_up(
            self._ledger, self._listing, restart=self._options.restart, start_cursor=self._options.start_cursor
        )

    def _take_stock_if_possible(self) -> None:
        if self.summary.walk is None:
            with suppress(LakeError):
                self._take_stock()

    def _walk_all(self, position: Position) -> None:
        """Walks one listing after the other; ends only by an exception."""
        for following in self._listings[1:]:
            try:
                self._walk(position)
            except _Stop as stop:
                if stop.reason is not StopReason.AT_END:
                    raise
            # The items asked for and the time given are those of the whole run.
            self._check_limits()
            self._listing = following
            self.summary.turn_to(following.as_dict())
            self.summary.waiting_listings -= 1
            position = self._position()
        self._walk(position)

    def _walk(self, position: Position) -> None:
        """Walks one listing; ends only by an exception."""
        try:
            self._fill_gaps(position)
            self._follow(position)
        except ApiFailure as failure:
            if failure.kind is not FailureKind.CURSOR_LOST or self._started_anew:
                raise _Stop(StopReason(failure.kind.stop_reason), str(failure)) from None
            self._started_anew = True
            log.warning("%s; starting a new walk", failure)
        try:
            self._follow(new_walk(self._ledger))
        except ApiFailure as failure:
            raise _Stop(StopReason(failure.kind.stop_reason), str(failure)) from None

    def _fill_gaps(self, position: Position) -> None:
        """Fetches the pages of the walk that were set aside as damaged again, before it is gone on with."""
        walk = position.next_page.walk
        for number in self._ledger.gaps(walk):
            gap = gap_at(self._ledger, PageId(walk, number), self._options.limit)
            for limit in gap.limits:
                page = self._fetch(gap.cursor, limit)
                if gap.is_closed_by(page):
                    break
            else:
                self.summary.remark = gap.not_closed(self.summary.model_version_id)
            log.info("fetching page %s again, which had been set aside", gap.place)
            self._land(page, gap.place, gap.cursor, None)
            self._check_limits()

    def _follow(self, position: Position) -> None:
        """Lands page after page from ``position``; ends only by an exception."""
        self._stand_at(position)
        cursor, place = position.cursor, position.next_page
        trail = self._trail_to(position)
        while True:
            page = self._fetch(cursor, self._options.limit, position.repeats.get(cursor))
            ids = _ids(page.items)
            circle = trail.circle(place.page, ids, page.next_cursor)
            if circle is not None:
                raise _Stop(StopReason.STALLED, _stalled(circle))
            self._land(page, place, cursor, position.repeats.get(cursor))
            if page.next_cursor is None:
                raise _Stop(StopReason.AT_END)
            self._check_limits()
            trail.go_on(place.page, ids, page.next_cursor)
            cursor, place = page.next_cursor, PageId(place.walk, place.page + 1)

    def _trail_to(self, position: Position) -> Trail:
        """What led to ``position``: no answer may go back there."""
        trail = Trail(tells_changed=not position.repeats)
        if position.cursor is None:
            return trail
        trail.asked.add(position.cursor)
        place = min(position.repeats.values(), default=position.next_page)
        # Another order grows at its front, so between two runs a whole page may honestly move to the next place.
        if place.page > 1 and self._listing.is_appended:
            first, before = (self._ledger.read(PageId(place.walk, page)) for page in (1, place.page - 1))
            trail.first_ids = _ids(first.items)
            if before.next_cursor == position.cursor:
                trail.previous_ids = _ids(self._ledger.items(before))
        return trail

    def _stand_at(self, position: Position) -> None:
        summary = self.summary
        summary.walk = position.next_page.walk
        summary.at_end = position.last is not None and position.last.next_cursor is None
        summary.next_cursor = None if position.last is None else position.last.next_cursor
        summary.last_page_number = None if position.last is None else position.last.id.page
        if position.last is not None:
            summary.last_successful_fetch_at = position.last.fetched_at

    def _check_limits(self) -> None:
        most = self._options.max_items
        if most is not None and self.summary.tally.attempted >= most:
            raise _Stop(StopReason.MAX_ITEMS)
        minutes = self._options.max_minutes
        if minutes is not None and time.monotonic() - self._started >= minutes * 60:
            raise _Stop(StopReason.TIME_BUDGET)

    def _fetch(self, cursor: Cursor | None, limit: int, repeated: PageId | None = None) -> ImagePage:
        page = self._client.images(self._listing, limit=limit, cursor=cursor)
        if page.items or page.next_cursor is not None:
            return page
        if self._items_of(repeated) == []:
            return page
        log.info("an empty page without a cursor; asking once more in %.0f s before believing it", EMPTY_END_PAUSE_S)
        time.sleep(EMPTY_END_PAUSE_S)
        return self._client.images(self._listing, limit=limit, cursor=cursor)

    def _items_of(self, page: PageId | None) -> list[Any] | None:
        """What a page showed that is asked for again; None where there is none, or it was set aside."""
        return None if page is None or self._ledger.is_gap(page) else self._ledger.read(page).items

    def _land(self, fetched: ImagePage, place: PageId, cursor: Cursor | None, repeats: PageId | None) -> None:
        version, tally = self.summary.model_version_id, Tally()
        saved = [
            image_id
            for image_id, receipt in receive_items(self._holdings, fetched.items, version, self._landed_options, tally)
            if receipt.outcome in {Outcome.NEW, Outcome.UPDATED} and image_id is not None
        ]
        for item in fetched.items:
            self.contract.observe(item)
        repeated = None if tally.brought_news else self._items_of(repeats)
        absent = None if repeated is None else absent_from_repeat(repeated, fetched.items)
        is_confirmation = absent is not None
        page = LandedPage(
            id=place,
            model_version_id=version,
            sequence=self._sequence,
            run_id=self.summary.run_id,
            listing=self._listing.as_dict(),
            cursor=cursor,
            url=fetched.url,
            options=self._landed_options,
            fetched_at=fetched.fetched_at,
            elapsed_s=fetched.elapsed_s,
            items=[],
            metadata=fetched.metadata,
            confirms=repeats if is_confirmation else None,
            absent=absent or frozenset(),
        )
        self._landing = (page, tally, saved)
        self._ledger.land(page, None if is_confirmation else fetched.raw)
        self._settle()

    def _settle(self) -> None:
        """Counts the page that has just landed."""
        if self._landing is not None:
            page, tally, saved = self._landing
            self._landing = None
            self._sequence += 1
            self._account(page, tally, saved)

    def _settle_interrupted(self) -> None:
        """Counts the page that was being landed if an interrupt came after it had, but before it was counted."""
        if self._landing is not None and self._ledger.holds(self._landing[0]):
            self._on_page = None
            self._settle()

    def _account(self, page: LandedPage, tally: Tally, saved: list[int]) -> None:
        summary = self.summary
        summary.pages += 1
        summary.tally.add(tally)
        # A page fetched again into a gap leaves the walk where it stands.
        if page.id.walk != summary.walk or page.id.page > (summary.last_page_number or 0):
            summary.walk, summary.last_page_number = page.id.walk, page.id.page
            summary.next_cursor, summary.at_end = page.next_cursor, page.next_cursor is None
            summary.last_successful_fetch_at = page.fetched_at
        summary.sample_image_ids = (summary.sample_image_ids + saved)[:SAMPLE_SIZE]
        if summary.reported_total is None:
            summary.reported_total = _reported_total(page.metadata)
        self._measure()
        log.info(
            "page %s: %d items, %d new, %d updated, %d duplicate, %d not accepted; %d prompts held",
            page.id,
            tally.attempted,
            tally.outcomes[Outcome.NEW],
            tally.outcomes[Outcome.UPDATED],
            tally.outcomes[Outcome.DUPLICATE],
            sum(tally.outcomes[o] for o in (Outcome.NO_PROMPT, Outcome.VERSION_MISMATCH, Outcome.MALFORMED)),
            summary.prompts_after,
        )
        if self._on_page is not None:
            self._on_page(summary)


def _ids(items: list[Any]) -> list[Any]:
    return [item.get("id") if isinstance(item, dict) else None for item in items]


def _reported_total(metadata: dict[str, Any]) -> int | None:
    """The API has given no totals since July 2023; should one come back, it is taken."""
    total = metadata.get("totalItems")
    return total if isinstance(total, int) and not isinstance(total, bool) and total >= 0 else None


def _stalled(what: str) -> str:
    return f"the API {what}, so the walk would never end; the page was not landed, run again later"

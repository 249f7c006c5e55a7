"""When a version gets a run, and if it gets none, why not."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum, auto
from typing import TYPE_CHECKING

from civitai_pipeline.collect.options import CollectOptions
from civitai_pipeline.collect.summary import StopReason
from civitai_pipeline.upkeep.standing import Standing, VersionState, Walked

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from civitai_pipeline.civitai.listing import Listing, Sort
    from civitai_pipeline.watchlist import Options

FIRST_DELAY = timedelta(minutes=1)
# Long enough that a broken API or a full disk is not bothered for nothing, short enough for the day it is mended.
LONGEST_DELAY = timedelta(hours=6)
# The API's edge cache answers the same for so long; asking sooner brings nothing.
EDGE_CACHE = timedelta(minutes=5)
# Trouble that passes by itself; a refusal of the very first page does not.
PASSING = {
    StopReason.RATE_LIMITED,
    StopReason.API_UNAVAILABLE,
    StopReason.STALLED,
    StopReason.CONFLICT,
    StopReason.LAKE_UNAVAILABLE,
    StopReason.INTERNAL_ERROR,
}
REFUSALS = {StopReason.REJECTED, StopReason.CONTRACT_CHANGED}
MOST_LINES = 40


class Ended(Enum):
    """How a run ended."""

    SUCCEEDED = auto()
    FAILED = auto()
    CANCELED = auto()


@dataclass(frozen=True)
class PastRun:
    """A finished run of a version.

    Attributes:
        run_id: The run.
        ended: How it ended.
        at: When it ended.
        by_hand: Whether a person launched it, not a sensor or schedule.
        stop_reason: Why its collection stopped; None if it did not say.
    """

    run_id: str
    ended: Ended
    at: datetime
    by_hand: bool
    stop_reason: StopReason | None = None

    @property
    def met_trouble(self) -> bool:
        """Whether it counts as a failure, though it may have landed pages."""
        return self.ended is Ended.FAILED or self.stop_reason in PASSING | REFUSALS

    @property
    def needs_a_person(self) -> bool:
        """Whether trying again soon is of no use: it was refused at once, before a page had landed.

        A refusal later on may have been of a cursor, which a new walk does not need.
        """
        return self.ended is Ended.FAILED and self.stop_reason in REFUSALS


@dataclass(frozen=True)
class Launch:
    """A run to launch.

    Attributes:
        version: The model version.
        sort: The order to walk in.
        browsing_levels: The masks of the listings to walk.
        options: How to collect it.
        restart: Whether to walk the listings anew.
        model_id: The version's model; None if unknown.
        reason: Why.
    """

    version: int
    sort: Sort
    browsing_levels: tuple[int, ...]
    options: Options
    restart: bool
    model_id: int | None
    reason: str

    def collect_options(self) -> CollectOptions:
        """The options of the run."""
        return CollectOptions(
            sort=self.sort,
            browsing_levels=self.browsing_levels,
            restart=self.restart,
            strict_version_match=self.options.strict_version_match,
            append_only=self.options.append_only,
            max_items=self.options.max_items,
            max_minutes=self.options.max_minutes,
            page_size=self.options.page_size,
        )


@dataclass(frozen=True)
class Skip:
    """A version that gets no run now.

    Attributes:
        version: The model version.
        reason: Why.
    """

    version: int
    reason: str


COMPLETE = "all listings are at their end"


def decide_resume(
    state: VersionState,
    active: str | None,
    past: Iterable[PastRun],
    now: datetime,
    not_audited: Collection[Listing] = (),
) -> Launch | Skip:
    """Whether an unfinished version goes on now.

    Args:
        state: Where the version stands.
        active: What is said of a run of it that is waiting or under way; None if there is none.
        past: Its finished runs, the newest first; read only as far as needed.
        now: The time.
        not_audited: The listings that its last audit was to walk anew and of which it landed no page.
    """
    unfinished = [standing for standing in state.standings if standing.walked is not Walked.AT_END]
    if not state.standings:
        return Skip(state.version, "nobody asked for it: it is not in the watchlist and was never walked")
    # An audit refused on its first page leaves no open walk behind; without this it would be made good a month later.
    not_begun = [s for s in state.standings if s.listing in not_audited and state.options.audit]
    if not (unfinished or not_begun):
        return Skip(state.version, COMPLETE)
    if not state.options.resume:
        return Skip(state.version, "its resume option is off")
    if active is not None:
        return Skip(state.version, active)
    runs = list(_up_to_the_last_good_one(past))
    canceled = _canceled_by_a_person(runs)
    if canceled is not None and not state.options.resume_canceled:
        return Skip(
            state.version,
            f"run {_short(canceled)} was cancelled; launch one by hand to go on, or set resume_canceled",
        )
    wait = _wait(runs, now)
    if wait is not None:
        return Skip(state.version, wait)
    left = unfinished or not_begun
    # One run walks in one order; what is left in another has its turn afterwards.
    sort = left[0].listing.sort
    return _launch(state, [s for s in left if s.listing.sort is sort], restart=not unfinished)


def decide_refresh(state: VersionState, active: str | None, now: datetime) -> Launch | Skip:
    """Whether a finished version is asked for new images now."""
    if not state.options.refresh:
        return Skip(state.version, "its refresh option is off")
    unready = _not_ready(state, active)
    if unready is not None:
        return unready
    # A time still to come was noted by a clock that ran ahead; nobody waits for it.
    stale = [s for s in state.standings if s.fetched_at is None or abs(now - s.fetched_at) >= EDGE_CACHE]
    if not stale:
        return Skip(state.version, "fetched less than five minutes ago; the API's cache would answer the same")
    return _launch(state, stale, restart=False)


def decide_audit(state: VersionState, active: str | None) -> Launch | Skip:
    """Whether a finished version is walked anew."""
    if not state.options.audit:
        return Skip(state.version, "its audit option is off")
    return _not_ready(state, active) or _launch(state, list(state.standings), restart=True)


def decide_discovery(found: Sequence[int], registered: Collection[int], begun: Collection[int]) -> list[int]:
    """Which versions of a model to begin with: those that are no partition yet, or of which no run ever began.

    Args:
        found: The versions that the API names.
        registered: The versions that are partitions.
        begun: The versions that have pages or runs.
    """
    # A tick that died between adding a partition and launching its run is thereby made good.
    return [version for version in dict.fromkeys(found) if version not in registered or version not in begun]


def first_run(state: VersionState) -> Launch:
    """The run that a version begins with."""
    return _launch(state, state.standings, restart=False)


def delay_after(troubles: Sequence[PastRun]) -> timedelta:
    """How long to wait after troubled runs in a row, the newest first."""
    if not troubles:
        return timedelta(0)
    if troubles[0].needs_a_person:
        return LONGEST_DELAY
    # Bounded, because a long row of troubles would overflow the clock.
    factor: int = 2 ** min(len(troubles) - 1, 20)
    return min(FIRST_DELAY * factor, LONGEST_DELAY)


def rotated(items: Iterable[int], after: int | None) -> list[int]:
    """``items`` in ascending order, beginning behind ``after``, so that each has its turn."""
    ordered = sorted(items)
    return ordered if after is None else [i for i in ordered if i > after] + [i for i in ordered if i <= after]


def tell(skips: Sequence[Skip]) -> str:
    """The skipped versions and why, one line each; those with nothing to do as one number."""
    complete = Counter(skip.reason == COMPLETE for skip in skips)[True]
    lines = [f"{skip.version}: {skip.reason}" for skip in skips if skip.reason != COMPLETE]
    if len(lines) > MOST_LINES:
        lines[MOST_LINES:] = [f"… and {len(lines) - MOST_LINES} more"]
    if complete:
        lines.append(f"{complete} {'version' if complete == 1 else 'versions'}: {COMPLETE}")
    return "\n".join(lines)


def _not_ready(state: VersionState, active: str | None) -> Skip | None:
    if active is not None:
        return Skip(state.version, active)
    for standing in state.standings:
        if standing.walked is not Walked.AT_END:
            return Skip(state.version, f"not finished ({standing.walked}); resume_collection goes on with it")
    return None


def _up_to_the_last_good_one(past: Iterable[PastRun]) -> Iterable[PastRun]:
    for run in past:
        yield run
        if run.ended is Ended.SUCCEEDED and not run.met_trouble:
            return


def _canceled_by_a_person(runs: Sequence[PastRun]) -> PastRun | None:
    """The cancelled run that still counts: no later one succeeded or was launched by hand."""
    for run in runs:
        if run.ended is Ended.CANCELED:
            return run
        if run.by_hand:
            return None
    return None


def _wait(runs: Sequence[PastRun], now: datetime) -> str | None:
    troubles = [run for run in runs if run.met_trouble]
    if not troubles:
        return None
    due = troubles[0].at + delay_after(troubles)
    # A run that ends in times to come was noted by a clock that ran ahead; nobody waits for them.
    if now >= due or troubles[0].at - now > FIRST_DELAY:
        return None
    last = troubles[0]
    how = f"stopped with {last.stop_reason}" if last.stop_reason in PASSING | REFUSALS else "failed"
    times = "" if len(troubles) == 1 else f" ({len(troubles)} in a row)"
    person = ", which needs a person" if last.needs_a_person else ""
    return f"run {_short(last)} {how}{person}{times}; tried again after {due:%Y-%m-%d %H:%M:%S} UTC"


def _launch(state: VersionState, standings: Sequence[Standing], *, restart: bool) -> Launch:
    return Launch(
        version=state.version,
        sort=standings[0].listing.sort,
        browsing_levels=tuple(standing.listing.browsing_level for standing in standings),
        options=state.options,
        restart=restart,
        model_id=state.model_id,
        reason=f"{'anew' if restart else standings[0].walked.value}",
    )


def _short(run: PastRun) -> str:
    return run.run_id[:8]

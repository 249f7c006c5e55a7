"""When a version gets a run, decided over plain data."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from civitai_pipeline.civitai.listing import Listing, Sort
from civitai_pipeline.collect.summary import StopReason
from civitai_pipeline.upkeep.decisions import (
    COMPLETE,
    LONGEST_DELAY,
    Ended,
    Launch,
    PastRun,
    Skip,
    decide_audit,
    decide_discovery,
    decide_refresh,
    decide_resume,
    delay_after,
    first_run,
    rotated,
    tell,
)
from civitai_pipeline.upkeep.standing import Standing, VersionState, Walked
from civitai_pipeline.watchlist import Options

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
VERSION = 910011
MINUTE = timedelta(minutes=1)


def standing(walked: Walked, level: int = 1, sort: Sort = Sort.OLDEST, age: timedelta = timedelta(hours=1)) -> Standing:
    return Standing(Listing(VERSION, sort, level), walked, None if walked is Walked.NEVER else NOW - age)


def state(*standings: Standing, **options: object) -> VersionState:
    return VersionState(VERSION, Options(**options), standings, model_id=9001)  # type: ignore[arg-type]  # any option


def past(
    ended: Ended,
    reason: StopReason | None = None,
    *,
    ago: timedelta = timedelta(0),
    by_hand: bool = False,
    run_id: str = "0123456789",
) -> PastRun:
    return PastRun(run_id, ended, NOW - ago, by_hand, reason)


GOOD = past(Ended.SUCCEEDED, StopReason.MAX_ITEMS, ago=timedelta(days=1))
OPEN = state(standing(Walked.OPEN))


def resume(of: VersionState, *runs: PastRun, active: str | None = None) -> Launch | Skip:
    return decide_resume(of, active, runs, NOW)


def reason(decision: Launch | Skip) -> str:
    assert isinstance(decision, Skip), decision
    return decision.reason


@pytest.mark.parametrize("walked", [Walked.NEVER, Walked.OPEN])
def test_a_listing_never_walked_or_open_gets_a_run(walked: Walked) -> None:
    launch = resume(state(standing(walked), max_items=5))
    assert isinstance(launch, Launch)
    assert (launch.version, launch.sort, launch.browsing_levels, launch.restart) == (VERSION, Sort.OLDEST, (1,), False)
    assert (launch.options.max_items, launch.model_id, launch.reason) == (5, 9001, walked.value)


def test_only_unfinished_listings_of_one_order_are_walked_by_one_run() -> None:
    launch = resume(
        state(
            standing(Walked.AT_END, 1),
            standing(Walked.OPEN, 2),
            standing(Walked.OPEN, 1, Sort.NEWEST),
            standing(Walked.NEVER, 4),
        )
    )
    assert isinstance(launch, Launch)
    assert (launch.sort, launch.browsing_levels) == (Sort.OLDEST, (2, 4))


def test_each_skip_says_why() -> None:
    assert "not in the watchlist and was never walked" in reason(resume(state()))
    assert reason(resume(state(standing(Walked.AT_END)))) == COMPLETE
    assert reason(resume(state(standing(Walked.OPEN), resume=False))) == "its resume option is off"
    assert reason(resume(OPEN, active="run abc of collect is queued")) == "run abc of collect is queued"


def test_what_an_audit_did_not_begin_with_is_walked_anew_unless_audits_are_off() -> None:
    finished, other = standing(Walked.AT_END), standing(Walked.AT_END, 2)
    launch = decide_resume(state(finished, other), None, [GOOD], NOW, {other.listing})
    assert isinstance(launch, Launch)
    assert (launch.browsing_levels, launch.restart, launch.reason) == ((2,), True, "anew")
    assert reason(decide_resume(state(finished, other, audit=False), None, [], NOW, {other.listing})) == COMPLETE
    refused = past(Ended.FAILED, StopReason.REJECTED)
    assert "needs a person" in reason(decide_resume(state(finished), None, [refused], NOW, {finished.listing}))
    going_on = decide_resume(state(standing(Walked.OPEN, 4), other), None, [GOOD], NOW, {other.listing})
    assert isinstance(going_on, Launch)
    assert (going_on.browsing_levels, going_on.restart) == ((4,), False)


def test_a_run_that_stopped_as_asked_is_followed_at_once() -> None:
    for stop in (StopReason.MAX_ITEMS, StopReason.TIME_BUDGET, StopReason.AT_END):
        assert isinstance(resume(OPEN, past(Ended.SUCCEEDED, stop)), Launch)


@pytest.mark.parametrize(
    "trouble",
    [
        past(Ended.FAILED),
        past(Ended.FAILED, StopReason.AT_END),
        *(
            past(Ended.SUCCEEDED, stop)
            for stop in StopReason
            if stop not in {StopReason.CANCELED, StopReason.REJECTED, StopReason.CONTRACT_CHANGED}
            and not stop.is_success
        ),
    ],
)
def test_trouble_is_tried_again_after_a_minute(trouble: PastRun) -> None:
    assert "tried again after 2026-11-20 12:01:00 UTC" in reason(resume(OPEN, trouble, GOOD))
    assert isinstance(decide_resume(OPEN, None, [trouble, GOOD], NOW + MINUTE), Launch)


def test_the_delay_doubles_with_each_trouble_in_a_row_up_to_six_hours() -> None:
    delays = [delay_after([past(Ended.FAILED)] * n) / MINUTE for n in range(12)]
    assert delays == [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 360, 360]
    assert delay_after([past(Ended.FAILED)] * 10_000) == LONGEST_DELAY


def test_only_troubles_since_the_last_good_run_count() -> None:
    failed, passed = past(Ended.FAILED, ago=3 * MINUTE), past(Ended.SUCCEEDED, StopReason.RATE_LIMITED, ago=9 * MINUTE)
    assert "(3 in a row)" in reason(resume(OPEN, failed, passed, failed, GOOD, failed, failed))
    assert isinstance(resume(OPEN, failed, passed, GOOD, failed, failed), Launch)
    assert isinstance(resume(OPEN, GOOD, failed), Launch)


@pytest.mark.parametrize("stop", [StopReason.REJECTED, StopReason.CONTRACT_CHANGED])
def test_what_was_refused_at_once_needs_a_person_and_is_tried_at_the_longest_delay_only(stop: StopReason) -> None:
    trouble = past(Ended.FAILED, stop, ago=timedelta(hours=5, minutes=59))
    said = reason(resume(OPEN, trouble, GOOD))
    assert f"stopped with {stop}, which needs a person" in said
    assert isinstance(decide_resume(OPEN, None, [trouble, GOOD], NOW + MINUTE), Launch)


@pytest.mark.parametrize("stop", [StopReason.REJECTED, StopReason.CONTRACT_CHANGED])
def test_a_refusal_after_some_pages_is_trouble_like_any_other(stop: StopReason) -> None:
    assert "which needs a person" not in reason(
        resume(OPEN, past(Ended.SUCCEEDED, stop, ago=timedelta(seconds=1)), GOOD)
    )
    assert isinstance(resume(OPEN, past(Ended.SUCCEEDED, stop, ago=2 * MINUTE), GOOD), Launch)


def test_a_cancelled_run_waits_for_a_person_or_a_success() -> None:
    canceled = past(Ended.CANCELED, StopReason.CANCELED, ago=timedelta(days=9), run_id="cafe0123-45")
    assert reason(resume(OPEN, canceled)).startswith("run cafe0123 was cancelled; launch one by hand")
    later = past(Ended.FAILED, ago=timedelta(days=8))
    assert "was cancelled" in reason(resume(OPEN, later, canceled)), "a scheduled run that failed is no person's wish"
    assert isinstance(resume(OPEN, past(Ended.FAILED, ago=timedelta(days=8), by_hand=True), canceled), Launch)
    assert isinstance(resume(OPEN, GOOD, canceled), Launch)
    assert isinstance(resume(state(standing(Walked.OPEN), resume_canceled=True), canceled), Launch)


def test_the_runs_are_read_no_further_than_needed() -> None:
    def runs() -> object:
        yield past(Ended.FAILED)
        yield GOOD
        raise AssertionError("read on behind the last good run")

    assert "tried again" in reason(decide_resume(OPEN, None, runs(), NOW))  # type: ignore[arg-type]  # an iterator


def test_a_finished_version_is_refreshed_where_the_cache_has_forgotten_it() -> None:
    fresh, old = timedelta(minutes=4, seconds=59), timedelta(minutes=5)
    both = state(standing(Walked.AT_END, 1, age=fresh), standing(Walked.AT_END, 2, age=old))
    launch = decide_refresh(both, None, NOW)
    assert isinstance(launch, Launch)
    assert (launch.browsing_levels, launch.restart) == ((2,), False)
    assert "less than five minutes ago" in reason(decide_refresh(state(standing(Walked.AT_END, age=fresh)), None, NOW))


def test_nobody_waits_for_times_that_a_clock_ahead_has_noted() -> None:
    years = timedelta(days=3650)
    assert isinstance(decide_refresh(state(standing(Walked.AT_END, age=-years)), None, NOW), Launch)
    assert isinstance(resume(OPEN, past(Ended.FAILED, ago=-years)), Launch)
    assert isinstance(resume(OPEN, past(Ended.FAILED, ago=years)), Launch)
    # A second or two between two machines is no jump.
    assert "tried again" in reason(resume(OPEN, past(Ended.FAILED, ago=-timedelta(seconds=2))))
    young = state(standing(Walked.AT_END, age=-timedelta(seconds=2)))
    assert isinstance(decide_refresh(young, None, NOW), Skip)


def test_an_unfinished_busy_or_unwanted_version_is_not_refreshed() -> None:
    done = standing(Walked.AT_END)
    assert "not finished (open)" in reason(decide_refresh(state(done, standing(Walked.OPEN)), None, NOW))
    assert "not finished (never walked)" in reason(decide_refresh(state(standing(Walked.NEVER)), None, NOW))
    assert reason(decide_refresh(state(done), "busy", NOW)) == "busy"
    assert reason(decide_refresh(state(done, refresh=False), None, NOW)) == "its refresh option is off"


def test_an_audit_walks_every_finished_listing_anew() -> None:
    launch = decide_audit(state(standing(Walked.AT_END, 1), standing(Walked.AT_END, 4)), None)
    assert isinstance(launch, Launch)
    assert (launch.browsing_levels, launch.restart, launch.reason) == ((1, 4), True, "anew")
    assert reason(decide_audit(state(standing(Walked.AT_END), audit=False), None)) == "its audit option is off"
    assert "open" in reason(decide_audit(OPEN, None))
    assert reason(decide_audit(OPEN, "busy")) == "busy"


def test_a_version_is_new_until_a_run_of_it_has_begun() -> None:
    assert decide_discovery([1, 2, 3, 1], registered={2, 3}, begun={3}) == [1, 2]
    assert decide_discovery([], registered={2}, begun=set()) == []
    assert first_run(state(standing(Walked.NEVER, 1), standing(Walked.NEVER, 2))).browsing_levels == (1, 2)


@given(st.sets(st.integers(1, 99)), st.none() | st.integers(0, 100))
def test_taking_turns_leaves_nobody_out(items: set[int], after: int | None) -> None:
    turns = rotated(items, after)
    assert sorted(turns) == sorted(items)
    if after is not None and any(item > after for item in items):
        assert turns[0] == min(item for item in items if item > after)


def test_skips_are_told_one_a_line_and_the_complete_ones_as_a_number() -> None:
    skips = [Skip(1, COMPLETE), Skip(2, "busy"), Skip(3, COMPLETE)]
    assert tell(skips) == f"2: busy\n2 versions: {COMPLETE}"
    assert tell([Skip(1, COMPLETE)]) == f"1 version: {COMPLETE}"
    assert tell([]) == ""
    many = tell([Skip(n, "busy") for n in range(100)]).splitlines()
    assert (len(many), many[-1]) == (41, "… and 60 more")

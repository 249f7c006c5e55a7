"""Schedules: what is done by the clock. All are off until somebody turns them on.

When a version gets a run is decided in ``upkeep``; this module only gathers and asks.
"""

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import dagster as dg

from civitai_pipeline.defs.jobs import collect
from civitai_pipeline.defs.resources import LakeStore
from civitai_pipeline.defs.sensors.records import AUDIT, TICK_BUDGET_S, View, run_request
from civitai_pipeline.defs.upkeep import upkeep_job
from civitai_pipeline.lake.files import LakeError
from civitai_pipeline.upkeep.decisions import Launch, Skip, decide_audit, decide_refresh, rotated, tell
from civitai_pipeline.upkeep.standing import VersionState

EVERY_SIX_HOURS = "0 */6 * * *"
# Off the hour of the refresh, which would find all versions busy.
FIRST_OF_THE_MONTH = "30 3 1 * *"
# Off the hour as well: it leaves versions alone that are being collected.
SUNDAYS = "45 4 * * 0"
_GOLDEN_RATIO = 0.618_033_988_749_895


@dg.schedule(
    job=collect,
    cron_schedule=EVERY_SIX_HOURS,
    default_status=dg.DefaultScheduleStatus.STOPPED,
    description="Asks for the new images of every watched version whose listings are at their end.",
)
def refresh_collection(context: dg.ScheduleEvaluationContext, store: LakeStore) -> list[dg.RunRequest] | dg.SkipReason:
    """Tops up what is finished; what is open is the sensor's."""
    now = datetime.now(UTC)
    return _requests(context, store, "refresh", lambda state, active: decide_refresh(state, active, now))


@dg.schedule(
    name=AUDIT,
    job=collect,
    cron_schedule=FIRST_OF_THE_MONTH,
    default_status=dg.DefaultScheduleStatus.STOPPED,
    description=(
        "Walks the listings of every watched version anew, which heals what deletions on the server hid; nothing held "
        "is lost."
    ),
)
def audit_collection(context: dg.ScheduleEvaluationContext, store: LakeStore) -> list[dg.RunRequest] | dg.SkipReason:
    """Walks anew what is finished."""
    return _requests(context, store, "audit", decide_audit)


def _requests(
    context: dg.ScheduleEvaluationContext,
    store: LakeStore,
    purpose: str,
    decide: Callable[[VersionState, str | None], Launch | Skip],
) -> list[dg.RunRequest] | dg.SkipReason:
    view = View(context.instance, store.lake())
    launches: list[Launch] = []
    skips: list[Skip] = []
    started = time.monotonic()
    for number, version in enumerate(begun_at(sorted(view.registered), context.scheduled_execution_time)):
        if number and time.monotonic() - started > TICK_BUDGET_S:
            left = len(view.registered) - number
            skips.append(Skip(version, f"the time of this tick was over; it and {left - 1} more have their turn later"))
            break
        try:
            state = view.state(version)
        except LakeError as error:
            skips.append(Skip(version, str(error)))
            continue
        if not state.watched:
            continue
        decision = decide(state, view.active(version))
        if isinstance(decision, Launch):
            launches.append(decision)
        else:
            skips.append(decision)
    skips.sort(key=lambda skip: skip.version)
    if not launches:
        return dg.SkipReason(tell(skips) or "no version that was ever collected is watched; list some in the watchlist")
    context.log.info("%s", tell(skips))
    # A tick that is evaluated twice asks for the same runs once.
    at = context.scheduled_execution_time.isoformat()
    launches.sort(key=lambda launch: launch.version)
    return [run_request(launch, f"{purpose} {launch.version} {at}") for launch in launches]


def begun_at(versions: Sequence[int], at: datetime) -> list[int]:
    """Some versions in the order in which a tick looks at them, which begins elsewhere each time.

    A schedule keeps no cursor. By the golden ratio the places where ticks begin lie evenly, however many there are, so
    where each is cut short they come to all versions nearly equally often.
    """
    hours = round(at.timestamp() / 3600)
    place = int(hours * _GOLDEN_RATIO % 1 * len(versions))
    return rotated(versions, versions[place - 1] if place else None)


weekly_upkeep = dg.ScheduleDefinition(
    name="weekly_upkeep",
    job=upkeep_job,
    cron_schedule=SUNDAYS,
    default_status=dg.DefaultScheduleStatus.STOPPED,
    description="Puts pages that were fetched again into bundles, and deletes the records of old runs.",
)

SCHEDULES = [refresh_collection, audit_collection, weekly_upkeep]

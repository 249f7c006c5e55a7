"""The sensor that goes on with open walks."""

import time
from datetime import UTC, datetime

import dagster as dg

from civitai_pipeline.defs.jobs import collect
from civitai_pipeline.defs.partitions import model_version
from civitai_pipeline.defs.resources import LakeStore
from civitai_pipeline.defs.sensors.records import TICK_BUDGET_S, View, run_request
from civitai_pipeline.lake.files import LakeError
from civitai_pipeline.upkeep.decisions import Launch, Skip, decide_resume, rotated, tell

INTERVAL_S = 60
# One at a time asks the API: more would only wait in the queue, and until the daemon has put them there one by one it
# looks after nothing else.
MOST_LAUNCHES = 100


@dg.sensor(
    job=collect,
    minimum_interval_seconds=INTERVAL_S,
    default_status=dg.DefaultSensorStatus.STOPPED,
    description=(
        "Goes on with every version that has a listing never walked or a walk not at its end: watched versions as the "
        "watchlist says, others as they were begun. An audit that did not come to its first page is begun again. Waits "
        "longer after each failure, up to six hours."
    ),
)
def resume_collection(context: dg.SensorEvaluationContext, store: LakeStore) -> dg.SensorResult:
    """Asks for a run of each version that needs one and has none."""
    view = View(context.instance, store.lake())
    started, cursor = time.monotonic(), context.cursor
    launches: list[Launch] = []
    skips: list[Skip] = []
    wanted = view.registered | {version.id for version in view.watchlist.versions}
    for version in rotated(wanted, None if cursor is None else int(cursor)):
        if time.monotonic() - started > TICK_BUDGET_S:
            skips.append(Skip(version, "the time of this tick was over; the next one begins here"))
            break
        if len(launches) >= MOST_LAUNCHES:
            skips.append(Skip(version, f"{MOST_LAUNCHES} runs are enough for one tick; the next one begins here"))
            break
        decision = _decide(view, version)
        if isinstance(decision, Launch):
            launches.append(decision)
        else:
            skips.append(decision)
        cursor = str(version)
    for key in view.unusable:
        context.log.warning("partition %r is not a model version id; delete it", key)
    if not launches:
        return dg.SensorResult(skip_reason=tell(skips) or "no model version is known or watched", cursor=cursor)
    context.log.info("%s", tell(skips))
    fresh = [str(launch.version) for launch in launches if launch.version not in view.registered]
    return dg.SensorResult(
        run_requests=[run_request(launch) for launch in launches],
        dynamic_partitions_requests=[model_version.build_add_request(fresh)] if fresh else [],
        cursor=cursor,
    )


def _decide(view: View, version: int) -> Launch | Skip:
    try:
        state = view.state(version)
        not_audited = view.not_audited(state) if state.is_complete else ()
        return decide_resume(state, view.active(version), view.past(version), datetime.now(UTC), not_audited)
    except LakeError as error:
        return Skip(version, str(error))

"""The sensor that looks after runs which died without a word: ends them, frees what they held, writes their summary."""

from datetime import UTC, datetime, timedelta

import dagster as dg

from civitai_pipeline.civitai.listing import parse_id
from civitai_pipeline.collect.afterwards import summary_of_dead_run
from civitai_pipeline.collect.summary import StopReason
from civitai_pipeline.defs.assets.collection import image_pages
from civitai_pipeline.defs.events import failures_in_log, summary_in_log
from civitai_pipeline.defs.jobs import collect, resolve_resources
from civitai_pipeline.defs.metadata import summary_from_metadata, summary_metadata
from civitai_pipeline.defs.resources import LakeStore
from civitai_pipeline.defs.sensors.records import PARTITION_TAG, began_at, ended_at
from civitai_pipeline.lake.files import LakeError
from civitai_pipeline.lake.pages import DamagedPageError
from civitai_pipeline.lake.paths import Lake
from civitai_pipeline.upkeep.processes import HOST_TAG, is_gone, tags_of

INTERVAL_S = 60
# A summary is made from all pages of its version, which takes a second or two for a large one.
RUNS_PER_TICK = 10
DIED = "The process of this run is gone; what it landed is kept."
_LOOKED_AT = 100
# Clocks that are kept in step by the network differ by far less.
AHEAD = timedelta(hours=1)
# Killed, they would hold a place in the pool for ever.
_ASKING_JOBS = {collect.name, resolve_resources.name}
# The command line's runs are not started for a while after they are recorded, and its next run would be refused.
_UNDER_WAY = [
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
_UNSUCCESSFUL = [dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
# Dagster's records in files: its runs are then processes of this machine.
_FILE_STORAGE = "SqliteRunStorage"


@dg.sensor(
    minimum_interval_seconds=INTERVAL_S,
    default_status=dg.DefaultSensorStatus.STOPPED,
    description=(
        "Marks collections whose process is gone as failed, frees the slots they held, and writes the summary of every "
        "unsuccessful collection that left none, from its pages."
    ),
)
def repair_dead_runs(context: dg.SensorEvaluationContext, store: LakeStore) -> dg.SensorResult:
    """Ends, frees and writes down; asks for no runs."""
    instance = context.instance
    said = end_dead_runs(instance)
    # Such a run may have died before the first tick ever, so the first one begins with the oldest.
    after = None if context.cursor is None else datetime.fromisoformat(context.cursor)
    if after is not None and after > datetime.now(UTC) + AHEAD:
        # The clock had run ahead and was set back: by its own times, no run would ever come after that.
        after = None
    filters = dg.RunsFilter(statuses=_UNSUCCESSFUL, updated_after=after)
    records = instance.get_run_records(filters, limit=RUNS_PER_TICK, order_by="update_timestamp", ascending=True)
    for record in records:
        try:
            words = _write_missing_summary(instance, store.lake(), record)
        except DamagedPageError as error:
            words = f"run {_short(record.dagster_run)} stays without a summary: {error}"
        except LakeError as error:
            said.append(f"run {_short(record.dagster_run)} waits for its summary: {error}")
            break
        said += [words] if words is not None else []
        after = record.update_timestamp.replace(tzinfo=UTC)
    for words in said:
        context.log.info("%s", words)
    return dg.SensorResult(
        skip_reason="\n".join(said) or "no run has died without a word",
        cursor=None if after is None else after.isoformat(),
    )


def end_dead_runs(instance: dg.DagsterInstance) -> list[str]:
    """Ends the collections whose process is gone and frees all slots that nobody can use any more.

    Whoever is to wait for a slot calls this first: a killed run would hold it for ever.

    Returns:
        What was done, one line each.
    """
    said = []
    for run in instance.get_runs(dg.RunsFilter(statuses=_UNDER_WAY)):
        if (run.job_name in _ASKING_JOBS or HOST_TAG in run.tags) and _is_gone(instance, run):
            # It may have ended between the two looks at it.
            latest = instance.get_run_by_id(run.run_id)
            if latest is None or latest.is_finished:
                continue
            if latest.status is dg.DagsterRunStatus.CANCELING:
                instance.report_run_canceled(latest, DIED)
            else:
                instance.report_run_failed(latest, DIED)
            said.append(f"run {_short(run)} of version {run.tags.get(PARTITION_TAG)}: its process is gone, ended")
    storage = instance.event_log_storage
    if storage.supports_global_concurrency_limits:
        for run_id in storage.get_concurrency_run_ids():
            holder = instance.get_run_by_id(run_id)
            if holder is None or holder.is_finished:
                storage.free_concurrency_slots_for_run(run_id)
                said.append(f"run {run_id[:8]} had ended: what it held of the pools is free")
    return said


def _is_gone(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    if HOST_TAG in run.tags:
        return is_gone(run.tags) is True
    if type(instance.run_storage).__name__ != _FILE_STORAGE:
        return False
    # The run has only just got its process; who carries it out stands in its log alone.
    for entry in reversed(instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ENGINE_EVENT)):
        event = entry.dagster_event
        pid = event.engine_event_data.metadata.get("pid") if event is not None else None
        if pid is not None:
            return is_gone(tags_of(str(pid.value))) is True
    return False


def _write_missing_summary(instance: dg.DagsterInstance, lake: Lake, record: dg.RunRecord) -> str | None:
    """Writes the summary of a run that left none; says so, or None where there was nothing to do."""
    run, partition = record.dagster_run, record.dagster_run.tags.get(PARTITION_TAG)
    collects = run.job_name == collect.name or image_pages.key in (run.asset_selection or ())
    if not collects or partition is None or _was_only_queued(record):
        return None
    if _is_known(instance, record, partition):
        return None
    # Dagster's records in files note an event in the run's log first, and then where assets are looked up. Killed
    # between the two, as 3 of 400 runs were, a run has a summary that nobody sees.
    said = summary_in_log(instance, image_pages.key, run.run_id)
    if said is None:
        try:
            version = parse_id(partition)
        except ValueError:
            return None
        began, ended = began_at(record), ended_at(record)
        summary = summary_of_dead_run(lake, version, run.run_id, started_at=began, ended_at=ended)
        if run.status is dg.DagsterRunStatus.CANCELED:
            summary.stop_reason = StopReason.CANCELED
        summary.error = "; ".join(failures_in_log(instance, run.run_id)) or summary.error
        said = summary.as_dict()
    instance.report_runless_asset_event(
        dg.AssetObservation(image_pages.key, partition=partition, metadata=summary_metadata(said))
    )
    return f"run {_short(run)} of version {partition}: its summary is written, {said['pages']} pages had landed"


def _was_only_queued(record: dg.RunRecord) -> bool:
    """Whether a run was taken out of the queue before it had a process, and so did nothing to sum up."""
    run = record.dagster_run
    return run.status is dg.DagsterRunStatus.CANCELED and record.start_time is None and HOST_TAG not in run.tags


def _is_known(instance: dg.DagsterInstance, record: dg.RunRecord, partition: str) -> bool:
    """Whether a run's summary is where assets are looked up: left by itself, or by an earlier tick that died then."""
    key, asked = image_pages.key, [partition]
    began, ended = began_at(record).timestamp() - 1, ended_at(record).timestamp()
    # One run of a version at a time: what was noted meanwhile is its own, and the summary comes last.
    during = dg.AssetRecordsFilter(key, asked, after_timestamp=began, before_timestamp=ended + 1)
    afterwards = dg.AssetRecordsFilter(key, asked, after_timestamp=ended - 1)
    found = [
        *(one.asset_materialization for one in instance.fetch_materializations(during, limit=_LOOKED_AT).records),
        *(one.asset_observation for one in instance.fetch_observations(during, limit=_LOOKED_AT).records),
        *(one.asset_observation for one in instance.fetch_observations(afterwards, limit=_LOOKED_AT).records),
    ]
    summaries = (summary_from_metadata(event.metadata) for event in found if event is not None)
    run_id = record.dagster_run.run_id
    return any(said.get("run_id") == run_id and said.get("stop_reason") is not None for said in summaries)


def _short(run: dg.DagsterRun) -> str:
    return run.run_id[:8]

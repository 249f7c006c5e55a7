"""What a tick looks at: partitions, runs, the watchlist and the lake; and how a run is asked for.

Turns Dagster's records into the plain data that ``upkeep`` decides over.
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any

import dagster as dg

from civitai_pipeline.civitai.listing import Listing, parse_id
from civitai_pipeline.collect.summary import StopReason
from civitai_pipeline.defs.assets.collection import CollectConfig, image_pages
from civitai_pipeline.defs.assets.lookups import LookupConfig
from civitai_pipeline.defs.events import summary_in_log
from civitai_pipeline.defs.jobs import collect
from civitai_pipeline.defs.metadata import summary_from_metadata
from civitai_pipeline.defs.partitions import MODEL_VERSION
from civitai_pipeline.lake.paths import Lake
from civitai_pipeline.settings import load_settings
from civitai_pipeline.upkeep.decisions import Ended, Launch, PastRun
from civitai_pipeline.upkeep.standing import VersionState, is_begun, model_of, not_walked_since, state_of
from civitai_pipeline.watchlist import Options, load_watchlist

PARTITION_TAG = "dagster/partition"
MODEL_TAG = "civitai/model_id"
REASON_TAG = "civitai/reason"
ACTIVE = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
_ENDED = {
    dg.DagsterRunStatus.SUCCESS: Ended.SUCCEEDED,
    dg.DagsterRunStatus.FAILURE: Ended.FAILED,
    dg.DagsterRunStatus.CANCELED: Ended.CANCELED,
}
# The second is what the UI launches when somebody materializes single assets; Dagster's own name for it.
_COLLECTING_JOBS = {collect.name, "__ASSET_JOB"}
SCHEDULE_TAG = "dagster/schedule_name"
_LAUNCHER_TAGS = {"dagster/sensor_name", SCHEDULE_TAG}
AUDIT = "audit_collection"
# Dagster gives up on a tick after 60 s, and then no version at all would get its run; a version takes 3 to 7 ms.
TICK_BUDGET_S = 40.0
# After that the schedule itself has come round again.
_AUDITS_LOOKED_AT = timedelta(days=32)
# The longest delay is reached after ten troubles in a row; other jobs of the version lie between.
RUNS_LOOKED_AT = 25
# A finished run says the same for ever, and a sensor would ask every minute.
_stop_reasons: dict[str, StopReason | None] = {}
MOST_REMEMBERED = 10_000


class View:
    """What is known at the time of one tick.

    Attributes:
        watchlist: What is watched, and how.
        registered: The model versions that are partitions.
        unusable: The partitions that are none.
    """

    def __init__(self, instance: dg.DagsterInstance, lake: Lake) -> None:
        """Looks.

        Raises:
            SettingsError: The environment holds something unusable.
            WatchlistError: The watchlist does.
        """
        settings = load_settings()
        self._instance = instance
        self._lake = lake
        self._default_level = settings.browsing_level
        self.watchlist = load_watchlist(settings.watchlist)
        self.registered: set[int] = set()
        self.unusable: list[str] = []
        for key in instance.get_dynamic_partitions(MODEL_VERSION):
            try:
                self.registered.add(parse_id(key))
            except ValueError:
                self.unusable.append(key)
        self._active = {
            run.tags[PARTITION_TAG]: f"run {run.run_id[:8]} of {_name(run)} is {run.status.value.lower()}"
            for run in instance.get_runs(dg.RunsFilter(statuses=ACTIVE))
            if PARTITION_TAG in run.tags
        }

    def active(self, version: int) -> str | None:
        """What is said of a run of the version that waits or is under way; None if there is none."""
        return self._active.get(str(version))

    def past(self, version: int) -> Iterator[PastRun]:
        """The version's finished collections, the newest first, each read when asked for."""
        filters = dg.RunsFilter(statuses=list(_ENDED), tags={PARTITION_TAG: str(version)})
        for record in self._instance.get_run_records(filters, limit=RUNS_LOOKED_AT):
            run = record.dagster_run
            if run.job_name not in _COLLECTING_JOBS:
                continue
            yield PastRun(
                run_id=run.run_id,
                ended=_ENDED[run.status],
                at=ended_at(record),
                by_hand=not _LAUNCHER_TAGS & run.tags.keys(),
                stop_reason=stop_reason(self._instance, run.run_id, str(version)),
            )

    def not_audited(self, state: VersionState) -> frozenset[Listing]:
        """The listings that the version's last audit was to walk anew and of which it landed no page.

        Raises:
            LakeError: Its ledger cannot be read.
        """
        record = self._audits.get(str(state.version))
        if record is None or record.dagster_run.status is dg.DagsterRunStatus.CANCELED:
            return frozenset()
        run = record.dagster_run
        if stop_reason(self._instance, run.run_id, str(state.version)) is StopReason.AT_END:
            return frozenset()
        return not_walked_since(self._lake, state, began_at(record))

    @cached_property
    def _audits(self) -> Mapping[str, dg.RunRecord]:
        """The last finished audit of each version that had one lately."""
        filters = dg.RunsFilter(
            statuses=list(_ENDED), tags={SCHEDULE_TAG: AUDIT}, created_after=datetime.now(UTC) - _AUDITS_LOOKED_AT
        )
        records = self._instance.get_run_records(filters, ascending=True)
        return {record.dagster_run.tags.get(PARTITION_TAG, ""): record for record in records}

    def has_begun(self, version: int) -> bool:
        """Whether the version has pages of a walk, or a run that brought or may bring some.

        Raises:
            LakeError: Its ledger cannot be read.
        """
        filters = dg.RunsFilter(tags={PARTITION_TAG: str(version)})
        runs = (run.job_name for run in self._instance.get_runs(filters, limit=RUNS_LOOKED_AT))
        return any(name in _COLLECTING_JOBS for name in runs) or is_begun(self._lake, version)

    def state(self, version: int, model: int | None = None) -> VersionState:
        """Where the version stands.

        Args:
            version: The version.
            model: Its model; looked up if not given.

        Raises:
            LakeError: Its ledger cannot be read.
        """
        model = model if model is not None else self._model_of(version)
        return state_of(self._lake, version, self.watchlist, model_id=model, default_level=self._default_level)

    def _model_of(self, version: int) -> int | None:
        watched = [model.id for model in self.watchlist.models]
        if not watched:
            return None
        known = model_of(self._lake, version)
        if known is not None:
            return known
        # A run that died before it asked for names was told its model by whoever launched it.
        tags: dict[str, str | list[str]] = {PARTITION_TAG: str(version), MODEL_TAG: [str(model) for model in watched]}
        runs = self._instance.get_runs(dg.RunsFilter(tags=tags), limit=1)
        return int(runs[0].tags[MODEL_TAG]) if runs else None


def run_request(launch: Launch, run_key: str | None = None) -> dg.RunRequest:
    """Asks for a run.

    Args:
        launch: The run wanted.
        run_key: A key that has had a run gets no other one, not even after a failure; None for no such thing.
    """
    ops = {"image_pages": CollectConfig.of(launch.collect_options()), **_lookups(launch.options)}
    tags = {REASON_TAG: launch.reason}
    if launch.model_id is not None:
        tags[MODEL_TAG] = str(launch.model_id)
    return dg.RunRequest(
        run_key=run_key,
        partition_key=str(launch.version),
        run_config=dg.RunConfig(ops=ops),
        tags=tags,
    )


def _lookups(options: Options) -> dict[str, LookupConfig]:
    if not options.resolve_resources:
        return {}
    return {"resource_lookups": LookupConfig(resolve_resources=True, max_lookups=options.max_lookups)}


def stop_reason(instance: dg.DagsterInstance, run_id: str, partition: str) -> StopReason | None:
    """Why a partition's finished run stopped collecting; None if it did not say."""
    if run_id not in _stop_reasons:
        if len(_stop_reasons) >= MOST_REMEMBERED:
            _stop_reasons.clear()
        _stop_reasons.update(_materialized(instance, partition))
    if run_id not in _stop_reasons:
        summary = summary_in_log(instance, image_pages.key, run_id)
        _stop_reasons[run_id] = None if summary is None else _reason_in(summary)
    return _stop_reasons[run_id]


def _materialized(instance: dg.DagsterInstance, partition: str) -> dict[str, StopReason]:
    """Why a partition's runs stopped collecting, as far as its materializations say.

    One question for all of them: a run's log is a file of its own, which takes 40 ms to open.
    """
    filters = dg.AssetRecordsFilter(asset_key=image_pages.key, asset_partitions=[partition])
    found = {}
    for record in instance.fetch_materializations(filters, limit=RUNS_LOOKED_AT).records:
        said = record.asset_materialization
        reason = None if said is None else _reason_in(summary_from_metadata(said.metadata))
        if reason is not None:
            found[record.run_id] = reason
    return found


def _reason_in(summary: Mapping[str, Any]) -> StopReason | None:
    reason = summary.get("stop_reason")
    return StopReason(reason) if reason in set(StopReason) else None


def ended_at(record: dg.RunRecord) -> datetime:
    """When a finished run ended."""
    moment = record.end_time if record.end_time is not None else record.update_timestamp.timestamp()
    return datetime.fromtimestamp(moment, UTC)


def began_at(record: dg.RunRecord) -> datetime:
    """When a run started; of one that died before, when it was recorded."""
    if record.start_time is not None:
        return datetime.fromtimestamp(record.start_time, UTC)
    return record.create_timestamp.replace(tzinfo=UTC)


def _name(run: dg.DagsterRun) -> str:
    return "some assets" if run.job_name.startswith("__") else run.job_name

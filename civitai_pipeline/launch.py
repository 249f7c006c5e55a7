"""Running jobs in this process, recorded in the Dagster instance: what the command line does with Dagster.

Knows how to read a run's result; what a run does stands in ``defs``.
"""

from __future__ import annotations

import logging
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import dagster as dg

from civitai_pipeline.collect.resolve import LookupSummary
from civitai_pipeline.definitions import build_defs
from civitai_pipeline.defs.assets import ASSETS
from civitai_pipeline.defs.assets.collection import CollectConfig, image_pages, model_version_info
from civitai_pipeline.defs.assets.common import API_POOL
from civitai_pipeline.defs.assets.lookups import LookupConfig, resource_lookups
from civitai_pipeline.defs.assets.tables import PromptsConfig
from civitai_pipeline.defs.events import failures_in_log, summary_in_log
from civitai_pipeline.defs.metadata import summary_from_metadata
from civitai_pipeline.defs.partitions import MODEL_VERSION, register_versions
from civitai_pipeline.defs.sensors.records import ACTIVE, PARTITION_TAG
from civitai_pipeline.defs.sensors.repair import end_dead_runs
from civitai_pipeline.instance import records
from civitai_pipeline.upkeep.processes import is_gone, process_tags

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from civitai_pipeline.collect.options import CollectOptions, LookupOptions
    from civitai_pipeline.defs.resources import Progress


log = logging.getLogger(__name__)

# By name, because Dagster's own is not public.
_INTERRUPTS = {"KeyboardInterrupt", "DagsterExecutionInterruptedError"}


class ConflictError(Exception):
    """Another run of the version is waiting or under way; the message says which and what to do."""


@dataclass(frozen=True)
class CollectRun:
    """A finished run of the ``collect`` job.

    Attributes:
        summary: The run summary; None if the run died before it began to collect.
        failures: Which steps failed, one line each.
        failed_checks: Which checks failed, one line each.
        interrupted: Whether it was interrupted.
        lookups: What was looked up of resources; None if nothing was to be, or the run did not come to it.
    """

    summary: dict[str, Any] | None
    failures: list[str]
    failed_checks: list[str]
    interrupted: bool
    lookups: dict[str, Any] | None = None


def collect(
    version: int,
    options: CollectOptions,
    progress: Progress,
    *,
    lookups: LookupOptions | None = None,
    log_level: str = "CRITICAL",
    on_wait: Callable[[str], None] = log.info,
) -> CollectRun:
    """Runs the ``collect`` job for one version in this process.

    Args:
        version: The model version; it becomes a partition if it is none yet.
        options: How to collect it.
        progress: Hears of each landed page and each look-up.
        lookups: How far to look up resources; None for not at all.
        log_level: From which level on Dagster's own log goes to standard error.
        on_wait: Told in one line if the run has to wait for another one.

    Raises:
        ConflictError: Another run of the version is waiting or under way.
        InstanceError: Dagster's records cannot be read or written.
    """
    job = build_defs(progress).resolve_job_def("collect")
    with records() as instance:
        register_versions(instance, [version])
        # A run that was killed would hold its place at the API for ever, and this one would wait for it.
        for words in end_dead_runs(instance):
            log.info("%s", words)
        _refuse_second_run(instance, version)
        if _is_api_taken(instance):
            on_wait("another collection is asking the API; this one waits for its turn")
        run_id = str(uuid.uuid4())
        result = job.execute_in_process(
            instance=instance,
            partition_key=str(version),
            run_config=dg.RunConfig(
                ops={"image_pages": CollectConfig.of(options), **_lookup_config(lookups)},
                loggers={"console": {"config": {"log_level": log_level}}},
            ),
            raise_on_error=False,
            run_id=run_id,
            tags=process_tags(),
        )
        return CollectRun(
            summary_in_log(instance, image_pages.key, run_id),
            failures_in_log(instance, run_id),
            list(_failed_checks(result.all_events)),
            any(_is_interrupt(event) for event in result.all_events),
            None if lookups is None else _lookups(result.all_events),
        )


@dataclass(frozen=True)
class TablesRun:
    """A finished run that brought one version's tables up to its pages.

    Attributes:
        version: The model version.
        failures: What failed, one line each.
        failed_checks: Which checks failed, one line each.
        interrupted: Whether it was interrupted.
    """

    version: int
    failures: list[str]
    failed_checks: list[str]
    interrupted: bool


def bring_up_tables(
    versions: Sequence[int], *, rebuild: bool = False, log_level: str = "CRITICAL"
) -> Iterator[TablesRun]:
    """Brings the tables and reports of some versions up to their landed pages, in this process, without the API.

    Each version becomes a partition if it is none yet. What shows all versions, the database and the index of
    reports, is made with the last one.

    Args:
        versions: The model versions.
        rebuild: Make the tables anew from all pages, not only from those not yet covered.
        log_level: From which level on Dagster's own log goes to standard error.

    Yields:
        What came of each version, as soon as it is done.

    Raises:
        InstanceError: Dagster's records cannot be read or written.
    """
    job = build_defs().resolve_job_def("rebuild")
    made = {key for asset in ASSETS for key in asset.keys} - {image_pages.key, model_version_info.key}
    of_all_versions = {key for asset in ASSETS if asset.partitions_def is None for key in asset.keys}
    with records() as instance:
        register_versions(instance, list(versions))
        for words in end_dead_runs(instance):
            log.info("%s", words)
        for version in versions:
            try:
                _refuse_second_run(instance, version)
            except ConflictError as error:
                yield TablesRun(version, [str(error)], [], interrupted=False)
                continue
            run_id = str(uuid.uuid4())
            result = job.execute_in_process(
                instance=instance,
                partition_key=str(version),
                asset_selection=sorted(made if version == versions[-1] else made - of_all_versions),
                run_config=dg.RunConfig(
                    ops={"prompt_tables": PromptsConfig(rebuild=rebuild)},
                    loggers={"console": {"config": {"log_level": log_level}}},
                ),
                raise_on_error=False,
                run_id=run_id,
                tags=process_tags(),
            )
            interrupted = any(_is_interrupt(event) for event in result.all_events)
            checks = list(_failed_checks(result.all_events))
            yield TablesRun(version, failures_in_log(instance, run_id), checks, interrupted)
            if interrupted:
                return


def under_way() -> set[int]:
    """The model versions of which a run is waiting or under way; one whose process is gone is neither.

    Raises:
        InstanceError: Dagster's records cannot be read.
    """
    with records() as instance:
        runs = instance.get_runs(dg.RunsFilter(statuses=ACTIVE))
    keys = (run.tags.get(PARTITION_TAG, "") for run in runs if is_gone(run.tags) is not True)
    return {int(key) for key in keys if key.isascii() and key.isdigit()}


def _refuse_second_run(instance: dg.DagsterInstance, version: int) -> None:
    """Makes sure that no other run of the version is waiting or under way.

    Raises:
        ConflictError: One is.
    """
    others = instance.get_runs(dg.RunsFilter(statuses=ACTIVE, tags={PARTITION_TAG: str(version)}), limit=1)
    if others:
        raise ConflictError(
            f"run {others[0].run_id} is collecting model version {version}; "
            "wait for it to finish, or stop it, then run again"
        )


def _is_api_taken(instance: dg.DagsterInstance) -> bool:
    """Whether all places in the pool of those who ask the API are taken."""
    storage = instance.event_log_storage
    if not storage.supports_global_concurrency_limits or API_POOL not in storage.get_concurrency_keys():
        return False
    pool = storage.get_concurrency_info(API_POOL)
    return 0 < pool.slot_count <= pool.active_slot_count


def registered(versions: list[int], *, register: bool) -> set[int]:
    """Which of some model versions are partitions.

    Args:
        versions: The versions asked about.
        register: Make those that are none into partitions first.

    Raises:
        InstanceError: Dagster's records cannot be read or written.
    """
    with records() as instance:
        if register:
            register_versions(instance, versions)
        known = set(instance.get_dynamic_partitions(MODEL_VERSION))
    return {version for version in versions if str(version) in known}


def _lookup_config(lookups: LookupOptions | None) -> dict[str, LookupConfig]:
    if lookups is None:
        return {}
    config = LookupConfig(resolve_resources=True, max_lookups=lookups.max_lookups, max_minutes=lookups.max_minutes)
    return {"resource_lookups": config}


def _lookups(events: Sequence[dg.DagsterEvent]) -> dict[str, Any] | None:
    for event in events:
        if event.is_step_materialization and event.asset_key == resource_lookups.key:
            summary = summary_from_metadata(event.step_materialization_data.materialization.metadata)
            return {name: summary[name] for name in LookupSummary().as_dict()}
    return None


def _is_interrupt(event: dg.DagsterEvent) -> bool:
    error = event.step_failure_data.error if event.is_step_failure else None
    return error is not None and error.cls_name in _INTERRUPTS


def _failed_checks(events: Sequence[dg.DagsterEvent]) -> Iterator[str]:
    for event in events:
        if event.event_type is dg.DagsterEventType.ASSET_CHECK_EVALUATION:
            check = event.asset_check_evaluation_data
            if not check.passed and check.severity is dg.AssetCheckSeverity.ERROR:
                yield f"check {check.check_name} of {check.asset_key.to_user_string()}: {check.description or 'failed'}"

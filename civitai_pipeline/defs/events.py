"""Reading back what earlier runs said of a partition from the instance's event log."""

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

from civitai_pipeline.defs.metadata import summary_from_metadata

# SQLite takes no more than some thousands of values in one question.
_ASKED_AT_ONCE = 500


def latest_summary(instance: dg.DagsterInstance, key: dg.AssetKey, partition: str) -> dict[str, Any] | None:
    """The run summary on a partition's latest materialization; None if it was never materialized."""
    metadata = latest_metadata(instance, key, partition)
    return None if metadata is None else summary_from_metadata(metadata)


def latest_metadata(
    instance: dg.DagsterInstance, key: dg.AssetKey, partition: str
) -> Mapping[str, dg.MetadataValue[Any]] | None:
    """All metadata on a partition's latest materialization; None if it was never materialized."""
    records = instance.fetch_materializations(
        dg.AssetRecordsFilter(asset_key=key, asset_partitions=[partition]), limit=1
    ).records
    if not records or records[0].asset_materialization is None:
        return None
    return records[0].asset_materialization.metadata


def latest_summaries(instance: dg.DagsterInstance, key: dg.AssetKey) -> dict[str, dict[str, Any]]:
    """The run summary on each partition's latest materialization, by partition; those never materialized are missing.

    Asked for some hundreds at a time: one question for each of thousands of versions would take longer than the page
    that they are asked for.
    """
    latest = instance.get_latest_storage_id_by_partition(key, dg.DagsterEventType.ASSET_MATERIALIZATION)
    found = {}
    ids = sorted(latest.values())
    for start in range(0, len(ids), _ASKED_AT_ONCE):
        some = ids[start : start + _ASKED_AT_ONCE]
        records = instance.fetch_materializations(
            dg.AssetRecordsFilter(asset_key=key, storage_ids=some), limit=len(some)
        ).records
        for record in records:
            if record.asset_materialization is not None and record.partition_key is not None:
                found[record.partition_key] = summary_from_metadata(record.asset_materialization.metadata)
    return found


def failed_checks(instance: dg.DagsterInstance, checks: Sequence[dg.AssetCheckKey]) -> dict[str, list[str]]:
    """For each partition that a check was made of, the checks that failed when last made, as ``asset.check``."""
    found: dict[str, list[str]] = {}
    # By way of the storage, because the instance itself answers for one check of one partition at a time.
    for info in instance.event_log_storage.get_asset_check_partition_info(list(checks)):
        if info.partition_key is not None:
            failed = found.setdefault(info.partition_key, [])
            if info.latest_execution_status.value == "FAILED":
                failed.append(f"{info.check_key.asset_key.to_user_string()}.{info.check_key.name}")
    return {partition: sorted(failed) for partition, failed in found.items()}


def summary_in_log(instance: dg.DagsterInstance, key: dg.AssetKey, run_id: str) -> dict[str, Any] | None:
    """The summary that a finished run left in its log; None if it left none."""
    kinds = {dg.DagsterEventType.ASSET_MATERIALIZATION, dg.DagsterEventType.ASSET_OBSERVATION}
    found = None
    for entry in instance.all_logs(run_id, of_type=kinds):
        event = entry.dagster_event
        if event is None or event.asset_key != key:
            continue
        if event.is_step_materialization:
            metadata = event.step_materialization_data.materialization.metadata
        else:
            metadata = event.asset_observation_data.asset_observation.metadata
        summary = summary_from_metadata(metadata)
        # What a run says of itself while it goes on has no stop reason.
        found = summary if summary.get("stop_reason") is not None else found
    return found


def failures_in_log(instance: dg.DagsterInstance, run_id: str) -> list[str]:
    """What failed in a run, one line each."""
    said = []
    for entry in instance.all_logs(run_id, of_type=dg.DagsterEventType.STEP_FAILURE):
        event = entry.dagster_event
        if event is not None:
            data = event.step_failure_data
            own = data.user_failure_data.description if data.user_failure_data is not None else None
            cause = None if data.error is None else (data.error.cause or data.error).message.strip()
            said.append(f"{event.step_key}: {own or cause or 'failed'}")
    return said

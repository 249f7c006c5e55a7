"""Reading back what earlier runs said of a partition from the instance's event log."""

from collections.abc import Mapping
from typing import Any

import dagster as dg

from civitai_pipeline.defs.metadata import summary_from_metadata


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

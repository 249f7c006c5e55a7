"""Partitions: one per model version, added as versions are registered or collected."""

import sqlite3

import dagster as dg
import sqlalchemy.exc

from civitai_pipeline.civitai.listing import parse_id

MODEL_VERSION = "model_version"
model_version = dg.DynamicPartitionsDefinition(name=MODEL_VERSION)


def version_of(partition_key: str) -> int:
    """The model version that a partition stands for.

    Raises:
        dagster.Failure: The key is no model version id, which Dagster itself does not check.
    """
    try:
        return parse_id(partition_key)
    except ValueError as error:
        raise dg.Failure(f"{error}. Delete this partition and add one with a right id.", allow_retries=False) from None


def register_versions(instance: dg.DagsterInstance, versions: list[int]) -> list[int]:
    """Makes partitions of model versions; returns those that were none before.

    Raises:
        sqlalchemy.exc.IntegrityError: The instance's database refuses them for another reason than that
            another process has just added them.
    """
    known = set(instance.get_dynamic_partitions(MODEL_VERSION))
    fresh = [version for version in versions if str(version) not in known]
    if fresh:
        try:
            instance.add_dynamic_partitions(MODEL_VERSION, [str(version) for version in fresh])
        except (sqlalchemy.exc.IntegrityError, sqlite3.IntegrityError):
            # Two processes added the same partition at once: that it is there now is what was wanted.
            known = set(instance.get_dynamic_partitions(MODEL_VERSION))
            if any(str(version) not in known for version in fresh):
                raise
    return fresh

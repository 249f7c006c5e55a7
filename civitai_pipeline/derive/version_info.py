"""The table model_version_info: one row of what the API says of a version."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from civitai_pipeline.lake import schemas, tables

if TYPE_CHECKING:
    import pyarrow as pa

    from civitai_pipeline.civitai.payloads import ModelVersion

CODE_VERSION = "1"


def info_row(version: ModelVersion) -> pa.Table:
    """The version's row, as the API says it now."""
    return _table(
        {
            "model_version_id": version.id,
            "model_id": version.model_id,
            "model_name": version.model.name if version.model is not None else None,
            "version_name": version.name,
            "model_type": version.model.type if version.model is not None else None,
            "base_model": version.base_model,
            "air": version.air,
            "published_at": version.published_at,
            "trained_words": version.trained_words,
            "fetched_at": datetime.now(UTC),
        }
    )


def unknown_info(version_id: int) -> pa.Table:
    """The row of a version of which the API could not be asked yet: its id alone."""
    return _table({"model_version_id": version_id})


def imported_info(version_id: int, model_id: int | None, model_name: str | None) -> pa.Table:
    """The row of a version as the older tool knew it, until the API is asked."""
    return _table({"model_version_id": version_id, "model_id": model_id, "model_name": model_name})


def _table(row: dict[str, Any]) -> pa.Table:
    return tables.from_rows(schemas.MODEL_VERSION_INFO, [row])

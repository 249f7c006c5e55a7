"""The table prompt_resources, made from the prompts table."""

from __future__ import annotations

from typing import TYPE_CHECKING

import duckdb

from civitai_pipeline.derive.provenance import finished
from civitai_pipeline.lake import schemas

if TYPE_CHECKING:
    import pyarrow as pa

# Raised whenever the same prompts would give other rows.
CODE_VERSION = "1"


def build_resources(prompts: pa.Table) -> pa.Table:
    """Spreads the resources that each prompt's row names into rows of their own.

    Args:
        prompts: The prompts table.
    """
    with duckdb.connect() as connection:
        connection.register("prompts", prompts.select(["image_id", "model_version_id", "resources"]))
        spread = connection.sql(_SPREAD_RESOURCES).to_arrow_table()
    return finished(schemas.PROMPT_RESOURCES, spread, prompts, CODE_VERSION)


_SPREAD_RESOURCES = """
WITH listed AS (
    SELECT image_id, model_version_id, from_json(resources, '[{
        "resource_type": "VARCHAR", "resource_name": "VARCHAR", "resource_model_id": "BIGINT",
        "resource_version_id": "BIGINT", "resource_hash": "VARCHAR", "weight": "DOUBLE",
        "source": "VARCHAR", "sources": ["VARCHAR"], "raw": "VARCHAR"
    }]') AS resources
    FROM prompts
), spread AS (
    SELECT image_id, model_version_id, unnest(resources) AS resource, generate_subscripts(resources, 1) - 1 AS position
    FROM listed
)
SELECT image_id, model_version_id, position::INTEGER AS position, resource.*
FROM spread ORDER BY image_id, position
"""

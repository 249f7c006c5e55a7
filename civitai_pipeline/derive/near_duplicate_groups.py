"""The table near_duplicate_groups, made from the prompts table."""

from __future__ import annotations

from typing import TYPE_CHECKING

import duckdb

from civitai_pipeline.derive.provenance import finished
from civitai_pipeline.lake import schemas

if TYPE_CHECKING:
    import pyarrow as pa

    from civitai_pipeline.lake.rows import Rows

# Raised whenever the same prompts would give other rows.
CODE_VERSION = "1"
# All that is looked at of the prompts table.
PROMPT_COLUMNS = ("image_id", "model_version_id", "username", "prompt_hash", "near_duplicate_group")


def build_near_duplicate_groups(prompts: Rows) -> pa.Table:
    """Counts the images, prompts and authors of each group of near duplicates.

    Args:
        prompts: The prompts table.
    """
    with duckdb.connect() as connection:
        connection.register("prompts", prompts.read(PROMPT_COLUMNS))
        counted = connection.sql(_COUNT_GROUPS).to_arrow_table()
    return finished(schemas.NEAR_DUPLICATE_GROUPS, counted, prompts.provenance, CODE_VERSION)


# The API writes "unknown" for accounts that are gone.
_COUNT_GROUPS = """
WITH grouped AS (
    SELECT near_duplicate_group, model_version_id, prompt_hash,
           nullif(nullif(trim(username), ''), 'unknown') AS author
    FROM prompts WHERE near_duplicate_group IS NOT NULL
), by_author AS (
    SELECT near_duplicate_group, author, count(*) AS images FROM grouped WHERE author IS NOT NULL GROUP BY ALL
), named AS (
    SELECT near_duplicate_group, count(*) AS authors, sum(images) AS images, max(images) AS most
    FROM by_author GROUP BY near_duplicate_group
), counted AS (
    SELECT near_duplicate_group, any_value(model_version_id) AS model_version_id, count(*) AS images,
           count(DISTINCT prompt_hash) AS distinct_prompts
    FROM grouped GROUP BY near_duplicate_group
)
SELECT near_duplicate_group, model_version_id,
       counted.images::INTEGER AS images,
       distinct_prompts::INTEGER AS distinct_prompts,
       coalesce(named.authors, 0)::INTEGER AS authors,
       coalesce(named.images, 0)::INTEGER AS images_with_author,
       named.most / named.images AS top_author_share
FROM counted LEFT JOIN named USING (near_duplicate_group)
ORDER BY near_duplicate_group
"""

"""The table prompt_resources, made from the prompts table and from what was looked up; and what to look up for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import duckdb
import pyarrow as pa

from civitai_pipeline.derive.provenance import Stream, derived
from civitai_pipeline.lake import schemas
from civitai_pipeline.lake.lookups import LookupBy, LookupKey
from civitai_pipeline.lake.paths import MAX_VERSION_ID
from civitai_pipeline.prompts.mentions import resource_type

if TYPE_CHECKING:
    from collections.abc import Iterator

    from civitai_pipeline.lake.rows import Rows

# Raised whenever the same prompts and the same answers would give other rows.
CODE_VERSION = "2"
# All that is looked at of the prompts table.
PROMPT_COLUMNS = ("image_id", "model_version_id", "resources")


def build_resources(prompts: Rows, lookups: pa.Table | None = None) -> Stream:
    """Spreads the resources that each prompt's row names into rows of their own, and names them.

    What the metadata says is never overwritten: an answer fills what is null, and a type that is ``unknown``. It
    fills nothing where it names another model than the metadata does. A row is looked up by its version id if it
    has one, else by its hash. Rows of one image that a hash shows to be the same model version become one, merged
    as ``prompts.resources`` merges what it knows to be the same: each value from the first row that has it, the
    longest of hashes.

    Args:
        prompts: The prompts table, in its order. An image's resources depend on its own row alone, so it is read and
            the result made a batch at a time.
        lookups: What was looked up, of the schema ``lookups.LOOKUP_SCHEMA``; None for nothing.
    """
    provenance = derived(prompts.provenance, CODE_VERSION)
    return Stream(schemas.PROMPT_RESOURCES, provenance, _spread_and_named(prompts, lookups))


def _spread_and_named(prompts: Rows, lookups: pa.Table | None) -> Iterator[pa.Table]:
    with duckdb.connect() as connection:
        if lookups is not None and len(lookups):
            connection.register("lookups", _with_types(lookups))
        for _ in _each_spread(connection, prompts):
            if lookups is None or not len(lookups):
                yield connection.sql(_LEAVE_UNNAMED).to_arrow_table()
            else:
                connection.execute(_NAME_RESOURCES)
                connection.execute(_FIND_SAME)
                yield connection.sql(_MERGE_SAME).to_arrow_table()


def lookup_keys(prompts: Rows) -> list[LookupKey]:
    """What to look up so that the resources of these prompts have names and ids; what most images use comes first.

    Args:
        prompts: The prompts table.
    """
    with duckdb.connect() as connection:
        connection.execute("CREATE TEMP TABLE keys (asked_by VARCHAR, value VARCHAR, images BIGINT)")
        for _ in _each_spread(connection, prompts):
            connection.execute(_COUNT_KEYS, {"most": MAX_VERSION_ID})
        rows = connection.execute(_LIST_KEYS).fetchall()
    return [LookupKey(LookupBy(by), value) for by, value in rows]


def _each_spread(connection: duckdb.DuckDBPyConnection, prompts: Rows) -> Iterator[None]:
    """Batch after batch of prompts as the view ``spread``: one row per resource, as the prompts' rows list them."""
    connection.register("prompts", schemas.PROMPTS.arrow_schema.empty_table().select(PROMPT_COLUMNS))
    connection.execute(_SPREAD_RESOURCES)
    for batch in prompts.batches(PROMPT_COLUMNS):
        connection.register("prompts", pa.Table.from_batches([batch]))
        yield


def _with_types(lookups: pa.Table) -> pa.Table:
    """The answers with the API's types spelled as the table spells them, so that all of them compare."""
    types = [resource_type(spelled) for spelled in lookups.column("model_type").to_pylist()]
    return lookups.append_column("resource_type", pa.array(types, pa.string()))


_SPREAD_RESOURCES = """
CREATE TEMP VIEW spread AS
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
SELECT image_id, model_version_id, position::INTEGER AS position, resource.* FROM spread
"""

_LEAVE_UNNAMED = """
SELECT *, NULL AS resolved_by, NULL AS resolved_name, NULL AS resolved_version_name, NULL AS resolved_base_model
FROM spread ORDER BY image_id, position
"""

# An answer about another model than the metadata names would join two resources into one.
_NAME_RESOURCES = """
CREATE OR REPLACE TEMP TABLE named AS
WITH by_id AS (SELECT * FROM lookups WHERE asked_by = 'version_id'),
    by_hash AS (SELECT * FROM lookups WHERE asked_by = 'hash')
SELECT
    s.image_id, s.model_version_id, s.position,
    CASE WHEN s.resource_type = 'unknown' THEN coalesce(i.resource_type, h.resource_type, 'unknown')
         ELSE s.resource_type END AS resource_type,
    coalesce(s.resource_name, i.model_name, h.model_name) AS resource_name,
    coalesce(s.resource_model_id, i.model_id, h.model_id) AS resource_model_id,
    coalesce(s.resource_version_id, h.version_id) AS resource_version_id,
    s.resource_hash, s.weight, s.source, s.sources, s.raw,
    coalesce(i.asked_by, h.asked_by) AS resolved_by,
    coalesce(i.model_name, h.model_name) AS resolved_name,
    coalesce(i.version_name, h.version_name) AS resolved_version_name,
    coalesce(i.base_model, h.base_model) AS resolved_base_model,
    s.resource_name AS said_name
FROM spread AS s
LEFT JOIN by_id AS i ON i.value::BIGINT = s.resource_version_id
    AND (s.resource_model_id IS NULL OR i.model_id IS NULL OR i.model_id = s.resource_model_id)
LEFT JOIN by_hash AS h ON h.value = s.resource_hash AND s.resource_version_id IS NULL
    AND (s.resource_model_id IS NULL OR h.model_id IS NULL OR h.model_id = s.resource_model_id)
"""

# Without a hash that was resolved, an image's rows have distinct version ids already.
_FIND_SAME = """
CREATE OR REPLACE TEMP TABLE same AS
SELECT image_id, resource_version_id FROM named
WHERE resource_version_id IS NOT NULL AND image_id IN (SELECT image_id FROM named WHERE resolved_by = 'hash')
GROUP BY image_id, resource_version_id HAVING count(*) > 1
"""

_MERGE_SAME = """
WITH touched AS (
    SELECT * FROM named SEMI JOIN same USING (image_id)
), merged AS (
    SELECT
        image_id, any_value(model_version_id) AS model_version_id, min(position) AS position,
        coalesce(arg_min(resource_type, position) FILTER (resource_type <> 'unknown'), 'unknown') AS resource_type,
        coalesce(arg_min(said_name, position), arg_min(resource_name, position)) AS resource_name,
        arg_min(resource_model_id, position) AS resource_model_id,
        resource_version_id,
        arg_max(resource_hash, 1000 * length(resource_hash) - position) AS resource_hash,
        arg_min(weight, position) AS weight,
        arg_min(source, position) AS source,
        flatten(list(sources ORDER BY position)) AS sources,
        arg_min(raw, position) AS raw,
        arg_min(resolved_by, position) AS resolved_by,
        arg_min(resolved_name, position) AS resolved_name,
        arg_min(resolved_version_name, position) AS resolved_version_name,
        arg_min(resolved_base_model, position) AS resolved_base_model
    FROM touched SEMI JOIN same USING (image_id, resource_version_id)
    GROUP BY image_id, resource_version_id
), closed AS (
    SELECT * REPLACE ([name FOR name, place IN sources IF list_position(sources, name) = place] AS sources) FROM merged
    UNION ALL BY NAME
    SELECT * EXCLUDE (said_name) FROM touched ANTI JOIN same USING (image_id, resource_version_id)
)
SELECT * EXCLUDE (said_name) FROM named ANTI JOIN same USING (image_id)
UNION ALL BY NAME
SELECT * REPLACE ((row_number() OVER (PARTITION BY image_id ORDER BY position) - 1)::INTEGER AS position) FROM closed
ORDER BY image_id, position
"""

_COUNT_KEYS = """
INSERT INTO keys
WITH wanting AS (
    SELECT resource_version_id AS id, resource_hash AS hash FROM spread
    WHERE resource_version_id IS NULL OR resource_name IS NULL OR resource_model_id IS NULL OR resource_type = 'unknown'
), asked AS (
    SELECT 'version_id' AS asked_by, id::VARCHAR AS value FROM wanting WHERE id <= $most
    UNION ALL
    SELECT 'hash', hash FROM wanting WHERE id IS NULL AND hash IS NOT NULL
)
SELECT asked_by, value, count(*) FROM asked GROUP BY asked_by, value
"""

_LIST_KEYS = """
SELECT asked_by, value FROM keys GROUP BY asked_by, value ORDER BY sum(images) DESC, asked_by, value
"""

"""The table category_changes: what categorizing anew changed, by another taxonomy or by other code.

Belongs here: the comparison of two states of prompt_categories and the history of such comparisons. Unlike
the other tables it cannot be made anew from the pages: what an earlier taxonomy said is gone with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from civitai_pipeline.derive.bounded import bounded_database, collect
from civitai_pipeline.derive.provenance import finished
from civitai_pipeline.lake import schemas

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

    from civitai_pipeline.lake.rows import Rows

# Raised whenever the same two states would give other rows.
CODE_VERSION = "1"

# Of each version's comparisons the latest are kept, and of the images that changed a few.
KEPT_CHANGES = 20
KEPT_IMAGES = 5
# About; for how much memory the comparison may take.
_ROWS_OF_AN_IMAGE = 5
_COMPARED = ("image_id", "model_version_id", "category", "is_primary")


def build_category_changes(earlier: Rows | None, now: Rows, history: pa.Table | None) -> pa.Table:
    """The history of comparisons, with that of ``earlier`` and ``now`` where other versions made them.

    Args:
        earlier: prompt_categories as an earlier run left it.
        now: prompt_categories as it will be; the result covers the pages that it covers.
        history: category_changes as it stands. If its last comparison is of the same two versions, an
            earlier run wrote it and then failed to write ``now``: it is made anew.
    """
    kept = schemas.CATEGORY_CHANGES.arrow_schema.empty_table() if history is None else history
    before, after = _version(earlier), _version(now)
    if earlier is not None and before is not None and before != after:
        kept = _with_comparison(kept, earlier, now, before, str(after))
    return finished(schemas.CATEGORY_CHANGES, kept, now.provenance, CODE_VERSION)


def _version(table: Rows | None) -> str | None:
    provenance = None if table is None else table.provenance
    return None if provenance is None else provenance.code_version


def _with_comparison(history: pa.Table, earlier: Rows, now: Rows, before: str, after: str) -> pa.Table:
    empty = schemas.PROMPT_CATEGORIES.arrow_schema.empty_table().select(_COMPARED)
    with bounded_database(len(now) // _ROWS_OF_AN_IMAGE) as connection:
        connection.register("history", history)
        collect(connection, "earlier", empty, earlier.batches(_COMPARED))
        collect(connection, "now", empty, now.batches(_COMPARED))
        parameters = [before, after, KEPT_CHANGES, KEPT_IMAGES]
        return connection.sql(_COMPARISON, params=parameters).to_arrow_table()


# Of the images that both tables hold; others were gained or lost by collecting.
_COMPARISON = """
WITH shared AS (
    SELECT DISTINCT image_id FROM earlier SEMI JOIN now USING (image_id)
), pairs AS (
    SELECT image_id, category, b.is_primary AS was_primary, a.is_primary
    FROM (SELECT * FROM earlier SEMI JOIN shared USING (image_id)) AS b
    FULL JOIN (SELECT * FROM now SEMI JOIN shared USING (image_id)) AS a USING (image_id, category)
), moves AS (
    SELECT b.category AS source, a.category, count(*) AS images
    FROM (SELECT * FROM pairs WHERE was_primary) AS b JOIN (SELECT * FROM pairs WHERE is_primary) AS a USING (image_id)
    WHERE b.category <> a.category GROUP BY ALL
), sources AS (
    SELECT category,
           '{' || string_agg(to_json(source) || ':' || images, ',' ORDER BY images DESC, source) || '}' AS primary_from
    FROM moves GROUP BY category
), others AS (
    SELECT * FROM history
    WHERE NOT (change = (SELECT max(change) FROM history) AND from_version = $1 AND to_version = $2)
), numbered AS (
    SELECT coalesce(max(change), 0) + 1 AS change FROM others
), compared AS (
    SELECT (SELECT any_value(model_version_id) FROM earlier) AS model_version_id,
           (SELECT change FROM numbered) AS change, $1 AS from_version, $2 AS to_version, category,
           (SELECT count(*) FROM shared) AS images,
           count(was_primary) AS images_before,
           count(is_primary) AS images_after,
           count(*) FILTER (was_primary IS NULL) AS gained,
           count(*) FILTER (is_primary IS NULL) AS lost,
           count(*) FILTER (was_primary) AS primary_before,
           count(*) FILTER (is_primary) AS primary_after,
           coalesce(list(image_id ORDER BY image_id) FILTER (was_primary IS NULL), [])[:$4] AS gained_image_ids,
           coalesce(list(image_id ORDER BY image_id) FILTER (is_primary IS NULL), [])[:$4] AS lost_image_ids
    FROM pairs GROUP BY category
)
SELECT * FROM others WHERE change > (SELECT change FROM numbered) - $3
UNION ALL BY NAME
SELECT compared.*, coalesce(primary_from, '{}') AS primary_from FROM compared LEFT JOIN sources USING (category)
ORDER BY change, category
"""


def latest_change(changes: pa.Table) -> list[dict[str, Any]]:
    """The rows of the last comparison; none if there was none."""
    rows: Sequence[dict[str, Any]] = changes.to_pylist()
    last = max((row["change"] for row in rows), default=0)
    return [row for row in rows if row["change"] == last]

"""Which rows an export holds, and why the others are left out.

Each row held of the versions asked for is either selected or left out for exactly one reason, the first in the
order of ``REASONS`` that fits; so the counts add up. The selection is a narrow table in DuckDB; the rows' text is
read later, in batches.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from civitai_pipeline.export.groups import components, deal_out
from civitai_pipeline.export.options import highest_bit
from civitai_pipeline.lake.database import duckdb_explained
from civitai_pipeline.prompts.resources import normalised_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    import duckdb

    from civitai_pipeline.export.groups import Ints
    from civitai_pipeline.export.options import ExportOptions
    from civitai_pipeline.lake.paths import Lake

# What is left out, by whom; the words complete "12 rows left out: …".
REASONS = {
    "withdrawn": "withdrawn by their makers since (--include-withdrawn exports them)",
    "above_level": "above the maturity asked for (--max-level raises it)",
    "unknown_level": "of unknown maturity (--include-unknown-level exports them)",
    "category": "not of the category asked for (--category)",
    "primary_category": "not of the primary category asked for (--primary-category)",
    "resource": "made without the resource asked for (--resource)",
    "sampler": "made with another sampler, or an unknown one (--sampler)",
    "base_model": "of another base model, or an unknown one (--base-model)",
    "min_reactions": "with fewer reactions, or an unknown number of them (--min-reactions)",
    "since": "created earlier, or at an unknown time (--since)",
    "until": "created later, or at an unknown time (--until)",
    "distinct": "with a prompt like one that is exported (--distinct)",
    "max_per_author": "beyond the cap for each author (--max-per-author)",
    "max_per_version": "beyond the cap for each version (--max-per-version)",
    "limit": "beyond the limit (--limit)",
}

# What a row must satisfy; anything else than true, null included, leaves it out.
_CONDITIONS = {
    "withdrawn": "$include_withdrawn OR prompts.prompt_withdrawn_at IS NULL",
    # A row's level counts by its highest bit, so it is below twice the highest bit allowed.
    "above_level": "prompts.browsing_level IS NULL OR prompts.browsing_level < 2 * highest",
    "unknown_level": "$include_unknown_level OR prompts.browsing_level >= 1",
    "category": "len($category) = 0 OR EXISTS (FROM prompt_categories AS c WHERE c.image_id = prompts.image_id "
    "AND c.model_version_id = prompts.model_version_id AND lower(c.category) IN (SELECT unnest($category)))",
    "primary_category": "len($primary_category) = 0 OR EXISTS (FROM prompt_categories AS c "
    "WHERE c.image_id = prompts.image_id AND c.model_version_id = prompts.model_version_id AND c.is_primary "
    "AND lower(c.category) IN (SELECT unnest($primary_category)))",
    "resource": "NOT $by_resource OR EXISTS (FROM prompt_resources AS r WHERE r.image_id = prompts.image_id "
    "AND r.model_version_id = prompts.model_version_id AND (r.resource_name IN (FROM wanted_names) "
    "OR r.resource_version_id IN (SELECT unnest($resource_ids))))",
    "sampler": "len($sampler) = 0 OR lower(prompts.sampler) IN (SELECT unnest($sampler))",
    "base_model": "len($base_model) = 0 OR lower(prompts.base_model) IN (SELECT unnest($base_model))",
    "min_reactions": "$min_reactions IS NULL OR prompts.reaction_count >= $min_reactions",
    "since": "$since IS NULL OR prompts.created_at::DATE >= $since",
    "until": "$until IS NULL OR prompts.created_at::DATE <= $until",
}


@dataclass(frozen=True)
class Selection:
    """What was selected; the rows themselves are in the connection's table ``selection``.

    Attributes:
        held: Rows held of the versions asked for.
        rows: Rows selected.
        left_out: The other rows by reason, in the order of ``REASONS``; none of reasons that leave none out.
        versions: The model versions with selected rows, ascending.
    """

    held: int
    rows: int
    left_out: dict[str, int]
    versions: list[int]


def select_rows(
    connection: duckdb.DuckDBPyConnection,
    lake: Lake,
    versions: Sequence[int],
    options: ExportOptions,
    default_level: int,
) -> Selection:
    """Fills the table ``selection`` (``model_version_id``, ``image_id``, ``split``).

    Args:
        connection: Has the views of the lake's tables.
        lake: Where the tables are, for errors.
        versions: The model versions to choose from; all of them if none is named.
        options: What to leave out.
        default_level: The maturity allowed where neither an option nor a landed page says which was asked for.

    Raises:
        LakeError: A table cannot be read.
    """
    with duckdb_explained("read the tables in", str(lake.root)):
        _create_levels(connection, options.highest_level, default_level)
        _create_wanted_names(connection, options)
        reasons = " ".join(
            f"WHEN NOT coalesce({condition}, false) THEN '{reason}'" for reason, condition in _CONDITIONS.items()
        )
        connection.execute(
            f"""
            CREATE TEMP TABLE candidates AS
            SELECT model_version_id, image_id, username, prompt_hash, near_duplicate_group, CASE {reasons} END AS reason
            FROM (
                SELECT prompts.*, coalesce(levels.highest, $default_level) AS highest
                FROM prompts LEFT JOIN levels USING (model_version_id)
                WHERE len($versions) = 0 OR model_version_id IN (SELECT unnest($versions))
            ) AS prompts
            """,  # noqa: S608 - our own conditions
            _parameters(versions, options, default_level),
        )
        counted = dict(connection.execute("SELECT reason, count(*) FROM candidates GROUP BY reason").fetchall())
        connection.execute(
            "CREATE TEMP TABLE selection AS SELECT * EXCLUDE (reason), NULL::BIGINT AS split "
            "FROM candidates WHERE reason IS NULL"
        )
        connection.execute("DROP TABLE candidates")
        _drop_repeats(connection, options, counted)
        _apply_caps(connection, options, counted)
        rows = _count(connection)
        found = connection.execute("SELECT DISTINCT model_version_id FROM selection ORDER BY 1").fetchall()
    left_out = {reason: counted[reason] for reason in REASONS if counted.get(reason)}
    return Selection(rows + sum(left_out.values()), rows, left_out, [version for (version,) in found])


def assign_splits(connection: duckdb.DuckDBPyConnection, split_by: str, seed: int) -> int:
    """Fills the selection's ``split``, so that no group of rows is in two of them.

    Args:
        connection: Has the selection.
        split_by: What makes rows a group: ``near`` duplicates, the ``author``, or ``both``.
        seed: What draws the splits.

    Returns:
        The number of rows of the largest group.
    """
    rows = _keys(connection)
    columns = ["image_id"]
    if split_by in {"near", "both"}:
        columns += ["prompt_hash", "near_duplicate_group"]
    if split_by in {"author", "both"}:
        columns.append("username")
    group = _grouped(rows, columns)
    ids = rows.column("image_id").to_numpy()
    _replace_column(connection, rows, "split", deal_out(group, ids, seed))
    return int(np.unique(group, return_counts=True)[1].max(initial=0))


def _create_levels(connection: duckdb.DuckDBPyConnection, asked: int | None, default_level: int) -> None:
    """The highest maturity allowed of each version: what is asked for now, else what was when collecting."""
    masks = connection.execute("SELECT model_version_id, bit_or(browsing_level) FROM landed_pages GROUP BY ALL")
    levels = {version: asked or (highest_bit(mask) if mask else default_level) for version, mask in masks.fetchall()}
    connection.execute(
        "CREATE TEMP TABLE levels AS SELECT unnest($versions::BIGINT[]) AS model_version_id, "
        "unnest($highest::INTEGER[]) AS highest",
        {"versions": list(levels), "highest": list(levels.values())},
    )


def _create_wanted_names(connection: duckdb.DuckDBPyConnection, options: ExportOptions) -> None:
    wanted = {normalised_name(name) for name in options.resource}
    names: list[str] = []
    if wanted:
        known = connection.execute(
            "SELECT DISTINCT resource_name FROM prompt_resources WHERE resource_name IS NOT NULL"
        )
        names = [name for (name,) in known.fetchall() if normalised_name(name) in wanted]
    connection.execute("CREATE TEMP TABLE wanted_names AS SELECT unnest($names::VARCHAR[]) AS name", {"names": names})


def _parameters(versions: Sequence[int], options: ExportOptions, default_level: int) -> dict[str, Any]:
    ids = [int(text) for text in options.resource if text.isascii() and text.isdigit() and len(text) < 19]  # noqa: PLR2004 - digits of a 64-bit number
    lists = ("category", "primary_category", "sampler", "base_model")
    return {
        "versions": list(versions),
        "default_level": options.highest_level or default_level,
        "include_withdrawn": options.include_withdrawn,
        "include_unknown_level": options.include_unknown_level,
        "by_resource": bool(options.resource),
        "resource_ids": ids,
        "min_reactions": options.min_reactions,
        "since": options.since,
        "until": options.until,
        **{name: [text.strip().lower() for text in getattr(options, name)] for name in lists},
    }


def _drop_repeats(
    connection: duckdb.DuckDBPyConnection, options: ExportOptions, counted: dict[str | None, int]
) -> None:
    """Keeps the first image, by id, of those with equal prompts or near duplicates, over all versions."""
    if options.distinct == "none":
        return
    rows = _keys(connection)
    keys = ["prompt_hash"] if options.distinct == "exact" else ["image_id", "prompt_hash", "near_duplicate_group"]
    _replace_column(connection, rows, "split", _grouped(rows, keys))
    _keep(
        connection,
        "row_number() OVER (PARTITION BY split ORDER BY image_id, model_version_id) = 1",
        counted,
        "distinct",
    )


def _apply_caps(connection: duckdb.DuckDBPyConnection, options: ExportOptions, counted: dict[str | None, int]) -> None:
    # Drawn rather than taken from the start, which would favour old images or those of early versions. The draw
    # hashes ids and the seed, so it is the same on every machine.
    draw = f"md5(concat({options.seed:d}, '/', image_id, '/', model_version_id))"
    if options.max_per_author is not None:
        # Rows of unknown author are not known to be one person's.
        ranked = f"row_number() OVER (PARTITION BY username ORDER BY {draw}) <= {options.max_per_author:d}"
        _keep(connection, f"username IS NULL OR {ranked}", counted, "max_per_author")
    if options.max_per_version is not None:
        ranked = f"row_number() OVER (PARTITION BY model_version_id ORDER BY {draw}) <= {options.max_per_version:d}"
        _keep(connection, ranked, counted, "max_per_version")
    if options.limit is not None:
        order = "row_number() OVER (ORDER BY model_version_id, image_id)"
        _keep(connection, f"{order} <= {options.limit:d}", counted, "limit")


def _keep(connection: duckdb.DuckDBPyConnection, condition: str, counted: dict[str | None, int], reason: str) -> None:
    before = _count(connection)
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE selection AS SELECT * FROM selection QUALIFY {condition}"  # noqa: S608 - our own
    )
    counted[reason] = before - _count(connection)


def _count(connection: duckdb.DuckDBPyConnection) -> int:
    row = connection.execute("SELECT count(*) FROM selection").fetchone()
    return int(row[0]) if row else 0


def _keys(connection: duckdb.DuckDBPyConnection) -> pa.Table:
    return connection.sql("FROM selection ORDER BY image_id, model_version_id").to_arrow_table()


def _grouped(rows: pa.Table, columns: Sequence[str]) -> Ints:
    return components(len(rows), [_codes(rows, name) for name in columns])


def _codes(rows: pa.Table, name: str) -> Ints:
    coded = rows.column(name).combine_chunks().dictionary_encode()
    codes: Ints = coded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    return codes


def _replace_column(connection: duckdb.DuckDBPyConnection, rows: pa.Table, name: str, values: Ints) -> None:
    place = rows.column_names.index(name)
    connection.register("changed", rows.set_column(place, name, pa.array(values, pa.int64())))
    connection.execute("CREATE OR REPLACE TEMP TABLE selection AS FROM changed")
    connection.unregister("changed")

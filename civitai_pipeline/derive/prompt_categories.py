"""The table prompt_categories, made from the prompts table."""

from __future__ import annotations

from typing import TYPE_CHECKING

import duckdb
import pyarrow as pa

from civitai_pipeline.derive.provenance import finished
from civitai_pipeline.lake import schemas
from civitai_pipeline.lake.tables import Provenance
from civitai_pipeline.prompts.text import prompt_hash

if TYPE_CHECKING:
    from civitai_pipeline.prompts.categories import Categorizer

# Raised whenever the same prompts and taxonomy would give other rows.
CODE_VERSION = "2"


def build_categories(prompts: pa.Table, earlier: pa.Table | None, categorizer: Categorizer) -> pa.Table:
    """Categorizes each prompt.

    Args:
        prompts: The prompts table.
        earlier: The table as it stands; what it says of a prompt is taken over where the same taxonomy
            and code said it.
        categorizer: Decides the categories of a prompt not seen before.
    """
    version = _categories_version(categorizer)
    if earlier is None or (p := Provenance.of(earlier.schema)) is None or p.code_version != version:
        earlier = schemas.PROMPT_CATEGORIES.arrow_schema.empty_table()
    columns = ["category", "confidence", "is_primary", "matched_keywords", "taxonomy_version", "categorized_hash"]
    with duckdb.connect() as connection:
        connection.register("prompts", _with_hash_of_what_is_categorized(prompts))
        connection.register("earlier", earlier)
        connection.execute(
            "CREATE TEMP TABLE known AS "  # noqa: S608 - our own column names
            f"SELECT DISTINCT ON (categorized_hash, category) {', '.join(columns)} FROM earlier"
        )
        unknown = connection.sql(
            "SELECT categorized_hash, arg_min(prompt, image_id) AS prompt FROM prompts "
            "WHERE categorized_hash NOT IN (SELECT categorized_hash FROM known) "
            "GROUP BY categorized_hash ORDER BY categorized_hash"
        ).to_arrow_table()
        connection.register("decided", _decide(unknown, categorizer))
        joined = connection.sql(
            f"SELECT image_id, model_version_id, {', '.join(columns)} FROM prompts "  # noqa: S608 - our own column names
            "JOIN (SELECT * FROM known UNION ALL SELECT * FROM decided) USING (categorized_hash) "
            "ORDER BY image_id, category"
        ).to_arrow_table()
    return finished(schemas.PROMPT_CATEGORIES, joined, prompts, version)


def _with_hash_of_what_is_categorized(prompts: pa.Table) -> pa.Table:
    """The prompts, with the hash that decides their categories.

    The categorizer reads the end of a line as a comma, so prompts that are equal but for line ends may
    differ in categories; what it then looks at is the normal form.
    """
    texts, known = prompts.column("prompt").to_pylist(), prompts.column("prompt_hash").to_pylist()
    hashes = [
        prompt_hash(text.replace("\n", ",")) if "\n" in text else same for text, same in zip(texts, known, strict=True)
    ]
    return prompts.select(["image_id", "model_version_id", "prompt"]).append_column(
        "categorized_hash", pa.array(hashes, type=pa.string())
    )


def _categories_version(categorizer: Categorizer) -> str:
    return f"{CODE_VERSION}/{categorizer.taxonomy.version}"


def _decide(unknown: pa.Table, categorizer: Categorizer) -> pa.Table:
    taxonomy_version = categorizer.taxonomy.version
    names = ("category", "confidence", "is_primary", "matched_keywords", "taxonomy_version", "categorized_hash")
    rows = [
        {
            "category": match.category,
            "confidence": match.confidence,
            "is_primary": match.is_primary,
            "matched_keywords": list(match.matched_keywords),
            "taxonomy_version": taxonomy_version,
            "categorized_hash": decided,
        }
        for decided, prompt in zip(
            unknown.column("categorized_hash").to_pylist(), unknown.column("prompt").to_pylist(), strict=True
        )
        for match in categorizer.categorize(prompt)
    ]
    schema = pa.schema([schemas.PROMPT_CATEGORIES.arrow_schema.field(name) for name in names])
    return pa.Table.from_pylist(rows, schema=schema)

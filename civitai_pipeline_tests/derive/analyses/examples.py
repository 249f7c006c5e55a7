"""Small tables to count by hand."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from civitai_pipeline.derive.analyses import build_analyses
from civitai_pipeline.lake import schemas
from civitai_pipeline.lake.tables import from_rows
from civitai_pipeline.prompts.text import prompt_counts, prompt_hash
from civitai_pipeline_tests.lake.examples import VERSION, category_row, prompt_row

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

Row = dict[str, Any]
MONDAY = datetime(2026, 2, 2, tzinfo=UTC)


def image(image_id: int, prompt: str, author: str | None = "ann", **fields: Any) -> Row:  # noqa: ANN401 - a column's
    """A row of ``prompts`` as the pipeline makes it."""
    counts = prompt_counts(prompt)
    return prompt_row(
        image_id,
        prompt=prompt,
        prompt_hash=prompt_hash(prompt),
        username=author,
        prompt_length=counts.length,
        word_count=counts.words,
        tag_count=counts.tags,
        **fields,
    )


def resource(image_id: int, kind: str, name: str | None, weight: float | None = None, **fields: object) -> Row:
    """A row of ``prompt_resources``; the last of an image's, unless ``position`` says otherwise."""
    return {
        "image_id": image_id,
        "model_version_id": VERSION,
        "position": 9,
        "resource_type": kind,
        "resource_name": name,
        "weight": weight,
        "source": "resources",
        "sources": ["resources"],
        "raw": "{}",
        **fields,
    }


def analyses(
    images: Sequence[Row], resources: Sequence[Row] = (), categories: Sequence[tuple[int, str]] = ()
) -> dict[str, pa.Table]:
    """The analyses of some rows."""
    return build_analyses(
        from_rows(schemas.PROMPTS, images),
        from_rows(schemas.PROMPT_RESOURCES, resources),
        from_rows(schemas.PROMPT_CATEGORIES, [category_row(number, category) for number, category in categories]),
    )


def pick(table: pa.Table, *names: str, **where: object) -> list[tuple[Any, ...]]:
    """Some columns of the rows that have certain values, in the order of the table."""
    rows = [row for row in table.to_pylist() if all(row[name] == value for name, value in where.items())]
    return [tuple(row[name] for name in names) for row in rows]

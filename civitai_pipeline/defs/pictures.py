"""Pictures, tables and numbers about what an asset made, as the Dagster UI shows them.

What is counted and drawn stands in ``report.pictures``; which asset shows what, in ``assets``.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg
import pyarrow as pa

from civitai_pipeline.report import pictures

# Rows of a table in metadata: enough to read, little enough for the event log.
MOST_ROWS = 20


def picture(svg: str) -> dg.MetadataValue[Any]:
    """A picture, as Markdown that holds it whole."""
    return dg.MetadataValue.md(pictures.in_markdown(svg))


def rows_table(names: Sequence[str], rows: Sequence[Sequence[str | float]]) -> dg.MetadataValue[Any]:
    """The first rows as a table."""
    kinds = {str: "string", int: "int", float: "float"}
    first = rows[0] if rows else [""] * len(names)
    columns = [dg.TableColumn(name, kinds[type(cell)]) for name, cell in zip(names, first, strict=True)]
    records = [dg.TableRecord(dict(zip(names, row, strict=True))) for row in rows[:MOST_ROWS]]
    return dg.MetadataValue.table(records=records, schema=dg.TableSchema(columns))


def of_run(summary: Mapping[str, Any]) -> dict[str, dg.MetadataValue[Any]]:
    """What a run's ``image_pages`` show besides the summary; keys with a slash, which are no part of it."""
    return {"picture/outcomes": picture(pictures.outcomes_svg(summary))}


def of_categories(prompt_categories: pa.Table) -> dict[str, Any]:
    """What ``prompt_categories`` show: images by category, and how sure the categories are."""
    counts = pictures.category_counts(prompt_categories)
    categorized = {name: primary for name, _, primary, _ in counts}
    none = categorized.pop("uncategorized", 0)
    return {
        "images by category": picture(pictures.rows_svg([(name, images) for name, images, _, _ in counts])),
        "confidence of primary categories": picture(pictures.confidence_svg(prompt_categories)),
        "categories": rows_table(
            ("category", "images", "primary", "mean confidence"),
            [(name, images, primary, round(mean, 3)) for name, images, primary, mean in counts],
        ),
        "images_categorized": sum(categorized.values()),
        "images_uncategorized": none,
    }


def of_report(prompts: pa.Table, prompt_resources: pa.Table, prompt_categories: pa.Table) -> dict[str, Any]:
    """What ``version_report`` shows: images by month and category, the LoRAs and checkpoints used most."""
    loras = pictures.resource_counts(prompts, prompt_resources, "lora")
    checkpoints = pictures.resource_counts(prompts, prompt_resources, "checkpoint")
    counts = pictures.category_counts(prompt_categories)
    return {
        "images by month": picture(pictures.months_svg(prompts)),
        "images by category": picture(pictures.rows_svg([(name, images) for name, images, _, _ in counts])),
        "images by LoRA": picture(pictures.rows_svg(loras)),
        "LoRAs": rows_table(("LoRA", "images"), loras),
        "checkpoints": rows_table(("checkpoint", "images"), checkpoints),
        "prompts": len(prompts),
        "different LoRAs": len(loras),
    }

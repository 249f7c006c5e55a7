"""Rows of tables by hand, for tests that say what the numbers must be."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from civitai_pipeline.derive.analyses import build_analyses
from civitai_pipeline.lake.schemas import PROMPT_CATEGORIES, PROMPT_RESOURCES, PROMPTS, REJECTED_IMAGES
from civitai_pipeline.report import ANALYSES, VersionOverview, VersionTables, overview_row, version_overview
from civitai_pipeline_tests.report.examples import INFO, VERSION


def analysed(tables: VersionTables) -> VersionTables:
    """The tables with the analyses made of them."""
    made = build_analyses(tables.prompts, tables.prompt_resources, tables.prompt_categories)
    return replace(tables, analyses={name: made[name] for name in ANALYSES})


def overview_of(tables: VersionTables) -> VersionOverview:
    """A version's overview, by way of its row."""
    return version_overview(overview_row(tables), tables.info, tables.collection_state, tables.summary)


def prompt(image_id: int, text: str, **values: object) -> dict[str, Any]:
    """A row of prompts."""
    moment = datetime(2026, 3, 2, tzinfo=UTC)
    return {
        "image_id": image_id,
        "model_version_id": VERSION,
        "username": "ana",
        "created_at": moment,
        "prompt": text,
        "prompt_hash": text.lower(),
        "prompt_length": len(text),
        "tag_count": text.count(",") + 1,
        "word_count": len(text.split()),
        "generator": "unknown",
        "first_seen_at": moment,
        "last_seen_at": moment,
        "first_page": "1/1",
        "last_page": "1/1",
        "fingerprint": 0,
        "prompt_signature": bytes(64),
        "resources": "[]",
        **values,
    }


def resource(image_id: int, name: str | None, version_id: int | None, weight: float | None) -> dict[str, Any]:
    """A row of prompt_resources: a LoRA."""
    return {
        "image_id": image_id,
        "model_version_id": VERSION,
        "position": 0,
        "resource_type": "lora",
        "resource_name": name,
        "resource_version_id": version_id,
        "weight": weight,
        "source": "resources",
        "sources": ["resources"],
        "raw": "{}",
    }


def category(image_id: int, name: str, confidence: float, *, primary: bool) -> dict[str, Any]:
    """A row of prompt_categories."""
    return {
        "image_id": image_id,
        "model_version_id": VERSION,
        "category": name,
        "confidence": confidence,
        "is_primary": primary,
        "matched_keywords": [f"{name} word"],
        "taxonomy_version": "1",
    }


def tables(
    prompts: list[dict[str, Any]],
    resources: list[dict[str, Any]] | None = None,
    categories: list[dict[str, Any]] | None = None,
    collection_state: list[dict[str, Any]] | None = None,
    summary: dict[str, Any] | None = None,
) -> VersionTables:
    """Tables of these rows."""
    return VersionTables(
        info=INFO,
        prompts=pa.Table.from_pylist(prompts, PROMPTS.arrow_schema),
        rejected_images=pa.Table.from_pylist([], REJECTED_IMAGES.arrow_schema),
        prompt_resources=pa.Table.from_pylist(resources or [], PROMPT_RESOURCES.arrow_schema),
        prompt_categories=pa.Table.from_pylist(categories or [], PROMPT_CATEGORIES.arrow_schema),
        collection_state=collection_state or [],
        summary=summary,
    )

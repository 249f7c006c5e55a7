"""What these tests share: landed pages and rows with as little in them as they may have."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from civitai_pipeline.lake import schemas
from civitai_pipeline.lake.pages import LandedPage, Options, PageId
from civitai_pipeline.lake.tables import from_rows, write_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from civitai_pipeline.lake.ledger import Ledger
    from civitai_pipeline.lake.paths import Lake
    from civitai_pipeline.lake.schemas import Table

VERSION = 910011
THEN = datetime(2026, 11, 1, 12, 0, 0, tzinfo=UTC)
LISTING = {"model_version_id": VERSION, "sort": "Oldest", "browsing_level": 1, "period": "AllTime", "type": "image"}


def page(walk: int = 1, number: int = 1, sequence: int | None = None, **fields: Any) -> LandedPage:  # noqa: ANN401 - a page's
    """A page as a run hands it to the ledger."""
    template = LandedPage(
        id=PageId(walk, number),
        model_version_id=VERSION,
        sequence=number if sequence is None else sequence,
        run_id="run-1",
        listing=LISTING,
        cursor=None if number == 1 else f"{number}|x",
        url="http://127.0.0.1/api/v1/images",
        options=Options(),
        fetched_at=THEN,
        elapsed_s=0.25,
        items=[],
        metadata={},
    )
    return replace(template, **fields)


def body(items: Sequence[object] = (), next_cursor: str | int | None = None) -> bytes:
    """The API's JSON of a page."""
    metadata = {} if next_cursor is None else {"nextCursor": next_cursor}
    return json.dumps({"items": list(items), "metadata": metadata}).encode()


def land(ledger: Ledger, walk: int, number: int, sequence: int, ids: Sequence[int] = (), *, more: bool = True) -> None:
    """Lands a page that shows images of these ids."""
    following = f"{number + 1}|x" if more else None
    ledger.land(page(walk, number, sequence), body([{"id": image_id} for image_id in ids], following))


def prompt_row(image_id: int, version: int = VERSION, **fields: object) -> dict[str, Any]:
    """A row of ``prompts`` with its required columns."""
    return {
        "image_id": image_id,
        "model_version_id": version,
        "prompt": f"kite {image_id}",
        "prompt_hash": "h",
        "browsing_level": 1,
        "generator": "unknown",
        "prompt_length": 6,
        "tag_count": 1,
        "word_count": 2,
        "first_seen_at": THEN,
        "last_seen_at": THEN,
        "first_page": "1/1",
        "last_page": "1/1",
        "fingerprint": 1,
        "prompt_signature": bytes(64),
        "resources": "[]",
        **fields,
    }


def category_row(image_id: int, category: str, version: int = VERSION, *, primary: bool = True) -> dict[str, Any]:
    """A row of ``prompt_categories``."""
    return {
        "image_id": image_id,
        "model_version_id": version,
        "category": category,
        "confidence": 0.5,
        "is_primary": primary,
        "matched_keywords": ["kite"],
        "taxonomy_version": "1",
        "categorized_hash": "h",
    }


def landed_row(walk: int, number: int, sequence: int, **fields: object) -> dict[str, Any]:
    """A row of ``landed_pages``: all of a page's items new, unless ``fields`` say otherwise."""
    row = {
        "model_version_id": VERSION,
        "walk": walk,
        "page": number,
        "sequence": sequence,
        "listing": json.dumps(LISTING, sort_keys=True),
        "sort": "Oldest",
        "browsing_level": 1,
        "fetched_at": THEN + timedelta(minutes=sequence),
        "attempted": 0,
        "new": 0,
        "updated": 0,
        "duplicate": 0,
        "no_prompt": 0,
        "version_mismatch": 0,
        "malformed": 0,
        **fields,
    }
    outcomes = ("new", "updated", "duplicate", "no_prompt", "version_mismatch", "malformed")
    row["attempted"] = sum(row[outcome] for outcome in outcomes)  # type: ignore[misc]  # the six are integers
    return row


def write(lake: Lake, table: Table, rows: Sequence[dict[str, Any]], version: int = VERSION) -> None:
    """Writes a version's table."""
    write_table(lake, table, version, from_rows(table, rows))


def write_prompts(lake: Lake, *rows: dict[str, Any], version: int = VERSION) -> None:
    """Writes a version's prompts."""
    write(lake, schemas.PROMPTS, rows, version)


def python(code: str, *arguments: str) -> subprocess.Popen[str]:
    """Another process of this project, which speaks by lines on its standard output."""
    root = Path(__file__).parents[2]
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdout=subprocess.PIPE,
        stdin=subprocess.PIPE,
        text=True,
        cwd=root,
    )

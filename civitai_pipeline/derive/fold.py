"""Slabs of pages folded, in the order in which they landed, into what they change: rows, sightings, refusals.

Belongs here: what an image's sightings add up to. Merging with what earlier builds left is in ``prompt_tables``.
Each slab's changes are set aside in files, so memory does not grow with the number of pages.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from civitai_pipeline import jsontext
from civitai_pipeline.derive.holdings import Effect, Holdings, Tally
from civitai_pipeline.derive.slabs import CONTENT_SCHEMA
from civitai_pipeline.lake import schemas, tables
from civitai_pipeline.prompts.items import Outcome
from civitai_pipeline.prompts.text import storable

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from civitai_pipeline.derive.slabs import PageReading, Slab
    from civitai_pipeline.lake.pages import LandedPage

_SLAB_NUMBER = pa.field("slab", pa.int32())
_SEEN_SCHEMA = pa.schema(
    [
        # Null where an earlier slab has seen the image first.
        pa.field("first_seen_at", schemas.TIMESTAMPTZ),
        pa.field("first_page", schemas.VARCHAR),
        pa.field("last_seen_at", schemas.TIMESTAMPTZ),
        pa.field("last_page", schemas.VARCHAR),
        pa.field("prompt_withdrawn_at", schemas.TIMESTAMPTZ),
        _SLAB_NUMBER,
    ]
)
ROW_SCHEMA = pa.schema([*CONTENT_SCHEMA, *_SEEN_SCHEMA])
TOUCH_SCHEMA = pa.schema([pa.field("image_id", schemas.BIGINT), *_SEEN_SCHEMA])
REFUSAL_SCHEMA = pa.schema([*schemas.REJECTED_IMAGES.arrow_schema, _SLAB_NUMBER])


class _Seen:
    """What one slab's sightings of an image add up to."""

    __slots__ = ("first_page", "first_seen_at", "last_page", "last_seen_at", "row", "withdrawn_at")

    def __init__(self) -> None:
        self.row: int | None = None
        self.first_seen_at: datetime | None = None
        self.first_page: str | None = None
        self.last_seen_at: datetime | None = None
        self.last_page: str | None = None
        self.withdrawn_at: datetime | None = None


class Fold:
    """Slabs in; files of what they change out.

    Attributes:
        holdings: What is held after the slabs folded so far.
        folder: Where the files are: ``content``, ``touched`` and ``refused``, one Parquet file a slab each.
    """

    def __init__(self, version: int, holdings: Holdings, folder: Path) -> None:
        self.holdings = holdings
        self.folder = folder
        self._version = version
        self._slab = 0
        self._pages: list[dict[str, Any]] = []
        for name, schema in (("content", ROW_SCHEMA), ("touched", TOUCH_SCHEMA), ("refused", REFUSAL_SCHEMA)):
            (folder / name).mkdir()
            # The first file gives each a shape even where no slab comes.
            self._set_aside(name, schema.empty_table())

    def page_rows(self) -> pa.Table:
        """The rows of landed_pages for the pages folded."""
        return tables.from_rows(schemas.LANDED_PAGES, self._pages)

    def add(self, slab: Slab) -> None:
        """Folds the pages of a slab."""
        self._slab += 1
        seen: dict[int, _Seen] = {}
        refused: dict[int | str, dict[str, Any]] = {}
        for reading in slab.pages:
            self._add_page(reading, seen, refused)
        rows = {image_id: one for image_id, one in seen.items() if one.row is not None}
        content = slab.content.take(pa.array([one.row for one in rows.values()], pa.int64()))
        sightings = self._sightings(list(rows.values()))
        self._set_aside("content", pa.table([*content.columns, *sightings], schema=ROW_SCHEMA))
        touched = {image_id: one for image_id, one in seen.items() if one.row is None}
        ids = pa.array(list(touched), schemas.BIGINT)
        self._set_aside("touched", pa.table([ids, *self._sightings(list(touched.values()))], schema=TOUCH_SCHEMA))
        self._set_aside("refused", pa.Table.from_pylist(list(refused.values()), schema=REFUSAL_SCHEMA))

    def _add_page(self, reading: PageReading, seen: dict[int, _Seen], refused: dict[int | str, dict[str, Any]]) -> None:
        page, tally, label = reading.page, Tally(), str(reading.page.id)
        for position, sighting in enumerate(reading.sightings):
            receipt = self.holdings.receive(sighting, self._version, page.options)
            tally.count(receipt.outcome, sighting.created_at)
            image_id = sighting.image_id
            if receipt.effect is Effect.NOTHING:
                if receipt.reason is not None and image_id not in self.holdings:
                    item = reading.refused[position]
                    # Items without an id are told apart by their place: equal ones of a page are several all the same.
                    refused[f"{position} {item}" if image_id is None else image_id] = {
                        "image_id": image_id,
                        "model_version_id": self._version,
                        "outcome": receipt.outcome.value,
                        "reason": receipt.reason,
                        "page": label,
                        "position": position,
                        "item": item,
                        "slab": self._slab,
                    }
                continue
            assert image_id is not None  # noqa: S101 - only images have an effect
            one = seen.get(image_id)
            if one is None:
                one = seen[image_id] = _Seen()
            one.last_seen_at, one.last_page = page.fetched_at, label
            if receipt.effect is Effect.CONTENT:
                one.row, one.withdrawn_at = reading.rows[position], None
                if receipt.outcome is Outcome.NEW:
                    one.first_seen_at, one.first_page = page.fetched_at, label
            elif receipt.effect is Effect.WITHDRAWAL:
                one.withdrawn_at = page.fetched_at
        self._pages.append(page_row(page, tally))

    def _sightings(self, seen: list[_Seen]) -> list[pa.Array]:
        columns: list[list[Any]] = [
            [one.first_seen_at for one in seen],
            [one.first_page for one in seen],
            [one.last_seen_at for one in seen],
            [one.last_page for one in seen],
            [one.withdrawn_at for one in seen],
            [self._slab] * len(seen),
        ]
        return [pa.array(values, field.type) for values, field in zip(columns, _SEEN_SCHEMA, strict=True)]

    def _set_aside(self, name: str, rows: pa.Table) -> None:
        if len(rows) or not self._slab:
            # Read once and thrown away, so neither dictionaries nor compression pay.
            path = self.folder / name / f"{self._slab}.parquet"
            pq.write_table(rows, path, compression="none", use_dictionary=False)


def _cursor_text(cursor: str | int | None) -> str | None:
    return None if cursor is None else storable(str(cursor))


def page_row(page: LandedPage, tally: Tally) -> dict[str, Any]:
    """The row of landed_pages for a page whose items' outcomes are ``tally``."""
    return {
        "model_version_id": page.model_version_id,
        "walk": page.id.walk,
        "page": page.id.page,
        "sequence": page.sequence,
        "run_id": page.run_id,
        "listing": jsontext.dumps(page.listing, sort_keys=True).decode(),
        "sort": page.listing["sort"],
        "browsing_level": page.listing["browsing_level"],
        "cursor": _cursor_text(page.cursor),
        "next_cursor": _cursor_text(page.next_cursor),
        "confirms": None if page.confirms is None else str(page.confirms),
        "max_items": page.options.max_items,
        "fetched_at": page.fetched_at,
        "elapsed_s": page.elapsed_s,
        "attempted": tally.attempted,
        **{outcome.value: tally.outcomes[outcome] for outcome in Outcome},
        "oldest_created_at": tally.oldest_created_at,
        "newest_created_at": tally.newest_created_at,
    }

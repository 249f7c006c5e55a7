"""Slabs of pages folded, in the order in which they landed, into what they change: rows, sightings, refusals.

Belongs here: what an image's sightings add up to. Merging with what earlier builds left is in ``prompt_tables``.
Each slab's changes are set aside in files, so memory does not grow with the number of pages.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from civitai_pipeline import jsontext
from civitai_pipeline.derive.gathering import SlabFiles
from civitai_pipeline.derive.holdings import Effect, Holdings, Tally
from civitai_pipeline.derive.slabs import CONTENT_SCHEMA
from civitai_pipeline.lake import schemas, tables
from civitai_pipeline.prompts.items import Outcome
from civitai_pipeline.prompts.text import storable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from pathlib import Path

    from civitai_pipeline.derive.slabs import PageReading, Slab
    from civitai_pipeline.lake.pages import LandedPage

_SEEN_SCHEMA = pa.schema(
    [
        pa.field("image_id", schemas.BIGINT),
        # Null where an earlier slab or build has seen the image first.
        pa.field("first_seen_at", schemas.TIMESTAMPTZ),
        pa.field("first_page", schemas.VARCHAR),
        pa.field("last_seen_at", schemas.TIMESTAMPTZ),
        pa.field("last_page", schemas.VARCHAR),
        pa.field("prompt_withdrawn_at", schemas.TIMESTAMPTZ),
        pa.field("slab", schemas.BIGINT),
        # Null where the slab brought no content for the image.
        pa.field("row", schemas.BIGINT),
    ]
)
_PLACE = list(_SEEN_SCHEMA)[-2:]
# What the columns that depend on a version's other rows are made from, but for the signatures: those are most of the
# bytes, and nothing is decided by them until it is known whose count.
KEYS = ("image_id", "created_at", "reaction_count", "prompt_hash")
_BROUGHT_SCHEMA = pa.schema([*(CONTENT_SCHEMA.field(name) for name in KEYS), *_PLACE])
# What tells one refused item from another, and where it belongs.
_REFUSED_KEYS = ("image_id", "page", "position")
_DIGEST_BYTES = 16
_REFUSED_SCHEMA = pa.schema(
    [
        *(pa.field(name, schemas.REJECTED_IMAGES.column(name).type) for name in _REFUSED_KEYS),
        pa.field("digest", pa.binary(_DIGEST_BYTES)),
        *_PLACE,
    ]
)


def refusal_keys(rejected: pa.Table) -> pa.Table:
    """Image id, page and position of rejected images, and a digest of the JSON of those that have no id.

    Not the JSON itself: a page may hold megabytes of it, and all of a version's are compared at once.
    """
    keys = rejected.select(_REFUSED_KEYS)
    if not keys.column("image_id").null_count:
        return keys.append_column("digest", pa.nulls(len(keys), pa.binary(_DIGEST_BYTES)))
    texts = pc.if_else(rejected.column("image_id").is_null(), rejected.column("item"), None)
    digests = [None if text is None else blake2b(text, digest_size=_DIGEST_BYTES).digest() for text in _bytes_of(texts)]
    return keys.append_column("digest", pa.array(digests, pa.binary(_DIGEST_BYTES)))


def _bytes_of(texts: pa.ChunkedArray) -> Iterator[bytes | None]:
    for text in texts:
        value = text.as_py()
        yield None if value is None else value.encode()


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


class Changes(NamedTuple):
    """What folded slabs change, in narrow tables.

    Attributes:
        sightings: For each slab and image seen in it: what its sightings there add up to, and which row it brought.
        brought: The columns ``KEYS`` of ``content``, with ``slab`` and ``row``.
        refusals: The keys of ``refused``, as :func:`refusal_keys` gives them, with ``slab`` and ``row``.
    """

    sightings: pa.Table
    brought: pa.Table
    refusals: pa.Table


class Fold:
    """Slabs in; out come what each changes, in narrow tables, and the rows themselves, set aside in files.

    Attributes:
        holdings: What is held after the slabs folded so far.
        content: The rows that become images' rows; columns as ``slabs.CONTENT_SCHEMA``.
        refused: The rows of rejected_images.
    """

    def __init__(self, version: int, holdings: Holdings, folder: Path) -> None:
        self.holdings = holdings
        self.content = SlabFiles(folder / "content", CONTENT_SCHEMA)
        self.refused = SlabFiles(folder / "refused", schemas.REJECTED_IMAGES.arrow_schema)
        self._version = version
        self._slab = 0
        self._pages: list[dict[str, Any]] = []
        self._seen: list[pa.Table] = [_SEEN_SCHEMA.empty_table()]
        self._brought: list[pa.Table] = [_BROUGHT_SCHEMA.empty_table()]
        self._refusals: list[pa.Table] = [_REFUSED_SCHEMA.empty_table()]

    def page_rows(self) -> pa.Table:
        """The rows of landed_pages for the pages folded."""
        return tables.from_rows(schemas.LANDED_PAGES, self._pages)

    def handed_over(self) -> Changes:
        """What the slabs change. Nothing of it, nor of the holdings, is kept here: both are large."""
        changes = Changes(*(pa.concat_tables(parts) for parts in (self._seen, self._brought, self._refusals)))
        self.holdings = Holdings()
        self._seen, self._brought, self._refusals = [], [], []
        return changes

    def add(self, slab: Slab) -> None:
        """Folds the pages of a slab."""
        self._slab += 1
        seen: dict[int, _Seen] = {}
        refused: dict[int | str, dict[str, Any]] = {}
        for reading in slab.pages:
            self._add_page(reading, seen, refused)
        self.content.put(self._slab, slab.content)
        self._brought.append(self._numbered(slab.content.select(KEYS), _BROUGHT_SCHEMA))
        self._seen.append(self._sightings(seen))
        rows = pa.Table.from_pylist(list(refused.values()), schema=schemas.REJECTED_IMAGES.arrow_schema)
        self.refused.put(self._slab, rows)
        self._refusals.append(self._numbered(refusal_keys(rows), _REFUSED_SCHEMA))

    def _numbered(self, rows: pa.Table, schema: pa.Schema) -> pa.Table:
        """``rows`` with where they are set aside."""
        return pa.table([*rows.columns, np.full(len(rows), self._slab), np.arange(len(rows))], schema=schema)

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

    def _sightings(self, seen: dict[int, _Seen]) -> pa.Table:
        columns: list[list[Any]] = [
            list(seen),
            [one.first_seen_at for one in seen.values()],
            [one.first_page for one in seen.values()],
            [one.last_seen_at for one in seen.values()],
            [one.last_page for one in seen.values()],
            [one.withdrawn_at for one in seen.values()],
            [self._slab] * len(seen),
            [one.row for one in seen.values()],
        ]
        arrays = [pa.array(values, field.type) for values, field in zip(columns, _SEEN_SCHEMA, strict=True)]
        return pa.table(arrays, schema=_SEEN_SCHEMA)


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

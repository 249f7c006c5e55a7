"""The tables that are made straight from pages: prompts, rejected_images and landed_pages.

Pages are folded in the order in which they landed. Rows are held as Python objects only for a bounded
number of pages, then as Arrow; DuckDB merges them with what earlier builds left. Adding the pages after an
earlier build gives the same rows as starting from nothing.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa

from civitai_pipeline import jsontext
from civitai_pipeline.derive.holdings import Effect, Holdings, Tally, receive_items
from civitai_pipeline.lake import schemas, tables
from civitai_pipeline.lake.ledger import Ledger
from civitai_pipeline.lake.pages import PageId
from civitai_pipeline.lake.tables import DamagedTableError, Provenance
from civitai_pipeline.prompts.items import Outcome
from civitai_pipeline.prompts.resources import extract_resources, resources_json
from civitai_pipeline.prompts.scores import engagement, quality_score
from civitai_pipeline.prompts.text import prompt_counts, prompt_hash, storable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from civitai_pipeline.lake.pages import LandedPage
    from civitai_pipeline.lake.paths import Lake
    from civitai_pipeline.prompts.items import Reading

log = logging.getLogger(__name__)

# Raised whenever the same pages would give other rows; tables of another version are then made anew.
CODE_VERSION = "1"

STEP_TABLES = (schemas.PROMPTS, schemas.REJECTED_IMAGES, schemas.LANDED_PAGES)
# Some 20,000 items as Python objects take about 100 MB; as Arrow, a fifth of that.
PAGES_PER_CHUNK = 200

# Columns that depend on the version's other rows, and are therefore made last.
_RELATIVE_COLUMNS = ("duplicate_of", "near_duplicate_group", "engagement")
_OWN_COLUMNS = tuple(c for c in schemas.PROMPTS.columns if c.name not in _RELATIVE_COLUMNS)
_CHUNK_FIELD = pa.field("chunk", pa.int32())
# A row whose image an earlier chunk has seen first does not know when that was.
_ROW_SCHEMA = pa.schema([*(pa.field(c.name, c.type) for c in _OWN_COLUMNS), _CHUNK_FIELD])
_TOUCH_SCHEMA = pa.schema(
    [
        pa.field("image_id", schemas.BIGINT),
        pa.field("last_seen_at", schemas.TIMESTAMPTZ),
        pa.field("last_page", schemas.VARCHAR),
        pa.field("prompt_withdrawn_at", schemas.TIMESTAMPTZ),
        _CHUNK_FIELD,
    ]
)
_REJECTED_SCHEMA = pa.schema([*schemas.REJECTED_IMAGES.arrow_schema, _CHUNK_FIELD])


@dataclass(frozen=True)
class PromptTables:
    """What one build made, each with its provenance attached.

    Attributes:
        prompts: One row per image with a prompt.
        rejected_images: One row per image not accepted.
        landed_pages: One row per landed page.
        pages_added: Pages that this build folded in.
        started_anew: Whether it started from nothing.
    """

    prompts: pa.Table
    rejected_images: pa.Table
    landed_pages: pa.Table
    pages_added: int
    started_anew: bool


@dataclass(frozen=True)
class Held:
    """What the ledger holds of a version.

    Attributes:
        holdings: The images accepted.
        landed_pages: The ledger as a table.
    """

    holdings: Holdings
    landed_pages: pa.Table


def load_held(lake: Lake, version: int) -> Held:
    """What the ledger holds of a version: from its tables as far as they reach, from its pages beyond.

    Raises:
        LakeError: The lake cannot be read.
    """
    start = _start(lake, version, rebuild=False)
    fold = _Fold(version, start.holdings())
    ledger = Ledger(lake, version)
    for page in ledger.pages(start.covered):
        fold.count(page, ledger.items(page))
    return Held(fold.holdings, pa.concat_tables([start.landed_pages, fold.page_rows()]))


def build_prompt_tables(
    lake: Lake, version: int, *, rebuild: bool = False, on_chunk: Callable[[int], None] | None = None
) -> PromptTables:
    """Brings a version's tables up to its ledger.

    Args:
        lake: Where the pages and the earlier tables are; nothing is written.
        version: The model version.
        rebuild: Start from nothing even where the earlier tables could be added to.
        on_chunk: Called with the number of pages folded so far, now and then.

    Raises:
        LakeError: The lake cannot be read, or a page is damaged.
    """
    start = _start(lake, version, rebuild=rebuild)
    fold = _Fold(version, start.holdings())
    ledger = Ledger(lake, version)
    # What was folded, not what the ledger holds: pages may land meanwhile.
    covered = dict(start.covered)
    added = 0
    for page in ledger.pages(start.covered):
        fold.add(page, ledger.items(page))
        covered[page.id.walk] = page.id.page
        added += 1
        if added % PAGES_PER_CHUNK == 0:
            fold.close_chunk()
            if on_chunk is not None:
                on_chunk(added)
    fold.close_chunk()
    provenance = Provenance(CODE_VERSION, covered)
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        prompts = _merge_prompts(connection, start.prompts, fold)
        rejected = _merge_rejected(connection, start.rejected_images, fold, prompts)
    pages = pa.concat_tables([start.landed_pages, fold.page_rows()])
    return PromptTables(
        prompts=provenance.attached_to(tables.conform(schemas.PROMPTS, prompts)),
        rejected_images=provenance.attached_to(tables.conform(schemas.REJECTED_IMAGES, rejected)),
        landed_pages=provenance.attached_to(pages),
        pages_added=added,
        started_anew=not start.covered,
    )


@dataclass(frozen=True)
class _Start:
    """What an earlier build left to be added to."""

    covered: Mapping[int, int]
    prompts: pa.Table
    rejected_images: pa.Table
    landed_pages: pa.Table

    def holdings(self) -> Holdings:
        ids = self.prompts.column("image_id").to_pylist()
        fingerprints = self.prompts.column("fingerprint").to_pylist()
        withdrawn = self.prompts.filter(self.prompts.column("prompt_withdrawn_at").is_valid())
        return Holdings(dict(zip(ids, fingerprints, strict=True)), set(withdrawn.column("image_id").to_pylist()))


def _start(lake: Lake, version: int, *, rebuild: bool) -> _Start:
    nothing = _Start({}, *(table.arrow_schema.empty_table() for table in STEP_TABLES))
    if rebuild:
        return nothing
    try:
        # Each says in its own file where it came from: another build may swap one in at any moment.
        earlier = [tables.read_table(lake, table, version) for table in STEP_TABLES]
        provenances = [Provenance.of(table.schema) for table in earlier]
        first = provenances[0]
        # The three files are swapped in one after the other; a crash between leaves them reaching unequally far.
        if first is None or any(p != first for p in provenances) or first.code_version != CODE_VERSION:
            return nothing
        conformed = [tables.conform(table, data) for table, data in zip(STEP_TABLES, earlier, strict=True)]
    except FileNotFoundError:
        return nothing
    except (DamagedTableError, ValueError) as error:
        log.warning("%s; making the tables of model version %d anew from its pages", error, version)
        return nothing
    start = _Start(first.covered, *(table.replace_schema_metadata(None) for table in conformed))
    return start if _is_covered(Ledger(lake, version), start) else nothing


def _is_covered(ledger: Ledger, start: _Start) -> bool:
    """Whether the ledger still holds the pages that ``start`` was made from.

    Who moves damaged pages away and collects again puts others in their place, which their time tells.
    """
    reach = ledger.covered()
    if any(reach.get(walk, 0) < pages for walk, pages in start.covered.items()):
        return False
    pages = start.landed_pages.select(["walk", "page", "fetched_at"]).to_pylist()
    fetched = {(row["walk"], row["page"]): row["fetched_at"] for row in pages}
    return all(
        ledger.read(PageId(walk, page)).fetched_at == fetched.get((walk, page)) for walk, page in start.covered.items()
    )


class _Fold:
    """Pages in, rows out: the rows of the current chunk as Python objects, those of earlier ones as Arrow."""

    def __init__(self, version: int, holdings: Holdings) -> None:
        self._version = version
        self.holdings = holdings
        self._chunk = 1
        self._rows: dict[int, dict[str, Any]] = {}
        self._touched: dict[int, dict[str, Any]] = {}
        self._rejected: dict[int | str, dict[str, Any]] = {}
        self._pages: list[dict[str, Any]] = []
        self.rows: list[pa.Table] = []
        self.touched: list[pa.Table] = []
        self.rejected: list[pa.Table] = []

    def page_rows(self) -> pa.Table:
        """The rows of landed_pages for the pages folded."""
        return tables.from_rows(schemas.LANDED_PAGES, self._pages)

    def count(self, page: LandedPage, items: list[Any]) -> None:
        """Takes in a page for its counts alone."""
        tally = Tally()
        for _ in receive_items(self.holdings, items, self._version, page.options, tally):
            pass
        self._pages.append(_page_row(page, tally))

    def add(self, page: LandedPage, items: list[Any]) -> None:
        """Takes in a page."""
        tally, label = Tally(), str(page.id)
        for position, reading, receipt in receive_items(self.holdings, items, self._version, page.options, tally):
            if receipt.effect is Effect.CONTENT:
                self._put(reading, page.fetched_at, label, is_new=receipt.outcome is Outcome.NEW)
            elif receipt.effect is not Effect.NOTHING:
                withdrawn_at = page.fetched_at if receipt.effect is Effect.WITHDRAWAL else None
                self._touch(reading, page.fetched_at, label, withdrawn_at)
            elif receipt.reason is not None and reading.image_id not in self.holdings:
                item = jsontext.dumps(items[position]).decode()
                # Items without an id are told apart by their place: equal ones of a page are several all the same.
                key = f"{position} {item}" if reading.image_id is None else reading.image_id
                self._rejected[key] = {
                    "image_id": reading.image_id,
                    "model_version_id": self._version,
                    "outcome": receipt.outcome.value,
                    "reason": receipt.reason,
                    "page": label,
                    "position": position,
                    "item": item,
                    "chunk": self._chunk,
                }
        self._pages.append(_page_row(page, tally))

    def _put(self, reading: Reading, seen_at: datetime, label: str, *, is_new: bool) -> None:
        image_id, prompt = reading.image_id, reading.prompt
        assert image_id is not None  # noqa: S101 - what CONTENT means
        assert prompt is not None  # noqa: S101 - what CONTENT means
        earlier = self._rows.get(image_id)
        self._touched.pop(image_id, None)
        counts = prompt_counts(prompt)
        reactions = reading.facts["reaction_count"]
        self._rows[image_id] = {
            **reading.facts,
            "image_id": image_id,
            "model_version_id": self._version,
            "prompt": prompt,
            "prompt_hash": prompt_hash(prompt),
            "prompt_length": counts.length,
            "tag_count": counts.tags,
            "word_count": counts.words,
            "quality_score": quality_score(prompt, reactions if isinstance(reactions, int) else 0),
            "first_seen_at": seen_at if is_new else earlier and earlier["first_seen_at"],
            "first_page": label if is_new else earlier and earlier["first_page"],
            "last_seen_at": seen_at,
            "last_page": label,
            "prompt_withdrawn_at": None,
            "fingerprint": reading.fingerprint,
            "resources": resources_json(extract_resources(reading.meta, prompt)),
            "chunk": self._chunk,
        }

    def _touch(self, reading: Reading, seen_at: datetime, label: str, withdrawn_at: datetime | None) -> None:
        image_id = reading.image_id
        assert image_id is not None  # noqa: S101 - only held images are touched
        row = self._rows.get(image_id) or self._touched.setdefault(
            image_id, {"image_id": image_id, "prompt_withdrawn_at": None, "chunk": self._chunk}
        )
        row["last_seen_at"], row["last_page"] = seen_at, label
        row["prompt_withdrawn_at"] = withdrawn_at or row["prompt_withdrawn_at"]

    def close_chunk(self) -> None:
        """Turns the current chunk's rows into Arrow."""
        self.rows.append(pa.Table.from_pylist(list(self._rows.values()), schema=_ROW_SCHEMA))
        self.touched.append(pa.Table.from_pylist(list(self._touched.values()), schema=_TOUCH_SCHEMA))
        self.rejected.append(pa.Table.from_pylist(list(self._rejected.values()), schema=_REJECTED_SCHEMA))
        self._rows, self._touched, self._rejected = {}, {}, {}
        self._chunk += 1


def _cursor_text(cursor: str | int | None) -> str | None:
    return None if cursor is None else storable(str(cursor))


def _page_row(page: LandedPage, tally: Tally) -> dict[str, Any]:
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


def _merge_prompts(connection: duckdb.DuckDBPyConnection, earlier: pa.Table, fold: _Fold) -> pa.Table:
    own = [c.name for c in _OWN_COLUMNS]
    base = earlier.select(own).append_column(_CHUNK_FIELD, pa.nulls(len(earlier), pa.int32()).fill_null(0))
    connection.register("folded", pa.concat_tables([base.cast(_ROW_SCHEMA), *fold.rows]))
    connection.register("touched", pa.concat_tables(fold.touched))
    merged = connection.sql(_MERGE_PROMPTS).to_arrow_table()
    scores = engagement(merged.column("reaction_count").to_pylist(), merged.column("created_at").to_pylist())
    return merged.append_column("engagement", pa.array(scores, type=pa.float64()))


_MERGE_PROMPTS = """
WITH latest AS (
    SELECT * FROM folded QUALIFY row_number() OVER (PARTITION BY image_id ORDER BY chunk DESC) = 1
), first AS (
    SELECT image_id, arg_min(first_seen_at, chunk) AS seen_at, arg_min(first_page, chunk) AS page
    FROM folded WHERE first_page IS NOT NULL GROUP BY image_id
), later AS (
    SELECT image_id, arg_max(touched.last_seen_at, touched.chunk) AS seen_at,
           arg_max(touched.last_page, touched.chunk) AS page, max(touched.prompt_withdrawn_at) AS withdrawn_at
    FROM touched JOIN latest USING (image_id) WHERE touched.chunk > latest.chunk GROUP BY image_id
), merged AS (
    SELECT latest.* REPLACE (
        first.seen_at AS first_seen_at,
        first.page AS first_page,
        coalesce(later.seen_at, latest.last_seen_at) AS last_seen_at,
        coalesce(later.page, latest.last_page) AS last_page,
        coalesce(later.withdrawn_at, latest.prompt_withdrawn_at) AS prompt_withdrawn_at
    )
    FROM latest JOIN first USING (image_id) LEFT JOIN later USING (image_id)
), grouped AS (
    SELECT *, min(image_id) OVER same AS first_of_same, count(*) OVER same AS same_count
    FROM merged WINDOW same AS (PARTITION BY prompt_hash)
)
SELECT * EXCLUDE (chunk, first_of_same, same_count),
       CASE WHEN first_of_same <> image_id THEN first_of_same END AS duplicate_of,
       CASE WHEN same_count > 1 THEN first_of_same END AS near_duplicate_group
FROM grouped ORDER BY image_id
"""


def _merge_rejected(
    connection: duckdb.DuckDBPyConnection, earlier: pa.Table, fold: _Fold, prompts: pa.Table
) -> pa.Table:
    base = earlier.append_column(_CHUNK_FIELD, pa.nulls(len(earlier), pa.int32()).fill_null(0))
    connection.register("refused", pa.concat_tables([base.cast(_REJECTED_SCHEMA), *fold.rejected]))
    connection.register("accepted", prompts.select(["image_id"]))
    return connection.sql(_MERGE_REJECTED).to_arrow_table()


# Items without an id are told apart by their text and their place on the page.
_MERGE_REJECTED = """
SELECT * EXCLUDE (chunk) FROM refused
WHERE image_id IS NULL OR image_id NOT IN (SELECT image_id FROM accepted)
QUALIFY row_number() OVER (
    PARTITION BY image_id, CASE WHEN image_id IS NULL THEN item END, CASE WHEN image_id IS NULL THEN position END
    ORDER BY chunk DESC
) = 1
ORDER BY split_part(page, '/', 1)::INTEGER, split_part(page, '/', 2)::INTEGER, position
"""

"""The tables that are made straight from pages: prompts, rejected_images and landed_pages.

Pages are read in slabs and folded in the order in which they landed; DuckDB merges what they change with what
earlier builds left. Rows pass through in batches, so memory is bounded however large a version grows, but for
some 200 bytes of each image. Adding the pages after an earlier build gives the same rows as starting from nothing.
"""

from __future__ import annotations

import logging
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import pyarrow as pa

from civitai_pipeline.derive.fold import Fold, page_row
from civitai_pipeline.derive.holdings import Holdings, Tally, receive_items
from civitai_pipeline.derive.slabs import read_slabs
from civitai_pipeline.lake import schemas, tables
from civitai_pipeline.lake.ledger import Ledger
from civitai_pipeline.lake.pages import PageId
from civitai_pipeline.lake.tables import DamagedTableError, PinnedTable, Provenance, TableFile
from civitai_pipeline.prompts.scores import engagement

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from civitai_pipeline.lake.paths import Lake

log = logging.getLogger(__name__)

# Raised whenever the same pages would give other rows; tables of another version are then made anew.
CODE_VERSION = "1"

STEP_TABLES = (schemas.PROMPTS, schemas.REJECTED_IMAGES, schemas.LANDED_PAGES)
# What DuckDB may hold before it goes on in files.
_MEMORY_LIMIT = "384MB"

# Columns that depend on the version's other rows, and are therefore made last.
_RELATIVE_COLUMNS = ("duplicate_of", "near_duplicate_group", "engagement")
# What they are made from, and what else must be known of each image already held.
_KEY_COLUMNS = (
    "image_id",
    "fingerprint",
    "prompt_withdrawn_at",
    "first_seen_at",
    "first_page",
    "created_at",
    "reaction_count",
    "prompt_hash",
)


@dataclass(frozen=True)
class PromptTables:
    """What one build made, each table with its provenance.

    Attributes:
        files: Each of ``STEP_TABLES`` by its name, in a file not yet in its place.
        pages_added: Pages that this build folded in.
        started_anew: Whether it started from nothing.
    """

    files: Mapping[str, TableFile]
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
    holdings = start.holdings()
    ledger = Ledger(lake, version)
    rows = []
    for page in ledger.pages(start.covered):
        tally = Tally()
        receive_items(holdings, ledger.items(page), version, page.options, tally)
        rows.append(page_row(page, tally))
    return Held(holdings, pa.concat_tables([start.landed_pages, tables.from_rows(schemas.LANDED_PAGES, rows)]))


def build_prompt_tables(
    lake: Lake, version: int, *, rebuild: bool = False, on_slab: Callable[[int, int], None] | None = None
) -> PromptTables:
    """Brings a version's tables up to its ledger.

    Args:
        lake: Where the pages and the earlier tables are. The new tables lie under temporary names until they are
            put in their places.
        version: The model version.
        rebuild: Start from nothing even where the earlier tables could be added to.
        on_slab: Called with the number of pages folded so far and in all, now and then.

    Raises:
        LakeError: The lake cannot be read, or a page is damaged.
    """
    start = _start(lake, version, rebuild=rebuild)
    try:
        return _build(lake, version, start, on_slab)
    except DamagedTableError as error:
        if not start.covered:
            raise
        log.warning("%s; making the tables of model version %d anew from its pages", error, version)
        return _build(lake, version, _NOTHING, on_slab)


def _build(lake: Lake, version: int, start: _Start, on_slab: Callable[[int, int], None] | None) -> PromptTables:
    # What was in the ledger at this moment, not what it holds at the end: pages may land meanwhile.
    order = Ledger(lake, version).order(start.covered)
    covered = dict(start.covered)
    for place in order:
        covered[place.walk] = max(covered.get(place.walk, 0), place.page)
    provenance = Provenance(CODE_VERSION, covered)
    with tempfile.TemporaryDirectory(prefix="civitai_pipeline-") as folder:
        fold = Fold(version, start.holdings(), Path(folder))
        folded = 0
        for slab in read_slabs(lake, version, order):
            fold.add(slab)
            folded += len(slab.pages)
            if on_slab is not None:
                on_slab(folded, len(order))
        with duckdb.connect() as connection:
            connection.execute(f"SET TimeZone = 'UTC'; SET memory_limit = '{_MEMORY_LIMIT}'")
            connection.execute("SET temp_directory = ?", [str(Path(folder) / "spill")])
            rows = {
                schemas.PROMPTS: _merged_prompts(connection, start, fold),
                schemas.REJECTED_IMAGES: _merged_rejected(connection, start, fold),
                schemas.LANDED_PAGES: iter([start.landed_pages, fold.page_rows()]),
            }
            files = {
                table.name: tables.stage_table(lake, table, version, batches, provenance)
                for table, batches in rows.items()
            }
    return PromptTables(files, pages_added=len(order), started_anew=not start.covered)


@dataclass(frozen=True)
class _Start:
    """What an earlier build left to be added to.

    Attributes:
        covered: The number of pages of each walk it covers.
        keys: The columns ``_KEY_COLUMNS`` of its prompts.
        landed_pages: Its landed_pages.
        prompts: Its prompts; None without any.
        rejected_images: Its rejected_images; None without any.
    """

    covered: Mapping[int, int]
    keys: pa.Table
    landed_pages: pa.Table
    prompts: PinnedTable | None = None
    rejected_images: PinnedTable | None = None

    def holdings(self) -> Holdings:
        ids, fingerprints = (self.keys.column(name).to_pylist() for name in ("image_id", "fingerprint"))
        withdrawn = self.keys.filter(self.keys.column("prompt_withdrawn_at").is_valid())
        return Holdings(dict(zip(ids, fingerprints, strict=True)), set(withdrawn.column("image_id").to_pylist()))


_NOTHING = _Start(
    {},
    schemas.PROMPTS.arrow_schema.empty_table().select(_KEY_COLUMNS),
    schemas.LANDED_PAGES.arrow_schema.empty_table(),
)


def _start(lake: Lake, version: int, *, rebuild: bool) -> _Start:
    if rebuild:
        return _NOTHING
    try:
        # Each says in its own file where it came from: another build may swap one in at any moment.
        prompts, rejected, pages = (PinnedTable(lake, table, version) for table in STEP_TABLES)
        first = prompts.provenance
        # The three files are swapped in one after the other; a crash between leaves them reaching unequally far.
        if first is None or first.code_version != CODE_VERSION:
            return _NOTHING
        if any(one.provenance != first or not one.fits for one in (prompts, rejected, pages)):
            return _NOTHING
        start = _Start(
            first.covered,
            prompts.read(_KEY_COLUMNS).replace_schema_metadata(None).cast(_NOTHING.keys.schema),
            pages.read([c.name for c in schemas.LANDED_PAGES.columns]).replace_schema_metadata(None),
            prompts,
            rejected,
        )
    except FileNotFoundError:
        return _NOTHING
    except (DamagedTableError, ValueError) as error:
        log.warning("%s; making the tables of model version %d anew from its pages", error, version)
        return _NOTHING
    return start if _is_covered(Ledger(lake, version), start) else _NOTHING


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


def _merged_prompts(connection: duckdb.DuckDBPyConnection, start: _Start, fold: Fold) -> Iterator[pa.RecordBatch]:
    connection.register("keys", start.keys)
    for name in ("content", "touched"):
        connection.read_parquet(str(fold.folder / name / "*.parquet")).create_view(name)
    connection.execute(_CHANGED)
    keys = connection.sql(_KEYS).to_arrow_table()
    scores = engagement(keys.column("reaction_count").to_pylist(), keys.column("created_at").to_pylist())
    connection.register("relative", keys.append_column("engagement", pa.array(scores, type=schemas.DOUBLE)))
    with _earlier(connection, start.prompts, schemas.PROMPTS):
        yield from connection.sql(_PROMPTS).to_arrow_reader(tables.STREAMED_ROWS)


_CHANGED = """
CREATE TEMP TABLE latest AS
    -- An image is new once, in one slab or in an earlier build.
    SELECT image_id, max(slab) AS slab, max(first_seen_at) AS first_seen_at, max(first_page) AS first_page
    FROM content GROUP BY image_id;
CREATE TEMP TABLE later AS
    SELECT image_id, max(touched.last_seen_at) AS last_seen_at, arg_max(touched.last_page, touched.slab) AS last_page,
           max(touched.prompt_withdrawn_at) AS withdrawn_at
    FROM touched LEFT JOIN latest USING (image_id) WHERE touched.slab > coalesce(latest.slab, 0) GROUP BY image_id;
"""

_KEYS = """
WITH merged AS (
    SELECT image_id, created_at, reaction_count, prompt_hash FROM keys ANTI JOIN latest USING (image_id)
    UNION ALL
    SELECT image_id, created_at, reaction_count, prompt_hash FROM content SEMI JOIN latest USING (image_id, slab)
), grouped AS (
    SELECT *, min(image_id) OVER same AS first_of_same, count(*) OVER same AS same_count
    FROM merged WINDOW same AS (PARTITION BY prompt_hash)
)
SELECT image_id, created_at, reaction_count,
       CASE WHEN first_of_same <> image_id THEN first_of_same END AS duplicate_of,
       CASE WHEN same_count > 1 THEN first_of_same END AS near_duplicate_group
FROM grouped ORDER BY image_id
"""

_RELATIVE = ", ".join(f"relative.{name}" for name in _RELATIVE_COLUMNS)
_PROMPTS = f"""
WITH merged AS (
    SELECT * EXCLUDE ({", ".join(_RELATIVE_COLUMNS)}) FROM earlier ANTI JOIN latest USING (image_id)
    UNION ALL BY NAME
    SELECT content.* EXCLUDE (slab) REPLACE (
        coalesce(latest.first_seen_at, keys.first_seen_at) AS first_seen_at,
        coalesce(latest.first_page, keys.first_page) AS first_page
    )
    FROM content JOIN latest USING (image_id, slab) LEFT JOIN keys USING (image_id)
)
SELECT merged.* REPLACE (
    coalesce(later.last_seen_at, merged.last_seen_at) AS last_seen_at,
    coalesce(later.last_page, merged.last_page) AS last_page,
    coalesce(later.withdrawn_at, merged.prompt_withdrawn_at) AS prompt_withdrawn_at
), {_RELATIVE}
FROM merged LEFT JOIN later USING (image_id) JOIN relative USING (image_id) ORDER BY image_id
"""  # noqa: S608 - our own column names


def _merged_rejected(connection: duckdb.DuckDBPyConnection, start: _Start, fold: Fold) -> Iterator[pa.RecordBatch]:
    connection.read_parquet(str(fold.folder / "refused" / "*.parquet")).create_view("refused")
    with _earlier(connection, start.rejected_images, schemas.REJECTED_IMAGES):
        yield from connection.sql(_REJECTED).to_arrow_reader(tables.STREAMED_ROWS)


# Items without an id are told apart by their text and their place on the page.
_REJECTED = """
SELECT * EXCLUDE (slab) FROM (SELECT *, 0 AS slab FROM earlier UNION ALL BY NAME SELECT * FROM refused)
WHERE image_id IS NULL OR image_id NOT IN (SELECT image_id FROM relative)
QUALIFY row_number() OVER (
    PARTITION BY image_id, CASE WHEN image_id IS NULL THEN item END, CASE WHEN image_id IS NULL THEN position END
    ORDER BY slab DESC
) = 1
ORDER BY split_part(page, '/', 1)::INTEGER, split_part(page, '/', 2)::INTEGER, position
"""


@contextmanager
def _earlier(connection: duckdb.DuckDBPyConnection, pinned: PinnedTable | None, table: schemas.Table) -> Iterator[None]:
    """Shows an earlier build's table to DuckDB as ``earlier``, once.

    Raises:
        DamagedTableError: Its file cannot be read.
    """
    if pinned is None:
        connection.register("earlier", table.arrow_schema.empty_table())
        yield
        return
    damage: list[DamagedTableError] = []
    connection.register("earlier", pinned.batches(damage))
    try:
        yield
    except (duckdb.Error, pa.ArrowException) as error:
        # DuckDB tells of a reader's failure in words of its own.
        raise (damage[0] if damage else error) from error
    finally:
        connection.unregister("earlier")

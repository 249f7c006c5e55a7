"""The tables that are made straight from pages: prompts, rejected_images and landed_pages.

Pages are read in slabs and folded in the order in which they landed; DuckDB merges what they change with what
earlier builds left, over narrow columns only. The wide ones pass through in batches, so that memory grows by some
hundred bytes an image and not by its prompt and metadata. Adding the pages after an earlier build gives the same rows
as starting from nothing.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from civitai_pipeline.derive.bounded import bounded_database
from civitai_pipeline.derive.fold import KEYS, Fold, page_row, refusal_keys
from civitai_pipeline.derive.gathering import Plan, gathered
from civitai_pipeline.derive.holdings import Holdings, Tally, receive_items
from civitai_pipeline.derive.slabs import read_slabs
from civitai_pipeline.lake import schemas, tables
from civitai_pipeline.lake.files import temporary_folder, working_folder
from civitai_pipeline.lake.ledger import Ledger
from civitai_pipeline.lake.pages import PageId
from civitai_pipeline.lake.rows import PinnedTable
from civitai_pipeline.lake.tables import DamagedTableError, Provenance, TableFile
from civitai_pipeline.prompts.near_duplicates import NO_GROUP, SIGNATURE_VERSION, SLOTS, near_duplicate_groups
from civitai_pipeline.prompts.scores import engagement_of_columns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from datetime import datetime

    from numpy.typing import NDArray

    from civitai_pipeline.lake.paths import Lake

log = logging.getLogger(__name__)

# Raised whenever the same pages would give other rows; tables of another version are then made anew.
CODE_VERSION = f"3/{SIGNATURE_VERSION}"

STEP_TABLES = (schemas.PROMPTS, schemas.REJECTED_IMAGES, schemas.LANDED_PAGES)

# What must be known of each image held: for its outcome, when it was seen, and what relative columns are made from.
_HELD_COLUMNS = (
    *KEYS,
    "fingerprint",
    "first_seen_at",
    "first_page",
    "last_seen_at",
    "last_page",
    "prompt_withdrawn_at",
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
    for page in ledger.pages(start.covered, start.gaps):
        tally = Tally()
        receive_items(holdings, ledger.items(page), version, page.options, tally)
        rows.append(page_row(page, tally))
    return Held(holdings, pa.concat_tables([start.landed_pages, tables.from_rows(schemas.LANDED_PAGES, rows)]))


def load_landed_pages(lake: Lake, version: int) -> pa.Table:
    """The ledger of a version as the table landed_pages; where the tables reach its end, nothing else is read.

    Raises:
        LakeError: The lake cannot be read.
    """
    start, ledger = _start(lake, version, rebuild=False, keys=False), Ledger(lake, version)
    if (start.covered, start.gaps) == (ledger.covered(), ledger.all_gaps()):
        return start.landed_pages
    return load_held(lake, version).landed_pages


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


def load_last_seen(lake: Lake, version: int) -> tuple[Held, dict[int, datetime]]:
    """What the ledger holds of a version, and when each image was last seen. Writes nothing.

    Raises:
        LakeError: The lake cannot be read, or a page is damaged.
    """
    start, ledger = _start(lake, version, rebuild=False), Ledger(lake, version)
    with working_folder() as folder:
        fold = Fold(version, start.holdings(), Path(folder))
        _fold_pages(fold, ledger, ledger.order(start.covered, start.gaps))
        held = Held(fold.holdings, pa.concat_tables([start.landed_pages, fold.page_rows()]))
        images, _ = _merged(start, fold)
    columns = (images.column(name).to_pylist() for name in ("image_id", "last_seen_at"))
    return held, dict(zip(*columns, strict=True))


def _build(lake: Lake, version: int, start: _Start, on_slab: Callable[[int, int], None] | None) -> PromptTables:
    # What was in the ledger at this moment, not what it holds at the end: pages may land meanwhile.
    ledger = Ledger(lake, version)
    order = ledger.order(start.covered, start.gaps)
    covered = dict(start.covered)
    for place in order:
        covered[place.walk] = max(covered.get(place.walk, 0), place.page)
    provenance = Provenance(CODE_VERSION, covered, _gaps(start, covered, order))
    with temporary_folder(lake.root, "slabs") as folder:
        fold = Fold(version, start.holdings(), folder)
        _fold_pages(fold, ledger, order, on_slab)
        landed_pages = [start.landed_pages, fold.page_rows()]
        images, refused = _merged(start, fold)
        rows = {
            schemas.PROMPTS: _prompts(images, start, fold),
            schemas.REJECTED_IMAGES: _rejected(refused, start, fold),
            schemas.LANDED_PAGES: iter(landed_pages),
        }
        files = {
            table.name: tables.stage_table(lake, table, version, batches, provenance) for table, batches in rows.items()
        }
    return PromptTables(files, pages_added=len(order), started_anew=not start.covered)


def _gaps(start: _Start, covered: Mapping[int, int], order: Sequence[PageId]) -> frozenset[PageId]:
    """The pages up to ``covered`` that neither ``start`` nor ``order`` has."""
    added = {
        PageId(walk, page) for walk, last in covered.items() for page in range(start.covered.get(walk, 0) + 1, last + 1)
    }
    return frozenset((added | start.gaps).difference(order))


def _fold_pages(
    fold: Fold, ledger: Ledger, order: Sequence[PageId], on_slab: Callable[[int, int], None] | None = None
) -> None:
    folded = 0
    for slab in read_slabs(ledger.lake, ledger.version, order):
        fold.add(slab)
        folded += len(slab.pages)
        if on_slab is not None:
            on_slab(folded, len(order))


@dataclass(frozen=True)
class _Start:
    """What an earlier build left to be added to.

    Attributes:
        covered: The number of the last page of each walk it covers.
        keys: The columns ``_HELD_COLUMNS`` of its prompts; no rows where nobody asked for them.
        landed_pages: Its landed_pages.
        prompts: Its prompts; None without any.
        rejected_images: Its rejected_images; None without any.
        gaps: The pages up to ``covered`` that it does not cover.
    """

    covered: Mapping[int, int]
    keys: pa.Table
    landed_pages: pa.Table
    prompts: PinnedTable | None = None
    rejected_images: PinnedTable | None = None
    gaps: frozenset[PageId] = frozenset()

    def holdings(self) -> Holdings:
        ids, fingerprints = (self.keys.column(name).to_pylist() for name in ("image_id", "fingerprint"))
        withdrawn = self.keys.filter(self.keys.column("prompt_withdrawn_at").is_valid())
        return Holdings(dict(zip(ids, fingerprints, strict=True)), set(withdrawn.column("image_id").to_pylist()))


_NOTHING = _Start(
    {},
    schemas.PROMPTS.arrow_schema.empty_table().select(_HELD_COLUMNS),
    schemas.LANDED_PAGES.arrow_schema.empty_table(),
)


def _start(lake: Lake, version: int, *, rebuild: bool, keys: bool = True) -> _Start:
    if rebuild:
        return _NOTHING
    try:
        # Each says in its own file where it came from: another build may swap one in at any moment.
        prompts, rejected, pages = (PinnedTable.of(lake, table, version) for table in STEP_TABLES)
        first = prompts.provenance
        # The three files are swapped in one after the other; a crash between leaves them reaching unequally far.
        if first is None or first.code_version != CODE_VERSION:
            return _NOTHING
        if any(one.provenance != first or not one.fits for one in (prompts, rejected, pages)):
            return _NOTHING
        start = _Start(
            first.covered,
            prompts.read(_HELD_COLUMNS).replace_schema_metadata(None).cast(_NOTHING.keys.schema)
            if keys
            else _NOTHING.keys,
            pages.read([c.name for c in schemas.LANDED_PAGES.columns]).replace_schema_metadata(None),
            prompts,
            rejected,
            first.gaps,
        )
    except FileNotFoundError:
        return _NOTHING
    except (DamagedTableError, ValueError) as error:
        log.warning("%s; making the tables of model version %d anew from its pages", error, version)
        return _NOTHING
    return start if _is_covered(Ledger(lake, version), start) else _NOTHING


def _is_covered(ledger: Ledger, start: _Start) -> bool:
    """Whether the ledger still holds the pages that ``start`` was made from.

    Where a page was set aside and fetched again, another stands in its place, which its time tells.
    """
    reach = ledger.covered()
    if any(reach.get(walk, 0) < pages for walk, pages in start.covered.items()):
        return False
    pages = start.landed_pages.select(["walk", "page", "fetched_at"]).to_pylist()
    fetched = {(row["walk"], row["page"]): row["fetched_at"] for row in pages}
    doubtful = {PageId(walk, page) for walk, last in start.covered.items() for page in (last, *ledger.set_aside(walk))}
    return all(
        not ledger.is_gap(place) and ledger.read(place).fetched_at == fetched.get((place.walk, place.page))
        for place in doubtful - start.gaps
        if place.page <= start.covered[place.walk]
    )


def _merged(start: _Start, fold: Fold) -> tuple[pa.Table, Plan]:
    """Every image with a prompt, and where the rows of rejected_images lie.

    Of an image: where its content lies, when it was seen, and what relative columns are made from.
    """
    changes = fold.handed_over()
    with bounded_database(len(start.keys) + len(changes.brought)) as connection:
        connection.register("keys", _numbered(start.keys))
        connection.register("sightings", changes.sightings)
        connection.register("brought", changes.brought)
        images = connection.sql(_IMAGES).to_arrow_table()
        connection.register("accepted", images.select(["image_id"]))
        connection.register("held", _numbered(_refusals_held(start)))
        connection.register("refused", changes.refusals)
        refused = Plan.of(connection.sql(_REJECTED).to_arrow_table())
    return images, refused


def _prompts(images: pa.Table, start: _Start, fold: Fold) -> Iterator[pa.Table]:
    plan = Plan.of(images)
    beside = images.drop_columns(["created_at", "reaction_count", "slab", "row"])
    beside = beside.append_column("engagement", _engagement(images))
    beside = beside.append_column("near_duplicate_group", _groups(images, plan, start, fold))
    earlier = () if start.prompts is None else start.prompts.batches()
    done, own = 0, [name for name in beside.column_names if name not in fold.content.schema.names]
    for batch in gathered(plan, earlier, fold.content, tables.STREAMED_ROWS):
        columns = beside.slice(done, len(batch)).select(own).columns
        done += len(batch)
        yield pa.table([*batch.columns, *columns], names=[*batch.column_names, *own])


# An image is new once, in one slab or in an earlier build; its content is that of the last slab that brought some.
_IMAGES = """
WITH latest AS (
    SELECT image_id, max(slab) AS slab, arg_max(row, slab) AS row FROM sightings WHERE row IS NOT NULL GROUP BY image_id
), seen AS (
    SELECT image_id, max(first_seen_at) AS first_seen_at, max(first_page) AS first_page,
           arg_max(last_seen_at, sightings.slab) AS last_seen_at, arg_max(last_page, sightings.slab) AS last_page,
           max(prompt_withdrawn_at) FILTER (sightings.slab >= coalesce(latest.slab, 0)) AS prompt_withdrawn_at
    FROM sightings LEFT JOIN latest USING (image_id) GROUP BY image_id
), current AS (
    SELECT image_id, brought.* EXCLUDE (image_id) FROM latest JOIN brought USING (image_id, slab, row)
    UNION ALL BY NAME
    SELECT image_id, created_at, reaction_count, prompt_hash, 0 AS slab, number AS row
    FROM keys ANTI JOIN latest USING (image_id)
)
SELECT image_id, current.slab, current.row, current.created_at, current.reaction_count,
       coalesce(keys.first_seen_at, seen.first_seen_at) AS first_seen_at,
       coalesce(keys.first_page, seen.first_page) AS first_page,
       coalesce(seen.last_seen_at, keys.last_seen_at) AS last_seen_at,
       coalesce(seen.last_page, keys.last_page) AS last_page,
       coalesce(seen.prompt_withdrawn_at, CASE WHEN current.slab = 0 THEN keys.prompt_withdrawn_at END)
           AS prompt_withdrawn_at,
       nullif(min(image_id) OVER same, image_id) AS duplicate_of
FROM current LEFT JOIN seen USING (image_id) LEFT JOIN keys USING (image_id)
WINDOW same AS (PARTITION BY current.prompt_hash)
ORDER BY image_id
"""


def _engagement(images: pa.Table) -> pa.Array:
    reactions = images.column("reaction_count").to_numpy()
    scores = engagement_of_columns(reactions, images.column("created_at").to_numpy())
    return pa.array(scores, from_pandas=True)


def _groups(images: pa.Table, plan: Plan, start: _Start, fold: Fold) -> pa.Array:
    groups = near_duplicate_groups(np.asarray(images.column("image_id")), _signatures(plan, start, fold))
    return pa.array(groups, mask=groups == NO_GROUP)


def _signatures(plan: Plan, start: _Start, fold: Fold) -> NDArray[np.uint8]:
    """The signature of each image's prompt, in the order of the plan; shape ``(images, SLOTS)``."""
    columns = ["prompt_signature"]
    earlier = () if start.prompts is None else start.prompts.batches(columns)
    signatures, done = np.empty((len(plan.slab), SLOTS), np.uint8), 0
    for batch in gathered(plan, earlier, fold.content.only(columns), tables.STREAMED_ROWS):
        for part in batch.column(0).chunks:
            rows = np.frombuffer(part.buffers()[1], np.uint8).reshape(-1, SLOTS)[part.offset :][: len(part)]
            signatures[done : done + len(part)] = rows
            done += len(part)
    return signatures


def _rejected(plan: Plan, start: _Start, fold: Fold) -> Iterator[pa.Table]:
    earlier = () if start.rejected_images is None else start.rejected_images.batches()
    yield from gathered(plan, earlier, fold.refused, tables.STREAMED_ROWS)


def _refusals_held(start: _Start) -> pa.Table:
    if start.rejected_images is None:
        return refusal_keys(schemas.REJECTED_IMAGES.arrow_schema.empty_table())
    columns = ["image_id", "page", "position"]
    keys = start.rejected_images.read(columns)
    if not keys.column("image_id").null_count:
        return refusal_keys(keys)
    # Without an id an item is told by its text, which is large, and hardly ever needed.
    parts = start.rejected_images.batches([*columns, "item"])
    return pa.concat_tables([refusal_keys(pa.Table.from_batches([part])) for part in parts])


_REJECTED = """
SELECT slab, row FROM (SELECT * EXCLUDE (number), 0 AS slab, number AS row FROM held UNION ALL BY NAME FROM refused)
WHERE image_id IS NULL OR image_id NOT IN (SELECT image_id FROM accepted)
QUALIFY row_number() OVER (
    PARTITION BY image_id, digest, CASE WHEN image_id IS NULL THEN position END ORDER BY slab DESC
) = 1
ORDER BY split_part(page, '/', 1)::INTEGER, split_part(page, '/', 2)::INTEGER, position
"""


def _numbered(rows: pa.Table) -> pa.Table:
    return rows.append_column("number", pa.array(np.arange(len(rows))))

"""Imports a database of the older tool: each version's rows as the pages of a walk of their own.

A row whose image is held already, or has come in by an import before, is passed over. So an import can be
killed and begun again, and several files may hold the same rows.
"""

from __future__ import annotations

from array import array
from collections import Counter, deque
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import TYPE_CHECKING, Any, BinaryIO, Self

import numpy as np

from civitai_pipeline import jsontext
from civitai_pipeline.derive.prompt_tables import load_held
from civitai_pipeline.derive.version_info import imported_info
from civitai_pipeline.imports.landing import Landing, VersionImport, body_of
from civitai_pipeline.imports.older_file import OlderFile, OlderRow, open_older_file
from civitai_pipeline.imports.older_rows import (
    BrokenRowError,
    KnownVersions,
    collected_at,
    image_of_row,
    item_of_row,
    version_of_row,
)
from civitai_pipeline.lake import schemas, tables
from civitai_pipeline.lake.files import explained, make_folder, swap_in, temporary
from civitai_pipeline.lake.ledger import Ledger
from civitai_pipeline.lake.locks import LockedError, sole_writer
from civitai_pipeline.lake.pages import IMPORT_SORT, LandedPage, Options, PageId
from civitai_pipeline.prompts.text import storable
from civitai_pipeline.prompts.values import INT32_MAX, whole, words

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from datetime import tzinfo
    from pathlib import Path

    from upath import UPath

    from civitai_pipeline.lake.paths import Lake

# A page of the API holds no more items.
PAGE_ROWS = 200
# And some megabytes at most, where images bring their ComfyUI graphs.
PAGE_BYTES = 8_000_000
EXAMPLES = 5
URL = "import:legacy"
REJECTED, CATEGORIES, STATES = "rejected.jsonl", "prompt_categories.jsonl", "collection_state.jsonl"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NO_TIME = -(2**63)

Json = dict[str, Any]


@dataclass
class FileImport:
    """What came of one file. It counts while the import goes on.

    Attributes:
        source: The file's name, without its folder.
        digest: The first digits of the SHA-256 of its content, by which it is known.
        rows: Rows of ``civitai_prompts``.
        without_time: Rows without a usable ``collected_at``.
        rejected: Rows that could not be read, by reason.
        examples: The first few of them.
        kept_aside: The folder of what was kept aside; None if nothing was.
        versions: What came of each version.
    """

    source: str
    digest: str
    rows: int = 0
    without_time: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    examples: list[Json] = field(default_factory=list)
    kept_aside: str | None = None
    versions: list[VersionImport] = field(default_factory=list)

    def as_dict(self) -> Json:
        """As JSON values."""
        return {
            "source": self.source,
            "digest": self.digest,
            "rows": self.rows,
            "rows_without_time": self.without_time,
            "rejected": self.rejected.total(),
            "rejected_reasons": dict(self.rejected.most_common()),
            "rejected_examples": self.examples,
            "kept_aside": self.kept_aside,
            "versions": [version.as_dict() for version in self.versions],
        }


@dataclass
class _Places:
    """Where a version's rows stand in the file, and when each was collected."""

    times: array[int] = field(default_factory=lambda: array("q"))
    rows: array[int] = field(default_factory=lambda: array("q"))
    names: Counter[str] = field(default_factory=Counter)
    models: Counter[int] = field(default_factory=Counter)


def import_older_file(
    lake: Lake,
    path: Path,
    *,
    zone: tzinfo = UTC,
    dry_run: bool = False,
    on_progress: Callable[[FileImport], None] = lambda _: None,
) -> FileImport:
    """Lands the rows of an older database.

    Args:
        lake: Where to.
        path: The database file; it is only read.
        zone: The time zone of its times, which name none.
        dry_run: Say what would come, and write nothing.
        on_progress: Called at the start and after each page with what was done so far.

    Returns:
        What came of it. A version that another process writes to is left alone, which its ``error`` says.

    Raises:
        OlderFileError: The file cannot be read; what has landed is kept.
        LakeError: The lake cannot be read or written.
    """
    with open_older_file(path) as file, ExitStack() as stack:
        done = FileImport(storable(file.name), file.digest, rows=file.count())
        on_progress(done)
        aside = None if dry_run else stack.enter_context(temporary(lake.root, "rejected"))
        reject = stack.enter_context(_Rejects(done, aside))
        for version, places in sorted(_places(file, done, zone, reject).items()):
            result = VersionImport(version)
            done.versions.append(result)
            try:
                with nullcontext() if dry_run else sole_writer(lake, version):
                    _import_version(
                        lake, file, version, places, done, reject=reject, dry_run=dry_run, on_progress=on_progress
                    )
            except LockedError as error:
                result.error = str(error)
        if aside is not None:
            _keep_aside(lake, file, done, aside)
        return done


class _Rejects:
    """Counts the rows that cannot be read, and writes them down whole where there is a file for it."""

    def __init__(self, done: FileImport, path: UPath | None) -> None:
        self._done = done
        self._path = path
        self._out: BinaryIO | None = None

    def __enter__(self) -> Self:
        if self._path is not None:
            with explained(self._path, "write"):
                self._out = self._path.open("wb")
        return self

    def __exit__(self, *_: object) -> None:
        if self._out is not None:
            self._out.close()

    def __call__(self, row: OlderRow, reason: str) -> None:
        self._done.rejected[_kind_of(reason)] += 1
        if len(self._done.examples) < EXAMPLES:
            said = row.columns.get("civitai_id")
            shown = None if said is None else storable(str(said))
            self._done.examples.append({"row": row.place, "civitai_id": shown, "reason": reason})
        if self._out is not None and self._path is not None:
            line = {"row": row.place, "reason": reason, "columns": row.columns, "resources": row.resources}
            with explained(self._path, "write"):
                self._out.write(jsontext.dumps(line) + b"\n")
                self._out.flush()


def _kind_of(reason: str) -> str:
    """A reason without the ids in it, so that equal ones are counted together."""
    for start, kind in (
        ("the row is of image", "its raw metadata is of another image"),
        ("the row names several", "the row names several model versions and none of them as the one collected"),
    ):
        if reason.startswith(start):
            return kind
    return reason


def _places(
    file: OlderFile, done: FileImport, zone: tzinfo, reject: Callable[[OlderRow, str], None]
) -> dict[int, _Places]:
    """The rows of each version in the order in which they were collected."""
    known = KnownVersions.of(file.states())
    found: dict[int, _Places] = {}
    latest, now = _NO_TIME, datetime.now(UTC)
    for place, head in file.heads(("model_version_id", "model_id", "model_name", "collected_at")):
        version = whole(head["model_version_id"], 1, INT32_MAX)
        if version is None:
            (row,) = file.rows([place])
            try:
                version = version_of_row(row.columns, row.resources, known)
            except BrokenRowError as error:
                reject(row, str(error))
                continue
        there = found.setdefault(version, _Places())
        moment = collected_at(head["collected_at"], zone)
        # A clock that ran ahead must not make an old sighting the latest of all.
        time = _NO_TIME if moment is None or moment > now else _microseconds(moment)
        done.without_time += time == _NO_TIME
        latest = max(latest, time)
        there.times.append(time)
        there.rows.append(place)
        if name := words(head["model_name"]):
            there.names[name] += 1
        if model := whole(head["model_id"], 1, INT32_MAX):
            there.models[model] += 1
    versions = known.versions | found.keys()
    for there in found.values():
        for version in versions & there.models.keys():
            # The older tool filled this column with the version's id as often as not.
            del there.models[version]
        _order(there, latest if latest != _NO_TIME else _microseconds(file.modified_at))
    return found


def _microseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1)


def _order(places: _Places, otherwise: int) -> None:
    times, rows = np.frombuffer(places.times, np.int64), np.frombuffer(places.rows, np.int64)
    # A row without a time was there by the latest time that the file knows.
    times = np.where(times == _NO_TIME, otherwise, times)
    order = np.lexsort((rows, times))
    places.times, places.rows = array("q", times[order].tolist()), array("q", rows[order].tolist())


def _import_version(
    lake: Lake,
    file: OlderFile,
    version: int,
    places: _Places,
    done: FileImport,
    *,
    reject: Callable[[OlderRow, str], None],
    dry_run: bool,
    on_progress: Callable[[FileImport], None],
) -> None:
    ledger = Ledger(lake, version)
    landing = Landing(ledger, load_held(lake, version).holdings, dry_run=dry_run)
    done.versions[-1] = landing.result
    walk, listing = _walk_of(ledger, landing, done)
    seen = set(_imported_ids(ledger))
    # What was lost with a page that was set aside comes first, where it was.
    gaps = deque(sorted(ledger.set_aside(walk).difference(ledger.page_numbers(walk))))
    for first, moment, items in chain(_pages(file, places, landing, seen, reject), _nothing(gaps, file.modified_at)):
        page = LandedPage(
            id=PageId(walk, gaps.popleft()) if gaps else landing.next_page(walk),
            model_version_id=version,
            sequence=landing.next_sequence,
            run_id=None,
            listing=listing,
            # Never null, as only the first page of a listing's walk is asked for without one.
            cursor=f"row {first}",
            url=URL,
            options=Options(append_only=True),
            fetched_at=moment,
            elapsed_s=0.0,
            items=[],
            metadata={},
        )
        landing.land(page, items, body_of(items, {}))
        on_progress(done)
    if not dry_run and (landing.result.pages or ledger.covered()):
        _keep_names(lake, version, places)


def _nothing(gaps: deque[int], moment: datetime) -> Iterator[tuple[int, datetime, list[Any]]]:
    """A page without rows for each gap that is left: what it held has come in elsewhere."""
    while gaps:
        yield 0, moment, []


def _walk_of(ledger: Ledger, landing: Landing, done: FileImport) -> tuple[int, Json]:
    """The walk for the rows of a file: the one of an earlier import of it, which may have been killed, or a new one."""
    for walk in ledger.walks():
        if walk.last.is_imported and walk.last.listing.get("digest") == done.digest:
            return walk.last.id.walk, walk.last.listing
    listing = {
        "model_version_id": ledger.version,
        "sort": IMPORT_SORT,
        "browsing_level": 0,
        "source": done.source,
        "digest": done.digest,
    }
    return landing.new_walk(), listing


def _imported_ids(ledger: Ledger) -> Iterator[int]:
    """The images of all earlier imports, those without a prompt among them."""
    mine = {walk.last.id.walk for walk in ledger.walks() if walk.last.is_imported}
    others = {walk: pages for walk, pages in ledger.covered().items() if walk not in mine}
    if mine:
        for page in ledger.pages(others):
            yield from (item["id"] for item in page.items if isinstance(item, dict) and isinstance(item.get("id"), int))


def _pages(
    file: OlderFile,
    places: _Places,
    landing: Landing,
    seen: set[int],
    reject: Callable[[OlderRow, str], None],
) -> Iterator[tuple[int, datetime, list[Any]]]:
    """The version's items in pages, each with its first row's place and the time of its rows.

    A page holds what was collected in the same second, so that every image keeps its time: the older tool saved what
    one answer of the API brought within a second or two.
    """
    items: list[Any] = []
    first, latest, size = 0, 0, 0
    for time, row in zip(places.times, file.rows(places.rows), strict=True):
        try:
            image_id = image_of_row(row.columns)
            if image_id in seen or image_id in landing.holdings:
                landing.result.items_here_already += 1
                continue
            item = item_of_row(row.columns, row.resources)
        except BrokenRowError as error:
            reject(row, str(error))
            continue
        seen.add(image_id)
        length = len(row.columns.get("raw_metadata") or "") + len(row.columns.get("full_prompt") or "")
        is_full = len(items) >= PAGE_ROWS or size + length > PAGE_BYTES
        if items and (is_full or time // 10**6 != latest // 10**6):
            yield first, _moment(latest), items
            items, size = [], 0
        if not items:
            first = row.place
        items.append(item)
        latest, size = time, size + length
    if items:
        yield first, _moment(latest), items


def _moment(microseconds: int) -> datetime:
    return _EPOCH + timedelta(microseconds=microseconds)


def _keep_names(lake: Lake, version: int, places: _Places) -> None:
    """Notes the model's name and id as the older tool knew them, until the API is asked."""
    if not tables.table_exists(lake, schemas.MODEL_VERSION_INFO, version):
        name = next((name for name, _ in places.names.most_common(1)), None)
        model = next(iter(places.models)) if len(places.models) == 1 else None
        tables.write_table(lake, schemas.MODEL_VERSION_INFO, version, imported_info(version, model, name))


def _keep_aside(lake: Lake, file: OlderFile, done: FileImport, rejected: UPath) -> None:
    """Puts what did not become pages into the lake: rows that could not be read, categories and states."""
    folder = lake.imported(file.digest)
    if done.rejected:
        swap_in(rejected, folder / REJECTED)
    for name, rows in ((CATEGORIES, file.categories()), (STATES, file.states())):
        _write_lines(lake, folder / name, rows)
    done.kept_aside = f"{folder.parent.name}/{folder.name}" if folder.is_dir() else None


def _write_lines(lake: Lake, path: UPath, rows: Iterable[Json]) -> None:
    with temporary(lake.root, "aside") as scratch:
        written = False
        with explained(path, "write"), scratch.open("wb") as out:
            for row in rows:
                out.write(jsontext.dumps(row) + b"\n")
                written = True
        if written:
            make_folder(path.parent)
            swap_in(scratch, path)

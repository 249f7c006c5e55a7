"""Whether a version's tables are sound: readable to the last row, as declared, and made from its pages. Only reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow.compute as pc

from civitai_pipeline.care.findings import Finding, Kind, repair
from civitai_pipeline.lake import schemas
from civitai_pipeline.lake.files import LakeError, explained
from civitai_pipeline.lake.ledger import Ledger
from civitai_pipeline.lake.pages import PageId
from civitai_pipeline.lake.rows import PinnedTable
from civitai_pipeline.lake.tables import DamagedTableError, file_faults

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from civitai_pipeline.lake.paths import Lake
    from civitai_pipeline.lake.schemas import Table
    from civitai_pipeline.lake.tables import Provenance

# What the API says of a version is a function of no pages.
_OF_NO_PAGES = {schemas.MODEL_VERSION_INFO.name}


def versions_with_tables(lake: Lake) -> set[int]:
    """The model versions that have a table's file.

    Raises:
        LakeError: The lake cannot be read.
    """
    found: set[int] = set()
    for table in schemas.TABLES:
        folder = lake.root / table.name
        with explained(folder, "read"):
            names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
        stems = (name.removesuffix(".parquet") for name in names if name.endswith(".parquet"))
        found |= {int(stem) for stem in stems if stem.isascii() and stem.isdigit() and stem == str(int(stem))}
    return found


def check_tables(lake: Lake, version: int, fetched_at: Mapping[PageId, datetime]) -> list[Finding]:
    """Looks at every table of a version.

    Args:
        lake: The lake.
        version: The model version.
        fetched_at: When each sound page was fetched.

    Raises:
        LakeError: The ledger cannot be listed.
    """
    findings: list[Finding] = []
    origins: dict[str, Provenance] = {}
    for table in schemas.TABLES:
        fault, origin = _fault(lake, table, version, fetched_at)
        if fault is not None:
            findings.append(fault)
        elif origin is not None:
            origins[table.name] = origin
    first = origins.get(schemas.PROMPTS.name)
    for name, origin in origins.items():
        if first is not None and (origin.covered, origin.gaps) != (first.covered, first.gaps):
            findings.append(_finding(lake, name, version, "it covers other pages than prompts does", passes=True))
    # After the tables, since both may grow meanwhile, the ledger first.
    return findings + _lost_pages(lake, version, origins)


def _fault(
    lake: Lake, table: Table, version: int, fetched_at: Mapping[PageId, datetime]
) -> tuple[Finding | None, Provenance | None]:
    """What is wrong with a table by itself, or else where it came from, if it is a function of pages."""
    try:
        opened = PinnedTable.of(lake, table, version)
        problem = _problem(lake, table, version, opened)
    except FileNotFoundError:
        return _finding(lake, table.name, version, "it is missing", passes=True), None
    except DamagedTableError as error:
        return _finding(lake, table.name, version, _reason(error)), None
    except LakeError as error:
        path = lake.table(table, version)
        return Finding(Kind.UNREADABLE, path, str(error), "then check again", version, table=table.name), None
    if problem is not None:
        return _finding(lake, table.name, version, problem), None
    if table.name == schemas.LANDED_PAGES.name:
        return _wrong_page(lake, version, opened, fetched_at), opened.provenance
    return None, opened.provenance


def _problem(lake: Lake, table: Table, version: int, opened: PinnedTable) -> str | None:
    faults, _ = file_faults(lake, table, version)
    if faults:
        return "; ".join(faults)
    # All row groups and columns: a table made before there were seals says only in this way what is wrong.
    for _ in opened.batches():
        pass
    owners = pc.unique(opened.read(["model_version_id"]).column(0)).to_pylist()
    if set(owners) - {version}:
        return f"it has rows of model version {owners[0]}"
    if opened.provenance is None and table.name not in _OF_NO_PAGES:
        return "it does not say where it came from"
    return None


def _wrong_page(lake: Lake, version: int, opened: PinnedTable, fetched_at: Mapping[PageId, datetime]) -> Finding | None:
    """What is wrong with ``landed_pages`` by the pages themselves."""
    for row in opened.read(["walk", "page", "fetched_at"]).to_pylist():
        place = PageId(row["walk"], row["page"])
        if place in fetched_at and fetched_at[place] != row["fetched_at"]:
            problem = f"page {place} is another one than it was made from"
            return _finding(lake, schemas.LANDED_PAGES.name, version, problem, passes=True)
    return None


def _lost_pages(lake: Lake, version: int, origins: Mapping[str, Provenance]) -> list[Finding]:
    """Pages behind the end of a walk that tables were made from."""
    ledger = Ledger(lake, version)
    last = {walk: max(ledger.page_numbers(walk), default=0) for walk in ledger.walk_numbers()}
    lost: dict[int, int] = {}
    for origin in origins.values():
        for walk, pages in origin.covered.items():
            if pages > last.get(walk, 0):
                lost[walk] = max(pages, lost.get(walk, 0))
    findings = []
    for walk, pages in sorted(lost.items()):
        # Only the newest walk is gone on with.
        again = "" if walk in last and walk == max(last) else " --restart"
        problem = f"pages {last.get(walk, 0) + 1} to {pages} are gone, which tables were made from"
        mend = f"civitai-pipeline collect {version}{again} fetches them again; or bring them back from a backup"
        findings.append(Finding(Kind.LOST_PAGES, lake.walk(version, walk), problem, mend, version))
    return findings


def _finding(lake: Lake, name: str, version: int, problem: str, *, passes: bool = False) -> Finding:
    table = next(table for table in schemas.TABLES if table.name == name)
    mend = f"{repair(version)} makes it anew from the landed pages"
    return Finding(Kind.TABLE, lake.table(table, version), problem, mend, version, table=name, passes=passes)


def _reason(error: LakeError) -> str:
    return str(error).partition(" is damaged (")[2].partition("); civitai-pipeline")[0] or str(error)

"""Mends what a check has found, as far as that needs no run: the tables are made anew by one, afterwards.

No page is ever deleted: a damaged one stays beside its place under another name, which is how the ledger knows of
the gap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from civitai_pipeline.care.findings import Kind
from civitai_pipeline.care.pages import page_fault
from civitai_pipeline.derive.version_info import unknown_info
from civitai_pipeline.lake import schemas
from civitai_pipeline.lake.database import build_database
from civitai_pipeline.lake.files import create_exclusively, set_aside, sweep_abandoned
from civitai_pipeline.lake.ledger import Ledger
from civitai_pipeline.lake.locks import sole_asker
from civitai_pipeline.lake.lookups import damaged_lookups, mend_lookups
from civitai_pipeline.lake.paths import PAGE_SUFFIX
from civitai_pipeline.lake.tables import write_table

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from civitai_pipeline.care.findings import Finding
    from civitai_pipeline.lake.paths import Lake

# Not made from pages: what was damaged of them is kept, for what it may still say.
_KEPT_TABLES = {schemas.MODEL_VERSION_INFO.name, schemas.CATEGORY_CHANGES.name}


def mend_version(lake: Lake, version: int, findings: Iterable[Finding]) -> Iterator[str]:
    """Sets aside what stands in the way of sound pages and tables. Hold ``locks.sole_writer`` meanwhile.

    Yields:
        What was done, one line each.

    Raises:
        LakeError: The lake cannot be written.
    """
    ledger = Ledger(lake, version)
    for finding in findings:
        if finding.kind in {Kind.DAMAGED_PAGE, Kind.MISSING_PAGE} and finding.place is not None:
            place = finding.place
            ending = "missing" if finding.kind is Kind.MISSING_PAGE else "damaged"
            mark = finding.path.with_name(f"{finding.path.name.removesuffix(PAGE_SUFFIX)}.{ending}")
            if finding.kind is Kind.MISSING_PAGE:
                if finding.path.exists() or place.page in ledger.set_aside(place.walk):
                    continue
                create_exclusively(lake.root, mark, b"")
                yield f"{finding.path}: noted as missing in {mark.name}"
            elif page_fault(ledger, place) is not None:
                yield f"{finding.path}: set aside as {set_aside(finding.path, mark.name).name}"
        elif finding.kind is Kind.TABLE:
            yield from _make_room(lake, version, finding)


def _make_room(lake: Lake, version: int, finding: Finding) -> Iterator[str]:
    """Sets a table's file aside if it is worth keeping or no file; what can be made at once is made."""
    path = finding.path
    if path.exists() and (finding.table in _KEPT_TABLES or not path.is_file()):
        yield f"{path}: set aside as {set_aside(path, f'{path.name}.damaged').name}"
    if finding.table == schemas.MODEL_VERSION_INFO.name:
        write_table(lake, schemas.MODEL_VERSION_INFO, version, unknown_info(version))
        yield f"{path}: made anew; the next collect asks for the version's names"


def mend_beside(lake: Lake, findings: Iterable[Finding]) -> Iterator[str]:
    """Mends what belongs to no version.

    Yields:
        What was done, one line each.

    Raises:
        LakeError: The lake cannot be written.
        LockedError: Another process is looking up resources.
    """
    kinds = {finding.kind for finding in findings}
    if Kind.TEMPORARY in kinds:
        yield f"{lake.root}: removed {sweep_abandoned(lake.root)} temporary files"
    if Kind.LOOKUPS in kinds:
        with sole_asker(lake):
            for path, by, _ in list(damaged_lookups(lake)):
                yield f"{path}: set aside as {mend_lookups(lake, path, by).name}, and what could be read kept"
    if Kind.DATABASE in kinds:
        if lake.database.is_dir():
            yield f"{lake.database}: set aside as {set_aside(lake.database, f'{lake.database.name}.damaged').name}"
        build_database(lake)
        yield f"{lake.database}: made anew"

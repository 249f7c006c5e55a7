"""Whether what lies beside pages and tables is sound: look-ups, the database, temporary files. Only reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from civitai_pipeline.care.findings import Finding, Kind, repair
from civitai_pipeline.care.tables import versions_with_tables
from civitai_pipeline.lake.database import database_fault
from civitai_pipeline.lake.files import LakeError, abandoned, is_local
from civitai_pipeline.lake.lookups import damaged_lookups

if TYPE_CHECKING:
    from civitai_pipeline.lake.paths import Lake


def check_beside(lake: Lake, *, tables_are_sound: bool) -> list[Finding]:
    """Looks at what belongs to no version.

    Args:
        lake: The lake.
        tables_are_sound: Whether all tables can be read, without which the database's views cannot be told.

    Raises:
        LakeError: The lake cannot be read.
    """
    return [*_lookups(lake), *_database(lake, tables_are_sound=tables_are_sound), *_temporaries(lake)]


def _lookups(lake: Lake) -> list[Finding]:
    mend = f"{repair()} keeps the rest; what is lost is asked for again by civitai-pipeline collect VERSION "
    return [
        Finding(Kind.LOOKUPS, path, problem, f"{mend}--resolve-resources") for path, _, problem in damaged_lookups(lake)
    ]


def _database(lake: Lake, *, tables_are_sound: bool) -> list[Finding]:
    if not is_local(lake.root) or not versions_with_tables(lake):
        return []
    if lake.database.is_dir():
        fault: str | None = "it is a folder"
    elif not tables_are_sound and lake.database.exists():
        return []
    elif not lake.database.exists():
        fault = "it is missing"
    else:
        try:
            fault = database_fault(lake)
        except LakeError:
            # A table's files have gone since they were looked at; the next check will say so.
            return []
    if fault is None:
        return []
    return [Finding(Kind.DATABASE, lake.database, fault, f"{repair()} makes it anew", passes=True)]


def _temporaries(lake: Lake) -> list[Finding]:
    problem, mend = "left behind by a process that is gone", f"{repair()} removes it, and so does the next collect"
    return [Finding(Kind.TEMPORARY, path, problem, mend) for path in abandoned(lake.root)]

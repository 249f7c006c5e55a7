"""The check of a whole lake, or of some versions of it. Only reads; runs may go on meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING

from civitai_pipeline.care.beside import check_beside
from civitai_pipeline.care.findings import Finding, Kind
from civitai_pipeline.care.pages import check_pages
from civitai_pipeline.care.tables import check_tables, versions_with_tables

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from civitai_pipeline.lake.paths import Lake

_OF_NO_VERSION = {Kind.LOOKUPS, Kind.DATABASE, Kind.TEMPORARY}


def versions_of(lake: Lake) -> list[int]:
    """The model versions that a lake has pages or tables of, in ascending order.

    Raises:
        LakeError: The lake cannot be read.
    """
    return sorted({*lake.versions(), *versions_with_tables(lake)})


def check_lake(
    lake: Lake,
    versions: Sequence[int],
    *,
    on_page: Callable[[int, int], None] = lambda _version, _pages: None,
    on_version: Callable[[int, int], None] = lambda _version, _pages: None,
) -> list[Finding]:
    """Looks at every file of some versions, and at what belongs to none.

    Args:
        lake: The lake.
        versions: The model versions.
        on_page: Called with a version and the number of its pages looked at so far.
        on_version: Called with a version and the number of its pages when it is done.

    Raises:
        LakeError: The lake cannot be read.
    """
    findings: list[Finding] = []
    for version in versions:
        pages = check_pages(lake, version, lambda count, version=version: on_page(version, count))  # type: ignore[misc]
        findings += pages.findings + check_tables(lake, version, pages.fetched_at)
        on_version(version, pages.count)
    sound = not any(finding.kind is Kind.TABLE for finding in findings)
    return findings + check_beside(lake, tables_are_sound=sound)


def standing_findings(findings: Sequence[Finding], under_way: Collection[int]) -> list[Finding]:
    """The findings without those that are nothing while runs of some versions are under way."""
    return [
        finding
        for finding in findings
        if not finding.passes
        or not under_way
        or (finding.kind not in _OF_NO_VERSION and finding.version not in under_way)
    ]

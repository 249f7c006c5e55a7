"""What takes how much room in the lake and in Dagster's records, by one pass over their folders."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from civitai_pipeline.lake.bundles import PageFile
from civitai_pipeline.lake.files import TMP_DIR, explained, is_local
from civitai_pipeline.lake.schemas import TABLES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from upath import UPath

    from civitai_pipeline.lake.paths import Lake

_TABLES = {table.name for table in TABLES}
_PAGES_DEPTH = 4
_FOLDERS = {
    "reports": "reports", "exports": "exports", "imports": "imports", "lookups": "lookups",
    "civitai.duckdb": "database", TMP_DIR: "temporary",
}  # fmt: skip


@dataclass
class VersionSize:
    """What one model version takes, in bytes and files.

    Attributes:
        model_version_id: The version.
        pages: Landed pages.
        page_files: Files with one page.
        page_bytes: What is in them.
        bundles: Files with several pages.
        bundle_bytes: What is in those.
        table_bytes: Its tables.
        report_bytes: Its reports.
    """

    model_version_id: int
    pages: int = 0
    page_files: int = 0
    page_bytes: int = 0
    bundles: int = 0
    bundle_bytes: int = 0
    table_bytes: int = 0
    report_bytes: int = 0

    @property
    def total_bytes(self) -> int:
        """All of it."""
        return self.page_bytes + self.bundle_bytes + self.table_bytes + self.report_bytes


@dataclass
class LakeSize:
    """What the lake takes.

    Attributes:
        versions: What is one version's, in ascending order of their ids.
        other: Bytes of what is for all versions, by what it is: ``reports``, ``exports``, ``imports``, ``lookups``,
            ``database``, ``temporary`` and ``other``.
    """

    versions: list[VersionSize] = field(default_factory=list)
    other: dict[str, int] = field(default_factory=dict)

    def totals(self) -> dict[str, int]:
        """The sums over all versions, and the sum of everything."""
        names = [name for name in vars(VersionSize(0)) if name != "model_version_id"]
        sums = {name: sum(getattr(version, name) for version in self.versions) for name in names}
        return {**sums, "lake_bytes": sum(version.total_bytes for version in self.versions) + sum(self.other.values())}

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        versions = [{**vars(version), "total_bytes": version.total_bytes} for version in self.versions]
        return {"versions": versions, "other": self.other, "totals": self.totals()}


def size_of(lake: Lake) -> LakeSize:
    """What the lake takes.

    Raises:
        LakeError: It cannot be read.
    """
    versions: dict[int, VersionSize] = {}
    other = dict.fromkeys([*_FOLDERS.values(), "other"], 0)
    with explained(lake.root, "read", answers=()):
        for parts, size in _files(lake.root):
            version = _version_of(parts)
            if version is None:
                other[_FOLDERS.get(parts[0], "other")] += size
            else:
                _count(versions.setdefault(version, VersionSize(version)), parts, size)
    return LakeSize([versions[version] for version in sorted(versions)], other)


def _count(version: VersionSize, parts: tuple[str, ...], size: int) -> None:
    if parts[0] == "reports":
        version.report_bytes += size
        return
    if parts[0] in _TABLES:
        version.table_bytes += size
        return
    file = PageFile.named(parts[-1])
    if file is not None and file.is_bundle:
        version.pages += len(file.pages)
        version.bundles += 1
        version.bundle_bytes += size
    else:
        version.pages += file is not None
        version.page_files += 1
        version.page_bytes += size


def _version_of(parts: tuple[str, ...]) -> int | None:
    """The version that a file is of; None if it is of none or of all."""
    if parts[0] == "pages" and len(parts) == _PAGES_DEPTH:
        text = parts[1]
    elif len(parts) > 1 and (parts[0] in _TABLES or parts[0] == "reports"):
        text = parts[-1].partition(".")[0].partition("-")[0]
    else:
        return None
    return int(text) if text.isascii() and text.isdigit() else None


def _files(root: UPath) -> Iterator[tuple[tuple[str, ...], int]]:
    """The files below a folder: their places in it and their bytes."""
    if is_local(root):
        yield from _scan(str(root), ())
        return
    start = root.path.rstrip("/") + "/"
    for path, found in root.fs.find(root.path, detail=True).items():
        yield tuple(path.removeprefix(start).split("/")), int(found["size"] or 0)


def _scan(folder: str, parts: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], int]]:
    try:
        found = list(os.scandir(folder))
    except FileNotFoundError:
        return
    for entry in found:
        if entry.is_dir(follow_symlinks=False):
            yield from _scan(entry.path, (*parts, entry.name))
            continue
        try:
            yield (*parts, entry.name), entry.stat(follow_symlinks=False).st_size
        except FileNotFoundError:
            # Others land, compact and swap meanwhile.
            continue


@dataclass
class RecordsSize:
    """What Dagster's records take, in bytes and files.

    Attributes:
        runs: Runs that have an event log.
        run_bytes: Those logs.
        index_bytes: What is known of all runs, assets and checks together.
        tick_bytes: Ticks of sensors and schedules.
        output_bytes: What runs printed, and handed from step to step.
        other_bytes: The rest.
    """

    runs: int = 0
    run_bytes: int = 0
    index_bytes: int = 0
    tick_bytes: int = 0
    output_bytes: int = 0
    other_bytes: int = 0

    @property
    def total_bytes(self) -> int:
        """All of it."""
        return self.run_bytes + self.index_bytes + self.tick_bytes + self.output_bytes + self.other_bytes

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {**vars(self), "total_bytes": self.total_bytes}


def size_of_records(home: Path) -> RecordsSize:
    """What Dagster's records take, where they lie in files as in the pipeline's own ``dagster.yaml``."""
    size = RecordsSize()
    for parts, count in _scan(str(home), ()):
        if parts[:2] == ("history", "runs") and not parts[-1].startswith("index."):
            size.runs += parts[-1].endswith(".db")
            size.run_bytes += count
        elif parts[0] == "history":
            size.index_bytes += count
        elif parts[0] == "schedules":
            size.tick_bytes += count
        elif parts[0] == "storage":
            size.output_bytes += count
        else:
            size.other_bytes += count
    return size

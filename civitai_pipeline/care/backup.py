"""A copy of the lake that brings it back, made while collections go on, and made anew only where something is new.

Landed pages are never changed, so a copy of whichever are there is sound at any moment: it is the lake as it stood
after one of them. They are copied first; then what is no function of them, each file whole as it is. The copy is
laid out as the lake is, and can be read as one. Its manifest is written last: a copy without one was not finished, and
holds what it holds.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from typing import TYPE_CHECKING, Any

from civitai_pipeline import jsontext
from civitai_pipeline.lake import schemas
from civitai_pipeline.lake.bundles import list_walk, list_walks
from civitai_pipeline.lake.compaction import remove_superseded
from civitai_pipeline.lake.files import LakeError, create_exclusively, explained, sweep_abandoned, write_whole
from civitai_pipeline.lake.pages import DamagedPageError, unpack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from upath import UPath

    from civitai_pipeline.lake.bundles import WalkFiles
    from civitai_pipeline.lake.paths import Lake

MANIFEST = "backup.json"
FORMAT = 1
# What no page can bring back, or only by asking the API again.
BESIDE_PAGES = ("lookups", "imports", ".keys", schemas.CATEGORY_CHANGES.name, schemas.MODEL_VERSION_INFO.name)
# A compaction under way takes files away while they are copied; each time is one of these.
MOST_LOOKS = 100


class BackupError(Exception):
    """There can be no such copy; the message says why and what to do."""


@dataclass
class Backup:
    """What was copied.

    Attributes:
        source: The lake.
        target: The copy.
        versions: Pages of each model version in the copy.
        copied: Files copied.
        copied_bytes: What is in them.
        there_already: Files that an earlier copy had brought.
        removed: Files of the copy that are in a bundle now.
        files: Of each file that holds no pages, its SHA-256.
        notes: What else is worth knowing, one line each.
    """

    source: str
    target: str
    versions: dict[int, int] = field(default_factory=dict)
    copied: int = 0
    copied_bytes: int = 0
    there_already: int = 0
    removed: int = 0
    files: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """As JSON values, but for what the manifest alone holds."""
        known = {name: value for name, value in vars(self).items() if name != "files"}
        return {**known, "versions": [{"model_version_id": v, "pages": n} for v, n in self.versions.items()]}


def back_up(
    lake: Lake, target: Lake, *, tables: bool = False, on_file: Callable[[Backup], None] = lambda _: None
) -> Backup:
    """Brings a copy of a lake up to date.

    What is there already with the same name and size is not copied again. Each file is read back after it was written.
    A kill at any moment leaves a sound copy of less, which the next call goes on with.

    Args:
        lake: The lake; it is only read.
        target: Where the copy is, or is to be.
        tables: Copy all tables too, which are made anew from the pages otherwise.
        on_file: Called after each file with what was done so far.

    Raises:
        BackupError: The copy is of another lake, or lies in this one.
        LakeError: A file cannot be read or written, or was not written as it should be.
    """
    _check_apart(lake, target)
    done = Backup(str(lake.root), str(target.root))
    target.check_writable()
    sweep_abandoned(target.root)
    # Until this copy is finished there is none that is.
    with explained(target.root, "write to"):
        (target.root / MANIFEST).unlink(missing_ok=True)
    for version in lake.versions():
        _copy_pages(lake, target, version, done, on_file)
    folders = (*BESIDE_PAGES, *(table.name for table in schemas.TABLES if tables and table.name not in BESIDE_PAGES))
    for folder in folders:
        for path in files_below(lake.root / folder):
            _copy(lake, target, path, done)
            on_file(done)
    manifest = {
        "format": FORMAT,
        "made_at": datetime.now(UTC).isoformat(),
        "made_by": f"civitai-pipeline {metadata.version('civitai-pipeline')}",
        "lake": done.source,
        "versions": {str(version): pages for version, pages in done.versions.items()},
        "files": done.files,
    }
    write_whole(target.root, target.root / MANIFEST, jsontext.dumps(manifest) + b"\n")
    return done


def _check_apart(lake: Lake, target: Lake) -> None:
    one, other = (str(place.root).rstrip("/") + "/" for place in (lake, target))
    if one.startswith(other) or other.startswith(one):
        raise BackupError(f"a copy of {lake.root} in {target.root} would go down with it; name another place")


def _copy_pages(lake: Lake, target: Lake, version: int, done: Backup, on_file: Callable[[Backup], None]) -> None:
    for walk in list_walks(lake.pages(version)):
        folder = lake.walk(version, walk)
        for _ in range(MOST_LOOKS):
            try:
                listed, there = list_walk(folder), target.walk(version, walk)
                for file in listed.files:
                    again = not listed.aside.isdisjoint(file.pages)
                    _copy_page_file(folder / file.name, there / file.name, target, done, fetched_again=again)
                    on_file(done)
                copy_marks(target, folder, there, listed)
                break
            except FileNotFoundError:
                # A compaction has put it in a bundle since the folder was listed.
                continue
        done.removed += len(list_walk(target.walk(version, walk)).superseded)
        remove_superseded(target, version, walk)
        held = len(list_walk(target.walk(version, walk)).by_page())
        done.versions[version] = done.versions.get(version, 0) + held


def copy_marks(target: Lake, folder: UPath, there: UPath, listed: WalkFiles) -> None:
    """Copies the files of a walk's folder that say which pages were set aside.

    Raises:
        LakeError: One cannot be read or written.
    """
    for name in listed.marks:
        with suppress(FileExistsError), explained(folder / name, "read"):
            create_exclusively(target.root, there / name, (folder / name).read_bytes())


def _copy_page_file(path: UPath, place: UPath, target: Lake, done: Backup, *, fetched_again: bool) -> None:
    with explained(path, "read"):
        size = path.stat().st_size
    with explained(place, "read"):
        there = place.stat().st_size if place.exists() else None
    if there == size:
        done.there_already += 1
        return
    if there is not None and fetched_again:
        done.notes.append(f"{path} was fetched again since: the copy keeps the page that landed first")
        return
    if there is not None:
        raise BackupError(
            f"{place} is not the page that {path} is: {target.root} is a copy of another lake, or of pages that were "
            "collected anew since; name another place"
        )
    with explained(path, "read"):
        data = path.read_bytes()
    try:
        unpack(data)
    except DamagedPageError as error:
        # Once in the copy, it would stand in the way of the sound one.
        done.notes.append(f"{path} is damaged ({error}), and is left out")
        return
    create_exclusively(target.root, place, data)
    check_written(place, data)
    done.copied += 1
    done.copied_bytes += len(data)


def _copy(lake: Lake, target: Lake, path: UPath, done: Backup) -> None:
    """Copies a file that may have been replaced since the last copy, or may be replaced right now."""
    name = relative(lake, path)
    place = target.root / name
    try:
        with explained(path, "read"):
            data = path.read_bytes()
    except FileNotFoundError:
        return
    done.files[name] = hashlib.sha256(data).hexdigest()
    with explained(place, "read"):
        is_there = place.exists() and place.stat().st_size == len(data) and place.read_bytes() == data
    if is_there:
        done.there_already += 1
        return
    write_whole(target.root, place, data)
    check_written(place, data)
    done.copied += 1
    done.copied_bytes += len(data)


def check_written(path: UPath, data: bytes) -> None:
    """Makes sure that a file holds what was written to it.

    Raises:
        LakeError: It does not; it is removed.
    """
    with explained(path, "read", answers=()):
        if path.read_bytes() == data:
            return
        path.unlink()
    raise LakeError(f"{path} was not written as it should be, and is removed again; look at the disk")


def relative(lake: Lake, path: UPath) -> str:
    """Where a file of the lake is within it."""
    return str(path).removeprefix(str(lake.root)).lstrip("/")


def files_below(folder: UPath) -> Iterator[UPath]:
    """The files in a folder and the folders in it, by name; none if it is not there."""
    with explained(folder, "read"):
        if not folder.is_dir():
            return
        found = sorted(folder.iterdir(), key=lambda path: path.name)
    for path in found:
        if path.is_dir():
            yield from files_below(path)
        else:
            yield path

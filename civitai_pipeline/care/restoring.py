"""A lake brought back from a copy of it (see ``backup``): into an empty place, or one that has lost something."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from civitai_pipeline import jsontext
from civitai_pipeline.care.backup import (
    BESIDE_PAGES,
    MANIFEST,
    BackupError,
    check_written,
    copy_marks,
    files_below,
    relative,
)
from civitai_pipeline.derive.version_info import unknown_info
from civitai_pipeline.lake import schemas, tables
from civitai_pipeline.lake.bundles import list_walk, list_walks
from civitai_pipeline.lake.files import create_exclusively, explained
from civitai_pipeline.lake.ledger import Ledger
from civitai_pipeline.lake.locks import sole_writer
from civitai_pipeline.lake.pages import PageId

if TYPE_CHECKING:
    from collections.abc import Callable

    from civitai_pipeline.lake.paths import Lake


@dataclass
class Restoration:
    """What was brought back.

    Attributes:
        source: The copy.
        target: The lake.
        made_at: When the copy was finished; None for one that was not.
        versions: Pages of each model version that the copy has, in the lake now.
        restored: Files brought back.
        there_already: Files that were there.
        notes: What else is worth knowing, one line each.
    """

    source: str
    target: str
    made_at: str | None = None
    versions: dict[int, int] = field(default_factory=dict)
    restored: int = 0
    there_already: int = 0
    notes: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            **vars(self),
            "versions": [{"model_version_id": version, "pages": pages} for version, pages in self.versions.items()],
        }


def restore(source: Lake, lake: Lake, *, on_file: Callable[[Restoration], None] = lambda _: None) -> Restoration:
    """Brings a lake back from a copy of it.

    Pages that are there are left as they are, those that landed since the copy was made among them. Every page of the
    copy's versions is read at the end. Model versions that the copy does not know are not looked at.

    Args:
        source: The copy; it is only read.
        lake: Where to.
        on_file: Called after each file with what was done so far.

    Raises:
        BackupError: There is no copy there, or the lake holds another page in the place of one of them; nothing was
            changed.
        LockedError: Another process is collecting one of the versions.
        LakeError: A file cannot be read or written, or a page of the copy is damaged.
    """
    versions = source.versions()
    if not versions:
        raise BackupError(f"{source.root} is no copy of a lake: it has no folder pages with landed pages in it")
    done = Restoration(str(source.root), str(lake.root))
    digests = _manifest(source, versions, done)
    for version in versions:
        _check_same(source, lake, version)
    lake.check_writable()
    for version in versions:
        with sole_writer(lake, version):
            # Somebody may have collected since.
            _check_same(source, lake, version)
            _restore_pages(source, lake, version, done, on_file)
    for folder in (*BESIDE_PAGES, *(table.name for table in schemas.TABLES if table.name not in BESIDE_PAGES)):
        for path in files_below(source.root / folder):
            _restore_file(source, lake, relative(source, path), digests, done)
            on_file(done)
    for version in versions:
        if not tables.table_exists(lake, schemas.MODEL_VERSION_INFO, version):
            # Without it there is no report; the next collection asks for the names.
            tables.write_table(lake, schemas.MODEL_VERSION_INFO, version, unknown_info(version))
    return done


def _manifest(source: Lake, versions: list[int], done: Restoration) -> dict[str, str]:
    """The digests of the copy's files that hold no pages; notes what is not as the copy was when it was finished."""
    path = source.root / MANIFEST
    try:
        with explained(path, "read"):
            said = jsontext.loads(path.read_bytes())
        done.made_at, pages, digests = str(said["made_at"]), dict(said["versions"]), dict(said["files"])
    except FileNotFoundError:
        done.notes.append("the copy was not finished: what it holds is brought back")
        return {}
    except (ValueError, KeyError, TypeError) as error:
        done.notes.append(f"{path} cannot be read ({error}): what the copy holds is brought back")
        return {}
    for version, count in pages.items():
        there = _pages_of(source, int(version)) if int(version) in versions else 0
        if there < count:
            done.notes.append(f"model version {version}: {count - there:,} pages of the copy are gone")
    return digests


def _pages_of(lake: Lake, version: int) -> int:
    return sum(len(list_walk(lake.walk(version, walk)).by_page()) for walk in list_walks(lake.pages(version)))


def _check_same(source: Lake, lake: Lake, version: int) -> None:
    """Makes sure that no page of the copy has its place in the lake taken by another."""
    ours, theirs = Ledger(lake, version), Ledger(source, version)
    for walk in list_walks(lake.pages(version)):
        held = list_walk(source.walk(version, walk)).by_page()
        for place in (PageId(walk, page) for page in list_walk(lake.walk(version, walk)).by_page()):
            if place.page in held and ours.text(place) != theirs.text(place):
                raise BackupError(
                    f"page {place} of model version {version} in {lake.root} is another one than in the copy, so "
                    "nothing was changed: bring the copy back into an empty place, or its pages into this lake with "
                    f"merge-lake {source.root}"
                )


def _restore_pages(
    source: Lake, lake: Lake, version: int, done: Restoration, on_file: Callable[[Restoration], None]
) -> None:
    for walk in list_walks(source.pages(version)):
        folder = source.walk(version, walk)
        held = list_walk(lake.walk(version, walk)).by_page()
        listed = list_walk(folder)
        copy_marks(lake, folder, lake.walk(version, walk), listed)
        for file in listed.files:
            if all(page in held for page in file.pages):
                done.there_already += 1
                continue
            with explained(folder / file.name, "read", answers=()):
                data = (folder / file.name).read_bytes()
            place = lake.walk(version, walk) / file.name
            create_exclusively(lake.root, place, data)
            check_written(place, data)
            done.restored += 1
            on_file(done)
    # Each has a checksum within; one that the copy kept badly must be heard of before it is needed.
    done.versions[version] = sum(1 for _ in Ledger(lake, version).pages())


def _restore_file(source: Lake, lake: Lake, name: str, digests: dict[str, str], done: Restoration) -> None:
    path, place = source.root / name, lake.root / name
    with explained(path, "read", answers=()):
        data = path.read_bytes()
    if name in digests and hashlib.sha256(data).hexdigest() != digests[name]:
        done.notes.append(f"{path} is not as it was copied, and is left out")
        return
    try:
        create_exclusively(lake.root, place, data)
        done.restored += 1
    except FileExistsError:
        # What is there may be newer.
        done.there_already += 1

"""Compaction: pages of a walk that ask for the same again are put together, so that polling costs next to nothing.

Nothing of a page is changed or left out. What a bundle looks like and how it is found stands in ``bundles``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

import zstandard

from civitai_pipeline.lake.bundles import MOST_PAGES, MOST_TEXT_BYTES, PageFile, list_walk, pack, texts_in
from civitai_pipeline.lake.files import LakeError, create_exclusively, explained, flush, is_local, sweep_abandoned
from civitai_pipeline.lake.ledger import Ledger
from civitai_pipeline.lake.locks import LockedError, sole_writer
from civitai_pipeline.lake.pages import DamagedPageError, PageId, text_size, unpack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from upath import UPath

    from civitai_pipeline.lake.paths import Lake

# A bundle that is not full is written anew for this many files, itself among them, and not for every page that lands.
LEAST_FILES = 8


@dataclass
class Compaction:
    """What compaction did with one version.

    Attributes:
        model_version_id: The version.
        pages: Its landed pages.
        folded: Pages that were put into a bundle.
        files_before: Files its pages were in.
        files_after: Files they are in now.
        bytes_before: What those took.
        bytes_after: What these take.
        skipped: Why it was left alone for now; None if it was not.
        error: Why it was left as far as it got; None if it was not.
    """

    model_version_id: int
    pages: int = 0
    folded: int = 0
    files_before: int = 0
    files_after: int = 0
    bytes_before: int = 0
    bytes_after: int = 0
    skipped: str | None = None
    error: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return dict(vars(self))


def compact(lake: Lake, version: int) -> Compaction:
    """Puts a version's pages that ask for the same again into bundles.

    A kill at any moment loses nothing: a page's own file goes only when its bundle is on the disk and has been read
    back. Pages land, and tables are made, as if nothing had been done.

    Returns:
        What was done. A version that another process writes to is left as it is, which ``skipped`` says; one whose
        ledger is damaged or cannot be written as far as it got, which ``error`` says.
    """
    done = Compaction(version)
    if not is_local(lake.root):
        done.skipped = "it lies on an object store, which has no locks to keep other writers away meanwhile"
        return done
    try:
        with sole_writer(lake, version):
            sweep_abandoned(lake.root)
            ledger = Ledger(lake, version)
            done.pages = sum(ledger.covered().values())
            done.files_before, done.bytes_before = _measure(ledger)
            try:
                for walk in ledger.walk_numbers():
                    # With pages of its midst to be fetched again, a walk is no row of neighbours.
                    if not ledger.gaps(walk):
                        done.folded += _compact_walk(ledger, walk)
            finally:
                done.files_after, done.bytes_after = _measure(ledger)
    except LockedError as error:
        done.skipped = str(error)
    except LakeError as error:
        done.error = str(error)
    return done


def foldable(lake: Lake, version: int) -> tuple[int, int]:
    """How many files of a version :func:`compact` would put together, and their bytes. Writes nothing.

    Raises:
        LakeError: The ledger cannot be read, or is damaged.
    """
    ledger = Ledger(lake, version)
    sizes = []
    for walk in ledger.walk_numbers():
        folder = lake.walk(version, walk)
        if ledger.gaps(walk):
            continue
        for group in _groups(folder, list_walk(folder).files, _Asked(ledger, walk)):
            sizes += [(folder / file.name).stat().st_size for file in group]
    return len(sizes), sum(sizes)


def _measure(ledger: Ledger) -> tuple[int, int]:
    """How many files a version's pages are in, and their bytes."""
    sizes = []
    for walk in ledger.walk_numbers():
        folder = ledger.lake.walk(ledger.version, walk)
        found = list_walk(folder)
        with explained(folder, "read", answers=()):
            sizes += [(folder / file.name).stat().st_size for file in (*found.files, *found.superseded)]
    return len(sizes), sum(sizes)


def _compact_walk(ledger: Ledger, walk: int) -> int:
    """Puts pages of a walk into bundles; returns how many."""
    folder = ledger.lake.walk(ledger.version, walk)
    remove_superseded(ledger.lake, ledger.version, walk)
    files = list_walk(folder).files
    return sum(_bundle(ledger, walk, group) for group in _groups(folder, files, _Asked(ledger, walk)))


class _Asked:
    """Which pages of a walk ask for the same as a page beside them."""

    def __init__(self, ledger: Ledger, walk: int) -> None:
        self._cursor = cache(lambda page: ledger.head(PageId(walk, page)).cursor)

    def __call__(self, page: int) -> bool:
        cursor = self._cursor(page)
        return bool(self._cursor(page + 1) == cursor or (page > 1 and self._cursor(page - 1) == cursor))


def _groups(folder: UPath, files: Sequence[PageFile], asks_again: Callable[[int], bool]) -> Iterator[list[PageFile]]:
    """The files to be put together, in order; each group becomes one bundle.

    The last page stays by itself, because the stored cursor is in it and is looked for all the time.
    """
    group: list[PageFile] = []
    text = 0
    for file in files:
        if not file.is_bundle and (file.last == files[-1].last or not asks_again(file.first)):
            if len(group) >= LEAST_FILES:
                yield group
            group, text = [], 0
            continue
        size = _text_size(folder / file.name)
        if group and (text + size > MOST_TEXT_BYTES or file.last - group[0].first >= MOST_PAGES):
            # Full, it is written once and for all.
            if len(group) > 1:
                yield group
            group, text = [], 0
        group.append(file)
        text += size
    if len(group) >= LEAST_FILES:
        yield group


def _text_size(path: UPath) -> int:
    with explained(path, "read", answers=()):
        data = path.read_bytes()
    try:
        return text_size(data) or len(unpack(data))
    except zstandard.ZstdError as error:
        raise DamagedPageError(f"{path} is damaged ({error}); bring it back from a backup") from error


def _bundle(ledger: Ledger, walk: int, files: Sequence[PageFile]) -> int:
    """Puts files together in one; returns how many pages were by themselves until then."""
    lake, together = ledger.lake, PageFile.of_pages(files[0].first, files[-1].last)
    places = [PageId(walk, page) for page in together.pages]
    for file in files:
        if not file.is_bundle:
            # What is damaged must not be laid to rest among the sound.
            ledger.read(PageId(walk, file.first))
    texts = [ledger.text(place) for place in places]
    folder = lake.walk(ledger.version, walk)
    path = folder / together.name
    create_exclusively(lake.root, path, pack(texts))
    with explained(path, "read", answers=()):
        is_whole = texts_in(path.read_bytes(), len(texts)) == texts
    if not is_whole:
        path.unlink()
        raise LakeError(f"{path} was not written as it should be, and is removed again; look at the disk")
    for file in files:
        with explained(folder / file.name, "remove", answers=()):
            (folder / file.name).unlink()
    return sum(not file.is_bundle for file in files)


def remove_superseded(lake: Lake, version: int, walk: int) -> None:
    """Removes files of a walk whose pages are all in a bundle: what a compaction that was killed had not come to.

    Raises:
        LakeError: One holds something else than the bundle does, or cannot be removed.
    """
    folder = lake.walk(version, walk)
    listed = list_walk(folder)
    if not listed.superseded:
        return
    # A bundle that the killed process saw in the folder need not be on the disk yet.
    flush(folder)
    within = listed.by_page()
    texts = lru_cache(1)(lambda file: _texts(folder / file.name, file))
    for file in listed.superseded:
        path, bundle = folder / file.name, within[file.first]
        held = texts(bundle)[file.first - bundle.first :][: len(file.pages)]
        if _texts(path, file) != held:
            raise LakeError(
                f"{path} does not hold what {bundle.name} beside it holds of the same pages; readers take the latter: "
                "keep the file elsewhere, then compact again"
            )
        with explained(path, "remove", answers=()):
            path.unlink()


def _texts(path: UPath, file: PageFile) -> list[bytes]:
    with explained(path, "read", answers=()):
        data = path.read_bytes()
    try:
        return texts_in(data, len(file.pages)) if file.is_bundle else [unpack(data)]
    except DamagedPageError as error:
        raise DamagedPageError(f"{path} is damaged ({error}); bring it back from a backup") from error

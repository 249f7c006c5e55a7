"""The ledger: the landed pages of one version, in order. It *is* the collection state.

The stored cursor is the one in a walk's last page; there is no second copy of it to disagree. What a page's
items mean is the business of ``prompts`` and ``derive``.
"""

from __future__ import annotations

import heapq
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

from civitai_pipeline.lake.bundles import MOST_LOOKS, PageFile, list_walk, list_walks, texts_in
from civitai_pipeline.lake.files import LakeError, create_exclusively, explained
from civitai_pipeline.lake.pages import (
    DamagedPageError,
    Head,
    LandedPage,
    NewerPageError,
    PageId,
    decode,
    decode_head,
    decode_text,
    encode,
    head_of,
    unpack,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from upath import UPath

    from civitai_pipeline.lake.paths import Lake

# Pages of several walks come interleaved, each walk from a bundle of its own; unpacked, one holds up to 16 MB.
_KEPT_BUNDLES = 6

_Found = TypeVar("_Found")


class PageExistsError(LakeError):
    """Another writer landed this page first; nothing was changed."""


@dataclass(frozen=True)
class WalkState:
    """Where one walk stands.

    Attributes:
        last: Its last landed page.
    """

    last: LandedPage

    @property
    def is_open(self) -> bool:
        """Whether a next cursor is stored; otherwise the walk is at its end."""
        return self.last.next_cursor is not None


class Ledger:
    """The landed pages of one model version."""

    def __init__(self, lake: Lake, version: int) -> None:
        self.lake = lake
        self.version = version
        # Where each page of a walk was when the walk's folder was last listed.
        self._places: dict[int, Mapping[int, PageFile]] = {}
        # By its name alone: a bundle of the same pages holds the same.
        self._texts = lru_cache(_KEPT_BUNDLES)(_unpack_bundle)

    def walk_numbers(self) -> list[int]:
        """The walks that have pages, in ascending order.

        Raises:
            LakeError: The ledger cannot be read.
        """
        return [walk for walk in list_walks(self.lake.pages(self.version)) if self.page_count(walk)]

    def page_count(self, walk: int) -> int:
        """How many pages have landed in a walk.

        Raises:
            LakeError: The ledger cannot be read, or a page in its midst is missing.
        """
        folder = self.lake.walk(self.version, walk)
        listed = list_walk(folder)
        if listed.missing is not None:
            raise LakeError(
                f"{self.lake.page(self.version, walk, listed.missing)} is missing from the ledger; bring it back from "
                f"a backup, or move the folder {folder} away and collect again"
            )
        self._places[walk] = listed.by_page()
        return len(self._places[walk])

    def covered(self) -> dict[int, int]:
        """The number of pages of each walk: how far the ledger reaches."""
        return {walk: self.page_count(walk) for walk in self.walk_numbers()}

    def read(self, page: PageId) -> LandedPage:
        """One landed page.

        Raises:
            LakeError: It cannot be read, or its file is damaged.
        """
        return self._look(page, lambda path, file: self._in_place(path, page, self._decoded(path, file, page)))

    def text(self, page: PageId) -> bytes:
        """The JSON text of one landed page, as it landed to the last byte.

        Raises:
            LakeError: It cannot be read, or its file is damaged.
        """
        return self._look(page, lambda path, file: self._text(path, file, page))

    def head(self, page: PageId) -> Head:
        """What one landed page says of its place before its body.

        Raises:
            LakeError: It cannot be read, or its file is damaged.
        """
        return self._look(page, lambda path, file: self._decoded_head(path, file, page))

    def last_page(self, walk: int) -> LandedPage | None:
        """The last landed page of a walk; None if it has none. Its items may be left out of memory."""
        count = self.page_count(walk)
        if not count:
            return None
        place = PageId(walk, count)

        def read(path: UPath, file: PageFile) -> LandedPage:
            found = self._decoded(path, file, place) if file.is_bundle else _head(path)
            return self._in_place(path, place, found)

        return self._look(place, read)

    def _look(self, place: PageId, read: Callable[[UPath, PageFile], _Found]) -> _Found:
        """What ``read`` makes of the file that holds a page, wherever compaction has put it meanwhile."""
        folder = self.lake.walk(self.version, place.walk)
        if place.walk not in self._places:
            self._places[place.walk] = list_walk(folder).by_page()
        for _ in range(MOST_LOOKS):
            file = self._places[place.walk].get(place.page) or PageFile.of_pages(place.page, place.page)
            try:
                with explained(folder / file.name, "read"):
                    return read(folder / file.name, file)
            except FileNotFoundError:
                self._places[place.walk] = list_walk(folder).by_page()
                if place.page not in self._places[place.walk]:
                    break
        path = self.lake.page(self.version, place.walk, place.page)
        with explained(path, "read", answers=()):
            return read(path, PageFile.of_pages(place.page, place.page))

    def _text(self, path: UPath, file: PageFile, place: PageId) -> bytes:
        if file.is_bundle:
            return self._texts(path, file)[place.page - file.first]
        with _naming(path):
            return unpack(path.read_bytes())

    def _decoded(self, path: UPath, file: PageFile, place: PageId) -> LandedPage:
        text = self._text(path, file, place)
        with _naming(path):
            return decode_text(text)

    def _decoded_head(self, path: UPath, file: PageFile, place: PageId) -> Head:
        if file.is_bundle:
            text = self._texts(path, file)[place.page - file.first]
            with _naming(path):
                return head_of(text)
        with _naming(path):
            return decode_head(path.read_bytes())

    def _in_place(self, path: UPath, place: PageId, found: LandedPage) -> LandedPage:
        """``found``, if that is the page which belongs at ``place``: files get copied and renamed."""
        if (found.model_version_id, found.id) != (self.version, place):
            raise _damaged(path, f"it holds page {found.id} of model version {found.model_version_id}")
        return found

    def walks(self) -> list[WalkState]:
        """Where every walk stands, in ascending order of walk."""
        pages = (self.last_page(walk) for walk in self.walk_numbers())
        return [WalkState(page) for page in pages if page is not None]

    def latest_walk(self, listing: Mapping[str, Any]) -> WalkState | None:
        """Where the newest walk of a listing stands; None if it was never walked.

        The newest is the one whose last page was fetched last: a walk that came from another lake has a high
        number, and may be an old one all the same.
        """
        mine = [walk for walk in self.walks() if walk.last.listing == listing]
        return max(mine, key=lambda walk: (walk.last.fetched_at, walk.last.id), default=None)

    def next_sequence(self) -> int:
        """The sequence number of the next page to land."""
        return max((walk.last.sequence for walk in self.walks()), default=0) + 1

    def order(self, covered: Mapping[int, int] | None = None) -> list[PageId]:
        """The places of the landed pages, in the order in which they landed.

        Args:
            covered: How far to skip: the number of pages already seen of each walk.

        Raises:
            LakeError: The ledger cannot be read, or a page's file is damaged.
        """
        skip = covered or {}
        walks = [
            [PageId(walk, page) for page in range(skip.get(walk, 0) + 1, self.page_count(walk) + 1)]
            for walk in self.walk_numbers()
        ]
        walks = [pages for pages in walks if pages]
        if len(walks) == 1:
            return walks[0]
        return list(heapq.merge(*walks, key=lambda page: (self.head(page).sequence, page)))

    def pages(self, covered: Mapping[int, int] | None = None) -> Iterator[LandedPage]:
        """The landed pages in the order in which they landed.

        Args:
            covered: How far to skip: the number of pages already seen of each walk.

        Raises:
            LakeError: The ledger cannot be read, or a page's file is damaged.
        """
        return map(self.read, self.order(covered))

    def items(self, page: LandedPage) -> list[Any]:
        """What a page showed; for a confirmation, the items of the page it repeats that were shown again.

        Raises:
            LakeError: The repeated page cannot be read.
        """
        if page.confirms is None:
            return page.items
        repeated = self.read(page.confirms).items
        if not page.absent:
            return repeated
        return [item for item in repeated if not (isinstance(item, dict) and item.get("id") in page.absent)]

    def holds(self, page: LandedPage) -> bool:
        """Whether this very page, and no other writer's, stands at its place."""
        try:
            there = self.read(page.id)
        except LakeError:
            return False
        return (there.run_id, there.sequence, there.fetched_at) == (page.run_id, page.sequence, page.fetched_at)

    def land(self, page: LandedPage, raw_body: bytes | None) -> None:
        """Puts a page at its place in the ledger, for good.

        Args:
            page: The page.
            raw_body: The API's JSON as it came; None for a confirmation.

        Raises:
            PageExistsError: Another writer landed it first; nothing was changed.
            LakeError: The lake cannot be written.
        """
        path = self.lake.page(self.version, page.id.walk, page.id.page)
        try:
            create_exclusively(self.lake.root, path, encode(page, raw_body))
        except FileExistsError:
            raise PageExistsError(
                f"page {page.id} of model version {self.version} was landed by another process; "
                "let only one collect a version at a time, then run again"
            ) from None


def _unpack_bundle(path: UPath, file: PageFile) -> list[bytes]:
    data = path.read_bytes()
    with _naming(path):
        return texts_in(data, file.last - file.first + 1)


@contextmanager
def _naming(path: UPath) -> Iterator[None]:
    """Names the file in what is said of a damaged page."""
    try:
        yield
    except DamagedPageError as error:
        raise _damaged(path, str(error)) from error
    except NewerPageError as error:
        raise NewerPageError(
            f"{path} was written by a newer release: {error}; go on with the newer release (nothing was changed)"
        ) from error


def _damaged(path: UPath, why: str) -> DamagedPageError:
    return DamagedPageError(
        f"{path} is damaged ({why}); bring it back from a backup, or move it and the pages of its walk "
        "after it away and collect again"
    )


def _head(path: UPath) -> LandedPage:
    """A page without its items."""
    stat = path.stat()
    return _remembered_head(path, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=4096)
def _remembered_head(path: UPath, _mtime_ns: int, _size: int) -> LandedPage:
    """Pages never change, so a sensor need not parse the same one every minute; a lake made anew does."""
    with _naming(path):
        return replace(decode(path.read_bytes()), items=[])

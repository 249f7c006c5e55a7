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

from civitai_pipeline.lake.bundles import MOST_LOOKS, PageFile, WalkFiles, list_walk, list_walks, texts_in
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
    from collections.abc import Callable, Collection, Iterator, Mapping

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

    def walk_folders(self) -> list[int]:
        """The walks that have a folder, with or without pages in it, in ascending order.

        Raises:
            LakeError: The ledger cannot be read.
        """
        return list_walks(self.lake.pages(self.version))

    def walk_numbers(self) -> list[int]:
        """The walks that have pages, in ascending order.

        Raises:
            LakeError: The ledger cannot be read.
        """
        return [walk for walk in self.walk_folders() if self._listed(walk).files]

    def page_count(self, walk: int) -> int:
        """The number of the last page that has landed in a walk; 0 if none has.

        Raises:
            LakeError: The ledger cannot be read, or a page in its midst is missing and was not set aside.
        """
        listed = self._listed(walk)
        if listed.missing is not None:
            raise self._missing(PageId(walk, listed.missing))
        return listed.last

    def page_numbers(self, walk: int) -> list[int]:
        """The numbers of a walk's pages that are there, in ascending order.

        Raises:
            LakeError: The ledger cannot be read.
        """
        self._listed(walk)
        return sorted(self._places[walk])

    def set_aside(self, walk: int) -> frozenset[int]:
        """The numbers of a walk's pages that were once set aside, fetched again or not.

        Raises:
            LakeError: The ledger cannot be read.
        """
        return self._listed(walk).aside

    def gaps(self, walk: int) -> list[int]:
        """The numbers of the pages in the midst of a walk that were set aside and not fetched again, ascending.

        Raises:
            LakeError: The ledger cannot be read.
        """
        return self._listed(walk).gaps

    def all_gaps(self) -> frozenset[PageId]:
        """The gaps of all walks.

        Raises:
            LakeError: The ledger cannot be read.
        """
        return frozenset(PageId(walk, page) for walk in self.walk_folders() for page in self.gaps(walk))

    def is_gap(self, page: PageId) -> bool:
        """Whether a page was set aside and not fetched again.

        Raises:
            LakeError: The ledger cannot be read.
        """
        # Confirmations ask this of one page over and over.
        if page.page in self._places.get(page.walk, {}):
            return False
        listed = self._listed(page.walk)
        return page.page in listed.aside and page.page not in self._places[page.walk]

    def covered(self) -> dict[int, int]:
        """The number of the last page of each walk: how far the ledger reaches."""
        return {walk: self.page_count(walk) for walk in self.walk_numbers()}

    def file_of(self, page: PageId) -> tuple[UPath, PageFile]:
        """The file that holds a page, or would hold it.

        Raises:
            LakeError: The ledger cannot be read.
        """
        if page.page not in self._places.get(page.walk, {}):
            self._listed(page.walk)
        file = self._places[page.walk].get(page.page) or PageFile.of_pages(page.page, page.page)
        return self.lake.walk(self.version, page.walk) / file.name, file

    def _listed(self, walk: int) -> WalkFiles:
        listed = list_walk(self.lake.walk(self.version, walk))
        self._places[walk] = listed.by_page()
        return listed

    def _missing(self, page: PageId) -> LakeError:
        path = self.lake.page(self.version, page.walk, page.page)
        return LakeError(f"{path} is missing from the ledger; {mending(self.version)}")

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
            found = self._decoded(path, file, place) if file.is_bundle else _head(path, self.version)
            return self._in_place(path, place, found)

        return self._look(place, read)

    def _look(self, place: PageId, read: Callable[[UPath, PageFile], _Found]) -> _Found:
        """What ``read`` makes of the file that holds a page, wherever compaction has put it meanwhile."""
        for _ in range(MOST_LOOKS):
            path, file = self.file_of(place)
            try:
                with explained(path, "read", answers=(FileNotFoundError, IsADirectoryError)):
                    return read(path, file)
            except IsADirectoryError:
                raise _damaged(path, "it is a folder", self.version) from None
            except FileNotFoundError:
                self._listed(place.walk)
                if place.page not in self._places[place.walk]:
                    break
        raise self._missing(place)

    def _text(self, path: UPath, file: PageFile, place: PageId) -> bytes:
        if file.is_bundle:
            return self._texts(path, file, self.version)[place.page - file.first]
        with _naming(path, self.version):
            return unpack(path.read_bytes())

    def _decoded(self, path: UPath, file: PageFile, place: PageId) -> LandedPage:
        text = self._text(path, file, place)
        with _naming(path, self.version):
            return decode_text(text)

    def _decoded_head(self, path: UPath, file: PageFile, place: PageId) -> Head:
        if file.is_bundle:
            text = self._texts(path, file, self.version)[place.page - file.first]
            with _naming(path, self.version):
                return head_of(text)
        with _naming(path, self.version):
            return decode_head(path.read_bytes())

    def _in_place(self, path: UPath, place: PageId, found: LandedPage) -> LandedPage:
        """``found``, if that is the page which belongs at ``place``: files get copied and renamed."""
        if (found.model_version_id, found.id) != (self.version, place):
            why = f"it holds page {found.id} of model version {found.model_version_id}"
            raise _damaged(path, why, self.version)
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
        last = max((walk.last.sequence for walk in self.walks()), default=0)
        # A page fetched again into a gap landed later than the pages behind it.
        again = (self.head(page).sequence for walk in self.walk_numbers() for page in self._fetched_again(walk))
        return max([last, *again]) + 1

    def _fetched_again(self, walk: int) -> list[PageId]:
        aside = self.set_aside(walk)
        return [PageId(walk, page) for page in self._places[walk] if page in aside]

    def order(self, covered: Mapping[int, int] | None = None, gaps: Collection[PageId] = ()) -> list[PageId]:
        """The places of the landed pages, in the order in which they landed.

        Args:
            covered: How far to skip: the number of the last page already seen of each walk.
            gaps: The pages up to there that were gaps, and so not seen.

        Raises:
            LakeError: The ledger cannot be read, or a page's file is damaged.
        """
        skip = covered or {}
        rows: list[list[PageId]] = []
        for walk in self.walk_numbers():
            self.page_count(walk)
            there = (PageId(walk, page) for page in sorted(self._places[walk]))
            pages = [page for page in there if page.page > skip.get(walk, 0) or page in gaps]
            again = frozenset(self._fetched_again(walk))
            rows += [[page] for page in pages if page in again]
            rows.append([page for page in pages if page not in again])
        rows = [row for row in rows if row]
        if len(rows) == 1:
            return rows[0]
        return list(heapq.merge(*rows, key=lambda page: (self.head(page).sequence, page)))

    def pages(self, covered: Mapping[int, int] | None = None, gaps: Collection[PageId] = ()) -> Iterator[LandedPage]:
        """The landed pages in the order in which they landed.

        Args:
            covered: How far to skip: the number of the last page already seen of each walk.
            gaps: The pages up to there that were gaps, and so not seen.

        Raises:
            LakeError: The ledger cannot be read, or a page's file is damaged.
        """
        return map(self.read, self.order(covered, gaps))

    def items(self, page: LandedPage) -> list[Any]:
        """What a page showed; for a confirmation, the items of the page it repeats that were shown again.

        Nothing is known of them where that page was set aside, even if it was fetched again since.

        Raises:
            LakeError: The repeated page cannot be read.
        """
        if page.confirms is None:
            return page.items
        if self.is_gap(page.confirms):
            return []
        repeated = self.read(page.confirms)
        if repeated.sequence > page.sequence:
            return []
        if not page.absent:
            return repeated.items
        return [item for item in repeated.items if not (isinstance(item, dict) and item.get("id") in page.absent)]

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


def _unpack_bundle(path: UPath, file: PageFile, version: int) -> list[bytes]:
    data = path.read_bytes()
    with _naming(path, version):
        return texts_in(data, len(file.pages))


def mending(version: int) -> str:
    """What to do about a page that is damaged or gone."""
    return (
        f"civitai-pipeline check {version} --repair sets it aside and the next collect fetches it again; "
        "or bring it back from a backup"
    )


@contextmanager
def _naming(path: UPath, version: int) -> Iterator[None]:
    """Names the file in what is said of a page that cannot be read."""
    try:
        yield
    except DamagedPageError as error:
        raise _damaged(path, str(error), version) from error
    except NewerPageError as error:
        raise NewerPageError(
            f"{path} was written by a newer release: {error}; go on with the newer release (nothing was changed)"
        ) from error


def _damaged(path: UPath, why: str, version: int) -> DamagedPageError:
    return DamagedPageError(f"{path} is damaged ({why}); {mending(version)}")


def _head(path: UPath, version: int) -> LandedPage:
    """A page without its items."""
    stat = path.stat()
    return _remembered_head(path, version, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=4096)
def _remembered_head(path: UPath, version: int, _mtime_ns: int, _size: int) -> LandedPage:
    """Pages never change, so a sensor need not parse the same one every minute; a lake made anew does."""
    with _naming(path, version):
        return replace(decode(path.read_bytes()), items=[])

"""Bundles, and which file of a walk's folder holds which page.

A bundle is one file with the text of several landed pages in a row, each as it landed to the last byte. Which pages
are put into one is decided in ``compaction``; what a page's text means, in ``pages``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import zstandard

from civitai_pipeline.lake.files import explained, is_local
from civitai_pipeline.lake.pages import DamagedPageError, unpack
from civitai_pipeline.lake.paths import PAGE_SUFFIX, pages_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from upath import UPath

# Longer than any number that a folder or page can get.
MAX_DIGITS = 9
# A bundle holds no more text than that: to read one of its pages is to unpack it all, which takes some 10 ms then.
MOST_TEXT_BYTES = 16 << 20
MOST_PAGES = 1000
# A compaction under way changes a folder a few hundred times; each look that finds it changed is one of these.
MOST_LOOKS = 100

# JSON text sequences, RFC 7464: no JSON holds the first byte, while bodies keep the line breaks they came with.
_BEFORE, _AFTER = b"\x1e", b"\n"
# The window reaches over the whole bundle, so that a page fetched again costs only what changed of it.
_COMPRESSION = zstandard.ZstdCompressionParameters.from_level(
    9, window_log=24, enable_ldm=True, write_checksum=1, write_content_size=1
)
_PAGES = rf"(\d{{1,{MAX_DIGITS}}})(?:-(\d{{1,{MAX_DIGITS}}}))?"
_NAME = re.compile(_PAGES + re.escape(PAGE_SUFFIX), re.ASCII)
# Pages set aside: the damaged file itself, or a file that stands for a page which was gone. Numbers at the end tell
# several of one place apart.
_SET_ASIDE = re.compile(_PAGES + r"\.(?:damaged|missing)\d*", re.ASCII)


class PageFile(NamedTuple):
    """A file of a walk's folder.

    Attributes:
        first: The first page it holds.
        last: The last one; the same for a page by itself.
        name: The file's name.
    """

    first: int
    last: int
    name: str

    @property
    def is_bundle(self) -> bool:
        """Whether it holds several pages."""
        return self.first != self.last

    @property
    def pages(self) -> range:
        """The numbers of its pages."""
        return range(self.first, self.last + 1)

    @classmethod
    def of_pages(cls, first: int, last: int) -> PageFile:
        """The file of the pages from ``first`` to ``last``: a bundle, or one page by itself."""
        return cls(first, last, pages_name(first, last))

    @classmethod
    def named(cls, name: str) -> PageFile | None:
        """The file called ``name``; None for one that holds no pages."""
        found = _NAME.fullmatch(name)
        if found is None:
            return None
        first, last = int(found[1]), int(found[2] or found[1])
        file = cls.of_pages(first, last)
        # As it would be written, so that no two files stand for one page.
        return file if 0 < first <= last and file.name == name else None


@dataclass(frozen=True)
class WalkFiles:
    """What is in a walk's folder.

    Attributes:
        files: The files to read, in the order of their pages.
        superseded: Files whose pages are all in a bundle as well: what a compaction that was killed left behind.
        marks: The names of the files that say which pages were once set aside, fetched again or not.
    """

    files: tuple[PageFile, ...]
    superseded: tuple[PageFile, ...]
    marks: tuple[str, ...]

    @classmethod
    def of(cls, names: Iterable[str]) -> WalkFiles:
        """What the files of these names hold; others are passed over."""
        names = list(names)
        found = (PageFile.named(name) for name in names)
        kept: list[PageFile] = []
        superseded: list[PageFile] = []
        # Of files that begin at one page, the one that reaches furthest comes first.
        for file in sorted((file for file in found if file is not None), key=lambda file: (file.first, -file.last)):
            (superseded if kept and file.last <= kept[-1].last else kept).append(file)
        return cls(tuple(kept), tuple(superseded), tuple(sorted(filter(_SET_ASIDE.fullmatch, names))))

    @property
    def aside(self) -> frozenset[int]:
        """The pages that were once set aside, fetched again or not."""
        marks = (mark for mark in map(_SET_ASIDE.fullmatch, self.marks) if mark is not None)
        return frozenset(page for mark in marks for page in range(int(mark[1]), int(mark[2] or mark[1]) + 1))

    def by_page(self) -> Mapping[int, PageFile]:
        """The file of each page."""
        found: dict[int, PageFile] = {}
        for file in self.files:
            for page in file.pages:
                found.setdefault(page, file)
        return found

    @property
    def last(self) -> int:
        """The last page; 0 if there is none."""
        return max((file.last for file in self.files), default=0)

    @property
    def absent(self) -> list[int]:
        """The pages that are in none of the files, though a later one is, in ascending order."""
        absent: list[int] = []
        reached = 0
        for file in self.files:
            absent += range(reached + 1, file.first)
            reached = max(reached, file.last)
        return absent

    @property
    def missing(self) -> int | None:
        """The first absent page that was not set aside; None without one."""
        aside = self.aside
        return next((page for page in self.absent if page not in aside), None)

    @property
    def gaps(self) -> list[int]:
        """The absent pages that were set aside and not fetched again, in ascending order."""
        aside = self.aside
        return [page for page in self.absent if page in aside]


def list_walks(folder: UPath) -> list[int]:
    """The numbers of the walks that have a folder in a version's, in ascending order.

    Raises:
        LakeError: It cannot be read.
    """
    with explained(folder, "read"):
        if not folder.is_dir():
            return []
        names = (path.name for path in folder.iterdir())
        numbers = (int(name) for name in names if name.isascii() and name.isdigit() and len(name) <= MAX_DIGITS)
        return sorted({number for number in numbers if number})


def list_walk(folder: UPath) -> WalkFiles:
    """What is in a walk's folder.

    Raises:
        LakeError: It cannot be read.
    """
    found = WalkFiles.of(_names(folder))
    for _ in range(MOST_LOOKS):
        if found.missing is None:
            break
        # Listed while a compaction is at work, a folder can show neither a page's own file nor the bundle that has
        # just taken its place. What two looks in a row agree on is so.
        before, found = found, WalkFiles.of(_names(folder))
        if found == before:
            break
    return found


def _names(folder: UPath) -> list[str]:
    with explained(folder, "read"):
        if not is_local(folder):
            # Clients of object stores remember listings.
            folder.fs.invalidate_cache()
        return [path.name for path in folder.iterdir()] if folder.is_dir() else []


def pack(texts: Sequence[bytes]) -> bytes:
    """The bytes of a bundle of the pages with these texts.

    Raises:
        DamagedPageError: A text is no JSON.
    """
    if any(_BEFORE in text for text in texts):
        raise DamagedPageError("it holds a byte that JSON does not")
    joined = b"".join(part for text in texts for part in (_BEFORE, text, _AFTER))
    return zstandard.ZstdCompressor(compression_params=_COMPRESSION).compress(joined)


def texts_in(data: bytes, pages: int) -> list[bytes]:
    """The texts of the pages in a bundle, in their order.

    Args:
        data: The bundle's bytes.
        pages: How many its name says it holds.

    Raises:
        DamagedPageError: ``data`` is no such bundle.
    """
    text = unpack(data)
    if not text.startswith(_BEFORE) or not text.endswith(_AFTER):
        raise DamagedPageError("it is no bundle")
    texts = [part.removesuffix(_AFTER) for part in text[1:].split(_BEFORE)]
    if len(texts) != pages:
        raise DamagedPageError(f"it holds {len(texts)} pages instead of {pages}")
    return texts

"""Where everything in a lake lies. No other module builds a path."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from upath import UPath

from civitai_pipeline.lake.files import LakeError, explained, is_local, temporary, write_flushed

if TYPE_CHECKING:
    from civitai_pipeline.lake.schemas import Table

MAX_VERSION_ID = 2**31 - 1
PAGE_SUFFIX = ".json.zst"
_DIGEST = re.compile(r"[0-9a-f]{8,64}")


def check_version(version: int) -> int:
    """``version`` if it can be a model version's id, which alone may become part of a path.

    Raises:
        ValueError: It cannot.
    """
    if type(version) is not int or not 1 <= version <= MAX_VERSION_ID:
        raise ValueError(f"{version!r} is not a model version id")
    return version


@dataclass(frozen=True)
class Lake:
    """The folder or bucket that holds everything.

    Attributes:
        root: Where it is.
    """

    root: UPath

    @classmethod
    def at(cls, location: str) -> Lake:
        """The lake at a path or URL; it need not exist yet.

        Raises:
            LakeError: Nothing can be at such a place.
        """
        try:
            root = UPath(location.removeprefix("file://"))
            if not is_local(root):
                _ = root.fs  # needs the store's own package
            return cls(UPath(Path(str(root)).expanduser().absolute()) if is_local(root) else root)
        except (ValueError, RuntimeError, ImportError) as error:
            raise LakeError(f"CIVITAI_LAKE cannot be {location!r}: {error}") from error

    def check_writable(self) -> None:
        """Makes sure that files can be created, before anything is asked of the API.

        Raises:
            LakeError: They cannot; the message says why and what to do.
        """
        with temporary(self.root, "probe") as scratch, explained(self.root, "write to"):
            write_flushed(scratch, b"")

    def pages(self, version: int) -> UPath:
        """The folder of a version's walks."""
        return self.root / "pages" / str(check_version(version))

    def walk(self, version: int, walk: int) -> UPath:
        """The folder of one walk's pages."""
        return self.pages(version) / f"{walk:04d}"

    def page(self, version: int, walk: int, page: int) -> UPath:
        """The file of one landed page."""
        return self.walk(version, walk) / pages_name(page, page)

    def table(self, table: Table, version: int) -> UPath:
        """The file of one table of a version."""
        return self.root / table.name / f"{check_version(version)}.parquet"

    def lock(self, version: int) -> UPath:
        """The file whose lock says that a process is collecting the version."""
        return self.root / ".locks" / str(check_version(version))

    @property
    def lookups(self) -> UPath:
        """The folder of what the API answered about resources, for all versions."""
        return self.root / "lookups"

    @property
    def lookup_lock(self) -> UPath:
        """The file whose lock says that a process is asking about resources."""
        return self.root / ".locks" / "lookups"

    @property
    def reports(self) -> UPath:
        """The folder of the HTML reports."""
        return self.root / "reports"

    @property
    def exports(self) -> UPath:
        """The folder of the exports."""
        return self.root / "exports"

    def imported(self, digest: str) -> UPath:
        """The folder of what an import of the older tool's file kept aside.

        Raises:
            ValueError: ``digest`` is no digest, which alone may become part of a path.
        """
        if not _DIGEST.fullmatch(digest):
            raise ValueError(f"{digest!r} is not a file's digest")
        return self.root / "imports" / digest

    @property
    def author_key(self) -> UPath:
        """The file of the key that exports hash user names with."""
        return self.root / ".keys" / "authors"

    @property
    def database(self) -> UPath:
        """The DuckDB file of views."""
        return self.root / "civitai.duckdb"

    def versions(self) -> list[int]:
        """The model versions of which pages have landed, in ascending order.

        Raises:
            LakeError: The lake cannot be read.
        """
        folder = self.root / "pages"
        with explained(folder, "read"):
            if not folder.is_dir():
                return []
            return sorted(int(path.name) for path in folder.iterdir() if _is_version(path.name) and path.is_dir())


def pages_name(first: int, last: int) -> str:
    """The name of the file of the pages from ``first`` to ``last`` of a walk, or of one page by itself."""
    return f"{first:06d}{PAGE_SUFFIX}" if first == last else f"{first:06d}-{last:06d}{PAGE_SUFFIX}"


def _is_version(name: str) -> bool:
    # As it would be written, so that no two folders stand for one version.
    plain = name.isascii() and name.isdigit() and not name.startswith("0") and len(name) <= len(str(MAX_VERSION_ID))
    return plain and int(name) <= MAX_VERSION_ID

"""What a check finds, and how it is mended."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from upath import UPath

    from civitai_pipeline.lake.pages import PageId


class Kind(StrEnum):
    """What a finding is about, and so what mends it."""

    DAMAGED_PAGE = "damaged_page"
    MISSING_PAGE = "missing_page"
    GAP = "gap"
    BROKEN_WALK = "broken_walk"
    LOST_PAGES = "lost_pages"
    UNREADABLE = "unreadable"
    TABLE = "table"
    LOOKUPS = "lookups"
    DATABASE = "database"
    TEMPORARY = "temporary"


@dataclass(frozen=True)
class Finding:
    """Something in a lake that is not as it should be.

    Attributes:
        kind: What it is about.
        path: The file.
        problem: What is wrong, in a few words.
        mend: What mends it: a command, or a sentence.
        version: The model version; None where it is of none.
        place: The page it is about; None where it is about none.
        table: The table's name; None where it is about none.
        passes: Whether it is nothing while a run of the version is under way.
    """

    kind: Kind
    path: UPath
    problem: str
    mend: str
    version: int | None = None
    place: PageId | None = None
    table: str | None = None
    passes: bool = False

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}; {self.mend}"

    def as_dict(self) -> dict[str, Any]:
        """The finding as JSON values."""
        return {
            "file": str(self.path),
            "kind": self.kind.value,
            "model_version_id": self.version,
            "problem": self.problem,
            "mend": self.mend,
        }


def repair(version: int | None = None) -> str:
    """The command that mends what can be mended without the API."""
    return f"civitai-pipeline check{'' if version is None else f' {version}'} --repair"

"""Whether an answer leads a walk back to where it has been: what keeps a walk from never ending.

Over ids and cursors alone; nothing here sends a request or lands a page.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from civitai_pipeline.civitai.listing import Cursor

# Images inserted behind a walk show it some of the page before again, on the second page some of the first. To show
# half of the first on a later one, more than a page of them would have to come in between two requests.
_FIRST_BEYOND_CHANCE = 3


@dataclass
class Trail:
    """Where a walk has been.

    Attributes:
        asked: The cursors that this run has asked for or is about to.
        first_ids: The ids on the walk's first page; empty if they say nothing of the pages to come.
        previous_ids: The ids on the page before the next one; empty likewise.
        tells_changed: Whether the first page is recognised although it has changed meanwhile. A walk that was at its
            end is gone on with months later, when its listing may honestly have moved by pages.
    """

    asked: set[Cursor] = field(default_factory=set)
    first_ids: list[Any] = field(default_factory=list)
    previous_ids: list[Any] = field(default_factory=list)
    tells_changed: bool = True

    def circle(self, number: int, ids: list[Any], next_cursor: Cursor | None) -> str | None:
        """What is wrong with a page that leads back, as words to follow "the API"; None if it leads on.

        Args:
            number: The page's number in its walk.
            ids: The ids of its items; None for an item that has none.
            next_cursor: The cursor it gives; None at the end.
        """
        if next_cursor in self.asked:
            return f"gave the cursor {next_cursor!r} a second time"
        # Items without an id cannot be told apart, so a page of nothing else proves no repetition.
        if ids == self.previous_ids and any(image_id is not None for image_id in ids):
            return "gave the same page twice"
        if self._is_first_page(number, ids):
            return "began again at the first page"
        return None

    def _is_first_page(self, number: int, ids: list[Any]) -> bool:
        # Compared as far as both reach, since a run may ask for larger pages than the one before it.
        shared = min(len(ids), len(self.first_ids))
        if shared and ids[0] is not None and ids[:shared] == self.first_ids[:shared]:
            return True
        if not self.tells_changed or number < _FIRST_BEYOND_CHANCE:
            return False
        # Deletions at the front change the first page and the cursor it gives, so neither is known again as a whole.
        again = len(_known(ids) & _known(self.first_ids))
        return 2 * again > max(len(ids), len(self.first_ids))

    def go_on(self, number: int, ids: list[Any], next_cursor: Cursor) -> None:
        """Notes a page that led on."""
        if number == 1:
            self.first_ids = ids
        self.previous_ids = ids
        self.asked.add(next_cursor)


def _known(ids: list[Any]) -> set[int]:
    return {image_id for image_id in ids if isinstance(image_id, int)}

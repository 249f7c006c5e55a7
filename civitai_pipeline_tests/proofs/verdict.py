"""What a proof says in the end, as one line of the table that ``make prove`` prints."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from civitai_pipeline_tests.proofs.grounds import print_table

if TYPE_CHECKING:
    from collections.abc import Iterable

COLUMNS = ("what", "how many", "lost", "duplicated", "seconds", "verdict")


@dataclass(frozen=True)
class Verdict:
    """What one thing that was tried came to.

    Attributes:
        what: What was tried, in a few words.
        how_many: How often or with how much, in figures.
        lost: Pages, rows or images that should be there and are not.
        duplicated: Pages, rows or images that are there more than once.
        problems: What else did not hold; empty if all did.
        seconds: How long it took by the clock.
    """

    what: str
    how_many: str
    lost: int = 0
    duplicated: int = 0
    problems: tuple[str, ...] = field(default=())
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether nothing is amiss."""
        return not (self.lost or self.duplicated or self.problems)

    def cells(self) -> tuple[str, ...]:
        """The line, one text for each of ``COLUMNS``."""
        verdict = "ok" if self.ok else "FAILED: " + ("; ".join(self.problems) or "see the counts")
        return self.what, self.how_many, str(self.lost), str(self.duplicated), f"{self.seconds:.0f}", verdict


def print_verdicts(title: str, verdicts: Iterable[Verdict]) -> None:
    """Prints the table on standard output."""
    print_table(title, COLUMNS, (verdict.cells() for verdict in verdicts))

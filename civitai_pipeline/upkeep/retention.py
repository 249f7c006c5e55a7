"""Which records of runs are old enough to go, and which must stay however old they are."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from datetime import datetime

# A quarter shows whether something has changed for the worse; what is older lies in the lake, as pages and counts.
KEEP_DAYS = 90
# The last run of each job and version says where it stands, whatever its age.
KEEP_RUNS = 1


@dataclass(frozen=True)
class EndedRun:
    """A finished run.

    Attributes:
        run_id: The run.
        job: What it carried out.
        partition: The model version it was for; None for none.
        ended_at: When it ended.
    """

    run_id: str
    job: str
    partition: str | None
    ended_at: datetime


def expired(
    runs: Iterable[EndedRun], needed: Collection[str], now: datetime, *, keep_days: float, keep_runs: int
) -> list[EndedRun]:
    """The runs whose records may go, the oldest first.

    Args:
        runs: All finished runs.
        needed: Ids of runs that must stay, because something shown comes from them alone.
        now: The time.
        keep_days: Younger runs stay.
        keep_runs: Of each job and version, so many of the newest stay however old they are.
    """
    seen: Counter[tuple[str, str | None]] = Counter()
    old = []
    for run in sorted(runs, key=lambda run: run.ended_at, reverse=True):
        seen[run.job, run.partition] += 1
        is_kept = seen[run.job, run.partition] <= keep_runs or run.run_id in needed
        if not is_kept and now - run.ended_at >= timedelta(days=keep_days):
            old.append(run)
    return old[::-1]

"""The kill proof's short form; the long one is ``make prove``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .kill import kill_and_resume

if TYPE_CHECKING:
    from pathlib import Path

    from .warm import Warm


def test_runs_killed_at_drawn_moments_leave_a_whole_lake_and_a_summary_each(warm: Warm, tmp_path: Path) -> None:
    # A seed that draws a run without a summary of its own, which is killed while it lands pages.
    done = kill_and_resume(warm, kills=3, seed=172, folder=tmp_path)
    assert done.after.ok, done
    assert set(done.phases) == {"landing", "categories", "report"}
    assert done.summaries == 3

"""The upkeep proof's short form; the long one is ``make prove``. What it proves of records is in ``test_pruning``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .grounds import hurry
from .upkeep import backup_killed, compaction_killed, compaction_watched

if TYPE_CHECKING:
    from pathlib import Path


def test_compactions_killed_at_random_moments_leave_every_page_once(tmp_path: Path) -> None:
    verdict = compaction_killed(20, 150, seed=3, folder=tmp_path)
    assert verdict.ok, verdict


def test_no_page_seems_missing_while_many_are_put_together(tmp_path: Path) -> None:
    # Fewer would be listed in one go, and a folder never be seen half way.
    verdict = compaction_watched(1, 2500, folder=tmp_path)
    assert verdict.ok, verdict


def test_copies_killed_while_pages_land_are_sound_as_far_as_they_got(tmp_path: Path) -> None:
    with hurry():
        verdict = backup_killed(60, seed=3, folder=tmp_path)
    assert verdict.ok, verdict

"""The soak's short form; the long one is ``make prove``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .grounds import hurry
from .soak import soak

if TYPE_CHECKING:
    from pathlib import Path


def test_a_walk_under_fire_ends_complete_and_like_a_clean_one(tmp_path: Path) -> None:
    with hurry():
        done = soak(pages=60, seed=3, folder=tmp_path)
    assert done.comparison.ok, done
    assert done.faults.total() > 10
    assert len(done.runs) > 2

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from civitai_pipeline.collect import collector
from civitai_pipeline.sandbox import Sandbox, World

from .stage import VERSION, Stage, items

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collector, "EMPTY_END_PAUSE_S", 0.0)


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """Twelve images to collect, and an empty lake."""
    with Sandbox(World.from_items(items(12), VERSION)) as server:
        yield Stage(server, tmp_path / "lake")

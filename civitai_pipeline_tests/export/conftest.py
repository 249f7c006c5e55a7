from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from civitai_pipeline.lake.paths import Lake

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """An empty lake that does not exist yet."""
    return Lake.at(str(tmp_path / "lake"))

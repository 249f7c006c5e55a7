from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from .landing import Pages

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def pages(tmp_path: Path) -> Pages:
    """An empty ledger."""
    return Pages(tmp_path / "lake")

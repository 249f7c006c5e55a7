from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from civitai_pipeline.lake.ledger import Ledger
from civitai_pipeline.lake.paths import Lake
from civitai_pipeline_tests.lake.examples import VERSION
from civitai_pipeline_tests.lake.test_compaction import polled

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """A version that was polled twenty times, in a lake with a look-up, a secret and an import beside it."""
    ledger = Ledger(Lake.at(str(tmp_path / "lake")), VERSION)
    polled(ledger, 20)
    for name, text in (("lookups/hash/0a.jsonl", "{}\n"), (".keys/authors", "key"), ("imports/ab/rows.jsonl", "[]")):
        path = tmp_path / "lake" / name
        path.parent.mkdir(parents=True)
        path.write_text(text)
    return ledger


@pytest.fixture
def target(tmp_path: Path) -> Lake:
    """A place for a copy that does not exist yet."""
    return Lake.at(str(tmp_path / "copy"))

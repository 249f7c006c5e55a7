"""An instance and a lake for the sensors, apart from everybody else's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg
import pytest

from civitai_pipeline.lake.paths import Lake

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def instance(
    dagster_home: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[dg.DagsterInstance]:
    assert dagster_home.is_dir()
    assert environment
    monkeypatch.setenv("CIVITAI_RETRY_BUDGET", "0")
    monkeypatch.setenv("CIVITAI_WATCHLIST", str(dagster_home.parent / "watchlist.yaml"))
    monkeypatch.delenv("CIVITAI_FAILURE_WEBHOOK", raising=False)
    with dg.DagsterInstance.get() as instance:
        yield instance


@pytest.fixture
def lake(environment: dict[str, str]) -> Lake:
    return Lake.at(environment["CIVITAI_LAKE"])

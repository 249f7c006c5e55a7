"""Fixtures that several folders of tests share: a lake and an instance of their own, and the stand-in."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING
from unittest.mock import patch

import pytest
from hypothesis import settings

from civitai_pipeline.instance import prepare_home
from civitai_pipeline.sandbox import Sandbox, World
from civitai_pipeline_tests.proofs.warm import Warm

if TYPE_CHECKING:
    from collections.abc import Iterator

# How long one example takes says how busy the machine is. What must be quick is measured against something else.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")

_MEMORY = Path("/dev/shm")  # noqa: S108 - where Linux has files in memory
_VARIABLES = (
    "CIVITAI_BASE_URL",
    "CIVITAI_API_KEY",
    "CIVITAI_LAKE",
    "CIVITAI_MIN_REQUEST_INTERVAL",
    "CIVITAI_TIMEOUT",
    "CIVITAI_RETRY_BUDGET",
    "CIVITAI_BROWSING_LEVEL",
    "CIVITAI_WATCHLIST",
    "CIVITAI_TAXONOMY",
    "CIVITAI_REPORT_URL",
    "CIVITAI_FAILURE_WEBHOOK",
    "DAGSTER_HOME",
)


@pytest.fixture
def stand_in() -> Iterator[Sandbox]:
    """A small stand-in of its own, which a test may change and break."""
    with Sandbox(World.synthetic(seed=7, images=400)) as server:
        yield server


@pytest.fixture(scope="session")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warm]:
    """A process to fork others from, which knows nothing of the settings of whoever runs the tests."""
    with patch.dict(os.environ):
        for name in [name for name in os.environ if name.startswith(("CIVITAI_", "DAGSTER_"))]:
            del os.environ[name]
        parent = Warm(tmp_path_factory.mktemp("calls"))
    with parent:
        yield parent


@pytest.fixture
def in_memory(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory where the machine has such: Dagster commits its records a thousand times a run."""
    if not os.access(_MEMORY, os.W_OK):
        yield tmp_path
        return
    with TemporaryDirectory(prefix="civitai_pipeline-", dir=_MEMORY) as folder:
        yield Path(folder)


def point_at(url: str, lake: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Makes an environment of a stand-in, a lake and an instance, whatever this process's own says."""
    for name in _VARIABLES:
        monkeypatch.delenv(name, raising=False)
    variables = {
        "CIVITAI_BASE_URL": url,
        "CIVITAI_LAKE": str(lake),
        "CIVITAI_MIN_REQUEST_INTERVAL": "0",
        "CIVITAI_TIMEOUT": "5",
        "CIVITAI_RETRY_BUDGET": "2",
        "DAGSTER_HOME": str(home),
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return variables


@pytest.fixture
def environment(stand_in: Sandbox, tmp_path: Path, in_memory: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """An environment that points at the stand-in, an empty lake and an instance of its own."""
    return point_at(stand_in.url, tmp_path / "lake", in_memory / "dagster", monkeypatch)


@pytest.fixture
def dagster_home(environment: dict[str, str]) -> Path:
    """The instance's folder, prepared as the command line prepares it."""
    home = Path(environment["DAGSTER_HOME"])
    prepare_home(home)
    return home

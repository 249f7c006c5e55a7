from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from civitai_pipeline.sandbox import Sandbox, World

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def world() -> World:
    """A world no test changes."""
    return World.synthetic(seed=3, images=1500)


@pytest.fixture(scope="session")
def server(world: World) -> Iterator[Sandbox]:
    """A server in its default modes over the world no test changes."""
    with Sandbox(world) as running:
        yield running

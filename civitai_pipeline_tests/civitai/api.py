"""What these tests share: a version with a few items, a server of it, and a client that does not dawdle."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from civitai_pipeline.civitai.client import CivitaiClient
from civitai_pipeline.civitai.failures import ApiFailure
from civitai_pipeline.civitai.listing import Listing
from civitai_pipeline.sandbox import FaultRule, FaultSchedule, Sandbox, SandboxOptions, World

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from civitai_pipeline.civitai.payloads import ImagePage

VERSION = 910011
MODEL = 9001
KEY = "s3cret-0123456789abcdef"
LISTING = Listing(VERSION)


def items(count: int, **more: object) -> list[dict[str, Any]]:
    """API-shaped items with the ids 1 to ``count``."""
    return [
        {
            "id": number,
            "url": f"https://image.civitai.com/{number}.jpeg",
            "type": "image",
            "browsingLevel": 1,
            "createdAt": "2026-08-01T09:15:30.123Z",
            "meta": {"prompt": f"kite number {number}"},
            **more,
        }
        for number in range(1, count + 1)
    ]


@contextmanager
def serving(
    *rules: FaultRule, options: SandboxOptions | None = None, gallery: list[Any] | None = None
) -> Iterator[Sandbox]:
    """A server of one version, whose requests suffer ``rules``."""
    world = World.from_items(items(5) if gallery is None else gallery, VERSION, MODEL)
    with Sandbox(world, options, faults=FaultSchedule(rules)) as server:
        yield server


def client_of(server: Sandbox, key: str | None = None, **bounds: Any) -> CivitaiClient:  # noqa: ANN401 - its arguments
    """A client without spacing and with short patience."""
    return CivitaiClient(
        server.url, key, **{"min_request_interval": 0.0, "timeout": 5.0, "retry_budget": 5.0, **bounds}
    )


def fetch(client: CivitaiClient, limit: int = 100, cursor: str | int | None = None) -> ImagePage:
    """A page of the version's gallery."""
    return client.images(LISTING, limit=limit, cursor=cursor)


def failure_of(ask: Callable[[], object]) -> ApiFailure:
    """The failure that asking ends with."""
    with pytest.raises(ApiFailure) as caught:
        ask()
    return caught.value


def seconds_of(ask: Callable[[], object]) -> float:
    """How long asking takes."""
    started = time.monotonic()
    ask()
    return time.monotonic() - started

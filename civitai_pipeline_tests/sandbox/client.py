"""A small client for these tests: asks, and walks a listing to its end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import requests

from civitai_pipeline_tests.items import api_item, stats

if TYPE_CHECKING:
    from civitai_pipeline.sandbox import Sandbox

TIMEOUT_S = 10
# Kept-alive connections halve the time of these tests; threads may share its pool.
SESSION = requests.Session()
Json = dict[str, Any]


def get(server: Sandbox, path: str = "images", /, **params: object) -> requests.Response:
    """A GET; ``path`` is below ``/api/v1/``."""
    url = f"{server.url}/api/v1/{path}"
    return SESSION.get(url, params=params, timeout=TIMEOUT_S, allow_redirects=False)  # type: ignore[arg-type]  # any value


def page(server: Sandbox, **params: object) -> Json:
    """The body of a listing's page, which must be a 200."""
    response = get(server, "images", **params)
    assert response.status_code == 200, response.text
    body: Json = response.json()
    return body


def pages(server: Sandbox, **params: object) -> list[Json]:
    """All pages of a walk, following cursors to the end."""
    walked = [page(server, **params)]
    while "nextCursor" in walked[-1]["metadata"]:
        assert len(walked) < 2000, "a walk without end"
        walked.append(page(server, **{**params, "cursor": walked[-1]["metadata"]["nextCursor"]}))
    return walked


def ids(*walked: Json) -> list[int]:
    """The ids of pages' items, in order."""
    return [item["id"] for body in walked for item in body["items"]]


def item(image_id: int, **fields: object) -> Json:
    """An API-shaped item that is liked the more the higher its id."""
    return api_item(image_id, **{"stats": stats(laugh=0, like=image_id, heart=0, comment=0), **fields})

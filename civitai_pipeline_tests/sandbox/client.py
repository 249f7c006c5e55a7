"""A small client for these tests: asks, and walks a listing to its end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import requests

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
    """An API-shaped item."""
    return {
        "id": image_id,
        "url": f"https://image.civitai.com/a/{image_id}/original=true/{image_id}.jpeg",
        "hash": None,
        "width": 832,
        "height": 1216,
        "nsfwLevel": "None",
        "type": "image",
        "nsfw": False,
        "browsingLevel": 1,
        "createdAt": "2026-08-01T09:15:30.123Z",
        "postId": 16000777,
        "stats": {
            "cryCount": 0, "laughCount": 0, "likeCount": image_id, "dislikeCount": 0, "heartCount": 0,
            "commentCount": 0,
        },
        "meta": {"prompt": f"kite number {image_id}"},
        "username": "maker_one",
        "baseModel": "Illustrious",
        "modelVersionIds": [910011],
        **fields,
    }  # fmt: skip

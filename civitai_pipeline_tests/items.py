"""An item as the API gives it, for tests that change one thing about it."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]


def api_item(image_id: int, **fields: object) -> Json:
    """An ordinary item of the API, with some fields as given and none left out."""
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
        "stats": stats(),
        "meta": {"prompt": f"kite number {image_id}"},
        "username": "maker_one",
        "baseModel": "Illustrious",
        "modelVersionIds": [910011],
        **fields,
    }


def stats(*, cry: int = 0, laugh: int = 1, like: int = 2, dislike: int = 0, heart: int = 3, comment: int = 4) -> Json:
    """What people did with an image."""
    return {
        "cryCount": cry,
        "laughCount": laugh,
        "likeCount": like,
        "dislikeCount": dislike,
        "heartCount": heart,
        "commentCount": comment,
    }

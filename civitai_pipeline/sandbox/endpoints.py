"""Every endpoint but ``/images``: models, versions, look-ups by hash, ``/me``; and which path is which.

Takes a request apart and returns a reply. Bodies of models are in ``catalog.py``, listings in ``listing.py``.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from civitai_pipeline.sandbox.catalog import model_body, version_body
from civitai_pipeline.sandbox.images import encode
from civitai_pipeline.sandbox.params import js_number
from civitai_pipeline.sandbox.replies import PRIVATE, PUBLIC, PUBLIC_BY_HASH, ApiError, Reply

if TYPE_CHECKING:
    from collections.abc import Mapping

    from civitai_pipeline.sandbox.options import SandboxOptions
    from civitai_pipeline.sandbox.world import World

PREFIX = "/api/v1/"
_INT4 = 2**31 - 1
_KINDS = ("images", "model-versions", "models", "me")


def kind_of(path: str) -> str:
    """What a path is for: ``images``, ``models``, ``model-versions``, ``me``, or ``other``."""
    first = path.removeprefix(PREFIX).split("/")[0] if path.startswith(PREFIX) else ""
    return first if first in _KINDS else "other"


def session_key(authorization: str, query: Mapping[str, str], options: SandboxOptions) -> str | None:
    """The key of the session a request has, or None. A key that is not known is no error.

    The header's second word is the key, whatever the scheme; a key without a scheme is not seen.
    """
    words = authorization.split()
    key = words[1] if len(words) > 1 else query.get("token", "") if not words else ""
    return key if key in options.api_keys else None


class Endpoints:
    """Answers requests that are not listings. Safe for many threads."""

    def __init__(self, world: World, options: SandboxOptions) -> None:
        self.world = world
        self.options = options

    def reply(self, method: str, path: str, key: str | None) -> Reply:
        """The reply to a request.

        Args:
            method: The HTTP method.
            path: The URL's path.
            key: The session's key, or None.

        Raises:
            ApiError: The API answers with an error.
        """
        parts = path.removeprefix(PREFIX).rstrip("/").split("/")
        match parts:
            case ["me"]:
                return self._me(key)
            case ["models", model_id]:
                return self._model(model_id)
            case ["model-versions", "by-hash", digest]:
                return self._by_hash(digest)
            case ["model-versions", version_id]:
                return self._version(method, version_id, key)
            case _:
                raise ApiError(404, {"error": "Not found"})

    def _me(self, key: str | None) -> Reply:
        if key is None:
            raise ApiError(401, {"error": "Unauthorized"}, {"Cache-Control": PRIVATE})
        return Reply(200, encode({"id": 1, "username": "sandbox_user"}), {"Cache-Control": PRIVATE})

    def _model(self, text: str) -> Reply:
        number = js_number(text)
        problem = _integer_problem(number)
        if number is None or problem is not None:
            raise ApiError(400, {"error": _pretty(problem)})
        with self.world.lock:
            model = self.world.models.get(int(number))
            versions = [version for version in self.world.versions_of(int(number)) if version.files]
            if model is None or not versions:
                raise ApiError(404, {"error": f"No model with id {int(number)}"})
            showcases = {version.id: self.world.gallery(version.id) for version in versions}
            return Reply(200, encode(model_body(model, versions, showcases)))

    def _version(self, method: str, text: str, key: str | None) -> Reply:
        if method not in {"GET", "HEAD"}:
            raise ApiError(405, {"error": "Method not allowed"})
        number = js_number(text)
        if number is None:
            raise ApiError(400, {"error": _pretty(_integer_problem(number))})
        if not number:
            raise ApiError(400, {"error": "Missing modelVersionId"})
        if abs(number) > _INT4:
            raise ApiError(500, {"error": "Failed to fetch model version details"})
        headers = {"Cache-Control": PUBLIC if key is None else PRIVATE}
        return Reply(200, self._version_json(int(number)), headers)

    def _by_hash(self, digest: str) -> Reply:
        headers = {"Cache-Control": PUBLIC_BY_HASH}
        version = self.world.by_hash(digest) if re.fullmatch(r"[0-9A-Za-z]+", digest) else None
        if version is None:
            raise ApiError(404, {"error": "Model not found"}, headers)
        return Reply(200, self._version_json(version.id), headers)

    def _version_json(self, version_id: int) -> bytes:
        with self.world.lock:
            version = self.world.versions.get(version_id)
            if version is None or not version.published:
                raise ApiError(404, {"error": "Model not found"})
            if not version.files:
                raise ApiError(404, {"error": "Missing model file"})
            return encode(
                version_body(self.world.models[version.model_id], version, self.world.gallery(version_id)[:10])
            )


def _integer_problem(number: float | None) -> str | None:
    if number is None:
        return "Invalid input: expected number, received NaN"
    if number != int(number):
        return "Invalid input: expected int, received number"
    if number <= 0:
        return "Too small: expected number to be >0"
    return f"Too big: expected number to be <={_INT4}" if number > _INT4 else None


def _pretty(problem: str | None) -> str:
    # How zod writes errors for people.
    return f"\N{HEAVY MULTIPLICATION X} {problem}\n  \N{RIGHTWARDS ARROW} at id"

"""What an endpoint hands to the server: a status, a body and headers; and the API's error bodies.

Nothing here knows a socket. Broken replies are made in ``faults.py`` and ``wire.py``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from civitai_pipeline.sandbox.images import encode

if TYPE_CHECKING:
    from civitai_pipeline.sandbox.options import SandboxOptions

PUBLIC = "public, s-maxage=300, stale-while-revalidate=150"
PUBLIC_BY_HASH = "public, s-maxage=3600, stale-while-revalidate=1800"
PRIVATE = "private, no-store"
PAGING_CAP = {"error": "You've requested too many pages, please use cursors instead"}
REGION_BLOCKED = {
    "error": "Access to this service is not available in your region due to legal restrictions.",
    "code": "REGION_BLOCKED",
}
CURSOR_DEAD = {"message": "This cursor can no longer be continued; start again without it"}
CURSOR_FILTERS = {"message": "This cursor cannot be continued with these filters"}


@dataclass
class Reply:
    """An answer, before it goes on the wire.

    Attributes:
        status: The HTTP status.
        body: The body's bytes.
        headers: Headers beyond the ones every reply has.
        content_type: The body's type.
    """

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=lambda: {"Cache-Control": PUBLIC})
    content_type: str = "application/json; charset=utf-8"


class ApiError(Exception):
    """The endpoint answers with an error."""

    def __init__(self, status: int, body: object, headers: dict[str, str] | None = None) -> None:
        super().__init__(f"{status}")
        self.reply = Reply(status, encode(body), headers or {"Cache-Control": PUBLIC})


def error_body(options: SandboxOptions, message: str, code: str | None = None) -> dict[str, str]:
    """An error's body in the style the options ask for."""
    if options.error_style == "newer":
        return {"message": message}
    return {"error": message, "code": code} if code else {"error": message}

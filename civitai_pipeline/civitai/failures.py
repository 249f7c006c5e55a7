"""Every way a request can fail, classified in one place.

A failure says what was seen and what to do next, whether asking again helps, and why a run that meets it
stops. An error is never the end of the data: nothing here maps to an empty page.
"""

from __future__ import annotations

import html
import re
from email.utils import parsedate_to_datetime
from enum import Enum
from typing import TYPE_CHECKING, Any

from civitai_pipeline import jsontext

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

# The whole explanation of an error must fit a terminal; a zod error or an HTML page may be far longer.
MAX_DETAIL = 300

# The permanent 429 of page * limit > 1000; retrying it kept the older tool busy for 19 hours.
PAGING_CAP_TEXT = "requested too many pages"

TOO_MANY_REQUESTS = 429


class FailureKind(Enum):
    """A kind of failure: its name, whether asking again helps, and the stop reason it ends a run with."""

    TRANSPORT = ("transport", True, "api_unavailable")
    SERVER_ERROR = ("server_error", True, "api_unavailable")
    UNDECODABLE = ("undecodable", True, "api_unavailable")
    THROTTLED = ("throttled", True, "rate_limited")
    PAGING_CAP = ("paging_cap", False, "rejected")
    CURSOR_LOST = ("cursor_lost", False, "rejected")
    NOT_FOUND = ("not_found", False, "rejected")
    REFUSED = ("refused", False, "rejected")
    REDIRECTED = ("redirected", False, "rejected")
    CONTRACT_CHANGED = ("contract_changed", False, "contract_changed")

    def __init__(self, label: str, retryable: bool, stop_reason: str) -> None:  # noqa: FBT001 - a row of a table
        self.label = label
        self.retryable = retryable
        self.stop_reason = stop_reason


class ApiFailure(Exception):  # noqa: N818 - the failures of the API, whose kind carries the rest
    """A request that brought no usable answer.

    Attributes:
        kind: What kind of failure it is.
        status: The HTTP status, if there was one.
        retry_after: Seconds the server asked to wait, if it did.
        is_in_words: Whether the API itself said why, as JSON; a proxy or a wrong address answers otherwise.
    """

    def __init__(
        self,
        kind: FailureKind,
        message: str,
        *,
        status: int | None = None,
        retry_after: float | None = None,
        is_in_words: bool = False,
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.status = status
        self.retry_after = retry_after
        self.is_in_words = is_in_words

    @property
    def message(self) -> str:
        """What happened and what to do next, in one line."""
        return str(self.args[0])


_ADVICE = {
    400: "the API finds fault with the request",
    401: "check CIVITAI_API_KEY, or unset it to collect anonymously",
    403: "the API denies access; try another CIVITAI_API_KEY, or another network",
    404: "there is no such thing, or it was unpublished",
    451: "the API serves no callers from this country",
}


def classify_status(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    *,
    sent_cursor: bool,
    now: datetime,
    redact: Callable[[str], str] = str,
) -> ApiFailure:
    """The failure that an HTTP status other than 200 means.

    Args:
        status: The HTTP status.
        headers: The answer's headers.
        body: The answer's body, or its beginning.
        sent_cursor: Whether the request carried a cursor, which a 400 may then be about.
        now: The time against which a ``Retry-After`` date is read.
        redact: Takes secrets out of what the body says.
    """
    detail = error_detail(body, redact)
    retry_after = parse_retry_after(headers.get("Retry-After"), now)
    if status == TOO_MANY_REQUESTS:
        if PAGING_CAP_TEXT in detail:
            kind, advice = FailureKind.PAGING_CAP, "this limit on pages is permanent, waiting does not help"
        else:
            kind, advice = (
                FailureKind.THROTTLED,
                "too many requests; raise CIVITAI_MIN_REQUEST_INTERVAL if it recurs",
            )
    elif status >= 500 or status in {408, 425}:  # noqa: PLR2004 - HTTP's own numbers
        kind, advice = FailureKind.SERVER_ERROR, "the API has trouble; run again later"
    elif status == 400 and sent_cursor and "cursor" in detail.lower():  # noqa: PLR2004 - HTTP's own number
        kind, advice = FailureKind.CURSOR_LOST, "the walk must be started anew"
    elif status == 404:  # noqa: PLR2004 - HTTP's own number
        kind, advice = FailureKind.NOT_FOUND, _ADVICE[404]
    else:
        kind, advice = FailureKind.REFUSED, _ADVICE.get(status, "the API refuses the request")
    said = f": {detail}" if detail else ""
    return ApiFailure(
        kind,
        f"HTTP {status}{said} ({advice})",
        status=status,
        retry_after=retry_after,
        is_in_words=bool(detail) and _is_object(body),
    )


def _is_object(body: bytes) -> bool:
    try:
        return isinstance(jsontext.loads(body), dict)
    except jsontext.InvalidJsonError:
        return False


def error_detail(body: bytes, redact: Callable[[str], str] = str) -> str:
    """What an error body says, in one printable line of at most ``MAX_DETAIL`` characters.

    The API has been seen to answer with ``{error}``, ``{error, code}``, ``{message}``, ``{message, error}``,
    a ZodError whose issues are JSON text inside ``error.message``, and HTML. Secrets are taken out of the text
    when all its escapes have been read, and before it is cut, so that no half of one can remain.
    """
    try:
        text = _detail_of_json(jsontext.loads(body))
    except jsontext.InvalidJsonError:
        text = _detail_of_text(body.decode("utf-8", "replace"), redact)
    # Control characters would reach terminals, and lone surrogates cannot be written to any file.
    text = redact(" ".join("".join(c if c.isprintable() else " " for c in text).split()))
    return text if len(text) <= MAX_DETAIL else text[: MAX_DETAIL - 1] + "…"


def _detail_of_json(value: Any) -> str:  # noqa: ANN401 - any JSON value
    if isinstance(value, str):
        return value
    if not isinstance(value, dict):
        return ""
    error, message = value.get("error"), value.get("message")
    if isinstance(error, dict):
        return _detail_of_zod(error)
    return " ".join(part for part in (message, error) if isinstance(part, str))


def _detail_of_zod(error: dict[str, Any]) -> str:
    message = error.get("message")
    if not isinstance(message, str):
        return ""
    try:
        issues = jsontext.loads(message)
        return "; ".join(f"{'.'.join(map(str, issue['path']))}: {issue['message']}" for issue in issues)
    except (ValueError, TypeError, KeyError):
        return message


def _detail_of_text(text: str, redact: Callable[[str], str]) -> str:
    title = re.search(r"<title[^>]*>(.*?)</title>", text[:5000], re.IGNORECASE | re.DOTALL)
    if title:
        # In quotes, a secret that holds some is spelled otherwise.
        return f"an HTML page, {redact(' '.join(html.unescape(title.group(1)).split()))!r}"
    return "an HTML page" if "<html" in text[:1000].lower() else text


def parse_retry_after(value: str | None, now: datetime) -> float | None:
    """The seconds that a ``Retry-After`` header asks to wait; None if it asks nothing readable."""
    if value is None:
        return None
    value = value.strip()
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        return max(0.0, (parsedate_to_datetime(value) - now).total_seconds())
    except (ValueError, TypeError, OverflowError):
        return None

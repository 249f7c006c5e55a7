"""The replies of faults that answer properly but with the wrong thing.

Pure functions of the fault and, for some, the true reply. Faults of the connection are in ``wire.py``.
"""

from __future__ import annotations

import time
from email.utils import formatdate
from typing import TYPE_CHECKING

from civitai_pipeline.sandbox.images import decode, encode
from civitai_pipeline.sandbox.replies import (
    CURSOR_DEAD,
    CURSOR_FILTERS,
    PAGING_CAP,
    PUBLIC,
    REGION_BLOCKED,
    Reply,
    error_body,
)

if TYPE_CHECKING:
    from civitai_pipeline.sandbox.faults import Fault
    from civitai_pipeline.sandbox.options import SandboxOptions

_HTML = "text/html; charset=UTF-8"


def replacing(fault: Fault, options: SandboxOptions) -> Reply:
    """The reply of a fault that does not ask the endpoint."""
    makers = {
        "rate_limited": _rate_limited,
        "busy": _overloaded,
        "brownout": _overloaded,
        "bad_gateway_html": _gateway,
        "timeout_html": _gateway,
        "html_200": _html_200,
    }
    if fault.name in makers:
        return makers[fault.name](fault)
    if fault.name == "invalid_json":
        return Reply(200, b"undefined")
    if fault.name == "redirect_elsewhere":
        return Reply(302, b"", {"Cache-Control": "no-store", "Location": fault.location})
    errors: dict[str, tuple[int, object]] = {
        "paging_cap": (429, PAGING_CAP),
        "server_error": (500, error_body(options, fault.message)),
        "cursor_dead": (400, CURSOR_DEAD),
        "cursor_filters": (400, CURSOR_FILTERS),
        "unauthorized": (401, error_body(options, "Unauthorized")),
        "forbidden": (403, error_body(options, "Forbidden", "FORBIDDEN")),
        "not_found": (404, error_body(options, "Not found", "NOT_FOUND")),
        "region_blocked": (451, REGION_BLOCKED),
    }
    status, body = errors[fault.name]
    return Reply(status, encode(body))


def reshaped(fault: Fault, reply: Reply) -> Reply:
    """A true reply whose body was cut or has lost its shape."""
    if fault.name == "cut_json":
        # Half, and never a whole document: an empty body is no JSON either.
        return Reply(reply.status, reply.body[: len(reply.body) // 2], reply.headers)
    body = decode(reply.body)
    fields = body if isinstance(body, dict) else {}
    shapes: dict[str, object] = {
        "wrong_shape_items_missing": {key: value for key, value in fields.items() if key != "items"},
        "wrong_shape_items_not_list": {**fields, "items": {"0": fields.get("items")}},
        "wrong_shape_metadata_missing": {key: value for key, value in fields.items() if key != "metadata"},
        "wrong_shape_top_level_list": fields.get("items", []),
    }
    return Reply(reply.status, encode(shapes[fault.name]), reply.headers)


def _retry_after(fault: Fault, default: str | None) -> dict[str, str]:
    given = fault.retry_after
    if given is None:
        value = default
    elif isinstance(given, str):
        value = given
    elif fault.http_date:
        value = formatdate(time.time() + given, usegmt=True)
    else:
        value = f"{given:g}"
    return {} if value is None else {"Retry-After": value}


def _rate_limited(fault: Fault) -> Reply:
    headers = {"Cache-Control": PUBLIC, "Server": "cloudflare"} | _retry_after(fault, None)
    if fault.html:
        return Reply(429, _page("Error 1015", "You are being rate limited"), headers, _HTML)
    return Reply(429, encode({"error": "Too many requests"}), headers)


def _overloaded(fault: Fault) -> Reply:
    message = (
        "Server busy, please retry shortly."
        if fault.name == "busy"
        else "Image search is temporarily overloaded \N{EM DASH} please retry."
    )
    return Reply(503, encode({"error": message}), {"Cache-Control": "no-store"} | _retry_after(fault, "2"))


def _gateway(fault: Fault) -> Reply:
    status, title = (502, "502 Bad Gateway") if fault.name == "bad_gateway_html" else (524, "524: A timeout occurred")
    headers = {"Cache-Control": "no-store", "Server": "cloudflare"} | _retry_after(fault, None)
    return Reply(status, _page(title, "civitai.com"), headers, _HTML)


def _html_200(_fault: Fault) -> Reply:
    return Reply(200, _page("Just a moment...", "Checking your browser before you continue"), content_type=_HTML)


def _page(title: str, text: str) -> bytes:
    head, body = f"<head><title>{title}</title></head>", f"<body><h1>{title}</h1><p>{text}</p></body>"
    return f"<!DOCTYPE html>\n<html>{head}{body}</html>\n".encode()

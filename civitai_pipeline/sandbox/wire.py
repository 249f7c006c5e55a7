"""How bytes go on the socket: properly, or in one of the ways connections fail.

Only delivery. What is delivered is decided before: see ``server.py``.
"""

from __future__ import annotations

import select
import socket
import struct
import time
from http import HTTPStatus
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import threading

    from civitai_pipeline.sandbox.faults import Fault
    from civitai_pipeline.sandbox.replies import Reply

_CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Headers": "*",
    "Access-Control-Allow-Methods": "GET",
}
_DRIPS = 20
_FLOOD = b'{"items":[' + b" " * 65_526
_POLL_S = 0.02
# Statuses http.HTTPStatus does not know.
_REASONS = {499: "Client Closed Request", 524: "A Timeout Occurred"}


def head_of(reply: Reply, extra: dict[str, str], length: int | None) -> bytes:
    """The status line and headers of a reply.

    Args:
        reply: The reply.
        extra: Headers of the server and the connection.
        length: ``Content-Length``, or None to leave it out.
    """
    reason = _REASONS.get(reply.status) or HTTPStatus(reply.status).phrase
    headers = {"Content-Type": reply.content_type, **_CORS, **extra, **reply.headers}
    if length is not None:
        headers["Content-Length"] = str(length)
    lines = [f"HTTP/1.1 {reply.status} {reason}", *(f"{name}: {value}" for name, value in headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def reset_on_close(connection: socket.socket) -> None:
    """Makes closing the socket send a reset instead of a farewell."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def is_gone(connection: socket.socket) -> bool:
    """Whether the other side has closed its connection."""
    readable, _, _ = select.select([connection], [], [], 0)
    return bool(readable) and connection.recv(1, socket.MSG_PEEK) == b""


def stall(connection: socket.socket, seconds: float, stop: threading.Event) -> None:
    """Says nothing until the time is over, the client leaves or the server stops."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and not stop.wait(_POLL_S) and not is_gone(connection):
        pass


def broken(connection: socket.socket, fault: Fault, reply: Reply, extra: dict[str, str], stop: threading.Event) -> None:
    """Delivers a reply in the way of a fault; the connection has to be closed afterwards."""
    extra = {**extra, "Connection": "close"}
    body = reply.body
    head = head_of(reply, extra, len(body))
    if fault.name == "stall":
        stall(connection, fault.seconds, stop)
    elif fault.name == "slow":
        connection.sendall(head)
        _drip(connection, body, fault.seconds, stop)
    elif fault.name == "truncated":
        connection.sendall(head_of(reply, extra, len(body) + 1000) + body)
    elif fault.name == "oversized":
        connection.sendall(head_of(reply, extra, None))
        sent = 0
        while sent < fault.size and not stop.is_set():
            connection.sendall(_FLOOD if not sent else b" " * len(_FLOOD))
            sent += len(_FLOOD)
    else:
        sent_first = {
            "reset_before": b"",
            "reset_headers": head[: len(head) // 2],
            "reset_mid_body": head + body[: len(body) // 2],
        }
        connection.sendall(sent_first[fault.name])
        reset_on_close(connection)


def _drip(connection: socket.socket, body: bytes, seconds: float, stop: threading.Event) -> None:
    size = max(1, -(-len(body) // _DRIPS))
    for start in range(0, len(body), size):
        if stop.wait(seconds / _DRIPS):
            return
        connection.sendall(body[start : start + size])

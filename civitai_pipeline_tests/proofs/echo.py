"""A server that throws whatever it is sent back at the client, in every place an answer has.

Belongs here: the answers. ``{echo}`` in one stands for the request as it came, ``{token}`` for its key.
"""

from __future__ import annotations

import gzip
import html
import json
import socketserver
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Answer = bytes


def _reply(status: str, body: bytes, **headers: str) -> Answer:
    fields = {"Content-Length": str(len(body)), "Connection": "close", "Content-Type": "application/json"}
    fields |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status}\r\n{lines}\r\n".encode("latin-1", "replace") + body


def _page(token: str, echo: str, cursor: str | None = None) -> bytes:
    meta = {"prompt": f"a kite {token}", "Model": token, token: token, "resources": [{"type": "lora", "name": token}]}
    metadata = {"echo": echo, token: token} | ({} if cursor is None else {"nextCursor": cursor})
    items = [{"id": 1, "username": token, "url": f"https://x/{token}", "meta": meta}, {"no id": token}, token]
    return json.dumps({"items": items, "metadata": metadata}).encode()


def _escaped(text: str) -> str:
    return "".join(f"\\u{ord(letter):04x}" for letter in text)


ANSWERS: dict[str, Callable[[str, str], Answer]] = {
    "a page": lambda token, echo: _reply("200 OK", _page(token, echo)),
    "a page, escaped": lambda token, echo: _reply(
        "200 OK", _page("TOKEN", echo).replace(b"TOKEN", _escaped(token).encode())
    ),
    "a page with the key as cursor": lambda token, echo: _reply("200 OK", _page(token, echo, token)),
    "headers": lambda token, echo: _reply(
        "200 OK", _page(token, echo), X_Echo=token, Set_Cookie=f"key={token}", WWW_Authenticate=f"Bearer {token}"
    ),
    **{
        f"{status} in words": lambda token, echo, status=status: _reply(  # type: ignore[misc]
            f"{status} {token}", json.dumps({"error": f"Bearer {token}", "message": echo}).encode()
        )
        for status in (400, 401, 403, 404, 418, 429, 451, 500, 503)
    },
    "a zod error": lambda token, echo: _reply(
        "400 Bad", json.dumps({"error": {"message": json.dumps([{"path": [token], "message": echo}])}}).encode()
    ),
    "an error page": lambda token, echo: _reply(
        "502 Bad", f"<html><title>{html.escape(token)} {html.escape(echo)}</title></html>".encode()
    ),
    "an error page of references": lambda token, _echo: _reply(
        "502 Bad", f"<html><title>{''.join(f'&#{ord(c)};' for c in token)}</title></html>".encode()
    ),
    "a page that is no JSON": lambda token, echo: _reply("200 OK", f"{token} {echo}".encode()),
    "another shape": lambda token, echo: _reply("200 OK", json.dumps({"items": token, "metadata": echo}).encode()),
    "a cursor that is none": lambda token, _echo: _reply(
        "200 OK", json.dumps({"items": [], "metadata": {"nextCursor": [token]}}).encode()
    ),
    "a status line": lambda token, echo: f"HTTP/1.1 {token} {echo[:50]}\r\n\r\n".encode("latin-1", "replace"),
    "no status line": lambda token, _echo: f"{token}\r\n\r\n".encode(),
    "a header that is none": lambda token, _echo: (
        f"HTTP/1.1 200 OK\r\n{token}\r\nContent-Length: {token}\r\n\r\n".encode()
    ),
    "a chunk that is none": lambda token, _echo: (
        f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{token}\r\n{token}".encode()
    ),
    "gzip that is none": lambda token, _echo: _reply("200 OK", token.encode(), Content_Encoding="gzip"),
    "half of a page": lambda token, echo: _reply("200 OK", _page(token, echo), Content_Length="100000"),
    "gzip": lambda token, echo: _reply("200 OK", gzip.compress(_page(token, echo)), Content_Encoding="gzip"),
    "Retry-After": lambda token, _echo: _reply("503 Busy", b"{}", Retry_After=token),
    "to the same host": lambda token, _echo: _reply("302 Found", b"", Location=f"/{token}?token={token}"),
    "to another host": lambda token, echo: _reply(
        "302 Found", token.encode(), Location=f"http://127.0.0.1:1/{token}?token={token}&{echo[:20]!r}"
    ),
    "to no address": lambda token, _echo: _reply("302 Found", b"", Location=f"http://[{token}"),
}


class Echo(socketserver.ThreadingTCPServer):
    """The server.

    Attributes:
        answer: Which of ``ANSWERS`` the next requests get.
        heads: The request heads received.
    """

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, answer: str) -> None:
        self.answer = answer
        self.heads: list[str] = []
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        """The base URL."""
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(socketserver.StreamRequestHandler):
    server: Any

    def handle(self) -> None:
        lines = []
        while (line := self.rfile.readline(65_536)) not in {b"\r\n", b"\n", b""}:
            lines.append(line.decode("latin-1").strip())
        if not lines:
            return
        self.server.heads.append("\n".join(lines))
        token = next((line.rpartition(" ")[2] for line in lines if line.lower().startswith("authorization:")), "none")
        try:
            self.wfile.write(ANSWERS[self.server.answer](token, " ".join(lines)))
        except ConnectionError:
            return


@contextmanager
def echoing(answer: str) -> Iterator[Echo]:
    """A running server."""
    with Echo(answer) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()

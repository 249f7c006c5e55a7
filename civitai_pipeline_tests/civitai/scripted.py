"""A server that says exactly the bytes it is given, for answers that no stand-in for a real API would give."""

from __future__ import annotations

import socketserver
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


class Scripted(socketserver.ThreadingTCPServer):
    """Answers every request with the same parts, pausing before each.

    Attributes:
        heads: The request heads received.
    """

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, parts: list[bytes], pause_s: float) -> None:
        self.parts, self.pause_s = parts, pause_s
        self.heads: list[str] = []
        self.stopping = threading.Event()
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        """The base URL."""
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(socketserver.StreamRequestHandler):
    server: Any

    def handle(self) -> None:
        lines = []
        while (line := self.rfile.readline()) not in {b"\r\n", b""}:
            lines.append(line.decode("latin-1").strip())
        self.server.heads.append("\n".join(lines))
        try:
            for part in self.server.parts:
                if self.server.pause_s and self.server.stopping.wait(self.server.pause_s):
                    return
                self.wfile.write(part)
        except ConnectionError:
            return


def answer(body: bytes, status: str = "200 OK", **headers: str) -> list[bytes]:
    """A whole answer in one part."""
    fields = {"Content-Length": str(len(body)), "Connection": "close"} | headers
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in fields.items())
    return [f"HTTP/1.1 {status}\r\n{lines}\r\n".encode("latin-1") + body]


@contextmanager
def scripted(parts: list[bytes], pause_s: float = 0.0) -> Iterator[Scripted]:
    """A running server."""
    with Scripted(parts, pause_s) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.stopping.set()
            server.shutdown()
            thread.join()

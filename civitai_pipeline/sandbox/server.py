"""The stand-in as an HTTP server on loopback: requests in, recorded, answered or spoiled.

Routing, recording, the edge cache and the life of the server. Answers come from ``listing.py`` and
``endpoints.py``, trouble from ``faults.py``.
"""

from __future__ import annotations

import errno
import socket
import sys
import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, replace
from email.utils import formatdate
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlsplit

from civitai_pipeline.sandbox.endpoints import Endpoints, kind_of, session_key
from civitai_pipeline.sandbox.faults import BREAKING, REPLACING, RESHAPING, TWISTING, FaultSchedule
from civitai_pipeline.sandbox.images import encode
from civitai_pipeline.sandbox.listing import Listing, ListingRequest
from civitai_pipeline.sandbox.options import SandboxError, SandboxOptions
from civitai_pipeline.sandbox.replies import REGION_BLOCKED, ApiError, Reply
from civitai_pipeline.sandbox.replies_of_faults import replacing, reshaped
from civitai_pipeline.sandbox.wire import broken, head_of

if TYPE_CHECKING:
    from email.message import Message
    from types import TracebackType
    from typing import Self

    from civitai_pipeline.sandbox.faults import Fault
    from civitai_pipeline.sandbox.world import World

_MAX_REQUEST_BODY = 1_000_000
_STOP_TIMEOUT_S = 2.0
_STOP_POLL_S = 0.01


@dataclass
class RecordedRequest:
    """A request the server received.

    Attributes:
        method: The HTTP method.
        path: The path, without the query.
        query: The parameters in the order received.
        headers: The headers; look-ups ignore case.
        status: The status answered; None while in progress and where no answer was sent.
        fault: The name of the fault it got, or None.
        at: When it came, on the monotonic clock, in seconds.
    """

    method: str
    path: str
    query: list[tuple[str, str]]
    headers: Message
    status: int | None = None
    fault: str | None = None
    at: float = 0.0

    def param(self, name: str) -> str | None:
        """The first value of a parameter, or None."""
        return next((value for key, value in self.query if key == name), None)


class Sandbox:
    """A running stand-in. A context manager; also started and stopped by hand.

    Args:
        world: The data to serve.
        options: The modes.
        faults: The trouble; can be changed while running through ``faults``.
        port: The port on loopback; 0 takes a free one.
    """

    def __init__(
        self, world: World, options: SandboxOptions | None = None, *, faults: FaultSchedule | None = None, port: int = 0
    ) -> None:
        self.world = world
        self.options = options or SandboxOptions()
        self.faults = faults or FaultSchedule()
        self.listing = Listing(world, self.options)
        self.endpoints = Endpoints(world, self.options)
        self.stopping = threading.Event()
        self._port = port
        self._requests: deque[RecordedRequest] = deque(maxlen=self.options.keep_requests)
        self._edge: dict[str, tuple[float, Reply]] = {}
        self._lock = threading.Lock()
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """The base URL, without a trailing slash."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def port(self) -> int:
        """The port listened on; the one asked for while not running."""
        return self._server.server_address[1] if self._server else self._port

    @property
    def requests(self) -> list[RecordedRequest]:
        """The requests so far, oldest first."""
        with self._lock:
            return list(self._requests)

    def forget_requests(self) -> None:
        """Empties ``requests``."""
        with self._lock:
            self._requests.clear()

    def start(self) -> Self:
        """Listens and answers in a background thread.

        Raises:
            SandboxError: The port is taken or not allowed.
        """
        try:
            self._server = _Server(self)
        except OSError as error:
            why = "is taken" if error.errno == errno.EADDRINUSE else f"cannot be used: {error.strerror}"
            raise SandboxError(f"port {self._port} {why}") from error
        self.stopping.clear()
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(_STOP_POLL_S,), name=f"sandbox-{self.port}", daemon=True
        )
        self._thread.start()
        return self

    def stop(self) -> None:
        """Closes all connections and stops listening. Harmless when not running."""
        if self._server is None or self._thread is None:
            return
        self.stopping.set()
        self._server.shutdown()
        self._server.disconnect_all()
        self._server.server_close()
        self._thread.join(_STOP_TIMEOUT_S)
        self._port = self.port
        self._server = self._thread = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def record(self, request: RecordedRequest) -> None:
        """Notes a request that came in."""
        with self._lock:
            self._requests.append(request)

    def answer(self, request: RecordedRequest, target: str, fault: Fault | None) -> Reply:
        """The reply to a request, as far as a fault leaves it whole.

        Args:
            request: The request.
            target: The request's path and query as sent, which is the edge cache's key.
            fault: The fault it gets, or None.
        """
        if fault is not None and fault.name in REPLACING:
            return replacing(fault, self.options)
        if fault is not None:
            reply = self._true_reply(request, fault)
            return reshaped(fault, reply) if fault.name in RESHAPING else reply
        now = time.monotonic()
        stored_until, cached = self._edge.get(target, (0.0, None))
        if cached is not None and now < stored_until:
            age = self.options.edge_cache_s - (stored_until - now)
            return replace(cached, headers=cached.headers | {"Age": str(int(age)), "CF-Cache-Status": "HIT"})
        reply = self._true_reply(request, None)
        if self.options.edge_cache_s and reply.status == HTTPStatus.OK and request.method == "GET":
            self._edge[target] = (now + self.options.edge_cache_s, reply)
        return reply

    def _true_reply(self, request: RecordedRequest, fault: Fault | None) -> Reply:
        if request.method == "OPTIONS":
            return Reply(200, b"")
        if self.options.region_blocked:
            return Reply(451, encode(REGION_BLOCKED))
        authorization = request.headers.get("Authorization", "")
        try:
            if kind_of(request.path) != "images" or request.path.rstrip("/") != "/api/v1/images":
                key = session_key(authorization, dict(reversed(request.query)), self.options)
                return self.endpoints.reply(request.method, request.path, key)
            listing = ListingRequest(
                tuple(request.query), request.headers.get("Host", "127.0.0.1"), request.path, authorization
            )
            twist = fault.name if fault is not None and fault.name in TWISTING else None
            return Reply(200, self.listing.page(listing, twist).body())
        except ApiError as error:
            return error.reply


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    # Many clients may connect at once in a test of concurrency.
    request_queue_size = 128

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self._connections: set[socket.socket] = set()
        self._lock = threading.Lock()
        super().__init__(("127.0.0.1", sandbox.port), _Handler)

    def process_request(self, request: socket.socket | tuple[bytes, socket.socket], client_address: object) -> None:
        assert isinstance(request, socket.socket)  # noqa: S101 - tells the type; only datagram servers get a tuple
        with self._lock:
            self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: socket.socket | tuple[bytes, socket.socket]) -> None:
        assert isinstance(request, socket.socket)  # noqa: S101 - as above
        lingers = request.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER)
        if lingers:
            # A reset is wanted: an orderly shutdown before it would make it an ordinary end.
            request.close()
        else:
            super().shutdown_request(request)
        with self._lock:
            self._connections.discard(request)

    def disconnect_all(self) -> None:
        """Ends the open connections and waits for their threads to notice."""
        with self._lock:
            for connection in self._connections:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        end = time.monotonic() + _STOP_TIMEOUT_S
        while self._connections and time.monotonic() < end:
            time.sleep(_STOP_POLL_S)

    def handle_error(self, request: socket.socket | tuple[bytes, socket.socket], client_address: object) -> None:
        # A client that leaves in the middle is part of the game.
        if not isinstance(sys.exc_info()[1], (ConnectionError, TimeoutError)):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        sandbox = self.server.sandbox
        url = urlsplit(self.path)
        query = parse_qsl(url.query, keep_blank_values=True)
        request = RecordedRequest(self.command, url.path, query, self.headers, at=time.monotonic())
        kind = kind_of(url.path)
        fault = sandbox.faults.next(kind, request.param("cursor") or "")
        request.fault = fault.name if fault else None
        sandbox.record(request)
        self._discard_body()
        if sandbox.options.latency_s:
            sandbox.stopping.wait(sandbox.options.latency_s)
        reply = sandbox.answer(request, self.path, fault)
        if fault is not None and fault.name in BREAKING:
            self.close_connection = True
            request.status = None if fault.name in {"reset_before", "reset_headers", "stall"} else reply.status
            broken(self.connection, fault, reply, self._own_headers(), sandbox.stopping)
            return
        request.status = reply.status
        extra = self._own_headers()
        if self.close_connection:
            extra["Connection"] = "close"
        body = b"" if self.command == "HEAD" else reply.body
        self.connection.sendall(head_of(reply, extra, len(reply.body)) + body)

    # Public endpoints of the API do not look at the method.
    do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = do_OPTIONS = do_GET  # noqa: N815 - http.server's names

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
        """Says nothing: requests are recorded instead."""

    def _own_headers(self) -> dict[str, str]:
        handled_by = self.server.sandbox.options.handled_by
        headers = {"Date": formatdate(usegmt=True)}
        if handled_by is not None:
            headers["X-Handled-By"] = handled_by
        return headers

    def _discard_body(self) -> None:
        # What is left unread would be taken for the next request of the connection.
        length = self.headers.get("Content-Length", "0")
        size = int(length) if length.isdecimal() else 0
        if size > _MAX_REQUEST_BODY or "Transfer-Encoding" in self.headers:
            self.close_connection = True
        else:
            self.rfile.read(size)

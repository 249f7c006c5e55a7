"""The lake's folder of reports over HTTP, on loopback alone, as ``civitai-pipeline reports`` serves it.

Files are read and sent, and nothing else: no listing of folders, no name that could lead out of the folder, no answer
to a page of another site whose name was made to mean this machine. What the reports say stands in ``report``.
"""

from __future__ import annotations

import mimetypes
import os
import re
import shutil
import sys
import threading
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from civitai_pipeline.civitai.hosts import is_loopback

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HOST = "127.0.0.1"
INDEX = "index.html"
# How soon the server notices that it is to stop.
STOP_POLL_S = 0.1
# What the reports' own files are called; a name with anything else in it is nobody's business.
_PART = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")
# By name rather than by the machine's table, in which scripts may be anything.
_TYPES = {".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".json": "application/json"}


class ReportServerError(Exception):
    """The reports cannot be served; the message says why and what to do."""


@contextmanager
def serving(folder: Path, port: int) -> Iterator[str]:
    """Serves a folder while the context is open; yields the address.

    Args:
        folder: The folder of reports.
        port: The port on loopback; 0 takes a free one.

    Raises:
        ReportServerError: There are no reports in the folder, or the port is taken.
    """
    if not (folder / INDEX).is_file():
        raise ReportServerError(f"there are no reports in {folder} yet; run civitai-pipeline collect VERSION")
    try:
        server = _Server((HOST, port), _Handler)
    except OSError as error:
        raise ReportServerError(
            f"port {port} on {HOST} cannot be used: {error.strerror}; choose another with --port"
        ) from None
    server.folder = folder.resolve()
    with server:
        thread = threading.Thread(target=server.serve_forever, args=(STOP_POLL_S,), name="reports", daemon=True)
        thread.start()
        try:
            yield f"http://{HOST}:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def file_at(folder: Path, target: str) -> Path | None:
    """The file that a request's target names; None where it names none of this folder.

    Args:
        folder: The folder, without links in its path.
        target: What stands behind the method in a request.
    """
    parts = unquote(urlsplit(target).path, errors="replace").removeprefix("/").split("/")
    if parts[-1] == "":
        parts[-1] = INDEX
    if not all(_PART.fullmatch(part) for part in parts):
        return None
    # A link in the folder must not lead out of it either.
    path = folder.joinpath(*parts).resolve()
    return path if path.is_relative_to(folder) and path.is_file() else None


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    folder: Path

    def handle_error(self, request: object, client_address: object) -> None:
        # A browser that closes a page while it loads is no trouble.
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]  # as they came


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    # A browser that keeps a connection open without asking anything would otherwise hold a thread for ever.
    timeout = 30

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def _answer(self, *, with_body: bool) -> None:
        # A site whose name was changed to mean this machine could otherwise read the reports in a visitor's browser.
        if not _is_this_machine(self.headers.get("Host", "")):
            self.send_error(HTTPStatus.MISDIRECTED_REQUEST)
            return
        path = _found(self.server.folder, self.path)
        try:
            file = None if path is None else path.open("rb")
        except OSError:
            file = None
        if path is None or file is None:
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        with file:
            self.send_response(HTTPStatus.OK)
            kind = _TYPES.get(path.suffix) or mimetypes.guess_type(path.name)[0] or "application/octet-stream"
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(os.fstat(file.fileno()).st_size))
            self.send_header("Cache-Control", "no-cache")
            self.send_header("X-Content-Type-Options", "nosniff")
            self.send_header("Referrer-Policy", "no-referrer")
            self.end_headers()
            if with_body:
                shutil.copyfileobj(file, self.wfile)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Says nothing: a line for each file would bury the address."""


def _found(folder: Path, target: str) -> Path | None:
    try:
        return file_at(folder, target)
    except (OSError, ValueError):
        # A name longer than the file system allows, or an address that is none.
        return None


def _is_this_machine(host: str) -> bool:
    try:
        return is_loopback(urlsplit(f"//{host}").hostname or "")
    except ValueError:
        return False

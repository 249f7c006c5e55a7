"""The reports over HTTP: the files of one folder, and nothing else of the machine."""

from __future__ import annotations

import socket
from http.client import HTTPConnection
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from civitai_pipeline.report_server import ReportServerError, file_at, serving

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    above = tmp_path_factory.mktemp("lake")
    reports = above / "reports"
    (reports / "part").mkdir(parents=True)
    for name in ("index.html", "910011.html", "plotly.min.js", "part/rows.json", ".hidden"):
        (reports / name).write_text(name, encoding="utf-8")
    (above / "secret.html").write_text("secret", encoding="utf-8")
    (reports / "link.html").symlink_to(above / "secret.html")
    return reports


@pytest.fixture(scope="module")
def port(folder: Path) -> Iterator[int]:
    with serving(folder, 0) as url:
        yield int(url.rpartition(":")[2])


def ask(port: int, target: str, *, method: str = "GET", host: str | None = None) -> tuple[int, bytes, str | None]:
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.putrequest(method, target, skip_host=host is not None)
        if host is not None:
            connection.putheader("Host", host)
        connection.endheaders()
        answer = connection.getresponse()
        return answer.status, answer.read(), answer.getheader("Content-Type")
    finally:
        connection.close()


def test_the_files_of_the_folder_are_served_with_their_types(port: int) -> None:
    assert ask(port, "/") == (200, b"index.html", "text/html; charset=utf-8")
    assert ask(port, "/910011.html?x=1#top") == (200, b"910011.html", "text/html; charset=utf-8")
    assert ask(port, "/plotly.min.js") == (200, b"plotly.min.js", "text/javascript; charset=utf-8")
    assert ask(port, "/part/rows.json") == (200, b"part/rows.json", "application/json")
    assert ask(port, "/910011.html", method="HEAD") == (200, b"", "text/html; charset=utf-8")


@pytest.mark.parametrize(
    "target",
    [
        "/../secret.html", "/%2e%2e/secret.html", "/..%2fsecret.html", "/part/../../secret.html", "//secret.html",
        "/link.html", "/.hidden", "/part", "/part/", "/nothing.html", "/..\\secret.html", "/index.html%00",
        "/" + "a" * 5000, "/etc/passwd", "http://[/secret.html",
    ],
)  # fmt: skip
def test_nothing_outside_the_folder_is_served(port: int, target: str) -> None:
    status, body, _ = ask(port, target, host="127.0.0.1")
    assert status == 404
    assert b"secret" not in body


@pytest.mark.parametrize(("host", "status"), [("localhost:1", 200), ("[::1]", 200), ("evil.test", 421), ("", 421)])
def test_only_names_of_this_machine_are_answered(port: int, host: str, status: int) -> None:
    assert ask(port, "/", host=host)[0] == status


def test_nothing_can_be_sent_there(port: int) -> None:
    assert ask(port, "/index.html", method="PUT")[0] == 501


def test_the_server_listens_on_loopback_alone_and_stops_listening(folder: Path) -> None:
    with serving(folder, 0) as url:
        port = int(url.rpartition(":")[2])
        assert url == f"http://127.0.0.1:{port}"
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0


def test_a_folder_without_reports_and_a_taken_port_are_one_line_each(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(ReportServerError, match="run civitai-pipeline collect"), serving(tmp_path / "none", 0):
        pass
    with serving(folder, 0) as url, pytest.raises(ReportServerError, match="choose another with --port"):
        serving(folder, int(url.rpartition(":")[2])).__enter__()


@given(st.text())
def test_whatever_is_asked_for_a_file_lies_in_the_folder(target: str) -> None:
    folder = Path(__file__).resolve().parent
    try:
        found = file_at(folder, target)
    except (OSError, ValueError):
        return
    assert found is None or found.is_relative_to(folder)

"""Where the API key goes, and where it never goes."""

from __future__ import annotations

import html
import json
import logging
import traceback
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus

import pytest

from civitai_pipeline.civitai.client import CivitaiClient
from civitai_pipeline.civitai.failures import FailureKind
from civitai_pipeline.civitai.redaction import REDACTED
from civitai_pipeline.sandbox import Fault, FaultRule, SandboxOptions
from civitai_pipeline_tests.civitai.api import (
    KEY,
    MODEL,
    VERSION,
    client_of,
    failure_of,
    fetch,
    items,
    seconds_of,
    serving,
)
from civitai_pipeline_tests.civitai.scripted import answer, scripted

if TYPE_CHECKING:
    from pathlib import Path

ODD_KEY = "odd+key/with=signs"
ESCAPED = "".join(f"\\u{ord(character):04x}" for character in KEY)


def test_the_key_travels_in_the_authorization_header_and_nowhere_else() -> None:
    with serving() as server:
        client = client_of(server, KEY)
        fetch(client, cursor="2|1")
        client.model_version(VERSION)
        client.model(MODEL)
        for request in server.requests:
            assert request.headers["Authorization"] == f"Bearer {KEY}"
            others = [value for name, value in request.headers.items() if name != "Authorization"]
            assert KEY not in " ".join([request.path, *others, *(value for pair in request.query for value in pair)])
        assert len(server.requests) == 3


def test_without_a_key_there_is_no_authorization_header() -> None:
    with serving() as server:
        fetch(client_of(server))
        assert "Authorization" not in server.requests[0].headers


def test_the_key_is_in_no_repr() -> None:
    with serving() as server:
        client = client_of(server, KEY)
    assert KEY not in repr(client) + repr(vars(client)["_session"].auth)


@pytest.mark.parametrize("key", [None, KEY])
def test_a_password_in_netrc_is_not_sent(key: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password hunter2\nmachine 127.1 login me password hunter2\n")
    monkeypatch.setenv("NETRC", str(netrc))
    with serving() as server:
        # 127.1 is this machine, but not by a name that the client knows as such: its environment is trusted.
        for host in ("127.0.0.1", "127.1"):
            fetch(CivitaiClient(f"http://{host}:{server.port}", key, min_request_interval=0.0))
        sent = [request.headers.get("Authorization") for request in server.requests]
    assert sent == [None if key is None else f"Bearer {key}"] * 2


def test_a_proxy_of_the_environment_sees_nothing_that_goes_to_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving() as proxy, serving() as server:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        fetch(client_of(server, KEY))
        assert len(server.requests) == 1
        assert proxy.requests == []


@pytest.mark.parametrize("scheme_and_host", ["http://127.0.0.1:{port}", "http://localhost:{own}", "//127.0.0.1:{port}"])
def test_a_redirect_to_another_host_is_refused_without_asking_it(scheme_and_host: str) -> None:
    with serving() as elsewhere, serving() as server:
        location = scheme_and_host.format(port=elsewhere.port, own=server.port) + f"/api/v1/images?token={KEY}"
        server.faults.add(Fault("redirect_elsewhere", location=location))
        failure = failure_of(lambda: fetch(client_of(server, KEY)))
        assert failure.kind is FailureKind.REDIRECTED
        assert KEY not in failure.message
        assert elsewhere.requests == []
        assert len(server.requests) == 1


def test_a_redirect_from_https_to_http_or_to_another_port_is_another_server() -> None:
    client = CivitaiClient("https://civitai.test", KEY)
    refused = ["http://civitai.test/", "https://civitai.test:444/", "https://civitai.test.evil/", "ftp://civitai.test/"]
    accepted = ["/x", "https://civitai.test/x", "https://civitai.test:443/x", "https://CIVITAI.test/x"]
    assert [_redirect(client, location) for location in refused] == [None] * 4
    assert None not in [_redirect(client, location) for location in accepted]
    assert _redirect(CivitaiClient("http://civitai.test"), "https://civitai.test/x") == "https://civitai.test/x"


def _redirect(client: CivitaiClient, location: str) -> str | None:
    import requests  # noqa: PLC0415 - here only

    from civitai_pipeline.civitai.failures import ApiFailure  # noqa: PLC0415 - here only

    response = requests.Response()
    response.status_code, response.url = 302, client._base_url + "/api/v1/images"
    response.headers["Location"] = location
    try:
        return client._redirect_target(response)
    except ApiFailure:
        return None


def test_a_redirect_on_the_same_host_is_followed_with_the_key() -> None:
    here = Fault("redirect_elsewhere", location=f"/api/v1/images?modelVersionId={VERSION}&limit=2&sort=Oldest")
    with serving(FaultRule(here, nth=1)) as server:
        page = fetch(client_of(server, KEY))
        assert [item["id"] for item in page.items] == [1, 2]
        assert [request.headers["Authorization"] for request in server.requests] == [f"Bearer {KEY}"] * 2


def test_a_redirect_in_circles_ends() -> None:
    here = Fault("redirect_elsewhere", location=f"/api/v1/images?modelVersionId={VERSION}")
    with serving(FaultRule(here)) as server:
        failure = failure_of(lambda: fetch(client_of(server)))
        assert failure.kind is FailureKind.REDIRECTED
        assert "circles" in failure.message
        assert len(server.requests) == 4


@pytest.mark.parametrize("location", ["http://[::1", "http://h:99999999/", "http://h:port/", "http://[x]/"])
def test_a_redirect_to_no_address_at_all_is_a_failure_like_others(location: str) -> None:
    with serving(FaultRule(Fault("redirect_elsewhere", location=location))) as server:
        assert failure_of(lambda: fetch(client_of(server))).kind is FailureKind.REDIRECTED


def test_the_body_of_a_redirect_is_not_read() -> None:
    head = b"HTTP/1.1 302 Found\r\nLocation: http://elsewhere.test/\r\n\r\n"
    with scripted([head, *[b" " * 2**16] * 10_000], pause_s=0.001) as server:
        client = CivitaiClient(server.url, min_request_interval=0.0, timeout=1.0)
        assert seconds_of(lambda: failure_of(lambda: fetch(client))) < 1.0


@pytest.mark.parametrize("spelled", [quote(ODD_KEY, ""), ODD_KEY, quote(ODD_KEY, "+="), quote_plus(ODD_KEY)])
def test_a_redirect_that_puts_the_key_into_the_address_is_not_followed(spelled: str) -> None:
    here = Fault("redirect_elsewhere", location=f"/api/v1/images?modelVersionId={VERSION}&token={spelled}")
    with serving(FaultRule(here, nth=1)) as server:
        failure = failure_of(lambda: fetch(client_of(server, ODD_KEY)))
        assert failure.kind is FailureKind.REDIRECTED
        assert ODD_KEY not in failure.message
        assert len(server.requests) == 1


def test_a_key_in_headers_that_are_none_reaches_no_log(caplog: pytest.LogCaptureFixture) -> None:
    head = f"HTTP/1.1 401 Unauthorized\r\nX-Before: 1\r\nBearer {KEY}\r\nConnection: close\r\n\r\n".encode()
    with scripted([head]) as server, caplog.at_level(logging.DEBUG):
        failure = failure_of(lambda: fetch(CivitaiClient(server.url, KEY, min_request_interval=0.0)))
    assert KEY not in failure.message + caplog.text


def test_a_key_with_quotes_in_a_title_is_redacted() -> None:
    key = "ke\"y'with<quotes>"
    body = f"<html><title>bad {html.escape(key)}</title></html>".encode()
    with scripted(answer(body, "502 Bad Gateway")) as server:
        failure = failure_of(lambda: fetch(CivitaiClient(server.url, key, min_request_interval=0.0, retry_budget=0.0)))
    assert f"'bad {REDACTED}'" in failure.message


def test_a_key_that_the_server_echoes_is_in_no_page() -> None:
    with serving(options=SandboxOptions(authorization_echo=True)) as server:
        page = fetch(client_of(server, KEY))
    assert KEY not in page.raw.decode() + repr(page.items) + repr(page.metadata) + page.url
    assert REDACTED in page.raw.decode()
    assert json.loads(page.raw) == {"items": page.items, "metadata": page.metadata}


@pytest.mark.parametrize("spelling", [KEY, ESCAPED, KEY[:5] + ESCAPED[30:], ESCAPED.upper().replace("\\U", "\\u")])
def test_an_echoed_key_is_redacted_however_it_is_escaped(spelling: str) -> None:
    body = b'{"items":[{"id":1,"%s":"x %s y"}],"metadata":{"nextCursor":"%s"}}' % ((spelling.encode(),) * 3)
    with scripted(answer(body)) as server:
        page = fetch(CivitaiClient(server.url, KEY, min_request_interval=0.0))
    assert KEY.encode() not in page.raw
    assert json.loads(page.raw) == {
        "items": [{"id": 1, REDACTED: f"x {REDACTED} y"}],
        "metadata": {"nextCursor": REDACTED},
    }
    assert page.next_cursor == REDACTED


@pytest.mark.parametrize("key", ["12345678", "true", "n12", 'quo"te', "back\\slash", "ex"])
def test_redacting_an_odd_key_leaves_json(key: str) -> None:
    document = {"items": [{"n": 12345678, "t": True, "text": "\n12 12345678"}], "metadata": {"said": f"<{key}>"}}
    with scripted(answer(json.dumps(document).encode())) as server:
        page = fetch(CivitaiClient(server.url, key, min_request_interval=0.0))
    assert page.metadata == {"said": f"<{REDACTED}>"}
    assert page.items[0]["n"] == 12345678
    assert page.items[0]["t"] is True
    assert json.loads(page.raw)["items"] == page.items


def test_a_page_without_the_key_keeps_its_bytes() -> None:
    body = b'{ "items" : [ {"id":1.0,"a":"\\u0041\\ud800"} ],\n "metadata":{} }\n'
    with scripted(answer(body)) as server:
        assert fetch(CivitaiClient(server.url, KEY, min_request_interval=0.0)).raw == body


ERROR_BODIES = [
    b'{"error":"bad key %s"}' % KEY.encode(),
    b'{"message":"bad key %s"}' % ESCAPED.encode(),
    json.dumps({"error": {"message": f'[{{"path":["token"],"message":"{ESCAPED}"}}]'}}).encode(),
    b"<html><title>%s</title></html>" % "".join(f"&#{ord(c)};" for c in KEY).encode(),
    b"plain " + KEY.encode(),
    # The key lies across the place where a long text is cut.
    b'{"error":"%s%s"}' % (b"x" * 290, KEY.encode()),
]


@pytest.mark.parametrize("status", ["401 Unauthorized", "500 Internal Server Error"])
@pytest.mark.parametrize("body", ERROR_BODIES, ids=range(len(ERROR_BODIES)))
def test_a_key_in_an_error_reaches_no_message_log_or_traceback(
    body: bytes, status: str, caplog: pytest.LogCaptureFixture
) -> None:
    with scripted(answer(body, status)) as server, caplog.at_level(logging.DEBUG):
        client = CivitaiClient(server.url, KEY, min_request_interval=0.0)
        failure = failure_of(lambda: fetch(client))
    text = failure.message + caplog.text + "".join(traceback.format_exception(failure))
    assert KEY not in text
    assert KEY[:8] not in text
    assert "HTTP " in failure.message


def test_transport_trouble_tells_neither_key_nor_query() -> None:
    with serving(FaultRule("reset_before")) as server:
        failure = failure_of(lambda: fetch(client_of(server, KEY, retry_budget=0.0)))
    text = "".join(traceback.format_exception(failure))
    assert KEY not in text
    assert "modelVersionId" not in failure.message


def test_the_address_kept_with_a_page_is_the_one_that_was_asked() -> None:
    with serving(gallery=items(5)) as server:
        page = fetch(client_of(server, KEY), limit=3, cursor="3|x")
        assert page.url.startswith(f"{server.url}/api/v1/images?modelVersionId={VERSION}&limit=3&")
        assert page.url.endswith("&cursor=3%7Cx")

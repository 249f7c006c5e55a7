"""The client's bounds: on time, on size, on how fast and how often it asks."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest

from civitai_pipeline.civitai import client as client_module
from civitai_pipeline.civitai.client import CivitaiClient
from civitai_pipeline.civitai.failures import FailureKind
from civitai_pipeline.sandbox import Fault, FaultRule, Sandbox
from civitai_pipeline_tests.civitai.api import VERSION, client_of, failure_of, fetch, items, seconds_of, serving
from civitai_pipeline_tests.civitai.scripted import answer, scripted

PAGE = b'{"items":[],"metadata":{}}'
DISTANCE_S = 0.15


def test_a_silent_server_is_waited_for_no_longer_than_the_timeout() -> None:
    with serving(FaultRule(Fault("stall", seconds=30))) as server:
        client = client_of(server, timeout=0.2, retry_budget=0.0)
        started = time.monotonic()
        failure = failure_of(lambda: fetch(client))
    assert failure.kind is FailureKind.TRANSPORT
    assert "said nothing" in failure.message
    assert 0.2 <= time.monotonic() - started < 1.5


def test_a_server_that_drips_within_every_timeout_is_left_after_five_of_them() -> None:
    with serving(FaultRule(Fault("slow", seconds=6))) as server:
        client = client_of(server, timeout=0.35, retry_budget=0.0)
        started = time.monotonic()
        failure = failure_of(lambda: fetch(client))
    assert failure.kind is FailureKind.TRANSPORT
    assert "still incomplete" in failure.message
    assert 1.5 < time.monotonic() - started < 3.0


def test_a_server_that_drips_in_chunked_encoding_is_left_too() -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n" % 1000
    with scripted([head, *[b" "] * 100], pause_s=0.05) as server:
        client = CivitaiClient(server.url, min_request_interval=0.0, timeout=0.1, retry_budget=0.0)
        started = time.monotonic()
        failure = failure_of(lambda: fetch(client))
    assert failure.kind is FailureKind.TRANSPORT
    assert time.monotonic() - started < 2.0


def test_a_slow_answer_within_the_bounds_is_taken() -> None:
    with serving(FaultRule(Fault("slow", seconds=0.3))) as server:
        assert len(fetch(client_of(server, timeout=0.5)).items) == 5


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_compressed_answers_are_read(encoding: str) -> None:
    import gzip  # noqa: PLC0415 - here only
    import zlib  # noqa: PLC0415 - here only

    body = gzip.compress(PAGE) if encoding == "gzip" else zlib.compress(PAGE)
    with scripted(answer(body, Content_Encoding=encoding)) as server:
        assert fetch(CivitaiClient(server.url, min_request_interval=0.0)).raw == PAGE


def test_a_chunked_answer_is_read_whole() -> None:
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (PAGE[:7], PAGE[7:]))
    with scripted([b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"]) as server:
        assert fetch(CivitaiClient(server.url, min_request_interval=0.0)).raw == PAGE


def test_a_chunked_answer_that_breaks_off_is_not_taken() -> None:
    parts = [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n" % (len(PAGE), PAGE)]
    with scripted(parts) as server:
        client = CivitaiClient(server.url, min_request_interval=0.0, retry_budget=0.0)
        assert failure_of(lambda: fetch(client)).kind is FailureKind.TRANSPORT


def test_an_endless_body_is_refused_at_the_bound_and_not_asked_for_again() -> None:
    with serving(FaultRule(Fault("oversized", size=2**40))) as server:
        client = client_of(server, max_body_bytes=2**20)
        assert seconds_of(lambda: failure_of(lambda: fetch(client))) < 2.0
        failure = failure_of(lambda: fetch(client))
    assert failure.kind is FailureKind.CONTRACT_CHANGED
    assert "larger than 1 MB" in failure.message
    assert client.usage.retries == 0


def test_a_body_of_exactly_the_bound_is_taken() -> None:
    with scripted(answer(PAGE)) as server:
        taken = CivitaiClient(server.url, min_request_interval=0.0, max_body_bytes=len(PAGE))
        refused = CivitaiClient(server.url, min_request_interval=0.0, max_body_bytes=len(PAGE) - 1)
        assert fetch(taken).raw == PAGE
        assert failure_of(lambda: fetch(refused)).kind is FailureKind.CONTRACT_CHANGED


def test_a_compressed_bomb_is_refused_at_the_bound() -> None:
    import gzip  # noqa: PLC0415 - here only

    bomb = gzip.compress(b" " * 2**26)
    with scripted(answer(bomb, Content_Encoding="gzip")) as server:
        client = CivitaiClient(server.url, min_request_interval=0.0, max_body_bytes=2**16)
        assert failure_of(lambda: fetch(client)).kind is FailureKind.CONTRACT_CHANGED


def test_an_endless_error_body_still_tells_its_status() -> None:
    head = b"HTTP/1.1 403 Forbidden\r\nConnection: close\r\n\r\n"
    with scripted([head + b'{"error":"' + b"x" * 2**20]) as server:
        failure = failure_of(lambda: fetch(CivitaiClient(server.url, min_request_interval=0.0)))
    assert (failure.kind, failure.status) == (FailureKind.REFUSED, 403)
    assert len(failure.message) < 500


def _came_too_soon(server: Sandbox, began: float) -> list[int]:
    """Which requests arrived before the distance between all starts up to theirs had passed since ``began``.

    A busy machine may let one arrive late and the next in time, so two arrivals can be closer than two starts; none
    can be before its start.
    """
    return [place for place, request in enumerate(server.requests) if request.at - began < place * DISTANCE_S]


def test_requests_keep_their_distance_from_start_to_start() -> None:
    with serving() as server:
        client = client_of(server, min_request_interval=DISTANCE_S)
        began = time.monotonic()
        for _ in range(3):
            fetch(client)
        client.model_version(VERSION)
    assert len(server.requests) == 4
    assert _came_too_soon(server, began) == []


def test_retries_and_redirects_keep_the_distance_too() -> None:
    here = Fault("redirect_elsewhere", location=f"/api/v1/images?modelVersionId={VERSION}&limit=2")
    with serving(FaultRule(here, nth=1), FaultRule("server_error", nth=2)) as server:
        began = time.monotonic()
        fetch(client_of(server, min_request_interval=DISTANCE_S))
    assert len(server.requests) == 3
    assert _came_too_soon(server, began) == []


def test_a_spacing_of_zero_is_no_spacing() -> None:
    with serving() as server:
        client = client_of(server)
        assert seconds_of(lambda: [fetch(client) for _ in range(20)]) < 1.0


@pytest.mark.parametrize("name", ["rate_limited", "busy"])
def test_the_server_says_in_seconds_how_long_to_wait(name: str) -> None:
    with serving(FaultRule(Fault(name, retry_after=1), nth=1)) as server:
        client = client_of(server)
        fetch(client)
        first, second = server.requests
    assert 1.0 <= second.at - first.at < 1.5
    assert client.usage.waited_s == pytest.approx(1.0, abs=0.01)


def test_the_server_says_by_date_how_long_to_wait() -> None:
    with serving(FaultRule(Fault("rate_limited", retry_after=2, http_date=True), nth=1)) as server:
        fetch(client_of(server))
        first, second = server.requests
    # The date has whole seconds only.
    assert 0.8 <= second.at - first.at < 2.3


@pytest.mark.parametrize("text", ["soon", "-5", "1.5", "", "Mon, 01 Jan 2001 00:00:00 GMT"])
def test_an_unreadable_or_past_wish_is_no_wish(text: str) -> None:
    with serving(FaultRule(Fault("rate_limited", retry_after=text), nth=1)) as server:
        client = client_of(server)
        fetch(client)
    assert client.usage.waited_s < 0.1


def test_a_wait_beyond_the_budget_is_not_begun() -> None:
    with serving(FaultRule(Fault("rate_limited", retry_after=3600))) as server:
        client = client_of(server, retry_budget=30.0)
        assert seconds_of(lambda: failure_of(lambda: fetch(client))) < 1.0
    assert client.usage.requests == 1
    assert client.usage.waited_s == 0.0


def test_the_budget_bounds_the_sum_of_the_waits_of_one_request_and_is_fresh_for_the_next() -> None:
    throttled = Fault("rate_limited", retry_after=1)
    with serving(FaultRule(throttled)) as server:
        client = client_of(server, retry_budget=2.5)
        failure_of(lambda: fetch(client))
        spent = client.usage.copy()
        server.faults.set([FaultRule(throttled, nth=1)])
        fetch(client)
    assert (spent.requests, spent.retries) == (3, 2)
    assert spent.waited_s == pytest.approx(2.0, abs=0.01)
    assert client.usage.since(spent).retries == 1


def test_the_backoff_doubles_with_at_most_a_quarter_of_jitter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "FIRST_BACKOFF_S", 0.05)
    with serving(FaultRule("server_error", nth=(1, 2, 3))) as server:
        fetch(client_of(server))
        gaps = [later.at - earlier.at for earlier, later in pairwise(server.requests)]
    for attempt, gap in enumerate(gaps):
        assert 0.05 * 2**attempt <= gap < 0.05 * 2**attempt * 1.25 + 0.05


def test_an_empty_version_and_a_full_page_are_pages_alike() -> None:
    with serving(gallery=[]) as server:
        page = fetch(client_of(server))
        assert (page.items, page.metadata, page.next_cursor) == ([], {}, None)
    with serving(gallery=items(200)) as server:
        page = fetch(client_of(server), limit=200)
        assert (len(page.items), page.next_cursor) == (200, None)

"""What the client asks, and what it makes of a proper answer."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from civitai_pipeline.civitai import client as client_module
from civitai_pipeline.civitai.client import CivitaiClient
from civitai_pipeline.civitai.failures import FailureKind
from civitai_pipeline.civitai.listing import Listing, Sort
from civitai_pipeline.sandbox import FaultRule, SandboxOptions
from civitai_pipeline_tests.civitai.api import MODEL, VERSION, client_of, failure_of, fetch, items, serving
from civitai_pipeline_tests.civitai.scripted import answer, scripted


def test_everything_is_asked_for_explicitly_and_page_never() -> None:
    with serving() as server:
        listing = Listing(VERSION, Sort.MOST_REACTIONS, browsing_level=31, period="Week")
        client_of(server).images(listing, limit=7, cursor=None)
        asked = server.requests[0]
    assert asked.path == "/api/v1/images"
    assert dict(asked.query) == {
        "modelVersionId": str(VERSION),
        "limit": "7",
        "sort": "Most Reactions",
        "period": "Week",
        "browsingLevel": "31",
        "type": "image",
        "withMeta": "true",
        "flatMeta": "true",
    }


@pytest.mark.parametrize(
    "cursor",
    ["100|1785400000123", '200|bdx:{"a":"b c&d=e+f%20"}', "feed:1785400000123:70011223", 48123456, 0, "日本", "#?/"],
)
def test_a_cursor_is_sent_back_as_it_came(cursor: str | int) -> None:
    with scripted(answer(json.dumps({"items": [], "metadata": {"nextCursor": cursor}}).encode())) as server:
        given = fetch(CivitaiClient(server.url, min_request_interval=0.0)).next_cursor
    assert given == cursor
    assert type(given) is type(cursor)
    with serving() as server:
        fetch_quietly = client_of(server, retry_budget=0.0)
        try:
            fetch(fetch_quietly, cursor=given)
        finally:
            assert server.requests[0].param("cursor") == str(cursor)


@pytest.mark.parametrize("path", ["feed", "db"])
def test_following_cursors_walks_the_whole_gallery(path: str) -> None:
    with serving(gallery=items(23), options=SandboxOptions(path=path)) as server:  # type: ignore[arg-type]  # a literal
        client, seen, cursor = client_of(server), [], None
        while True:
            page = fetch(client, limit=5, cursor=cursor)
            seen += [item["id"] for item in page.items]
            cursor = page.next_cursor
            if cursor is None:
                break
    assert seen == list(range(1, 24))


@pytest.mark.parametrize("cursor", ["", True, False, 1.5, [], {}, "\ud800", 10**30])
def test_a_next_cursor_that_cannot_be_sent_back_is_a_changed_contract(cursor: object) -> None:
    with scripted(answer(json.dumps({"items": [], "metadata": {"nextCursor": cursor}}).encode())) as server:
        failure = failure_of(lambda: fetch(CivitaiClient(server.url, min_request_interval=0.0)))
    assert failure.kind is FailureKind.CONTRACT_CHANGED
    assert "nextCursor" in failure.message


def test_a_hostile_cursor_does_not_fill_the_message() -> None:
    body = b'{"items":[],"metadata":{"nextCursor":["%s"]}}' % (b"x" * 10**6)
    with scripted(answer(body)) as server:
        failure = failure_of(lambda: fetch(CivitaiClient(server.url, min_request_interval=0.0)))
    assert len(failure.message) < 400


def test_a_null_next_cursor_is_the_end_as_it_was_until_2024() -> None:
    with scripted(answer(b'{"items":[],"metadata":{"nextCursor":null}}')) as server:
        assert fetch(CivitaiClient(server.url, min_request_interval=0.0)).next_cursor is None


def test_fields_that_nobody_knows_are_kept_and_do_no_harm() -> None:
    body = b'{"items":[null,3,{"id":1,"brandNew":{"x":[1]}}],"metadata":{"future":1},"extra":true}'
    with scripted(answer(body)) as server:
        page = fetch(CivitaiClient(server.url, min_request_interval=0.0))
    assert page.items == [None, 3, {"id": 1, "brandNew": {"x": [1]}}]
    assert page.metadata == {"future": 1}
    assert page.raw == body


@pytest.mark.parametrize("body", [b"null", b'"text"', b"3", b"[]", b"{}", b'{"items":[],"metadata":[]}'])
def test_json_of_another_shape_is_a_changed_contract_and_not_an_empty_page(body: bytes) -> None:
    with scripted(answer(body)) as server:
        client = CivitaiClient(server.url, min_request_interval=0.0)
        assert failure_of(lambda: fetch(client)).kind is FailureKind.CONTRACT_CHANGED
    assert client.usage.requests == 1


@pytest.mark.parametrize(
    "body", [b"", b"\xef\xbb\xbf{}", '{"items":[],"metadata":{}}'.encode("utf-16"), b"NaN", b"[" * 100_000]
)
def test_what_is_no_json_is_undecodable(body: bytes) -> None:
    with scripted(answer(body)) as server:
        client = CivitaiClient(server.url, min_request_interval=0.0, retry_budget=0.0)
        assert failure_of(lambda: fetch(client)).kind is FailureKind.UNDECODABLE


@pytest.mark.parametrize("status", ["204 No Content", "206 Partial Content", "304 Not Modified", "418 I'm a teapot"])
def test_a_success_that_is_no_200_is_no_page(status: str) -> None:
    with scripted(answer(b"", status)) as server:
        failure = failure_of(lambda: fetch(CivitaiClient(server.url, min_request_interval=0.0)))
    assert (failure.kind, failure.status) == (FailureKind.REFUSED, int(status[:3]))


def test_a_page_says_when_and_for_how_long_it_was_fetched() -> None:
    with serving(options=SandboxOptions(latency_s=0.1)) as server:
        before = datetime.now(UTC)
        page = fetch(client_of(server))
    assert timedelta(seconds=0.1) <= page.fetched_at - before <= timedelta(seconds=2)
    assert 0.1 <= page.elapsed_s < 2


def test_names_are_looked_up_once_and_then_remembered() -> None:
    with serving() as server:
        client = client_of(server)
        first, again = client.model_version(VERSION), client.model_version(VERSION)
        assert first is again
        assert (first.id, first.model_id, first.model and first.model.name) == (VERSION, MODEL, f"Model {MODEL}")
        assert len(server.requests) == 1


def test_a_missing_version_is_remembered_as_missing_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving() as server:
        client = client_of(server)
        assert failure_of(lambda: client.model_version(77)).kind is FailureKind.NOT_FOUND
        assert failure_of(lambda: client.model_version(77)).kind is FailureKind.NOT_FOUND
        assert len(server.requests) == 1
        monkeypatch.setattr(client_module, "FAILED_LOOKUP_TTL_S", -1.0)
        client = client_of(server)
        failure_of(lambda: client.model_version(78))
        failure_of(lambda: client.model_version(78))
        assert len(server.requests) == 3


def test_a_look_up_is_asked_again_when_its_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "LOOKUP_TTL_S", -1.0)
    with serving() as server:
        client = client_of(server)
        client.model_version(VERSION)
        client.model_version(VERSION)
        assert len(server.requests) == 2


def test_a_model_lists_its_versions() -> None:
    with serving() as server:
        model = client_of(server).model(MODEL)
    assert (model.id, model.name, [version.id for version in model.versions]) == (MODEL, f"Model {MODEL}", [VERSION])


def test_an_unknown_model_is_not_found() -> None:
    with serving() as server:
        assert failure_of(lambda: client_of(server).model(4)).kind is FailureKind.NOT_FOUND


def test_the_region_block_is_refused_everywhere() -> None:
    with serving(options=SandboxOptions(region_blocked=True)) as server:
        client = client_of(server)
        for ask in (lambda: fetch(client), lambda: client.model(MODEL), lambda: client.model_version(VERSION)):
            assert failure_of(ask).status == 451


def test_connections_are_reused() -> None:
    # A look-up that is not read to its end would cost a new connection for the next request.
    with serving(FaultRule("server_error", nth=2)) as server:
        client = client_of(server)
        for _ in range(4):
            fetch(client)
        pools = client._session.get_adapter(server.url).poolmanager.pools  # type: ignore[attr-defined]  # of the adapter
        assert [pools[key].num_connections for key in pools.keys()] == [1]  # noqa: SIM118 - no dictionary


def test_a_hash_leads_to_the_version_its_file_belongs_to() -> None:
    with serving() as server:
        found = client_of(server).model_version_by_hash(f"{VERSION:010x}")
        missing = failure_of(lambda: client_of(server).model_version_by_hash("ffffffffff"))
        assert [request.path.rpartition("/")[2] for request in server.requests] == [f"{VERSION:010x}", "ffffffffff"]
    assert (found.id, found.model_id) == (VERSION, MODEL)
    assert (missing.kind, missing.is_in_words) == (FailureKind.NOT_FOUND, True)


@pytest.mark.parametrize(
    "digest", ["", "../models/1", "a1b2c3d4e5?token=x", "a1b2c3d", "g" * 10, "a" * 65, "a1b2c3d4e5\n"]
)
def test_what_is_no_hash_is_not_sent(digest: str) -> None:
    with serving() as server:
        with pytest.raises(ValueError, match="is not a file hash"):
            client_of(server).model_version_by_hash(digest)
        assert server.requests == []


def test_an_answer_about_another_version_than_asked_for_is_a_changed_contract() -> None:
    with scripted(answer(b'{"id": 5}')) as server:
        failure = failure_of(lambda: CivitaiClient(server.url, min_request_interval=0.0).model_version(VERSION))
    assert failure.kind is FailureKind.CONTRACT_CHANGED
    assert "answered with 5" in str(failure)

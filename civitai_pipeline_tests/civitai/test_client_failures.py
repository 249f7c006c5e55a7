"""What each kind of trouble on the wire is taken for, and how often the request is tried again."""

from __future__ import annotations

import pytest

from civitai_pipeline.civitai.client import MAX_LOOKUP_RETRIES, MAX_RETRIES
from civitai_pipeline.civitai.failures import FailureKind
from civitai_pipeline.sandbox import Fault, FaultRule, SandboxOptions
from civitai_pipeline_tests.civitai.api import LISTING, MODEL, VERSION, client_of, failure_of, fetch, serving

RETRIED = [
    (Fault("server_error"), FailureKind.SERVER_ERROR, 500),
    (Fault("busy", retry_after="0"), FailureKind.SERVER_ERROR, 503),
    (Fault("brownout", retry_after="0"), FailureKind.SERVER_ERROR, 503),
    (Fault("bad_gateway_html"), FailureKind.SERVER_ERROR, 502),
    (Fault("timeout_html"), FailureKind.SERVER_ERROR, 524),
    (Fault("rate_limited"), FailureKind.THROTTLED, 429),
    (Fault("rate_limited", html=True), FailureKind.THROTTLED, 429),
    (Fault("html_200"), FailureKind.UNDECODABLE, 200),
    (Fault("invalid_json"), FailureKind.UNDECODABLE, 200),
    (Fault("cut_json"), FailureKind.UNDECODABLE, 200),
    (Fault("reset_before"), FailureKind.TRANSPORT, None),
    (Fault("reset_headers"), FailureKind.TRANSPORT, None),
    (Fault("reset_mid_body"), FailureKind.TRANSPORT, None),
    (Fault("truncated"), FailureKind.TRANSPORT, None),
]
FINAL = [
    (Fault("paging_cap"), FailureKind.PAGING_CAP, 429),
    (Fault("unauthorized"), FailureKind.REFUSED, 401),
    (Fault("forbidden"), FailureKind.REFUSED, 403),
    (Fault("not_found"), FailureKind.NOT_FOUND, 404),
    (Fault("region_blocked"), FailureKind.REFUSED, 451),
    (Fault("redirect_elsewhere"), FailureKind.REDIRECTED, 302),
    (Fault("cursor_dead"), FailureKind.REFUSED, 400),
    (Fault("wrong_shape_items_missing"), FailureKind.CONTRACT_CHANGED, None),
    (Fault("wrong_shape_items_not_list"), FailureKind.CONTRACT_CHANGED, None),
    (Fault("wrong_shape_metadata_missing"), FailureKind.CONTRACT_CHANGED, None),
    (Fault("wrong_shape_top_level_list"), FailureKind.CONTRACT_CHANGED, None),
]


@pytest.mark.parametrize(("fault", "kind", "status"), RETRIED, ids=lambda value: getattr(value, "name", None))
def test_passing_trouble_is_tried_again_to_the_limit_and_then_named(
    fault: Fault, kind: FailureKind, status: int | None
) -> None:
    with serving(FaultRule(fault)) as server:
        client = client_of(server)
        failure = failure_of(lambda: fetch(client))
    assert (failure.kind, failure.status) == (kind, status)
    assert client.usage.retries == MAX_RETRIES
    # Below the client, requests itself sends a request on a dead kept-alive connection again; none is dead here.
    assert len(server.requests) == client.usage.requests == MAX_RETRIES + 1


@pytest.mark.parametrize("fault", [entry[0] for entry in RETRIED], ids=lambda fault: fault.name)
def test_one_bout_of_passing_trouble_costs_one_retry_and_no_data(fault: Fault) -> None:
    with serving(FaultRule(fault, nth=1)) as server:
        client = client_of(server)
        page = fetch(client)
    assert [item["id"] for item in page.items] == [1, 2, 3, 4, 5]
    assert client.usage.retries == 1


@pytest.mark.parametrize(("fault", "kind", "status"), FINAL, ids=lambda value: getattr(value, "name", None))
def test_lasting_trouble_is_met_once(fault: Fault, kind: FailureKind, status: int | None) -> None:
    with serving(FaultRule(fault)) as server:
        client = client_of(server)
        failure = failure_of(lambda: fetch(client))
    assert (failure.kind, failure.status) == (kind, status)
    assert len(server.requests) == 1
    assert client.usage.waited_s == 0


def test_every_kind_of_failure_is_met_in_these_tests() -> None:
    seen = {kind for _, kind, _ in RETRIED + FINAL} | {FailureKind.CURSOR_LOST}
    assert seen == set(FailureKind)


@pytest.mark.parametrize("fault", ["cursor_dead", "cursor_filters"])
def test_a_cursor_that_cannot_be_continued_is_told_from_other_refusals(fault: str) -> None:
    with serving(FaultRule(fault)) as server:
        client = client_of(server)
        assert failure_of(lambda: fetch(client, cursor="feed:1:2")).kind is FailureKind.CURSOR_LOST
        assert failure_of(lambda: fetch(client)).kind is FailureKind.REFUSED
    assert len(server.requests) == 2


def test_a_cursor_lost_behind_a_redirect_is_lost_all_the_same() -> None:
    moved = Fault("redirect_elsewhere", location=f"/api/v1/images?modelVersionId={VERSION}&cursor=feed%3A1%3A2")
    with serving(FaultRule(moved, nth=1), FaultRule("cursor_dead")) as server:
        failure = failure_of(lambda: fetch(client_of(server), cursor="feed:1:2"))
    assert failure.kind is FailureKind.CURSOR_LOST


@pytest.mark.parametrize("path", ["feed_service", "db"])
def test_the_stand_ins_own_refusal_of_a_foreign_cursor_is_a_lost_cursor(path: str) -> None:
    options = SandboxOptions(path=path, feed_cursors="keyset", error_style="newer")  # type: ignore[arg-type]  # a literal
    with serving(options=options) as server:
        failure = failure_of(lambda: fetch(client_of(server), cursor="no|such|cursor"))
    assert failure.kind is FailureKind.CURSOR_LOST


def test_a_zod_error_is_told_field_by_field() -> None:
    with serving() as server:
        failure = failure_of(lambda: client_of(server).images(LISTING, limit=900))
    assert failure.kind is FailureKind.REFUSED
    assert failure.message == (
        "HTTP 400: limit: Too big: expected number to be <=200 (the API finds fault with the request)"
    )


def test_a_message_is_one_line_that_says_what_was_seen_and_what_to_do() -> None:
    with serving(FaultRule("region_blocked")) as server:
        failure = failure_of(lambda: fetch(client_of(server)))
    assert failure.message == (
        "HTTP 451: Access to this service is not available in your region due to legal restrictions. "
        "(the API serves no callers from this country)"
    )


def test_a_server_that_is_not_there_is_named() -> None:
    with serving() as server:
        url = server.url
        client = client_of(server, retry_budget=0.0)
    failure = failure_of(lambda: fetch(client))
    assert failure.kind is FailureKind.TRANSPORT
    assert url.removeprefix("http://") in failure.message
    assert "cannot be reached" in failure.message


def test_a_broken_off_answer_is_not_taken_for_a_whole_one_though_its_json_is_whole() -> None:
    with serving(FaultRule("truncated")) as server:
        failure = failure_of(lambda: fetch(client_of(server)))
    assert "broke off" in failure.message


def test_a_look_up_gives_up_sooner_than_a_page() -> None:
    with serving(FaultRule("server_error", on="model-versions"), FaultRule("server_error", on="models")) as server:
        client = client_of(server)
        assert failure_of(lambda: client.model_version(VERSION)).kind is FailureKind.SERVER_ERROR
        assert client.usage.retries == MAX_LOOKUP_RETRIES
        assert failure_of(lambda: client.model(MODEL)).kind is FailureKind.SERVER_ERROR
        assert client.usage.retries == 2 * MAX_LOOKUP_RETRIES

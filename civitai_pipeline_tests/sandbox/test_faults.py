"""Every fault as a client meets it, and the schedule that hands them out."""

from __future__ import annotations

import json
import socket
import time
from contextlib import suppress
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

import pytest
import requests

from civitai_pipeline.sandbox import (
    FAULT_NAMES,
    Fault,
    FaultRule,
    FaultSchedule,
    Sandbox,
    SandboxError,
    SandboxOptions,
    World,
)

from .client import TIMEOUT_S, get, ids, item, page, pages

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PARAMS = {"modelVersionId": 910011, "sort": "Oldest", "limit": 10}


@pytest.fixture
def server() -> Iterator[Sandbox]:
    with Sandbox(World.from_items([item(n) for n in range(1, 41)])) as running:
        yield running


def faulty(server: Sandbox, fault: Fault | str) -> requests.Response:
    server.faults.set([FaultRule(fault, nth=1)])
    return get(server, "images", **PARAMS)


@pytest.mark.parametrize(
    ("fault", "status", "text"),
    [
        ("rate_limited", 429, "Too many requests"),
        (Fault("rate_limited", html=True), 429, "<html>"),
        ("paging_cap", 429, "please use cursors instead"),
        ("server_error", 500, '{"error":"Something went wrong"}'),
        (Fault("server_error", message="boom"), 500, "boom"),
        ("busy", 503, '{"error":"Server busy, please retry shortly."}'),
        ("brownout", 503, '{"error":"Image search is temporarily overloaded \u2014 please retry."}'),
        ("bad_gateway_html", 502, "<html>"),
        ("timeout_html", 524, "<html>"),
        ("html_200", 200, "<html>"),
        ("redirect_elsewhere", 302, ""),
        ("cursor_dead", 400, '{"message":"This cursor can no longer be continued; start again without it"}'),
        ("cursor_filters", 400, '{"message":"This cursor cannot be continued with these filters"}'),
        ("unauthorized", 401, "Unauthorized"),
        ("forbidden", 403, "FORBIDDEN"),
        ("not_found", 404, "NOT_FOUND"),
        ("region_blocked", 451, "REGION_BLOCKED"),
    ],
)
def test_answers_with_the_wrong_thing(server: Sandbox, fault: Fault | str, status: int, text: str) -> None:
    response = faulty(server, fault)
    assert response.status_code == status
    assert text in response.content.decode()
    assert get(server, "images", **PARAMS).status_code == 200
    assert [request.fault for request in server.requests] == [fault if isinstance(fault, str) else fault.name, None]
    assert [request.status for request in server.requests] == [status, 200]


def test_retry_after(server: Sandbox) -> None:
    assert "Retry-After" not in faulty(server, "rate_limited").headers
    assert "Retry-After" not in faulty(server, "paging_cap").headers
    assert faulty(server, Fault("rate_limited", retry_after=7)).headers["Retry-After"] == "7"
    assert faulty(server, Fault("rate_limited", retry_after="soon")).headers["Retry-After"] == "soon"
    for name in ("busy", "brownout"):
        response = faulty(server, name)
        assert response.headers["Retry-After"] == "2"
        assert response.headers["Cache-Control"] == "no-store"
    date = faulty(server, Fault("busy", retry_after=60, http_date=True)).headers["Retry-After"]
    assert 55 < parsedate_to_datetime(date).timestamp() - time.time() < 65


def test_redirect_points_where_it_is_told(server: Sandbox) -> None:
    response = faulty(server, Fault("redirect_elsewhere", location="http://127.0.0.2:1/x"))
    assert response.headers["Location"] == "http://127.0.0.2:1/x"


@pytest.mark.parametrize("name", ["cut_json", "invalid_json"])
def test_bodies_that_are_no_json(server: Sandbox, name: str) -> None:
    response = faulty(server, name)
    assert response.status_code == 200
    with pytest.raises(ValueError, match=r"Expecting|Unterminated|Extra"):
        json.loads(response.content)


def test_bodies_of_another_shape(server: Sandbox) -> None:
    true = page(server, **PARAMS)
    assert faulty(server, "wrong_shape_items_missing").json() == {"metadata": true["metadata"]}
    assert faulty(server, "wrong_shape_items_not_list").json()["items"] == {"0": true["items"]}
    assert faulty(server, "wrong_shape_metadata_missing").json() == {"items": true["items"]}
    assert faulty(server, "wrong_shape_top_level_list").json() == true["items"]


def test_pages_that_are_not_the_ones_asked_for(server: Sandbox) -> None:
    first = page(server, **PARAMS)
    cursor = first["metadata"]["nextCursor"]
    second = {**PARAMS, "cursor": cursor}
    server.faults.set([FaultRule("empty_no_cursor", nth=1)])
    assert page(server, **second) == {"items": [], "metadata": {}}
    server.faults.set([FaultRule("same_cursor", nth=1)])
    assert page(server, **second)["metadata"]["nextCursor"] == cursor
    server.faults.set([FaultRule("restart_at_first_page", nth=1)])
    restarted = page(server, **second)
    assert ids(restarted) == ids(first)
    assert restarted["metadata"]["nextCursor"] == cursor
    server.faults.set([FaultRule("repeat_previous_page", nth=2)])
    page(server, **PARAMS)
    repeated = page(server, **second)
    assert ids(repeated) == ids(first)
    assert repeated["metadata"]["nextCursor"].startswith("20|")


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("reset_before", requests.exceptions.ConnectionError),
        ("reset_headers", requests.exceptions.ConnectionError),
        ("reset_mid_body", (requests.exceptions.ChunkedEncodingError, requests.exceptions.ConnectionError)),
        ("truncated", requests.exceptions.ChunkedEncodingError),
    ],
)
def test_connections_that_break(server: Sandbox, name: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        faulty(server, name)
    assert get(server, "images", **PARAMS).status_code == 200


def test_a_reset_is_a_reset_and_a_truncation_is_an_end(server: Sandbox) -> None:
    request = b"GET /api/v1/images HTTP/1.1\r\nHost: x\r\n\r\n"
    server.faults.set([FaultRule("reset_before")])
    with socket.create_connection(("127.0.0.1", server.port), timeout=TIMEOUT_S) as connection:
        connection.sendall(request)
        with pytest.raises(ConnectionResetError):
            connection.recv(10)
    server.faults.set([FaultRule("truncated")])
    with socket.create_connection(("127.0.0.1", server.port), timeout=TIMEOUT_S) as connection:
        connection.sendall(request)
        received = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, body = received.partition(b"\r\n\r\n")
    assert f"Content-Length: {len(body) + 1000}".encode() in head
    json.loads(body)


def test_a_slow_answer_drips(server: Sandbox) -> None:
    began = time.monotonic()
    response = faulty(server, Fault("slow", seconds=0.4))
    assert time.monotonic() - began > 0.3
    assert ids(response.json()) == list(range(1, 11))


def test_a_stall_ends_with_the_client_the_time_or_the_server(server: Sandbox) -> None:
    server.faults.set([FaultRule(Fault("stall", seconds=60))])
    with pytest.raises(requests.exceptions.ReadTimeout):
        requests.get(f"{server.url}/api/v1/images", timeout=0.2)
    began = time.monotonic()
    server.faults.set([FaultRule(Fault("stall", seconds=0.2))])
    with pytest.raises(requests.exceptions.ConnectionError):
        get(server)
    assert 0.15 < time.monotonic() - began < 2


def test_an_oversized_answer_goes_on_and_on(server: Sandbox) -> None:
    server.faults.set([FaultRule(Fault("oversized", size=3_000_000))])
    with requests.get(f"{server.url}/api/v1/images", stream=True, timeout=TIMEOUT_S) as response:
        assert "Content-Length" not in response.headers
        assert sum(len(chunk) for chunk in response.iter_content(65_536)) >= 3_000_000
    server.faults.set([FaultRule("oversized")])
    with requests.get(f"{server.url}/api/v1/images", stream=True, timeout=TIMEOUT_S) as response:
        assert next(response.iter_content(10)) == b'{"items":['


@pytest.mark.parametrize("name", FAULT_NAMES)
def test_every_fault_leaves_the_server_in_order(name: str) -> None:
    world = World.from_items([item(n) for n in range(1, 31)])
    rules = [FaultRule(Fault(name, seconds=0.05, size=200_000), nth=2)]
    with Sandbox(world, faults=FaultSchedule(rules)) as server:
        page(server, **PARAMS)
        with suppress(requests.exceptions.RequestException):
            get(server, "images", **PARAMS, cursor="10|1")
        assert ids(*pages(server, **PARAMS)) == list(range(1, 31))
        assert [request.fault for request in server.requests][:3] == [None, name, None]


def test_the_newer_error_style(server: Sandbox) -> None:
    with Sandbox(server.world, SandboxOptions(error_style="newer")) as newer:
        assert faulty(newer, "server_error").json() == {"message": "Something went wrong"}
        assert set(faulty(newer, "busy").json()) == {"error"}


# -- the schedule


def fired(schedule: FaultSchedule, count: int, endpoint: str = "images", cursor: str = "") -> list[int]:
    return [n for n in range(1, count + 1) if schedule.next(endpoint, cursor)]


def test_which_requests_a_rule_takes() -> None:
    assert fired(FaultSchedule([FaultRule("busy", nth=3)]), 6) == [3]
    assert fired(FaultSchedule([FaultRule("busy", nth={2, 5})]), 6) == [2, 5]
    assert fired(FaultSchedule([FaultRule("busy", every=3)]), 9) == [3, 6, 9]
    assert fired(FaultSchedule([FaultRule("busy", every=2, times=2)]), 9) == [2, 4]
    assert fired(FaultSchedule([FaultRule("busy", times=2)]), 5) == [1, 2]
    assert fired(FaultSchedule([FaultRule("busy", on="models")]), 5) == []
    assert fired(FaultSchedule([FaultRule("busy", on="any", nth=2)]), 5, endpoint="me") == [2]
    assert fired(FaultSchedule([FaultRule("busy", cursor="10|1", times=1)]), 3, cursor="10|1") == [1]
    assert fired(FaultSchedule([FaultRule("busy", cursor="10|1")]), 3) == []


def test_chances_are_the_same_for_a_seed() -> None:
    draws = [fired(FaultSchedule([FaultRule("busy", probability=0.3, seed=seed)]), 200) for seed in (1, 1, 2)]
    assert draws[0] == draws[1] != draws[2]
    assert 30 < len(draws[0]) < 90


def test_the_first_rule_that_fires_decides_and_all_count() -> None:
    schedule = FaultSchedule([FaultRule("busy", nth=1), FaultRule("server_error", nth=[1, 2])])
    faults = [schedule.next("images") for _ in range(3)]
    assert [fault.name if fault else None for fault in faults] == ["busy", "server_error", None]


def test_rules_count_by_endpoint_over_http(server: Sandbox) -> None:
    server.faults.set([{"fault": "not_found", "on": "model-versions", "nth": 1}])
    assert get(server, "images", **PARAMS).status_code == 200
    assert get(server, "model-versions/910011").status_code == 404
    assert get(server, "model-versions/910011").status_code == 200
    server.faults.add("busy", nth=1)
    assert get(server, "images", **PARAMS).status_code == 503
    server.faults.add("busy")
    server.faults.clear()
    assert get(server, "images", **PARAMS).status_code == 200


def test_a_schedule_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "faults.json"
    path.write_text('[{"fault": "rate_limited", "nth": [1, 2], "retry_after": 3, "html": true}]')
    fault = FaultSchedule.from_json(path).next("images")
    assert fault == Fault("rate_limited", retry_after=3, html=True)
    path.write_text('{"rules": [{"fault": "busy", "every": 2}]}')
    assert fired(FaultSchedule.from_json(path), 4) == [2, 4]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{", "is not JSON"),
        ("3", "is not a list of rules"),
        ('[{"nth": 1}]', "needs a 'fault' name"),
        ('[{"fault": "meteor"}]', "no fault is named 'meteor'"),
        ('[{"fault": "busy", "when": 1}]', "has no parameter 'when'"),
        ('[{"fault": "busy", "nth": "two"}]', "'nth' takes int or list"),
        ('[{"fault": "busy", "nth": ["two"]}]', "'nth' takes int or list"),
        ('[{"fault": "busy", "on": "pictures"}]', "'on' cannot be 'pictures'"),
    ],
)
def test_a_bad_schedule_is_named(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "faults.json"
    path.write_text(text)
    with pytest.raises(SandboxError, match=complaint) as caught:
        FaultSchedule.from_json(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_schedule_is_named(tmp_path: Path) -> None:
    with pytest.raises(SandboxError, match=r"cannot read the fault schedule .*none\.json"):
        FaultSchedule.from_json(tmp_path / "none.json")

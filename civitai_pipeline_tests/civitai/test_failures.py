"""What statuses, headers and error bodies mean, without a server."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from civitai_pipeline.civitai.failures import (
    MAX_DETAIL,
    FailureKind,
    classify_status,
    error_detail,
    parse_retry_after,
)

NOW = datetime(2026, 11, 20, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b'{"error":"Not found","code":"NOT_FOUND"}', "Not found"),
        (b'{"message":"no"}', "no"),
        (b'{"message":"no","error":"way"}', "no way"),
        (b'"just text"', "just text"),
        (b"[1]", ""),
        (b'{"error":7}', ""),
        (b'{"error":{"name":"ZodError"}}', ""),
        (b'{"error":{"message":"not json"}}', "not json"),
        (b'{"error":{"message":"{\\"path\\":1}"}}', '{"path":1}'),
        (b"<html><head><TITLE lang=en> A &amp; B\n C</TITLE>", "an HTML page, 'A & B C'"),
        (b"<!doctype html><HTML>", "an HTML page"),
        (b"  two\n lines ", "two lines"),
        (b"\xff\xfe", "\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}"),
        (b"", ""),
        (rb'{"error":"a\ud800b\u001b[2J\u202ec"}', "a b [2J c"),
    ],
)
def test_an_error_body_is_told_in_a_line(body: bytes, detail: str) -> None:
    assert error_detail(body) == detail


def test_all_fields_of_a_zod_error_are_told() -> None:
    issues = [
        {"path": ["limit"], "message": "Too big"},
        {"path": ["a", 0], "message": "bad"},
        {"path": [], "message": "x"},
    ]
    assert (
        error_detail(json.dumps({"error": {"message": json.dumps(issues)}}).encode()) == "limit: Too big; a.0: bad; : x"
    )


def test_an_error_body_nested_beyond_measure_is_still_told() -> None:
    assert error_detail(json.dumps({"error": {"message": "[" * 30_000}}).encode()).startswith("[[[")


@settings(max_examples=50)
@given(st.binary(max_size=400) | st.text(max_size=400).map(lambda text: json.dumps({"error": text}).encode()))
def test_an_error_detail_is_always_one_printable_line_of_bounded_length(body: bytes) -> None:
    detail = error_detail(body)
    assert len(detail) <= MAX_DETAIL
    assert detail.isprintable()
    assert detail == detail.strip()


@settings(max_examples=50)
@given(st.text("abc", min_size=5, max_size=20), st.integers(0, 320))
def test_no_half_of_a_secret_is_left_where_a_long_text_is_cut(tail: str, before: int) -> None:
    secret = "SEKRET" + tail.upper()
    body = json.dumps({"error": "x" * before + secret + "y" * 300}).encode()
    assert "SEK" not in error_detail(body, lambda text: text.replace(secret, "*"))


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("0", 0.0),
        (" 7 ", 7.0),
        ("Fri, 20 Nov 2026 12:01:30 GMT", 90.0),
        ("Fri, 20 Nov 2026 13:01:30 +0100", 90.0),
        ("Fri, 20 Nov 2026 11:00:00 GMT", 0.0),
        ("soon", None),
        ("²", None),
        ("Mon, 01 Jan 2027 00:00:00 +99999999999999999", None),
    ],
)
def test_retry_after_is_read_as_seconds_or_a_date(value: str | None, seconds: float | None) -> None:
    assert parse_retry_after(value, NOW) == seconds


@settings(max_examples=50)
@given(st.text())
def test_no_retry_after_header_raises_or_asks_for_the_past(value: str) -> None:
    seconds = parse_retry_after(value, NOW)
    assert seconds is None or seconds >= 0


def test_every_status_has_a_kind_and_only_passing_ones_are_retried() -> None:
    for status in range(201, 600):
        failure = classify_status(status, {}, b"{}", sent_cursor=True, now=NOW)
        assert failure.status == status
        assert failure.kind.retryable == (status >= 500 or status in {408, 425, 429})
        assert failure.message.startswith(f"HTTP {status} (")


def test_the_paging_429_is_told_from_the_passing_one_by_its_text() -> None:
    text = b'{"error":"You\'ve requested too many pages, please use cursors instead"}'
    assert classify_status(429, {}, text, sent_cursor=False, now=NOW).kind is FailureKind.PAGING_CAP
    assert classify_status(429, {}, b"<html>", sent_cursor=False, now=NOW).kind is FailureKind.THROTTLED


def test_every_kind_ends_a_run_with_a_reason_that_the_summary_knows() -> None:
    reasons = {"api_unavailable", "rate_limited", "rejected", "contract_changed"}
    assert {kind.stop_reason for kind in FailureKind} == reasons
    assert len({kind.label for kind in FailureKind}) == len(FailureKind)

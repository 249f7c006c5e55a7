"""Somebody is told of failed runs."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest

from civitai_pipeline.defs.sensors import (
    resume_collection,
    tell_of_failures,
)

if TYPE_CHECKING:
    from civitai_pipeline.sandbox import Sandbox

from .ticking import VERSION, add_run, carry_out, tick, watch


class Inbox:
    """A webhook that keeps what it is sent."""

    def __init__(self, status: int = 200) -> None:
        self.messages: list[dict[str, Any]] = []
        inbox = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                inbox.messages.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/secret"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


def told(instance: dg.DagsterInstance) -> str:
    """What the tick after a failed run says."""
    cursor = tick(tell_of_failures, instance).cursor
    add_run(instance, dg.DagsterRunStatus.FAILURE)
    return tick(tell_of_failures, instance, cursor).skip_message or ""


def test_a_failed_run_is_told_of_in_a_small_message(
    instance: dg.DagsterInstance, stand_in: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    inbox = Inbox()
    monkeypatch.setenv("CIVITAI_FAILURE_WEBHOOK", inbox.url)
    try:
        cursor = tick(tell_of_failures, instance).cursor
        watch(f"versions: [{{id: {VERSION}}}]")
        stand_in.faults.add("forbidden")
        carry_out(instance, tick(resume_collection, instance))
        data = tick(tell_of_failures, instance, cursor)
    finally:
        inbox.close()
    assert data.skip_message is None
    [message] = inbox.messages
    assert message["text"].startswith(f"collect of model version {VERSION} failed: HTTP 403")
    assert (message["job"], message["model_version_id"], message["stop_reason"]) == ("collect", VERSION, "rejected")
    assert message["error"].startswith("HTTP 403")
    assert instance.get_run_by_id(message["run_id"]) is not None


@pytest.mark.parametrize("status", [500, 302])
def test_a_webhook_that_refuses_is_said_in_the_tick(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    inbox = Inbox(status)
    monkeypatch.setenv("CIVITAI_FAILURE_WEBHOOK", inbox.url)
    try:
        said = told(instance)
    finally:
        inbox.close()
    assert said.endswith(f"nobody could be told: the webhook answered {status}")
    assert len(inbox.messages) == 1


def test_a_webhook_that_is_not_there_is_said_without_its_address(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CIVITAI_FAILURE_WEBHOOK", "http://127.0.0.1:9/secret")
    said = told(instance)
    assert "the webhook could not be reached (ConnectionError)" in said
    assert "secret" not in said


def test_without_a_webhook_the_tick_says_that_nobody_is_told(instance: dg.DagsterInstance) -> None:
    assert "CIVITAI_FAILURE_WEBHOOK is not set, so nobody is told" in told(instance)

"""Looking up resources over HTTP: what is asked, what is remembered, and how trouble ends it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from civitai_pipeline.civitai import client as client_module
from civitai_pipeline.civitai.client import CivitaiClient
from civitai_pipeline.collect.options import LookupOptions
from civitai_pipeline.collect.resolve import MOST_FAILURES_IN_A_ROW, LookupSummary, resolve, unanswered
from civitai_pipeline.lake.lookups import LookupBy, LookupKey, read_lookups
from civitai_pipeline.lake.paths import Lake
from civitai_pipeline.sandbox import Sandbox, SandboxOptions, World
from civitai_pipeline.sandbox.catalog import Model, ModelFile, Version
from civitai_pipeline_tests.civitai.scripted import answer, scripted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)
KEY = "s3cret-0123456789abcdef"


def by_id(version: int) -> LookupKey:
    return LookupKey(LookupBy.VERSION_ID, str(version))


def by_hash(digest: str) -> LookupKey:
    return LookupKey(LookupBy.HASH, digest)


VERSIONS = [by_id(n) for n in range(101, 111)]
ODD_NAME = "  Kite\n\u2028<b>\u202e=1+1 \U0001f3b4 "


@dataclass
class Desk:
    """A stand-in that knows a few versions, a lake, and the time of day."""

    server: Sandbox
    folder: Path
    now: datetime = NOON
    client_options: dict[str, Any] = field(default_factory=dict)

    @property
    def lake(self) -> Lake:
        return Lake.at(str(self.folder))

    def look_up(
        self,
        *wanted: LookupKey,
        key: str | None = None,
        on_lookup: Callable[[LookupSummary], None] | None = None,
        **options: Any,  # noqa: ANN401 - the options of a run
    ) -> LookupSummary:
        """Looks up, and checks what must hold afterwards however it ended."""
        self.server.forget_requests()
        bounds = {"min_request_interval": 0.0, "timeout": 2.0, "retry_budget": 0.0} | self.client_options
        client = CivitaiClient(self.server.url, key, **bounds)
        summary = resolve(
            client, self.lake, wanted, LookupOptions(**options), clock=lambda: self.now, on_lookup=on_lookup
        )
        assert summary.asked == summary.known + summary.unknown + summary.failed
        assert summary.requests == len(self.server.requests)
        assert summary.left == len(unanswered(self.lake, wanted, self.now))
        assert summary.stop_reason is not None
        assert summary.stop_reason != "at_end" or summary.left == summary.failed
        assert (summary.error is None) == summary.stop_reason.is_success
        return summary

    @property
    def asked(self) -> list[str]:
        """The paths asked for, after the part they share."""
        return [request.path.removeprefix("/api/v1/model-versions/") for request in self.server.requests]


def _version(version: int, name: str = "v1", digest: str | None = None) -> Version:
    hashes = {"AutoV2": digest or f"{version:010X}"}
    return Version(version, version + 5000, name, "SDXL 1.0", 0, files=(ModelFile(version, "f", 1.0, hashes),))


@pytest.fixture(autouse=True)
def _quick_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "FIRST_BACKOFF_S", 0.001)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    world = World()
    for version in range(101, 111):
        model = Model(version + 5000, f"Model {version}" if version != 105 else ODD_NAME, "LORA")
        world.add_version(version + 5000, version, model=model, version=_version(version))
    with Sandbox(world) as server:
        yield Desk(server, tmp_path / "lake")


def test_ids_and_hashes_are_asked_about_once_and_never_again(desk: Desk) -> None:
    wanted = [by_id(101), by_hash(f"{102:010x}"), by_id(999), by_hash("ffffffffff")]
    first = desk.look_up(*wanted)
    assert desk.asked == ["101", "by-hash/0000000066", "999", "by-hash/ffffffffff"]
    assert (first.wanted, first.asked, first.known, first.unknown, first.left) == (4, 4, 2, 2, 0)
    kept = read_lookups(desk.lake)
    assert kept[wanted[1]].version_id == 102
    assert kept[wanted[0]].model_name == "Model 101"
    assert kept[wanted[0]].model_type == "LORA"
    assert kept[wanted[2]].version_id is None
    second = desk.look_up(*wanted)
    assert desk.asked == []
    assert (second.answered_before, second.asked, second.stop_reason) == (4, 0, "at_end")


def test_a_hash_answers_for_the_version_it_leads_to(desk: Desk) -> None:
    summary = desk.look_up(by_hash(f"{102:010x}"), by_id(102))
    assert desk.asked == ["by-hash/0000000066"]
    assert (summary.asked, summary.known, summary.left) == (1, 1, 0)


def test_what_is_unknown_is_asked_again_after_a_month_and_what_is_known_is_not(desk: Desk) -> None:
    desk.look_up(by_id(101), by_id(999))
    desk.now = NOON + timedelta(days=29)
    assert desk.look_up(by_id(101), by_id(999)).asked == 0
    desk.now = NOON + timedelta(days=31)
    desk.server.world.add_version(77, 999)
    assert desk.look_up(by_id(101), by_id(999)).known == 1
    assert desk.asked == ["999"]
    desk.now = NOON + timedelta(days=3000)
    assert desk.look_up(by_id(101), by_id(999)).asked == 0


def test_a_limit_is_kept_and_the_next_run_goes_on_after_it(desk: Desk) -> None:
    first = desk.look_up(*VERSIONS, max_lookups=3)
    assert (first.stop_reason, first.asked, first.left) == ("max_items", 3, 7)
    second = desk.look_up(*VERSIONS, max_lookups=7)
    assert desk.asked == [str(n) for n in range(104, 111)]
    assert (second.stop_reason, second.left) == ("at_end", 0)


def test_the_time_given_is_kept(desk: Desk) -> None:
    summary = desk.look_up(*VERSIONS, max_minutes=1e-9)
    assert (summary.stop_reason, summary.asked) == ("time_budget", 0)


@pytest.mark.parametrize(
    ("fault", "stop_reason", "asked"),
    [
        ("rate_limited", "rate_limited", 4),
        ("forbidden", "rejected", 4),
        ("region_blocked", "rejected", 4),
        ("redirect_elsewhere", "rejected", 4),
        ("server_error", "api_unavailable", 3 + MOST_FAILURES_IN_A_ROW),
        ("html_200", "api_unavailable", 3 + MOST_FAILURES_IN_A_ROW),
        ("wrong_shape_top_level_list", "contract_changed", 3 + MOST_FAILURES_IN_A_ROW),
    ],
)
def test_trouble_ends_the_look_ups_and_keeps_what_was_got(desk: Desk, fault: str, stop_reason: str, asked: int) -> None:
    desk.client_options = {"retry_budget": 0.0}
    desk.server.faults.add(fault, on="model-versions", nth=range(4, 100))
    summary = desk.look_up(*VERSIONS)
    assert (summary.stop_reason, summary.asked, summary.known) == (stop_reason, asked, 3)
    assert len(read_lookups(desk.lake)) == 3
    desk.server.faults.clear()
    assert desk.look_up(*VERSIONS).known == 7
    assert desk.asked == [str(n) for n in range(104, 111)]


def test_trouble_that_passes_is_sat_out(desk: Desk) -> None:
    desk.client_options = {"retry_budget": 5.0}
    desk.server.faults.add("server_error", on="model-versions", nth=[2, 3])
    summary = desk.look_up(*VERSIONS)
    assert (summary.stop_reason, summary.known, summary.retries) == ("at_end", 10, 2)


def test_questions_that_always_fail_do_not_keep_the_others_from_being_asked(desk: Desk) -> None:
    # The API answers whatever breaks its code with a 500 every time.
    desk.server.faults.add("server_error", on="model-versions", nth=range(1, 2 * MOST_FAILURES_IN_A_ROW, 2))
    summary = desk.look_up(*VERSIONS)
    assert (summary.stop_reason, summary.failed, summary.known, summary.left) == ("at_end", 5, 5, 5)


def test_a_404_of_a_proxy_is_not_taken_for_the_words_of_the_api(desk: Desk) -> None:
    for body in (b"<html><title>404 Not Found</title></html>", b"[]", b"{}", b"not found"):
        with scripted(answer(body, "404 Not Found")) as proxy:
            client = CivitaiClient(proxy.url, min_request_interval=0.0)
            summary = resolve(client, desk.lake, [by_id(101), by_hash("ffffffffff")])
        assert (summary.failed, summary.unknown, summary.left) == (2, 0, 2), body
    assert read_lookups(desk.lake) == {}


@pytest.mark.parametrize(
    "body",
    [
        {"id": 102},
        {"id": "101"},
        {"id": True},
        {"id": None},
        {"id": 101, "modelId": 10**30},
        {"id": 101, "modelId": -1},
        {"id": 101, "name": ["v1"]},
        {"id": 101, "model": "Kite"},
        {"id": 101, "baseModel": {}},
        [],
        "101",
        None,
    ],
)
def test_an_answer_of_another_shape_is_a_changed_contract_and_is_not_kept(tmp_path: Path, body: object) -> None:
    lake = Lake.at(str(tmp_path / "lake"))
    with scripted(answer(json.dumps(body).encode())) as server:
        summary = resolve(CivitaiClient(server.url, min_request_interval=0.0), lake, VERSIONS[:1])
        assert (summary.failed, summary.left) == (1, 1)
        many = resolve(CivitaiClient(server.url, min_request_interval=0.0), lake, VERSIONS[3:])
    assert many.stop_reason == "contract_changed"
    assert read_lookups(lake) == {}


def test_names_are_kept_to_the_letter(desk: Desk) -> None:
    desk.look_up(by_id(105))
    assert read_lookups(desk.lake)[by_id(105)].model_name == ODD_NAME


def test_half_a_character_which_no_file_can_hold_is_replaced(tmp_path: Path) -> None:
    lake = Lake.at(str(tmp_path / "lake"))
    body = b'{"id": 101, "name": "a\\ud800b", "model": {"name": "\\udfff"}}'
    with scripted(answer(body)) as server:
        resolve(CivitaiClient(server.url, min_request_interval=0.0), lake, [by_id(101)])
    found = read_lookups(lake)[by_id(101)]
    assert (found.version_name, found.model_name) == ("a\ufffdb", "\ufffd")


def test_a_key_that_the_server_echoes_never_comes_into_the_lake(tmp_path: Path) -> None:
    world = World()
    world.add_version(5101, 101, model=Model(5101, f"Model {KEY}", "LORA"), version=_version(101, f"v {KEY}"))
    with Sandbox(world, SandboxOptions(api_keys=(KEY,))) as server:
        desk = Desk(server, tmp_path / "lake")
        assert desk.look_up(by_id(101), by_hash(f"{101:010x}"), by_id(999), key=KEY).unknown == 1
        assert all(KEY in request.headers["authorization"] for request in server.requests)
    files = [path.read_bytes() for path in (tmp_path / "lake").rglob("*") if path.is_file()]
    assert files
    assert not [data for data in files if KEY.encode() in data]
    assert read_lookups(desk.lake)[by_id(101)].version_name == "v [redacted]"


def test_an_interrupt_loses_no_answer(desk: Desk) -> None:
    def interrupt(summary: LookupSummary) -> None:
        if summary.asked == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        desk.look_up(*VERSIONS, on_lookup=interrupt)
    assert list(read_lookups(desk.lake)) == VERSIONS[:3]
    assert desk.look_up(*VERSIONS).asked == 7


_VICTIM = """
import sys
from civitai_pipeline.civitai.client import CivitaiClient
from civitai_pipeline.collect.resolve import resolve
from civitai_pipeline.lake.lookups import LookupBy, LookupKey
from civitai_pipeline.lake.paths import Lake
client = CivitaiClient(sys.argv[1], min_request_interval=float(sys.argv[3]))
wanted = [LookupKey(LookupBy.VERSION_ID, str(n)) for n in range(101, 111)]
def tell(summary): print(summary.asked, flush=True)
summary = resolve(client, Lake.at(sys.argv[2]), wanted, on_lookup=tell)
print(summary.stop_reason, summary.error, flush=True)
"""


def _process(desk: Desk, interval: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", _VICTIM, desk.server.url, str(desk.folder), str(interval)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=dict(os.environ))


def test_a_killed_process_is_followed_by_one_that_asks_for_the_rest(desk: Desk) -> None:
    victim = _process(desk, 0.05)
    assert victim.stdout is not None
    while victim.stdout.readline() != "3\n":
        pass
    victim.kill()
    victim.communicate()
    known = len(read_lookups(desk.lake))
    assert known >= 3
    assert desk.look_up(*VERSIONS).asked == 10 - known


def test_of_two_processes_at_once_one_asks_and_the_other_says_so(desk: Desk) -> None:
    other = _process(desk, 0.1)
    assert other.stdout is not None
    assert other.stdout.readline() == "1\n"
    client = CivitaiClient(desk.server.url, min_request_interval=0.0)
    mine = resolve(client, desk.lake, VERSIONS)
    assert (mine.stop_reason, mine.requests, mine.left) == ("conflict", 0, 10)
    assert f"pid {other.pid}" in (mine.error or "")
    said, _ = other.communicate(timeout=30)
    assert said.splitlines()[-1] == "at_end None"
    assert set(read_lookups(desk.lake)) == set(VERSIONS)
    assert len(desk.server.requests) == 10


def test_a_lake_that_cannot_be_written_is_said_before_anything_is_asked(desk: Desk) -> None:
    desk.folder.write_text("in the way", encoding="utf-8")
    client = CivitaiClient(desk.server.url, min_request_interval=0.0)
    summary = resolve(client, desk.lake, VERSIONS)
    assert (summary.stop_reason, summary.requests) == ("lake_unavailable", 0)
    assert "CIVITAI_LAKE" in (summary.error or "")


@pytest.mark.parametrize("wrong", [{"max_lookups": 0}, {"max_minutes": 0.0}, {"max_minutes": float("nan")}])
def test_a_limit_that_is_none_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be"):
        LookupOptions(**wrong)

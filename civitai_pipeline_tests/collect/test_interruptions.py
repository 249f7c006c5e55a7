"""Runs that are cancelled, run into each other, or find the lake in no state to be written."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from civitai_pipeline.lake.files import create_exclusively
from civitai_pipeline.lake.locks import sole_writer
from civitai_pipeline.prompts.items import Outcome
from civitai_pipeline.sandbox import Fault, FaultRule

from .stage import VERSION, Stage, items

if TYPE_CHECKING:
    from collections.abc import Iterator

    from civitai_pipeline.collect.summary import Summary


@pytest.mark.parametrize("at_page", [1, 2, 3])
def test_a_run_interrupted_between_pages_says_so_and_the_next_one_resumes(stage: Stage, at_page: int) -> None:
    def interrupt(summary: Summary) -> None:
        if summary.pages == at_page:
            raise KeyboardInterrupt

    run = stage.collector(on_page=interrupt)
    with pytest.raises(KeyboardInterrupt):
        run.run()
    assert run.summary.stop_reason == "canceled"
    stage.check(run.summary, pages_before=0, held_before=0)
    assert run.summary.pages == at_page
    assert stage.collect().stop_reason == "at_end"
    assert len(stage.content()["prompts"]) == 12
    assert stage.asked()[-1][1] is not None


@pytest.mark.parametrize("after_landing", [False, True])
def test_a_run_interrupted_around_the_landing_of_a_page_counts_it_just_when_it_landed(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, after_landing: bool
) -> None:
    landed = []

    def interrupted(*arguments: Any) -> None:  # noqa: ANN401 - those of the function it stands around
        landed.append(arguments)
        if len(landed) < 2 or after_landing:
            create_exclusively(*arguments)
        if len(landed) == 2:
            raise KeyboardInterrupt

    run = stage.collector()
    with monkeypatch.context() as patch:
        patch.setattr("civitai_pipeline.lake.ledger.create_exclusively", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run.run()
    stage.check(run.summary, pages_before=0, held_before=0)
    assert (run.summary.stop_reason, run.summary.pages) == ("canceled", 2 if after_landing else 1)
    assert stage.collect().stop_reason == "at_end"


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Python's own answer to SIGINT, which a shell that starts the tests in its background has ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_a_run_interrupted_while_it_waits_for_an_answer_stops_at_once(stage: Stage) -> None:
    stage.client_options = {"timeout": 30.0}
    stage.server.faults.set([FaultRule(Fault("stall", seconds=20), nth=2)])
    run = stage.collector()

    def interrupt_once_it_waits() -> None:
        while len(stage.asked()) < 2:
            time.sleep(0.01)
        # The request is seen before its sender waits for the answer, and Python forgets a signal that comes between.
        time.sleep(0.3)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt_once_it_waits, daemon=True).start()
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run.run()
    assert time.monotonic() - started < 5
    stage.check(run.summary, pages_before=0, held_before=0)
    assert (run.summary.stop_reason, run.summary.pages) == ("canceled", 1)
    assert stage.collect().stop_reason == "at_end"


def test_an_error_of_our_own_is_told_and_raised(stage: Stage) -> None:
    def fail(_summary: Summary) -> None:
        raise RuntimeError("a bug")

    run = stage.collector(on_page=fail)
    with pytest.raises(RuntimeError, match="a bug"):
        run.run()
    assert (run.summary.stop_reason, run.summary.error) == ("internal_error", "RuntimeError: a bug")
    stage.check(run.summary, pages_before=0, held_before=0)


def test_a_killed_run_loses_no_page_and_leaves_no_lock(stage: Stage) -> None:
    script = f"""
import os, signal
from civitai_pipeline.civitai.client import CivitaiClient
from civitai_pipeline.collect.collector import Collector
from civitai_pipeline.collect.options import CollectOptions
from civitai_pipeline.lake.paths import Lake
def die(summary):
    if summary.pages == 2:
        os.kill(os.getpid(), signal.SIGKILL)
client = CivitaiClient({stage.server.url!r}, min_request_interval=0)
Collector(client, Lake.at({str(stage.folder)!r}), {VERSION}, CollectOptions(page_size=5), on_page=die).run()
"""
    killed = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True)
    assert killed.returncode == -signal.SIGKILL
    assert stage.ledger.covered() == {1: 2}
    rest = stage.collect()
    assert (rest.stop_reason, rest.prompts_before, rest.pages) == ("at_end", 10, 1)


def test_a_second_process_says_who_collects_and_changes_nothing(stage: Stage) -> None:
    stage.collect(max_items=5)
    with sole_writer(stage.lake, VERSION):
        stage.server.forget_requests()
        summary = stage.collect()
    assert (summary.stop_reason, summary.pages, summary.failed) == ("conflict", 0, True)
    assert f"pid {os.getpid()}" in str(summary.error)
    assert (summary.branch, summary.prompts_before) == ("additional", 5)
    assert stage.server.requests == []
    assert stage.collect().stop_reason == "at_end"


def test_of_two_runs_at_once_one_collects_and_the_other_says_so(stage: Stage) -> None:
    other: list[Summary] = []

    def start_another(summary: Summary) -> None:
        if summary.pages == 1:
            other.append(stage.collector().run())

    run = stage.collector(on_page=start_another)
    assert run.run().stop_reason == "at_end"
    assert [summary.stop_reason for summary in other] == ["conflict"]
    assert stage.ledger.covered() == {1: 3}


def test_a_page_landed_by_somebody_who_knows_no_lock_is_a_conflict(stage: Stage) -> None:
    def land_the_next(summary: Summary) -> None:
        if summary.pages == 1:
            shutil.copy(str(stage.lake.page(VERSION, 1, 1)), str(stage.lake.page(VERSION, 1, 2)))

    run = stage.collector(on_page=land_the_next)
    summary = run.run()
    assert (summary.stop_reason, summary.pages, summary.tally.attempted) == ("conflict", 1, 5)
    assert summary.prompts_after - summary.prompts_before == summary.tally.outcomes[Outcome.NEW] == 5


def test_a_lake_that_is_a_file_is_told_before_anything_is_asked(stage: Stage) -> None:
    stage.folder.write_text("not a folder")
    summary = stage.collector().run()
    assert (summary.stop_reason, summary.failed) == ("lake_unavailable", True)
    assert str(stage.folder) in str(summary.error)
    assert stage.server.requests == []


@pytest.mark.skipif(not Path("/sys").is_dir(), reason="there is no folder here that nobody may write to")
def test_a_lake_that_can_only_be_read_still_says_what_it_holds(stage: Stage) -> None:
    stage.collect(max_items=5)
    (stage.folder / ".tmp").rmdir()
    # Nobody may create files there, not even root.
    (stage.folder / ".tmp").symlink_to("/sys")
    stage.server.forget_requests()
    summary = stage.collect()
    assert (summary.stop_reason, summary.pages, summary.prompts_before) == ("lake_unavailable", 0, 5)
    assert stage.server.requests == []


def test_a_pages_folder_that_cannot_be_written_is_told_and_nothing_is_counted(stage: Stage) -> None:
    stage.collect(max_items=5)
    # A file stands where the next walk's folder should be.
    (stage.folder / "pages" / str(VERSION) / "0002").write_text("")
    summary = stage.collect(restart=True)
    assert (summary.stop_reason, summary.pages, summary.tally.attempted) == ("lake_unavailable", 0, 0)
    assert stage.collect().stop_reason == "at_end"


@contextmanager
def _small_files() -> Iterator[None]:
    """No file may grow beyond 3 kB: the nearest to a full disk that needs no disk of its own.

    No fixture, because pytest writes what it reports before it ends those, perhaps to a file that is larger.
    """
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_disk_without_room_stops_the_run_and_leaves_no_part_of_a_page(stage: Stage) -> None:
    noise = [{"prompt": f"{number} " + os.urandom(2000).hex()} for number in range(5)]
    for entry, meta in zip(items(5, start=13), noise, strict=True):
        stage.world.insert({**entry, "meta": meta}, VERSION)
    with _small_files():
        summary = stage.collect(page_size=6)
    assert (summary.stop_reason, summary.pages) == ("lake_unavailable", 2)
    assert os.strerror(errno.EFBIG) in str(summary.error)
    assert list((stage.folder / ".tmp").iterdir()) == []


def test_a_damaged_page_is_named_and_stops_the_run_before_anything_lands(stage: Stage) -> None:
    stage.collect(max_items=5)
    page = stage.lake.page(VERSION, 1, 1)
    page.write_bytes(b"damaged")
    summary = stage.collector().run()
    assert (summary.stop_reason, summary.pages) == ("lake_unavailable", 0)
    assert str(page) in str(summary.error)

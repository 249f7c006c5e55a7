"""What goes wrong around a lake's files: a disk fills up, a lake cannot be written, a clock jumps."""

from __future__ import annotations

import os
import subprocess
import time
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from random import Random
from typing import TYPE_CHECKING
from unittest.mock import patch

from civitai_pipeline.care.pages import check_pages
from civitai_pipeline.civitai import client
from civitai_pipeline.collect import collector
from civitai_pipeline.lake.files import LakeError, abandoned
from civitai_pipeline.lake.locks import sole_writer
from civitai_pipeline.sandbox import Sandbox
from civitai_pipeline.upkeep.decisions import Launch, decide_refresh, decide_resume
from civitai_pipeline.upkeep.standing import state_of
from civitai_pipeline.watchlist import Watchlist
from civitai_pipeline_tests.collect.stage import VERSION, Stage, item, same
from civitai_pipeline_tests.proofs.grounds import clean_content, compare, landed_files, world
from civitai_pipeline_tests.proofs.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_MOUNT, _UMOUNT = "/bin/mount", "/bin/umount"
IMAGES = 60
SMALL_KB, LARGE_KB = 96, 65_536


@contextmanager
def small_disk(folder: Path) -> Iterator[bool]:
    """A file system of a few kilobytes at ``folder``; gives whether one may be mounted here."""
    folder.mkdir()
    mount = [_MOUNT, "-t", "tmpfs", "-o", f"size={SMALL_KB}k", "tmpfs", str(folder)]
    mounted = (
        os.geteuid() == 0
        and os.access(_MOUNT, os.X_OK)
        and subprocess.run(mount, capture_output=True, check=False).returncode == 0
    )
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run([_UMOUNT, str(folder)], check=True)


def _remount(folder: Path, options: str) -> None:
    subprocess.run([_MOUNT, "-o", f"remount,{options}", str(folder)], check=True)


def fill_disk(folder: Path) -> Verdict:
    """Collects and makes tables on a disk that is full now and then; what had landed stays."""
    started, problems = time.monotonic(), []
    clean = clean_content(world(IMAGES), 5)
    with small_disk(folder) as mounted, Sandbox(world(IMAGES)) as server:
        if not mounted:
            return Verdict("a full disk", "skipped: no file system may be mounted here")
        stage = Stage(server, folder / "lake")
        ballast, full = folder / "ballast", 0
        for free_kb in (8, 16, 24, 0, 40):
            _leave_free(ballast, folder, free_kb)
            before = landed_files(stage.folder)
            summary = stage.collector(page_size=5).run()
            if not before.items() <= landed_files(stage.folder).items():
                problems.append("a landed page has changed or is gone")
            if summary.stop_reason == "at_end":
                continue
            full += 1
            problems += _words(summary.error, str(stage.folder), "the disk is full")
            ballast.unlink()
            try:
                stage.check(summary, stage.pages() - summary.pages, summary.prompts_before)
            except AssertionError as problem:
                problems.append(f"the summary does not add up: {problem}")
        _remount(folder, f"size={LARGE_KB}k")
        # From too little for the first file of all to enough for the last.
        for free_kb in range(4, 400, 12):
            _leave_free(ballast, folder, free_kb)
            try:
                stage.build()
                break
            except LakeError as error:
                full += 1
                problems += _words(str(error), str(stage.folder), "the disk is full")
        ballast.unlink()
        stage.collect(page_size=5)
        found = compare(stage, stage.build(), clean)
        problems += [] if found.equal else ["the tables differ from a clean run's"]
        problems += [str(finding) for finding in check_pages(stage.lake, VERSION).findings]
        problems += [f"left: {path}" for path in (stage.folder / ".tmp").iterdir()]
    how_many = f"{full} times full"
    return Verdict("a full disk", how_many, found.lost, found.duplicated, tuple(problems), time.monotonic() - started)


def _leave_free(ballast: Path, folder: Path, kilobytes: int) -> None:
    ballast.unlink(missing_ok=True)
    disk = os.statvfs(folder)
    ballast.write_bytes(bytes(max(0, disk.f_bavail * disk.f_frsize - kilobytes * 1024)))


def _words(said: str | None, *expected: str) -> list[str]:
    """An error must say where and what."""
    return [f"an error does not say {text!r}: {said}" for text in expected if text not in (said or "")]


def read_only(folder: Path) -> Verdict:
    """A lake on a disk that became read-only can be checked, and says why it cannot be collected into."""
    started, problems = time.monotonic(), []
    with small_disk(folder) as mounted, Sandbox(world(IMAGES)) as server:
        if not mounted:
            return Verdict("a read-only lake", "skipped: no file system may be mounted here")
        _remount(folder, f"size={LARGE_KB}k")
        stage = Stage(server, folder / "lake")
        stage.collect(page_size=5, max_items=30)
        stage.build()
        before = landed_files(stage.folder)
        _remount(folder, "ro")
        if check_pages(stage.lake, VERSION).findings:
            problems.append("a read-only lake has findings")
        summary = stage.collector(page_size=5).run()
        if summary.stop_reason != "lake_unavailable" or server.requests[-1].path != "/api/v1/images":
            problems.append(f"stopped with {summary.stop_reason}")
        asked = len(server.requests)
        problems += _words(summary.error, str(stage.folder), "may not write there")
        stage.collector(page_size=5).run()
        problems += ["asked the API for what it could not land"] if len(server.requests) > asked else []
        try:
            stage.build()
            problems.append("tables were made on a read-only disk")
        except LakeError as error:
            problems += _words(str(error), str(stage.folder))
        _remount(folder, "rw")
        if landed_files(stage.folder) != before:
            problems.append("a landed page has changed or is gone")
        stage.collect(page_size=5)
        found = compare(stage, stage.build(), clean_content(world(IMAGES), 5))
        problems += [] if found.equal else ["the tables differ from a clean run's"]
    seconds = time.monotonic() - started
    return Verdict("a read-only lake", "4 tries", found.lost, found.duplicated, tuple(problems), seconds)


@contextmanager
def clock_at(moment: datetime) -> Iterator[None]:
    """The product's clock says another time; how long things take is measured by another one."""
    shift = moment - datetime.now(UTC)

    class Shifted(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:  # type: ignore[override]  # asked for UTC alone
            assert tz is UTC
            return datetime.now(UTC) + shift

    with ExitStack() as stack:
        for module in (client, collector):
            stack.enter_context(patch.object(module, "datetime", Shifted))
        yield


def jump_clock(seed: int, folder: Path, jumps: int) -> Verdict:
    """Collects with a clock that is years ahead or behind from run to run, with news in between."""
    started, problems = time.monotonic(), []
    random, here = Random(seed), datetime.now(UTC)  # noqa: S311 - reproducible jumps, no secret
    added = 0
    with Sandbox(world(IMAGES)) as server:
        stage = Stage(server, folder)
        for jump in range(jumps):
            now = here + timedelta(days=random.uniform(-3650, 3650))
            with clock_at(now):
                stage.collect(page_size=5, max_items=20 if jump < 2 else None, restart=random.random() < 0.2)
                with sole_writer(stage.lake, VERSION):
                    pass
            built = stage.build()
            if not same(built, stage.build(rebuild=True, write=False)):
                problems.append("tables added to differ from tables made anew")
            if jump >= 2:
                server.world.insert(item(9_100_001 + jump), VERSION)
                added += 1
            later = here + timedelta(days=random.uniform(-3650, 3650))
            problems += _launches(stage, later)
        for _ in range(2):
            stage.collect(page_size=5)
        found = compare(stage, stage.build(), _expected(stage, folder.with_name("clean")))
        problems += [] if found.equal else ["the tables differ from a clean run's"]
        problems += [str(finding) for finding in check_pages(stage.lake, VERSION).findings]
        problems += _temporaries(stage, here)
    how_many = f"{jumps} jumps of up to 10 years, {added} images in between"
    seconds = time.monotonic() - started
    return Verdict("a clock that jumps", how_many, found.lost, found.duplicated, tuple(problems), seconds)


def _expected(stage: Stage, folder: Path) -> dict[str, list[dict[str, object]]]:
    clean = Stage(stage.server, folder)
    clean.collect(page_size=5)
    return clean.content()


def _launches(stage: Stage, now: datetime) -> list[str]:
    """At any other time, an open walk must be gone on with and a finished one refreshed."""
    watch = Watchlist.model_validate({"versions": [{"id": VERSION}]})
    state = state_of(stage.lake, VERSION, watch, model_id=None, default_level=1)
    launches = [decide_resume(state, None, [], now), decide_refresh(state, None, now)]
    return [] if any(isinstance(one, Launch) for one in launches) else [f"nothing is launched at {now}: {launches}"]


def _temporaries(stage: Stage, here: datetime) -> list[str]:
    """What a living process writes is left alone, whatever time its file says; what a dead one left is found."""
    folder = stage.folder / ".tmp"
    host = os.uname().nodename
    mine, dead = folder / f"page-{host}-{os.getpid()}-aa", folder / f"page-{host}-{2**22 - 1}-bb"
    problems = []
    for days in (-3650, 3650):
        for path in (mine, dead):
            path.write_bytes(b"half a page")
            stamp = (here + timedelta(days=days)).timestamp()
            os.utime(path, (stamp, stamp))
        if [path.name for path in abandoned(stage.lake.root)] != [dead.name]:
            problems.append("temporary files are told by their time, not by their process")
    mine.unlink()
    dead.unlink()
    return problems


def prove_surroundings(seed: int, folder: Path) -> list[Verdict]:
    """All of them."""
    return [
        fill_disk(folder / "full"),
        read_only(folder / "frozen"),
        jump_clock(seed, folder / "jumping", jumps=30),
    ]

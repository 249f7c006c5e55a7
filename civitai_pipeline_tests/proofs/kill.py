"""Kills at random moments: SIGKILL, run again, SIGKILL, until the lake must be whole all the same.

Two kinds of process are killed: the collector alone (``victim.py``), and the real ``civitai-pipeline collect`` with
its Dagster instance. How long each phase of an uninterrupted run takes is measured first, and each kill is drawn
from one of the phases, so that not all of them fall into the longest.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, Protocol

from civitai_pipeline.civitai.client import CivitaiClient
from civitai_pipeline.collect.collector import Collector
from civitai_pipeline.collect.options import CollectOptions
from civitai_pipeline.collect.summary import StopReason
from civitai_pipeline.derive.prompt_tables import STEP_TABLES
from civitai_pipeline.lake.ledger import Ledger
from civitai_pipeline.lake.paths import Lake
from civitai_pipeline.lake.schemas import PROMPTS, TABLES
from civitai_pipeline.lake.tables import read_provenance, read_table, table_exists
from civitai_pipeline.sandbox import Sandbox, SandboxOptions
from civitai_pipeline_tests.collect.stage import VERSION
from civitai_pipeline_tests.proofs.grounds import landed_files, ledger_pages, print_table, world
from civitai_pipeline_tests.proofs.verdict import Verdict
from civitai_pipeline_tests.proofs.victim import DONE, PHASES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

PAGE_SIZE = 3
# Killed runs get half as far on average, so the walk stays open until the last kill.
PAGES_PER_RUN = 8
# Long enough for kills to fall between request and answer, short enough for most to fall elsewhere.
LATENCY_S = 0.01
# A run takes seconds; one that hangs must not hang the proof.
GIVE_UP_S = 180.0
ROOT = Path(__file__).resolve().parents[2]
# What two collections of the same pages may differ in: when, by which run and under which limit.
_BY_CHANCE = {
    "first_seen_at", "last_seen_at", "prompt_withdrawn_at", "fetched_at", "elapsed_s", "run_id", "max_items",
}  # fmt: skip

Json = dict[str, Any]


class Prey(Protocol):
    """A process that collects into a lake and can be killed on the way."""

    def measure(self) -> Mapping[str, float]:
        """How many seconds each phase of an uninterrupted run into a lake of its own takes."""

    def kill(self, phase: str, delay_s: float) -> str:
        """Starts a run, kills it so many seconds into a phase, and says where it was."""

    def finish(self, folder: Path) -> None:
        """Collects all there is, uninterrupted."""


def _start(command: list[str], environment: Mapping[str, str], log: Path) -> subprocess.Popen[str]:
    with log.open("w") as errors:
        return subprocess.Popen(
            [sys.executable, *command], cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True
        )


@dataclass
class LoneCollector:
    """The collector without Dagster.

    Attributes:
        server: The stand-in it collects from.
        folder: The lake.
        scratch: Where another lake and logs may lie.
    """

    server: Sandbox
    folder: Path
    scratch: Path

    def _victim(self, folder: Path, max_items: int) -> subprocess.Popen[str]:
        arguments = [self.server.url, str(folder), str(VERSION), str(PAGE_SIZE), str(max_items)]
        return _start(
            ["-m", "civitai_pipeline_tests.proofs.victim", *arguments], os.environ, self.scratch / "victim.log"
        )

    def _phases(self, victim: subprocess.Popen[str]) -> Mapping[str, float]:
        """When each phase began and the process was done, as it says itself."""
        assert victim.stdout is not None
        times = {line.strip(): time.monotonic() for line in victim.stdout}
        victim.stdout.close()
        assert victim.wait(GIVE_UP_S) == 0, (self.scratch / "victim.log").read_text()
        return times

    def measure(self) -> Mapping[str, float]:
        """How many seconds each phase of an uninterrupted run into a lake of its own takes."""
        times = self._phases(self._victim(self.scratch / "measured", PAGES_PER_RUN * PAGE_SIZE))
        following = dict(zip(PHASES, (*PHASES[1:], DONE), strict=True))
        return {phase: times[after] - times[phase] for phase, after in following.items()}

    def kill(self, phase: str, delay_s: float) -> str:
        """Starts a run, kills it so many seconds into a phase, and says where it was."""
        victim = self._victim(self.folder, PAGES_PER_RUN * PAGE_SIZE)
        assert victim.stdout is not None
        reached = "starting"
        for line in victim.stdout:
            reached = line.strip()
            if reached == phase:
                break
        time.sleep(delay_s)
        victim.kill()
        # What it said between then and its death.
        for line in victim.stdout:
            reached = line.strip()
        victim.stdout.close()
        code = victim.wait(GIVE_UP_S)
        assert code in {0, -9}, (self.scratch / "victim.log").read_text()
        return reached

    def finish(self, folder: Path) -> None:
        """Collects all there is, uninterrupted."""
        self._phases(self._victim(folder, 10**6))


@dataclass
class CommandLine:
    """The command ``civitai-pipeline collect`` with a Dagster instance.

    Attributes:
        server: The stand-in it collects from.
        folder: The lake.
        scratch: Where another lake, the instances and logs may lie.
    """

    server: Sandbox
    folder: Path
    scratch: Path

    def _run(self, folder: Path, max_items: int) -> subprocess.Popen[str]:
        environment = {
            **os.environ,
            "CIVITAI_BASE_URL": self.server.url,
            "CIVITAI_LAKE": str(folder),
            "CIVITAI_MIN_REQUEST_INTERVAL": "0",
            "CIVITAI_TIMEOUT": "10",
            "CIVITAI_RETRY_BUDGET": "10",
            "DAGSTER_HOME": str(self.scratch / f"dagster-{folder.name}"),
        }
        environment.pop("CIVITAI_API_KEY", None)
        self.server.forget_requests()
        options = ["--page-size", str(PAGE_SIZE), "--max-items", str(max_items), "--json"]
        return _start(["-m", "civitai_pipeline.cli", "collect", str(VERSION), *options], environment, self._log)

    @property
    def _log(self) -> Path:
        return self.scratch / "collect.log"

    def _wait(self, run: subprocess.Popen[str]) -> None:
        said, _ = run.communicate(timeout=GIVE_UP_S)
        assert run.returncode == 0, f"exit status {run.returncode}: {said} {self._log.read_text()}"

    def _page_requests(self) -> list[float]:
        return [request.at for request in self.server.requests if request.path == "/api/v1/images"]

    def measure(self) -> Mapping[str, float]:
        """How many seconds each phase of an uninterrupted run into a lake of its own takes."""
        folder = self.scratch / "measured"
        self._wait(self._run(folder, PAGES_PER_RUN * PAGE_SIZE))
        # Files are stamped by the clock, requests by the monotonic one.
        shift = time.time() - time.monotonic()
        asked = self._page_requests()
        tables = max(path.stat().st_mtime for path in folder.glob("*/*.parquet")) - shift
        views = (folder / "civitai.duckdb").stat().st_mtime - shift
        return {"landing": asked[-1] - asked[0], "tables": tables - asked[-1], "views": views - tables}

    def kill(self, phase: str, delay_s: float) -> str:
        """Starts a run, kills it so many seconds into a phase, and says where it was."""
        started = time.time()
        before = {"landing": 0.0}
        before["tables"] = self.durations["landing"]
        before["views"] = before["tables"] + self.durations["tables"]
        run = self._run(self.folder, PAGES_PER_RUN * PAGE_SIZE)
        end = time.monotonic() + GIVE_UP_S
        while not self._page_requests():
            if time.monotonic() > end:
                run.kill()
            assert run.poll() is None, f"asked for nothing, exit status {run.returncode}: {self._log.read_text()}"
            time.sleep(0.005)
        time.sleep(before[phase] + delay_s)
        run.kill()
        run.communicate(timeout=GIVE_UP_S)
        written = {path.parent.name for path in self.folder.glob("*/*.parquet") if path.stat().st_mtime > started}
        database = self.folder / "civitai.duckdb"
        if run.returncode == 0:
            return DONE
        if database.is_file() and database.stat().st_mtime > started:
            return "after the views"
        return f"after {len(written)} tables" if written else "landing or folding"

    def finish(self, folder: Path) -> None:
        """Collects all there is, uninterrupted."""
        self._wait(self._run(folder, 10**6))

    durations: Mapping[str, float] = field(default_factory=dict)


@dataclass
class Kills:
    """What the kills did.

    Attributes:
        kills: Runs killed, by where they were.
        too_late: Runs that were done before they could be killed.
        with_scraps: Kills that left a temporary file.
        uneven: Kills after which the tables reached unequally far.
        pages: Pages landed in the end.
        pages_lost: Pages of the clean run that are missing.
        pages_twice: Pages landed more than once.
        rows_lost: Rows of the clean run's tables that are missing.
        rows_extra: Rows that the clean run does not have.
        problems: What else did not hold.
        seconds: How long it took.
    """

    kills: Counter[str] = field(default_factory=Counter)
    too_late: int = 0
    with_scraps: int = 0
    uneven: int = 0
    pages: int = 0
    pages_lost: int = 0
    pages_twice: int = 0
    rows_lost: int = 0
    rows_extra: int = 0
    problems: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether nothing is amiss."""
        return not (self.pages_lost or self.pages_twice or self.rows_lost or self.rows_extra or self.problems)


def kill_and_resume(
    kills: int, seed: int, folder: Path, process: str = "collector", on_kill: Callable[[str], None] | None = None
) -> Kills:
    """Kills so many runs and holds what is left, after one more, against an uninterrupted run.

    Args:
        kills: How many.
        seed: Makes the draws the same.
        folder: An empty folder for lakes, instances and logs.
        process: ``collector`` or ``cli``.
        on_kill: Hears of each kill.

    Raises:
        AssertionError: A run that was not killed failed.
    """
    started = time.monotonic()
    random, done = Random(seed), Kills()  # noqa: S311 - reproducible moments, no secret
    # Some runs will be faster than their killer, and get all of their pages.
    most_runs = kills + kills // 4 + 2
    images = world(most_runs * PAGES_PER_RUN * PAGE_SIZE)
    lake, whole = folder / "lake", folder / "whole"
    with Sandbox(images, SandboxOptions(latency_s=LATENCY_S)) as server:
        prey: Prey
        if process == "cli":
            prey = command = CommandLine(server, lake, folder)
            command.durations = durations = command.measure()
        else:
            prey = LoneCollector(server, lake, folder)
            durations = prey.measure()
        landed: dict[str, bytes] = {}
        for _ in range(most_runs):
            if done.kills.total() == kills:
                break
            phase = random.choice(list(durations))
            where = prey.kill(phase, random.uniform(0, durations[phase]))
            if on_kill is not None:
                on_kill(where)
            if where == DONE:
                done.too_late += 1
                continue
            done.kills[where] += 1
            now = landed_files(lake)
            if not landed.items() <= now.items():
                done.problems.append("a landed page has changed or is gone")
            landed = now
            done.with_scraps += (lake / ".tmp").is_dir() and any((lake / ".tmp").iterdir())
            done.uneven += _are_uneven(Lake.at(str(lake)))
        prey.finish(lake)
        prey.finish(whole)
        _compare(done, Lake.at(str(lake)), Lake.at(str(whole)))
        _ask_once_more(done, server, Lake.at(str(lake)))
    scraps = [path.name for path in (lake / ".tmp").iterdir()]
    if scraps:
        done.problems.append(f"temporary files are left: {scraps}")
    done.seconds = time.monotonic() - started
    return done


def _are_uneven(lake: Lake) -> bool:
    """Whether a process died between the swaps of two tables."""
    return len({str(read_provenance(lake, table, VERSION)) for table in STEP_TABLES}) > 1


def _compare(done: Kills, lake: Lake, whole: Lake) -> None:
    """Holds pages and tables against those of the uninterrupted run."""
    try:
        pages = ledger_pages(Ledger(lake, VERSION))
    except AssertionError as problem:
        done.problems.append(str(problem))
        pages = list(Ledger(lake, VERSION).pages())
    # A run killed after its last page makes the next one confirm it.
    found = [(page.id, page.cursor, page.items, page.next_cursor) for page in pages if page.confirms is None]
    expected = [(page.id, page.cursor, page.items, page.next_cursor) for page in Ledger(whole, VERSION).pages()]
    cursors = Counter(str(cursor) for _, cursor, _, _ in found)
    done.pages = len(pages)
    done.pages_lost = sum(page not in found for page in expected)
    done.pages_twice = sum(count - 1 for count in cursors.values())
    if found != expected and not done.pages_lost and not done.pages_twice:
        done.problems.append("the pages differ from the uninterrupted run's")
    made = [table for table in TABLES if table_exists(whole, table, VERSION)]
    for table in made:
        ours, theirs = (_rows(read_table(where, table, VERSION).to_pylist()) for where in (lake, whole))
        done.rows_lost += (theirs - ours).total()
        done.rows_extra += (ours - theirs).total()
    if len(made) < len(STEP_TABLES):
        done.problems.append("the uninterrupted run made no tables")


def _rows(rows: list[Json]) -> Counter[str]:
    return Counter(str({name: value for name, value in row.items() if name not in _BY_CHANCE}) for row in rows)


def _ask_once_more(done: Kills, server: Sandbox, lake: Lake) -> None:
    """One more run: it must find the walk at its end, nothing new, and leave nothing behind."""
    client = CivitaiClient(server.url, min_request_interval=0)
    summary = Collector(client, lake, VERSION, CollectOptions(page_size=PAGE_SIZE)).run()
    if summary.stop_reason != StopReason.AT_END or summary.saved:
        done.problems.append(f"one more run stopped with {summary.stop_reason}, {summary.saved} saved")
    if summary.prompts_before != read_table(lake, PROMPTS, VERSION).num_rows:
        done.problems.append("ledger and tables count prompts differently")


def prove(seed: int, folder: Path) -> list[Verdict]:
    """The long form: 50 kills of the collector alone and 15 of the command line."""
    verdicts = []
    for process, kills in (("collector", 50), ("cli", 15)):
        (folder / process).mkdir()
        done = kill_and_resume(kills, seed, folder / process, process, _dot)
        rows = [
            ("kills", f"{done.kills.total()} ({', '.join(f'{n} {where}' for where, n in done.kills.most_common())})"),
            ("runs done before their kill", done.too_late),
            ("kills in the midst of a file", done.with_scraps),
            ("kills between two tables", done.uneven),
            ("pages landed", done.pages),
            ("pages lost", done.pages_lost),
            ("pages twice", done.pages_twice),
            ("rows lost", done.rows_lost),
            ("rows extra", done.rows_extra),
        ]
        print_table(f"kills of the {process}, seed {seed}", ["what", "how many"], rows)
        lost, twice = done.pages_lost + done.rows_lost, done.pages_twice + done.rows_extra
        how_many = f"{done.kills.total()} kills, {done.pages} pages"
        verdicts.append(Verdict(f"kills of the {process}", how_many, lost, twice, tuple(done.problems), done.seconds))
    return verdicts


def _dot(_where: str) -> None:
    sys.stderr.write(".")
    sys.stderr.flush()

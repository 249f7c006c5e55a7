"""What kills of the command line and of runs of the UI share: the ground they happen on, and what they came to."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from civitai_pipeline.lake.paths import Lake
from civitai_pipeline_tests.collect.stage import VERSION
from civitai_pipeline_tests.proofs.aftermath import Aftermath, compare_lakes, half_written, working_folders
from civitai_pipeline_tests.proofs.grounds import landed_files, print_table
from civitai_pipeline_tests.proofs.moments import Watch
from civitai_pipeline_tests.proofs.verdict import Verdict
from civitai_pipeline_tests.proofs.warm import Call, Warm, program

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from random import Random

    from civitai_pipeline.sandbox import Sandbox

PAGE_SIZE = 3
PAGES_PER_RUN = 4
# Long enough for kills to fall between request and answer, short enough for most to fall elsewhere.
LATENCY_S = 0.01


@dataclass
class Kills:
    """What the kills did.

    Attributes:
        phases: Kills by the phase they were drawn from.
        steps: Runs killed, by the step they were at.
        too_late: Runs that were done before they could be killed.
        with_scraps: Kills that left a temporary file in the lake.
        with_folders: Kills that left a working folder beside it, alone or with those of earlier kills.
        runs: Runs in all, those that were not killed among them.
        summaries: Summaries of killed runs.
        after: The lakes held against that of an uninterrupted run.
        seconds: How long it took.
    """

    phases: Counter[str] = field(default_factory=Counter)
    steps: Counter[str] = field(default_factory=Counter)
    too_late: int = 0
    with_scraps: int = 0
    with_folders: int = 0
    runs: int = 0
    summaries: int = 0
    after: Aftermath = field(default_factory=Aftermath)
    seconds: float = 0.0

    def add(self, other: Kills) -> None:
        """Adds the kills in another lake."""
        for name in ("too_late", "with_scraps", "with_folders", "runs", "summaries"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.phases += other.phases
        self.steps += other.steps
        self.after.add(other.after)

    def verdict(self, what: str) -> Verdict:
        """The line of the proofs' table."""
        lost, twice = self.after.pages_lost + self.after.rows_lost, self.after.pages_twice + self.after.rows_extra
        how_many = f"{self.phases.total()} kills, {self.after.pages} pages, {self.summaries} summaries of the dead"
        return Verdict(what, how_many, lost, twice, tuple(self.after.problems), self.seconds)

    def print(self, title: str) -> None:
        """Prints what there is to know."""
        rows = [
            *((f"killed in the phase {phase}", count) for phase, count in self.phases.items()),
            *((f"killed at {step}", count) for step, count in self.steps.most_common()),
            ("runs done before their kill", self.too_late),
            ("kills in the midst of a file", self.with_scraps),
            ("kills that left a working folder", self.with_folders),
            ("runs in all", self.runs),
            ("summaries of the dead", self.summaries),
            ("pages landed", self.after.pages),
            ("pages lost", self.after.pages_lost),
            ("pages twice", self.after.pages_twice),
            ("rows lost", self.after.rows_lost),
            ("rows extra", self.after.rows_extra),
        ]
        print_table(title, ["what", "how many"], rows)


@dataclass
class Ground:
    """Where runs are started and killed.

    Attributes:
        warm: Who forks them.
        server: The stand-in they collect from.
        folder: For lakes and instances.
        durations: How many seconds each phase of an uninterrupted run takes.
    """

    warm: Warm
    server: Sandbox
    folder: Path
    durations: Mapping[str, float] = field(default_factory=dict)

    def lake(self, name: str) -> Lake:
        """A lake by its name."""
        return Lake.at(str(self.folder / name / "lake"))

    def system_folder(self, name: str) -> Path:
        """Where temporary files of the system go that runs into a lake leave."""
        return self.folder / name / "system"

    def environment(self, name: str) -> Mapping[str, str]:
        """The environment of a run into a lake."""
        self.system_folder(name).mkdir(parents=True, exist_ok=True)
        return {
            "CIVITAI_BASE_URL": self.server.url,
            "CIVITAI_LAKE": str(self.folder / name / "lake"),
            "CIVITAI_MIN_REQUEST_INTERVAL": "0",
            "CIVITAI_TIMEOUT": "10",
            "CIVITAI_RETRY_BUDGET": "10",
            "CIVITAI_API_KEY": "",
            "DAGSTER_HOME": str(self.folder / name / "dagster"),
            "TMPDIR": str(self.system_folder(name)),
        }

    def compare(self, name: str, *versions: int, whole: str = "whole") -> Aftermath:
        """Holds a lake, and what runs into it have left beside it, against that of uninterrupted runs."""
        done = compare_lakes(self.lake(name), self.lake(whole), *versions)
        if left := working_folders(self.system_folder(name)):
            done.problems.append(f"working folders are left: {', '.join(left)}")
        return done

    def start(self, name: str, version: int = VERSION, pages: int | None = PAGES_PER_RUN) -> Call:
        """Starts a run into a lake."""
        options = ["--page-size", str(PAGE_SIZE), "--json"]
        options += [] if pages is None else ["--max-items", str(pages * PAGE_SIZE)]
        return self.warm.call(program, self.environment(name), "collect", str(version), *options)

    def prepare(self, *versions: int, name: str = "whole") -> None:
        """Makes uninterrupted runs into a lake; the warm process learns from the first, and its phases are timed."""
        for number, version in enumerate(versions):
            watch, call = Watch(self.lake(name), version), self.start(name, version, pages=None)
            durations = watch.durations(call.is_over)
            call.result()
            if number == 0:
                self.durations = durations
                self.warm.learn(call)

    def measure(self) -> None:
        """Times the phases of a short run, whose start costs what that of a killed one does."""
        watch, call = Watch(self.lake("measured"), VERSION), self.start("measured")
        self.durations = watch.durations(call.is_over)
        call.result()


def most_runs(kills: int) -> int:
    """Runs until so many are killed: some will be faster than their killer, and get all of their pages."""
    return kills + kills // 2 + 3


def most_images(kills: int) -> int:
    """Images that so many kills cannot exhaust, so that the walk stays open until the last run."""
    return (most_runs(kills) + 1) * PAGES_PER_RUN * PAGE_SIZE


def in_turn(random: Random, phases: list[str]) -> Iterator[str]:
    """The phases, each as often as the others, in an order of chance."""
    while True:
        yield from random.sample(phases, len(phases))


class Tracks:
    """What a lake looks like after each kill: landed pages never change, and nothing under a data name is half done.

    Args:
        lake: The lake.
        system: Where temporary files of the system go.
        done: Where trouble is noted.
        version: The model version whose pages are looked at.
    """

    def __init__(self, lake: Lake, system: Path, done: Kills, version: int = VERSION) -> None:
        self._lake = lake
        self._system = system
        self._done = done
        self._pages = f"pages/{version}/"
        self._landed: dict[str, bytes] = {}

    def look(self, phase: str) -> None:
        """Notes a kill and looks at what it left."""
        self._done.phases[phase] += 1
        root = Path(str(self._lake.root))
        now = {path: data for path, data in landed_files(root).items() if path.startswith(self._pages)}
        if not self._landed.items() <= now.items():
            self._done.after.problems.append("a landed page has changed or is gone")
        self._landed = now
        self._done.with_scraps += (root / ".tmp").is_dir() and any((root / ".tmp").iterdir())
        self._done.with_folders += bool(working_folders(self._system))
        self._done.after.problems += half_written(self._lake)
        sys.stderr.write(".")
        sys.stderr.flush()

"""Upkeep under fire: compaction and copies killed while others read and collect, and records pruned over many runs.

A year of polls lands in two lakes, page for page the same; one of them is compacted, the other is what it is held
against. SIGKILL falls at random moments of a compaction or a copy, some after the last file was written.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import dagster as dg

from civitai_pipeline.collect.summary import StopReason
from civitai_pipeline.derive import slabs
from civitai_pipeline.keeping.restoring import restore
from civitai_pipeline.keeping.sizes import size_of_records
from civitai_pipeline.lake.bundles import list_walk, list_walks
from civitai_pipeline.lake.compaction import LEAST_FILES, compact
from civitai_pipeline.lake.ledger import Ledger
from civitai_pipeline.lake.pages import PageId
from civitai_pipeline.lake.paths import Lake
from civitai_pipeline.pruning import prune
from civitai_pipeline.sandbox import Sandbox, SandboxOptions
from civitai_pipeline_tests.collect.stage import VERSION, Stage, item
from civitai_pipeline_tests.lake.examples import THEN, body, page
from civitai_pipeline_tests.proofs.grounds import hurry, world
from civitai_pipeline_tests.proofs.upkeep_victim import DONE, FAILED, KILLED
from civitai_pipeline_tests.proofs.verdict import Verdict
from civitai_pipeline_tests.tables import built_tables

if TYPE_CHECKING:
    from collections.abc import Iterator

    from civitai_pipeline_tests.tables import Built

WALKS = (1, 2)
# Of all polls, those that come to a page of their own, and those that show other counts than before.
NEW_PAGES, CHANGED = 0.02, 0.4
# Each round has new polls; its kills fall on the same pages until a compaction gets through.
KILLS_A_ROUND = 10
STOP = "stop"
PAGE_SIZE = 3
LATENCY_S = 0.01
ROOT = Path(__file__).resolve().parents[2]


class Killer:
    """Has work done by processes of their own, and kills them."""

    def __init__(self, log: Path) -> None:
        self._log = log
        with log.open("w") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "civitai_pipeline_tests.proofs.upkeep_victim"],
                cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True,
            )  # fmt: skip

    def start(self, delay_s: float, *work: str) -> None:
        """Begins some work, to be killed after so many seconds."""
        assert self._process.stdin is not None
        self._process.stdin.write("\t".join([str(delay_s), *work]) + "\n")
        self._process.stdin.flush()

    def wait(self) -> tuple[str, float]:
        """How the work ended, and after how many seconds.

        Raises:
            AssertionError: It failed by itself.
        """
        assert self._process.stdout is not None
        said, _, seconds = self._process.stdout.readline().strip().partition("\t")
        assert said in {DONE, KILLED}, f"{said or FAILED}: {self._log.read_text()}"
        return said, float(seconds)

    def close(self) -> None:
        """Ends the process that has the work done."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)
        assert self._process.stdout is not None
        self._process.stdout.close()


@contextmanager
def killer(folder: Path) -> Iterator[Killer]:
    """A killer for a while."""
    found = Killer(folder / "victim.log")
    try:
        yield found
    finally:
        found.close()


@dataclass
class Polls:
    """Polls that land in two lakes alike: most show the same as before, some other counts, few a new page.

    Attributes:
        lakes: The lakes.
        random: Draws what a poll shows.
        pages: Pages landed of each walk.
        items: What the last page of each walk shows.
        whole: The last page of each walk that is no confirmation.
        cursor: What the polls of each walk ask for.
    """

    lakes: tuple[Lake, Lake]
    random: Random
    pages: Counter[int] = field(default_factory=Counter)
    items: dict[int, list[Any]] = field(default_factory=dict)
    whole: dict[int, PageId] = field(default_factory=dict)
    cursor: dict[int, int] = field(default_factory=dict)

    def land(self, count: int) -> None:
        """Lands so many polls."""
        for _ in range(count):
            self._land(self.random.choice(WALKS))

    def _land(self, walk: int) -> None:
        drawn = self.random.random()
        sequence = self.pages.total() + 1
        self.pages[walk] += 1
        number = self.pages[walk]
        is_new = number == 1 or drawn < NEW_PAGES
        is_whole = is_new or drawn < NEW_PAGES + CHANGED
        if is_new:
            self.cursor[walk] = number
            first = sequence * 10 + 1
            self.items[walk] = [item(image_id) for image_id in range(first, first + 5)]
        elif is_whole:
            changed = self.random.randrange(5)
            shown = self.items[walk][changed]
            stats = {**shown["stats"], "likeCount": shown["stats"]["likeCount"] + 1}
            self.items[walk][changed] = {**shown, "stats": stats}
        cursor = None if self.cursor[walk] == 1 else f"{self.cursor[walk]}|x"
        landed = page(walk, number, sequence, cursor=cursor, fetched_at=THEN + timedelta(minutes=sequence))
        landed = replace(landed, run_id=f"{self.random.getrandbits(64):x}")
        if is_whole:
            self.whole[walk] = landed.id
        else:
            landed = replace(landed, confirms=self.whole[walk], metadata={"nextCursor": None})
        for lake in self.lakes:
            Ledger(lake, VERSION).land(landed, body(self.items[walk]) if is_whole else None)


def texts(lake: Lake) -> dict[str, str]:
    """Of each page, in the order of landing, the digest of its text."""
    ledger = Ledger(lake, VERSION)
    return {str(place): hashlib.sha256(ledger.text(place)).hexdigest() for place in ledger.order()}


def page_files(lake: Lake) -> Counter[str]:
    """How many files each page is in."""
    found: Counter[str] = Counter()
    for walk in list_walks(lake.pages(VERSION)):
        listed = list_walk(lake.walk(VERSION, walk))
        found.update(str(PageId(walk, n)) for file in (*listed.files, *listed.superseded) for n in file.pages)
    return found


def read_again_and_again(lake: Lake, twin: Built, rounds: list[str]) -> int:
    """Makes tables anew for as long as somebody kills; returns how often, or says in ``rounds`` what differed."""
    times = 0
    while STOP not in rounds:
        if not built_tables(lake, VERSION, rebuild=True).equals(twin, provenance=True):
            rounds.append("tables made while pages were put together differ")
        times += 1
    return times


def compaction_killed(kills: int, polls: int, seed: int, folder: Path) -> Verdict:
    """Kills compactions while a reader makes tables; in the end pages and tables must be what they were."""
    started = time.monotonic()
    lake, twin = (Lake.at(str(folder / name)) for name in ("lake", "twin"))
    random = Random(seed)  # noqa: S311 - reproducible moments, no secret
    history, ends, problems = Polls((lake, twin), random), Counter[str](), list[str]()
    scraps = reads = 0
    longest_s = 0.05
    # Processes of its own, which take seconds to start, would keep the reader from reading often.
    alone = patch.object(slabs, "LEAST_PAGES_FOR_PROCESSES", sys.maxsize)
    with alone, killer(folder) as hand, ThreadPoolExecutor(1) as reader:
        while ends[KILLED] < kills and ends.total() < 3 * kills:
            history.land(max(2 * LEAST_FILES, polls * KILLS_A_ROUND // kills))
            rounds: list[str] = []
            reading = reader.submit(read_again_and_again, lake, built_tables(twin, VERSION, rebuild=True), rounds)
            for _ in range(KILLS_A_ROUND):
                # Some moments lie beyond the end, when all is written and not all is removed.
                hand.start(random.uniform(0, 1.2 * longest_s), "compact", str(lake.root), str(VERSION))
                how, seconds = hand.wait()
                ends[how] += 1
                if how == DONE or ends[KILLED] == kills:
                    longest_s = max(0.02, (longest_s + seconds) / 2)
                    break
                scraps += any((Path(str(lake.root)) / ".tmp").iterdir())
            rounds.append(STOP)
            reads += reading.result()
            problems += [said for said in rounds if said != STOP]
    before, after = texts(twin), texts(lake)
    if list(before) != list(after):
        problems.append("the pages are in another order")
    done = compact(lake, VERSION)
    if done.error is not None:
        problems.append(done.error)
    if texts(lake) != after:
        problems.append("the last compaction changed a page")
    if not built_tables(lake, VERSION, rebuild=True).equals(built_tables(twin, VERSION, rebuild=True)):
        problems.append("the tables differ")
    if left := list((Path(str(lake.root)) / ".tmp").iterdir()):
        problems.append(f"temporary files are left: {left}")
    files = f"{history.pages.total()} pages in {done.files_after} files"
    return Verdict(
        "compaction killed",
        f"{ends[KILLED]} kills, {scraps} amid a file, {reads} readings, {files}",
        lost=len([place for place, digest in before.items() if after.get(place) != digest]),
        duplicated=sum(count - 1 for count in page_files(lake).values()),
        problems=tuple(dict.fromkeys(problems)),
        seconds=time.monotonic() - started,
    )


def backup_killed(pages: int, seed: int, folder: Path) -> Verdict:
    """Kills copies while a collection lands pages; each is sound as far as it got, and the last is the lake."""
    started = time.monotonic()
    random = Random(seed)  # noqa: S311 - reproducible moments, no secret
    lake, copy = Lake.at(str(folder / "lake")), Lake.at(str(folder / "copy"))
    ends, problems, parts = Counter[str](), list[str](), 0
    with Sandbox(world(pages * PAGE_SIZE), SandboxOptions(latency_s=LATENCY_S)) as server, killer(folder) as hand:
        stage = Stage(server, folder / "lake", {"timeout": 10.0})
        with ThreadPoolExecutor(1) as collector:
            collecting = collector.submit(stage.collect, page_size=PAGE_SIZE)
            while not collecting.done():
                hand.start(random.uniform(0, 0.5), "backup", str(lake.root), str(copy.root))
                ends[hand.wait()[0]] += 1
                if list_walks(copy.pages(VERSION)) and ends.total() % 4 == 0:
                    parts += 1
                    part = Lake.at(str(folder / f"part-{parts}"))
                    restore(copy, part)
                    there, held = texts(lake), texts(part)
                    if any(there[place] != digest for place, digest in held.items()):
                        problems.append("a copy that was cut short held another page than the lake")
                    if list(held) != list(there)[: len(held)]:
                        problems.append("a copy that was cut short was not the lake of an earlier moment")
            if collecting.result().stop_reason != StopReason.AT_END:
                problems.append(f"the collection stopped with {collecting.result().stop_reason}")
        hand.start(120, "backup", str(lake.root), str(copy.root))
        hand.wait()
    again = Lake.at(str(folder / "again"))
    restored = restore(copy, again)
    problems += restored.notes
    before, after = texts(lake), texts(again)
    if not built_tables(lake, VERSION, rebuild=True).equals(built_tables(again, VERSION, rebuild=True)):
        problems.append("the tables differ")
    return Verdict(
        "backup killed",
        f"{ends[KILLED]} kills, {ends[DONE]} finished, {parts} parts restored, {len(before)} pages",
        lost=len([place for place, digest in before.items() if after.get(place) != digest]),
        duplicated=sum(count - 1 for count in page_files(again).values()),
        problems=tuple(dict.fromkeys(problems)),
        seconds=time.monotonic() - started,
    )


PARTS = dg.StaticPartitionsDefinition(["1", "2", "3"])


@dg.asset(name="pages", partitions_def=PARTS)
def of_version() -> dg.MaterializeResult[None]:
    """Made for each version."""
    return dg.MaterializeResult(metadata={"text": "x" * 20_000})


@dg.asset_check(asset=of_version)
def is_sound() -> dg.AssetCheckResult:
    """Says much."""
    return dg.AssetCheckResult(passed=True, metadata={"text": "x" * 5_000})


def pruned(runs: int, seed: int, folder: Path) -> Verdict:
    """Prunes again and again while runs pile up: the room they take is bounded, and the last of each stays."""
    started = time.monotonic()
    random = Random(seed)  # noqa: S311 - reproducible draws, no secret
    problems: list[str] = []
    sizes: list[int] = []
    last: dict[str, str] = {}
    folder.mkdir(parents=True, exist_ok=True)
    deleted = lost = 0
    with dg.DagsterInstance.local_temp(str(folder)) as instance:
        for number in range(1, runs + 1):
            version = random.choice(PARTS.get_partition_keys())
            result = dg.materialize(
                [of_version, is_sound],
                instance=instance,
                partition_key=version,
                run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
            )
            last[version] = result.run_id
            if number % 5 == 0:
                done = prune(instance, keep_days=0)
                deleted += done.deleted
                sizes.append(size_of_records(folder).total_bytes)
                lost += len(set(last.values()) - {run.run_id for run in instance.get_runs()})
                if instance.get_materialized_partitions(of_version.key) != set(last):
                    problems.append("a partition that was made counts as never made")
    half = len(sizes) // 2
    if max(sizes[half:]) > 1.3 * max(sizes[:half]):
        problems.append(f"the records grow: {max(sizes[:half]):,} bytes, later {max(sizes[half:]):,}")
    how_many = f"{runs} runs, {deleted} deleted, at most {max(sizes) / 1e6:.1f} MB"
    return Verdict("pruning", how_many, lost, 0, tuple(dict.fromkeys(problems)), time.monotonic() - started)


def prove(seed: int, folder: Path) -> list[Verdict]:
    """The long form: 150 kills of compactions, copies killed while 1,000 pages land, and 100 runs."""
    with hurry():
        for name in ("compaction", "backup", "pruning"):
            (folder / name).mkdir()
        return [
            compaction_killed(150, 2000, seed, folder / "compaction"),
            backup_killed(1000, seed, folder / "backup"),
            pruned(100, seed, folder / "pruning"),
        ]

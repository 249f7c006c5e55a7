"""Upkeep under fire: compaction and copies killed while others read and collect, and records pruned over many runs.

A year of polls lands in two lakes, page for page the same; one of them is compacted, the other is what it is held
against. SIGKILL falls at random moments of a compaction or a copy, some after the last file was written.
"""

from __future__ import annotations

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

import dagster as dg

from civitai_pipeline.care.restoring import restore
from civitai_pipeline.care.sizes import size_of_records
from civitai_pipeline.collect.summary import StopReason
from civitai_pipeline.lake.bundles import list_walk, list_walks
from civitai_pipeline.lake.compaction import LEAST_FILES, compact
from civitai_pipeline.lake.files import LakeError
from civitai_pipeline.lake.ledger import Ledger
from civitai_pipeline.lake.pages import PageId, encode
from civitai_pipeline.lake.paths import Lake, pages_name
from civitai_pipeline.pruning import prune
from civitai_pipeline.sandbox import Sandbox, SandboxOptions
from civitai_pipeline_tests.collect.stage import VERSION, Stage
from civitai_pipeline_tests.lake.examples import body, page
from civitai_pipeline_tests.proofs.grounds import hurry, world
from civitai_pipeline_tests.proofs.upkeep_grounds import WALKS, Polls, Reader, alone, killer, page_files, texts
from civitai_pipeline_tests.proofs.upkeep_victim import DONE, KILLED
from civitai_pipeline_tests.proofs.verdict import Verdict
from civitai_pipeline_tests.tables import built_tables

PAGE_SIZE = 3
LATENCY_S = 0.01
# After so many, one is let through and new polls land: those that follow a kill have less and less to write.
KILLS_A_ROUND = 3
# Changes to a folder until the kill, on average: the lock, the bundle's file, its name, and the removals.
CHANGES_UNTIL_A_KILL = 4


def compaction_killed(kills: int, polls: int, seed: int, folder: Path) -> Verdict:
    """Kills compactions while a reader reads; in the end pages and tables must be what they were."""
    started = time.monotonic()
    lake, twin = (Lake.at(str(folder / name)) for name in ("lake", "twin"))
    random = Random(seed)  # noqa: S311 - reproducible moments, no secret
    history, ends, problems = Polls((lake, twin), random), Counter[str](), list[str]()
    scraps = readings = tables = superseded = 0
    with alone(), killer(folder) as hand:
        while ends[KILLED] < kills:
            history.land(max(2 * LEAST_FILES, polls * KILLS_A_ROUND // kills))
            with Reader(lake, twin) as reader:
                for _ in range(KILLS_A_ROUND):
                    change = 1 + int(random.expovariate(1 / CHANGES_UNTIL_A_KILL))
                    how = hand.work("compact", str(lake.root), str(VERSION), change=change)
                    ends[how] += 1
                    scraps += any((Path(str(lake.root)) / ".tmp").iterdir())
                    superseded += any(list_walk(lake.walk(VERSION, walk)).superseded for walk in WALKS)
                    if how == DONE or ends[KILLED] == kills:
                        break
                hand.work("compact", str(lake.root), str(VERSION))
            problems += reader.problems
            readings, tables = readings + reader.readings, tables + reader.tables
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
    met = f"{scraps} amid a file, {superseded} amid the removals"
    files = f"{history.pages.total()} pages in {done.files_after} files"
    return Verdict(
        "compaction killed",
        f"{ends[KILLED]} kills ({met}), {readings} readings, {tables} of tables, {files}",
        lost=len([place for place, digest in before.items() if after.get(place) != digest]),
        duplicated=sum(count - 1 for count in page_files(lake).values()),
        problems=tuple(dict.fromkeys(problems)),
        seconds=time.monotonic() - started,
    )


def compaction_watched(times: int, pages: int, folder: Path) -> Verdict:
    """Lists a folder of many pages all the while they are put together: none may ever seem to be missing."""
    started = time.monotonic()
    problems: list[str] = []
    looks = files = 0
    with killer(folder) as hand:
        for number in range(times):
            lake = Lake.at(str(folder / f"lake-{number}"))
            walk = Path(str(lake.walk(VERSION, 1)))
            walk.mkdir(parents=True)
            for place in range(1, pages + 1):
                # Not landed, which takes some milliseconds each for the disk's sake.
                landed = page(1, place, cursor="1|x", confirms=None if place == 1 else PageId(1, 1))
                (walk / pages_name(place, place)).write_bytes(encode(landed, body() if place == 1 else None))
            with ThreadPoolExecutor(1) as other:
                compacting = other.submit(hand.work, "compact", str(lake.root), str(VERSION))
                while not compacting.done():
                    looks += 1
                    try:
                        if Ledger(lake, VERSION).covered() != {1: pages}:
                            problems.append("a page seemed not to have landed")
                    except LakeError as error:
                        problems.append(f"a reader met: {error}")
                compacting.result()
            files = len(list(walk.iterdir()))
    how_many = f"{times} times, {looks} looks, {pages} pages in {files} files"
    took = time.monotonic() - started
    return Verdict("compaction watched", how_many, problems=tuple(dict.fromkeys(problems)), seconds=took)


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
                # Half by the clock and half by what it does: most of a long copy's changes are its last.
                if random.randrange(2):
                    how = hand.work("backup", str(lake.root), str(copy.root), delay_s=random.uniform(0, 0.5))
                else:
                    how = hand.work("backup", str(lake.root), str(copy.root), change=random.randint(1, 60))
                ends[how] += 1
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
        hand.work("backup", str(lake.root), str(copy.root))
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
    with dg.DagsterInstance.local_temp(str(folder), overrides={"telemetry": {"enabled": False}}) as instance:
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
    """The long form: 200 kills of compactions, copies killed while 1,000 pages land, and 100 runs."""
    with hurry():
        for name in ("compaction", "watched", "backup", "pruning"):
            (folder / name).mkdir()
        return [
            compaction_killed(200, 2000, seed, folder / "compaction"),
            compaction_watched(5, 4000, folder / "watched"),
            backup_killed(1000, seed, folder / "backup"),
            pruned(100, seed, folder / "pruning"),
        ]

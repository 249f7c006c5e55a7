"""Many at once on one lake: eight writers beside readers, and two on one version. An upgrade is in ``upgrade``.

Writers are the command ``civitai-pipeline collect`` in processes of their own, readers those of ``readers``. Nobody may
fail, no reader may see a half of anything, and no writer may wait for a reader.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import dagster as dg

from civitai_pipeline.defs.assets.common import API_POOL
from civitai_pipeline.instance import prepare_home
from civitai_pipeline.sandbox import Sandbox, SandboxOptions
from civitai_pipeline_tests.collect.stage import VERSION
from civitai_pipeline_tests.proofs import readers
from civitai_pipeline_tests.proofs.aftermath import Aftermath
from civitai_pipeline_tests.proofs.grounds import print_table, world_of
from civitai_pipeline_tests.proofs.kills import PAGE_SIZE, Ground
from civitai_pipeline_tests.proofs.upgrade import upgrade_under_a_reader
from civitai_pipeline_tests.proofs.verdict import Verdict
from civitai_pipeline_tests.proofs.warm import Warm, program

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from civitai_pipeline_tests.proofs.warm import Call

Json = dict[str, Any]

VERSIONS = tuple(VERSION + number for number in range(8))
IMAGES = 60
ROUNDS = 3
PAIRS = 10
# Long enough for a mean of how a reader fares alone.
ALONE_S = 6.0
REWRITES = 12
# More than the pairs can land, so that none of their runs comes to the end.
RACED_IMAGES = PAIRS * 2 * 2 * PAGE_SIZE + 2 * PAGE_SIZE
# Answers so slow that two runs of one version are in each other's way.
LATENCY_S = 0.1
APART_S = 0.5
READERS = {
    "the database held open": (readers.read_views, False),
    "the database opened anew": (readers.read_views, True),
    "all tables": (readers.read_tables,),
    "exports": (readers.export,),
}


@dataclass
class Crowd:
    """What came of one gathering.

    Attributes:
        how_many: How many did what how often.
        after: What did not hold.
        rows: What else there is to tell.
        seconds: How long it took.
    """

    how_many: str = ""
    after: Aftermath = field(default_factory=Aftermath)
    rows: list[tuple[str, object]] = field(default_factory=list)
    seconds: float = 0.0

    def verdict(self, what: str) -> Verdict:
        """The line of the proofs' table."""
        lost, twice = self.after.pages_lost + self.after.rows_lost, self.after.pages_twice + self.after.rows_extra
        return Verdict(what, self.how_many, lost, twice, tuple(self.after.problems), self.seconds)


@contextmanager
def _reading(ground: Ground, name: str, *calls: Sequence[Any]) -> Iterator[list[Call]]:
    """Runs readers of a lake in children, who are told to stop at the end."""
    stop = ground.folder / f"stop-{time.monotonic_ns()}"
    folder = str(ground.lake(name).root)
    made = [
        ground.warm.call(function, ground.environment(name), folder, str(stop), *arguments)
        for function, *arguments in calls
    ]
    try:
        yield made
    finally:
        stop.touch()
        for call in made:
            call.wait()


def write_beside_readers(ground: Ground, versions: Sequence[int], rounds: int, alone_s: float) -> Crowd:
    """Collects with one process for each version, all at once, a few times over, while readers look on."""
    started, crowd = time.monotonic(), Crowd()
    ground.start("many", versions[0], pages=1).result()
    _allow_at_once(ground, "many", len(versions))
    with _reading(ground, "many", *READERS.values()) as calls:
        time.sleep(alone_s)
    alone = [call.result() for call in calls]
    with _reading(ground, "many", *READERS.values()) as calls:
        for number in range(rounds):
            pages = None if number == rounds - 1 else 2
            runs = [ground.start("many", version, pages) for version in versions]
            for run in runs:
                if code := run.wait():
                    crowd.after.problems.append(f"a writer ended with {code}: {run.said()[-300:]}")
    beside = [call.result() for call in calls]
    for name, before, during in zip(READERS, alone, beside, strict=True):
        crowd.after.problems += [f"{name}: {problem}" for problem in before["problems"] + during["problems"]]
        crowd.rows += [
            (f"{name}: rounds beside the writers, asked again", f"{during['rounds']}, {during['again']}"),
            (f"{name}: processor time of a round, to that without writers", _ratio(during, before, "cpu_s")),
            (f"{name}: time by the clock, to that without writers", _ratio(during, before, "wall_s")),
        ]
    crowd.after.add(ground.compare("many", *versions))
    crowd.how_many = (
        f"{len(versions)} writers at once, {rounds} times, {crowd.after.pages} pages; "
        f"{sum(one['rounds'] for one in beside)} rounds of {len(READERS)} readers"
    )
    crowd.seconds = time.monotonic() - started
    return crowd


def _ratio(one: Json, other: Json, key: str) -> str:
    return f"{one[key] / other[key]:.2f}"


def _allow_at_once(ground: Ground, name: str, runs: int) -> None:
    """As ``dagster instance concurrency set`` does; without it one run at a time asks the API."""
    home = Path(ground.environment(name)["DAGSTER_HOME"])
    with patch.dict(os.environ):
        prepare_home(home)
    with dg.DagsterInstance.from_config(str(home)) as instance:
        instance.event_log_storage.set_concurrency_slots(API_POOL, runs)


def write_under_holders(ground: Ground, version: int, times: int) -> Crowd:
    """Swaps tables and database again and again, alone and while a reader holds everything open."""
    started, crowd = time.monotonic(), Crowd()
    folder = str(ground.lake("whole").root)

    def write() -> Json:
        found: Json = ground.warm.call(
            readers.write_again, ground.environment("whole"), folder, version, times
        ).result()
        return found

    write()
    alone = [write()]
    with _reading(ground, "whole", (readers.hold,)):
        time.sleep(0.5)
        held = [write(), write()]
    alone.append(write())
    for key, name in (("cpu_s", "processor time"), ("wall_s", "time by the clock")):
        ratio = min(one[key] for one in held) / min(one[key] for one in alone)
        crowd.rows.append((f"{name} of a swap of all under a reader that holds all, to that alone", f"{ratio:.2f}"))
        # A writer that waited would wait for as long as the reader reads, which is for ever here.
        if ratio > 2:
            crowd.after.problems.append(f"under a reader, {name} of a swap is {ratio:.1f} times that alone")
    crowd.how_many = f"{4 * times} swaps of all tables and the database"
    crowd.seconds = time.monotonic() - started
    return crowd


def race(ground: Ground, pairs: int, seed: int) -> Crowd:
    """Starts two runs of one version almost at once, again and again, with one instance and with one for each."""
    started, crowd, outcomes = time.monotonic(), Crowd(), Counter[str]()
    random = Random(seed)  # noqa: S311 - reproducible moments, no secret
    with Sandbox(ground.server.world, SandboxOptions(latency_s=LATENCY_S)) as slow:
        own = Ground(ground.warm, slow, ground.folder)
        _allow_at_once(own, "race", 2)
        for number in range(pairs):
            environment = own.environment("race")
            other = {**environment}
            if number % 2:
                other["DAGSTER_HOME"] += "-of-another"
            one = _run(own, environment)
            time.sleep(random.uniform(0, APART_S))
            two = _run(own, other)
            reasons = sorted(_stop_reason(run) for run in (one, two))
            outcomes[f"{' and '.join(reasons)}, {'two instances' if number % 2 else 'one instance'}"] += 1
            if not set(reasons) <= {"conflict", "max_items"} or reasons == ["conflict", "conflict"]:
                crowd.after.problems.append(
                    f"two runs at once stopped with {' and '.join(reasons)}: {one.said()[-300:]}"
                )
        own.start("race", VERSION, pages=None).result()
    crowd.rows += [(f"stopped with {how}", count) for how, count in outcomes.most_common()]
    if not any("conflict" in how for how in outcomes):
        crowd.after.problems.append("the runs never met")
    crowd.after.add(ground.compare("race", VERSION, whole="whole-of-one"))
    crowd.how_many = f"{pairs} pairs, {crowd.after.pages} pages"
    crowd.seconds = time.monotonic() - started
    return crowd


def _run(ground: Ground, environment: Mapping[str, str]) -> Call:
    options = ("--page-size", str(PAGE_SIZE), "--max-items", str(PAGE_SIZE * 2), "--json")
    return ground.warm.call(program, environment, "collect", str(VERSION), *options)


def _stop_reason(run: Call) -> str:
    """Why a run of the command line stopped, as its summary says."""
    run.wait()
    text = (run.folder / "stdout").read_text()
    assert text, run.said()
    return str(json.loads(text)["stop_reason"])


def prove(seed: int, folder: Path) -> list[Verdict]:
    """The long form."""
    images = world_of({**dict.fromkeys(VERSIONS, IMAGES), VERSION: RACED_IMAGES})
    with Sandbox(images) as server, Warm(folder / "calls") as warm:
        ground = Ground(warm, server, folder)
        ground.prepare(VERSION, name="whole-of-one")
        for run in [ground.start("whole", version, pages=None) for version in VERSIONS]:
            run.wait()
        crowds = {
            "writers beside readers": write_beside_readers(ground, VERSIONS, ROUNDS, ALONE_S),
            "writers wait for no reader": write_under_holders(ground, VERSION, REWRITES),
            "two at once on one version": race(ground, PAIRS, seed),
        }
        upgraded = upgrade_under_a_reader(ground, "whole", *VERSIONS)
    rows = [row for crowd in crowds.values() for row in crowd.rows]
    print_table(f"concurrency, seed {seed}", ["what", "how many"], rows)
    return [*(crowd.verdict(what) for what, crowd in crowds.items()), upgraded]

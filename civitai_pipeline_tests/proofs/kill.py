"""Kills at drawn moments: SIGKILL, run again, SIGKILL, until all must be whole all the same.

What is killed is the command ``civitai-pipeline collect`` with its Dagster instance, in a process group of its own,
and, by ``kill_ui``, runs launched through the UI. How long each phase of an uninterrupted run takes is measured first;
each kill is drawn from one of the phases, and the phase is waited for by the file whose renewal begins it.
"""

from __future__ import annotations

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from random import Random
from typing import TYPE_CHECKING

from civitai_pipeline.sandbox import Sandbox, SandboxOptions
from civitai_pipeline_tests.collect.stage import VERSION
from civitai_pipeline_tests.proofs.aftermath import account
from civitai_pipeline_tests.proofs.grounds import world
from civitai_pipeline_tests.proofs.kills import LATENCY_S, Ground, Kills, Tracks, in_turn, most_images, most_runs
from civitai_pipeline_tests.proofs.moments import PHASES, Watch
from civitai_pipeline_tests.proofs.warm import Warm

if TYPE_CHECKING:
    from pathlib import Path

    from civitai_pipeline_tests.proofs.verdict import Verdict

AT_ONCE = 2


def kill_and_resume(warm: Warm, kills: int, seed: int, folder: Path, lakes: int = 1) -> Kills:
    """Kills so many runs and holds what is left, after one more in each lake, against an uninterrupted run.

    Args:
        warm: Who forks the runs.
        kills: How many, over all lakes. A lake of a few hundred images is as quick as an empty one.
        seed: Makes the draws the same.
        folder: An empty folder for lakes, instances and output.
        lakes: Over how many lakes, each with an instance of its own; two are at work at a time.

    Raises:
        AssertionError: A run that was not killed failed.
    """
    started, done = time.monotonic(), Kills()
    shares = [kills // lakes + (number < kills % lakes) for number in range(lakes)]
    images = world(most_images(max(shares)))
    with Sandbox(images, SandboxOptions(latency_s=LATENCY_S)) as server:
        ground = Ground(warm, server, folder)
        ground.prepare(VERSION)
        if kills > len(PHASES):
            ground.measure()
        with ThreadPoolExecutor(AT_ONCE) as threads:
            hunts = [threads.submit(_hunt, ground, share, seed * 1000 + lake) for lake, share in enumerate(shares)]
            for hunt in hunts:
                done.add(hunt.result())
    done.seconds = time.monotonic() - started
    return done


def _hunt(ground: Ground, kills: int, seed: int) -> Kills:
    """Kills runs into one lake until there are enough, finishes it, and looks at what is left."""
    name, random, done = f"lake-{seed}", Random(seed), Kills()  # noqa: S311 - reproducible moments, no secret
    lake = ground.lake(name)
    tracks, phases = Tracks(lake, ground.system_folder(name), done), in_turn(random, list(PHASES))
    phase = next(phases)
    for _ in range(most_runs(kills)):
        if done.phases.total() == kills:
            break
        if _kill_one(ground, name, phase, random.uniform(0, ground.durations[phase])):
            tracks.look(phase)
            phase = next(phases)
        else:
            done.too_late += 1
    ground.start(name, pages=None).result()
    said = ground.warm.call(account, ground.environment(name), VERSION).result()
    done.steps, done.runs, done.summaries = Counter(said["dead"]), said["runs"], said["summaries"]
    done.after.problems += said["problems"]
    done.after.add(ground.compare(name, VERSION))
    return done


def _kill_one(ground: Ground, name: str, phase: str, delay_s: float) -> bool:
    """Starts a run and kills it so many seconds into a phase; false if it was done before.

    Raises:
        AssertionError: It failed before.
    """
    watch, call = Watch(ground.lake(name), VERSION), ground.start(name)
    if watch.wait_for(phase, call.is_over):
        time.sleep(delay_s)
    if call.is_over():
        call.result()
        return False
    call.kill()
    return True


def prove(seed: int, folder: Path) -> list[Verdict]:
    """The long form."""
    from civitai_pipeline_tests.proofs.kill_ui import kill_and_relaunch  # noqa: PLC0415 - loads Dagster

    (folder / "collect").mkdir()
    (folder / "ui").mkdir()
    # Runs of the UI wait for the queue and the daemon most of the time, which leaves the cores to the others.
    with Warm(folder / "calls") as warm, ThreadPoolExecutor(2) as threads:
        both = [
            threads.submit(kill_and_resume, warm, 450, seed, folder / "collect", lakes=18),
            threads.submit(kill_and_relaunch, 50, seed, folder / "ui"),
        ]
        collect, ui = (one.result() for one in both)
    collect.print(f"kills of civitai-pipeline collect, seed {seed}")
    ui.print(f"kills of runs launched through the UI, seed {seed}")
    return [collect.verdict("kills of collect"), ui.verdict("kills of runs of the UI")]

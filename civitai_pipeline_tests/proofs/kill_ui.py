"""Kills of runs that were launched through the UI: the process that the code server started for a run gets SIGKILL.

``civitai-pipeline dev`` runs with the records and the sensor that a user has; several versions are collected at once,
and each version's next run is launched as soon as its last one has died.
"""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING
from unittest.mock import patch

import dagster as dg

from civitai_pipeline.defs.assets.common import API_POOL
from civitai_pipeline.defs.events import failures_in_log
from civitai_pipeline.instance import prepare_home
from civitai_pipeline.sandbox import Sandbox, SandboxOptions
from civitai_pipeline_tests.collect.stage import VERSION
from civitai_pipeline_tests.proofs.aftermath import account_of
from civitai_pipeline_tests.proofs.grounds import world_of
from civitai_pipeline_tests.proofs.kills import (
    LATENCY_S,
    PAGE_SIZE,
    PAGES_PER_RUN,
    Ground,
    Kills,
    Tracks,
    in_turn,
    most_images,
    most_runs,
)
from civitai_pipeline_tests.proofs.moments import PHASES, Watch
from civitai_pipeline_tests.proofs.ui import Ui
from civitai_pipeline_tests.proofs.warm import Warm

if TYPE_CHECKING:
    from collections.abc import Mapping

# As many as a busy user collects at once; more would only wait for a core.
VERSIONS = tuple(VERSION + number for number in range(5))
LOOK_EVERY_S = 0.1
# A run waits in the queue, and for the slots of the dead to be freed, which takes the daemon a minute.
GIVE_UP_S = 400.0


@dataclass
class _Field:
    """Where runs of the UI are killed."""

    ui: Ui
    instance: dg.DagsterInstance
    ground: Ground
    durations: Mapping[str, float]


def kill_and_relaunch(kills: int, seed: int, folder: Path) -> Kills:
    """Kills so many runs, launches one more of each version, and holds what is left against uninterrupted runs.

    Args:
        kills: How many, over all versions.
        seed: Makes the draws the same.
        folder: An empty folder for lakes, instances and output.

    Raises:
        AssertionError: A run that was not killed failed, or something hangs.
    """
    started, done = time.monotonic(), Kills()
    shares = [kills // len(VERSIONS) + (number < kills % len(VERSIONS)) for number in range(len(VERSIONS))]
    hunted = [version for version, share in zip(VERSIONS, shares, strict=True) if share]
    images = world_of(dict.fromkeys(hunted, most_images(max(shares))))
    with Sandbox(images, SandboxOptions(latency_s=LATENCY_S)) as server, Warm(folder / "calls") as warm:
        ground = Ground(warm, server, folder)
        ground.prepare(*hunted)
        ground.measure()
        environment = ground.environment("ui")
        home = Path(environment["DAGSTER_HOME"])
        with patch.dict(os.environ):
            prepare_home(home)
        with dg.DagsterInstance.from_config(str(home)) as instance:
            # One slot would make every version wait for the minute in which the daemon frees those of the dead.
            instance.event_log_storage.set_concurrency_slots(API_POOL, 2 * len(VERSIONS))
            with Ui(folder / "ui", environment) as ui:
                ui.start_sensor("repair_dead_runs")
                field = _Field(ui, instance, ground, ground.durations)
                with ThreadPoolExecutor(len(hunted)) as threads:
                    hunts = [
                        threads.submit(_hunt, field, version, share, seed * 1000 + version)
                        for version, share in zip(hunted, shares, strict=False)
                    ]
                    for hunt in hunts:
                        done.add(hunt.result())
                for version in hunted:
                    _account(field, version, done)
            done.after.add(ground.compare("ui", *hunted))
    done.seconds = time.monotonic() - started
    return done


def _hunt(field: _Field, version: int, kills: int, seed: int) -> Kills:
    """Kills runs of one version until there are enough, and launches one that may live."""
    random, done = Random(seed), Kills()  # noqa: S311 - reproducible moments, no secret
    lake, system = field.ground.lake("ui"), field.ground.system_folder("ui")
    tracks, phases = Tracks(lake, system, done, version), in_turn(random, list(PHASES))
    field.ui.add_partition(version)
    phase = next(phases)
    for _ in range(most_runs(kills)):
        if done.phases.total() == kills:
            break
        if _kill_one(field, version, phase, random.uniform(0, field.durations[phase])):
            tracks.look(phase)
            phase = next(phases)
        else:
            done.too_late += 1
    _wait_for_success(field, field.ui.launch(version, page_size=PAGE_SIZE))
    return done


def _kill_one(field: _Field, version: int, phase: str, delay_s: float) -> bool:
    """Launches a run and kills its process so many seconds into a phase; false if it was done before."""
    watch = Watch(field.ground.lake("ui"), version)
    run_id = field.ui.launch(version, page_size=PAGE_SIZE, max_items=PAGE_SIZE * PAGES_PER_RUN)
    pid = _process_of(field, run_id)

    def is_over() -> bool:
        return not Path(f"/proc/{pid}").exists()

    if watch.wait_for(phase, is_over):
        time.sleep(delay_s)
    if is_over():
        _wait_for_success(field, run_id)
        return False
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    # It may have been at its very end.
    return _finished(field, run_id).status is not dg.DagsterRunStatus.SUCCESS


def _process_of(field: _Field, run_id: str) -> int:
    """The process that carries out a run, once there is one."""
    end = time.monotonic() + GIVE_UP_S
    while time.monotonic() < end:
        for entry in field.instance.all_logs(run_id, of_type=dg.DagsterEventType.ENGINE_EVENT):
            event = entry.dagster_event
            pid = event.engine_event_data.metadata.get("pid") if event is not None else None
            if pid is not None:
                return int(str(pid.value))
        time.sleep(LOOK_EVERY_S)
    raise AssertionError(f"run {run_id} gets no process: {_status(field, run_id)}; {field.ui.said()}")


def _finished(field: _Field, run_id: str) -> dg.DagsterRun:
    """A run, once it has ended. It may be as slow as the machine is, as long as its log grows."""
    end, entries = time.monotonic() + GIVE_UP_S, -1
    while True:
        run = field.instance.get_run_by_id(run_id)
        assert run is not None
        if run.is_finished:
            return run
        if time.monotonic() > end:
            logged = field.instance.all_logs(run_id)
            if len(logged) == entries:
                last = [f"{datetime.fromtimestamp(entry.timestamp, UTC):%X} {entry.message}" for entry in logged[-5:]]
                raise AssertionError("\n".join([f"run {run_id} hangs: {run.status.value}", *last, field.ui.said()]))
            end, entries = time.monotonic() + GIVE_UP_S, len(logged)
        time.sleep(LOOK_EVERY_S)


def _wait_for_success(field: _Field, run_id: str) -> None:
    run = _finished(field, run_id)
    if run.status is not dg.DagsterRunStatus.SUCCESS:
        ends = field.instance.all_logs(run_id, of_type=dg.DagsterEventType.RUN_FAILURE)
        why = [*failures_in_log(field.instance, run_id), *(entry.message for entry in ends)]
        raise AssertionError(f"run {run_id}, which nobody killed, is {run.status.value}: {'; '.join(why)}")


def _status(field: _Field, run_id: str) -> str:
    run = field.instance.get_run_by_id(run_id)
    return "gone" if run is None else run.status.value


def _account(field: _Field, version: int, done: Kills) -> None:
    """Waits until the daemon's sensor has written what it owes, and notes what a version's runs left."""
    end = time.monotonic() + GIVE_UP_S
    while True:
        said = account_of(field.instance, field.ground.lake("ui"), version)
        if not said["problems"] or time.monotonic() > end:
            break
        time.sleep(10 * LOOK_EVERY_S)
    done.steps += Counter(said["dead"])
    done.runs += said["runs"]
    done.summaries += said["summaries"]
    done.after.problems += said["problems"]

"""How one version grows: a lake of it, made larger, and what its tables cost at each size."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from civitai_pipeline.lake.paths import Lake
from civitai_pipeline_tests.bench.__main__ import NEW_ITEMS, Cost, measure
from civitai_pipeline_tests.bench.growth_costs import command_cost, probe_cost
from civitai_pipeline_tests.bench.items import VERSION, Items, land
from civitai_pipeline_tests.bench.steps import PARTS, STEPS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path


@dataclass(frozen=True)
class Grown:
    """What a version of some size costs.

    Attributes:
        landing: Landing what it has more than the size before, as pages.
        from_nothing: Each step of the tables, from pages alone.
        with_more: Each step again, with some new items.
        report: The report with its explorer.
        status: The command ``status``.
        kept: Files and bytes of each folder of the lake, before the new items.
    """

    landing: Cost
    from_nothing: Mapping[str, Cost]
    with_more: Mapping[str, Cost]
    report: Cost
    status: Cost
    kept: Mapping[str, tuple[int, int]]


def grown(folder: Path, sizes: Sequence[int], more: int = NEW_ITEMS) -> Iterator[Grown]:
    """Lands items up to each of rising sizes, and measures what they cost there."""
    lake, items = Lake.at(str(folder / "lake")), Items(1)
    environment = {
        **os.environ,
        "CIVITAI_LAKE": str(lake.root),
        "DAGSTER_HOME": str(folder / "dagster"),
    }
    (folder / "dagster").mkdir()
    landed = 0
    for size in sizes:
        _say(f"landing up to {size:,} items")
        landing = _landing(lake, items, size - landed)
        for path in (folder / "lake").iterdir():
            if path.is_dir() and path.name != "pages":
                shutil.rmtree(path)
        first = {step: _measured(step, lake) for step in STEPS}
        report = probe_cost(str(VERSION), environment)
        _say(f"report: {report}")
        status = command_cost(["status"], environment)
        kept = dict(folders_of(folder / "lake"))
        _say(f"{more:,} new items on {size:,}")
        land(lake, items, more)
        landed = size + more
        # What is a part of another step is made anew each time, however few are new.
        then = {step: _measured(step, lake) for step in STEPS if step not in PARTS}
        yield Grown(landing, first, then, report, status, kept)


def _landing(lake: Lake, items: Items, count: int) -> Cost:
    """Lands items in this process, as a collection does page by page; what making them up takes is in it."""
    started = os.times()
    land(lake, items, count)
    ended = os.times()
    cpu = ended.user + ended.system - started.user - started.system
    return Cost(ended.elapsed - started.elapsed, cpu, 0, count)


def _measured(step: str, lake: Lake) -> Cost:
    cost = measure(step, lake)
    _say(f"{step}: {cost}")
    return cost


def folders_of(root: Path) -> Iterator[tuple[str, tuple[int, int]]]:
    """The files and bytes in each folder."""
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        yield folder.name, files_in(folder)


def files_in(folder: Path) -> tuple[int, int]:
    """The files below a folder, and their bytes."""
    sizes = [os.stat(os.path.join(where, name)).st_size for where, _, names in os.walk(folder) for name in names]  # noqa: PTH116, PTH118 - a million of them
    return len(sizes), sum(sizes)


def _say(what: str) -> None:
    sys.stderr.write(f"{what}\n")

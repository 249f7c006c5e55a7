"""How many versions grow: one lake and one instance, made larger, and what looking after them costs at each size."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from civitai_pipeline.sandbox import Sandbox
from civitai_pipeline_tests.bench import many
from civitai_pipeline_tests.bench.growth_costs import command_cost, probe_cost
from civitai_pipeline_tests.bench.growth_items import files_in
from civitai_pipeline_tests.bench.growth_probes import OTHERS, SCHEDULES, SENSORS
from civitai_pipeline_tests.bench.growth_ui import Served, serve

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from civitai_pipeline_tests.bench.__main__ import Cost

COMMANDS = {
    "status": ("status", "--json"),
    "size": ("size",),
    "collect, with nothing new": ("--quiet", "collect", str(many.AT_END), "--page-size", "25"),
}


@dataclass(frozen=True)
class Kept:
    """What looking after some versions costs.

    Attributes:
        ticks: One tick of each sensor and schedule; its rows are its run requests.
        others: What is made of all versions.
        commands: Commands, from start to end.
        served: The web UI; None where it was not asked for.
        lake: Files and bytes of the lake.
        pages: Those of them that are landed pages.
        home: Files and bytes of Dagster's records.
    """

    ticks: Mapping[str, Cost]
    others: Mapping[str, Cost]
    commands: Mapping[str, Cost]
    served: Served | None
    lake: tuple[int, int]
    pages: tuple[int, int]
    home: tuple[int, int]


def kept(folder: Path, counts: Sequence[int], *, ui: bool = True) -> Iterator[Kept]:
    """Makes versions up to each of rising counts, and measures what they cost there.

    Args:
        folder: Where to make the lake and the instance.
        counts: How many versions, each at least 2.
        ui: Whether to ask the web UI as well.
    """
    with Sandbox(many.world()) as server:
        grounds, before = many.collected(folder, server), 2
        for count in counts:
            _say(f"making {count:,} versions")
            many.grow(grounds, before, count)
            before = count
            # Ticks first: what comes after them adds to the records.
            ticks = {name: _probed(name, grounds) for name in (*SENSORS, *SCHEDULES)}
            others = {name: _probed(name, grounds) for name in OTHERS}
            folders = [files_in(place) for place in (folder / "lake", folder / "lake" / "pages", grounds.home)]
            served = serve(folder, grounds.environment) if ui else None
            _say(f"web UI: {served}")
            commands = {name: _commanded(name, arguments, grounds) for name, arguments in COMMANDS.items()}
            yield Kept(ticks, others, commands, served, *folders)


def _probed(name: str, grounds: many.Grounds) -> Cost:
    cost = probe_cost(name, grounds.environment)
    _say(f"{name}: {cost}")
    return cost


def _commanded(name: str, arguments: Sequence[str], grounds: many.Grounds) -> Cost:
    cost = command_cost(arguments, grounds.environment)
    _say(f"{name}: {cost}")
    return cost


def _say(what: str) -> None:
    sys.stderr.write(f"{what}\n")

"""``make bench``: measures every step of the tables on a ledger of made-up items and prints one table.

All figures of a run are measured one after the other on the same machine, each step in a process of its own, so
the ratios between them hold even where a busy machine stretches the seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.table import Table

from civitai_pipeline.lake.paths import Lake
from civitai_pipeline_tests.bench.items import Items, land
from civitai_pipeline_tests.bench.rates import keyword_rates
from civitai_pipeline_tests.bench.steps import PARTS, STEPS

NEW_ITEMS = 1_000


@dataclass(frozen=True)
class Cost:
    """What one step cost.

    Attributes:
        elapsed_s: Seconds by the clock.
        cpu_s: Seconds of all processor cores together.
        peak_bytes: The most memory its processes held.
        rows: Rows of the table it made.
    """

    elapsed_s: float
    cpu_s: float
    peak_bytes: int
    rows: int


def measure(step: str, lake: Lake) -> Cost:
    """Runs a step in a process of its own."""
    command = [sys.executable, "-m", "civitai_pipeline_tests.bench.steps", step, str(lake.root)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    return Cost(**json.loads(done.stdout))


def from_nothing(lake: Lake, items: Items, count: int) -> dict[str, Cost]:
    """Lands items and measures every step on them."""
    land(lake, items, count)
    return {step: measure(step, lake) for step in STEPS}


def with_more(lake: Lake, items: Items, count: int = NEW_ITEMS) -> dict[str, Cost]:
    """Lands some more items on top of what is held and measures every step again."""
    land(lake, items, count)
    return {step: measure(step, lake) for step in STEPS}


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--items", type=int, default=100_000, help="items of the main measurement")
    parser.add_argument(
        "--held", type=int, nargs=2, default=(10_000, 300_000), help="held before the incremental measurements"
    )
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    console = Console(width=110)
    console.print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    with TemporaryDirectory(prefix="civitai_pipeline-bench-") as folder:
        lake = Lake.at(str(Path(folder) / "whole"))
        whole = from_nothing(lake, Items(options.seed), options.items)
        again = {step: measure(step, lake) for step in STEPS}
        _print_steps(console, f"{options.items:,} items from nothing, then again with nothing new", whole, again)
        console.print(_rates_table(keyword_rates(lake)))
        shutil.rmtree(folder + "/whole")
        grown = {}
        for held in options.held:
            lake, items = Lake.at(str(Path(folder) / str(held))), Items(options.seed)
            from_nothing(lake, items, held)
            grown[held] = with_more(lake, items)
            shutil.rmtree(str(lake.root))
        few, many = (grown[held] for held in options.held)
        _print_steps(
            console, f"{NEW_ITEMS:,} new items on {options.held[0]:,} held, then on {options.held[1]:,}", few, many
        )


def _print_steps(console: Console, title: str, one: dict[str, Cost], other: dict[str, Cost]) -> None:
    table = Table(title=title, title_justify="left")
    table.add_column("step")
    for heading in (
        "seconds",
        "CPU s",
        "peak MB",
        "rows",
        "seconds, second",
        "CPU s, second",
        "peak MB, second",
        "ratio",
    ):
        table.add_column(heading, justify="right")
    for step, cost in one.items():
        table.add_row(
            f"  of which {step}" if step in PARTS else step,
            *_cells(cost),
            *_cells(other[step])[:3],
            _ratio(other[step].elapsed_s, cost.elapsed_s),
        )
    whole = [[cost for step, cost in costs.items() if step not in PARTS] for costs in (one, other)]
    sums = [sum(cost.elapsed_s for cost in costs) for costs in whole]
    cpu = [sum(cost.cpu_s for cost in costs) for costs in whole]
    peaks = [max(cost.peak_bytes for cost in costs) for costs in whole]
    table.add_section()
    table.add_row(
        "all", f"{sums[0]:.2f}", f"{cpu[0]:.2f}", _megabytes(peaks[0]), "",
        f"{sums[1]:.2f}", f"{cpu[1]:.2f}", _megabytes(peaks[1]), _ratio(sums[1], sums[0]),
    )  # fmt: skip
    console.print(table)


def _cells(cost: Cost) -> tuple[str, str, str, str]:
    return f"{cost.elapsed_s:.2f}", f"{cost.cpu_s:.2f}", _megabytes(cost.peak_bytes), f"{cost.rows:,}"


def _megabytes(count: int) -> str:
    return f"{count / 1e6:.0f}"


def _ratio(one: float, other: float) -> str:
    return f"{one / other:.2f}"


def _rates_table(rates: dict[str, float]) -> Table:
    table = Table(title="Prompts a second on one core, and against the plain keyword loop", title_justify="left")
    table.add_column("what")
    table.add_column("prompts/s", justify="right")
    table.add_column("ratio", justify="right")
    least = min(rates.values())
    for what, rate in rates.items():
        table.add_row(what, f"{rate:,.0f}", f"{rate / least:.1f}")
    return table


if __name__ == "__main__":
    main()

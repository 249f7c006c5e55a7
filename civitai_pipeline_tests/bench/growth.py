"""``make growth``: how what the pipeline costs grows with the items of a version, and with the number of versions.

Each figure is a row, each size a column. The last column says how it grows: by how much for ten times as much, from
the last two sizes; 10 is in step with the size, 1 is not at all. What takes no time to speak of is called flat.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from civitai_pipeline_tests.bench.growth_items import Grown, grown
from civitai_pipeline_tests.bench.growth_versions import Kept, kept
from civitai_pipeline_tests.bench.steps import PARTS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from civitai_pipeline_tests.bench.__main__ import Cost

# Less than so much for ten times as much, and it stays what it is.
FLAT = 1.15


@dataclass(frozen=True)
class Row:
    """One figure at each size.

    Attributes:
        name: What it is.
        values: The figure at each size.
        digits: How many digits to show after the point.
    """

    name: str
    values: Sequence[float]
    digits: int = 2

    def cells(self, sizes: Sequence[int]) -> list[str]:
        """What the table shows."""
        return [self.name, *(f"{value:,.{self.digits}f}" for value in self.values), self.growth(sizes)]

    def growth(self, sizes: Sequence[int]) -> str:
        """By how much it grows for ten times as much, from the last two sizes."""
        if len(sizes) < 2 or min(self.values[-2:]) <= 0:
            return ""
        one, other = self.values[-2:]
        ratio = 10 ** (math.log(other / one) / math.log(sizes[-1] / sizes[-2]))
        return "flat" if 1 / FLAT <= ratio <= FLAT else f"{ratio:.2f}"


def costs(of: str, measured: Sequence[Cost], *, memory: bool = True) -> list[Row]:
    """The rows of one cost."""
    rows = [Row(f"{of}, CPU s", [cost.cpu_s for cost in measured]), Row("  s", [cost.elapsed_s for cost in measured])]
    return rows + [Row("  peak MB", [cost.peak_bytes / 1e6 for cost in measured], 0)] * memory


def items_table(found: Sequence[Grown], more: int) -> list[tuple[str, list[Row]]]:
    """The groups of rows about one version."""

    def steps(of: Callable[[Grown], dict[str, Cost]]) -> list[Row]:
        each = [of(one) for one in found]
        rows = [row for step in each[0] for row in costs(_label(step), [costs_of[step] for costs_of in each])]
        whole = [[cost for step, cost in costs_of.items() if step not in PARTS] for costs_of in each]
        return [
            *rows,
            Row("all, CPU s", [sum(cost.cpu_s for cost in one) for one in whole]),
            Row("  s", [sum(cost.elapsed_s for cost in one) for one in whole]),
            Row("  peak MB", [max(cost.peak_bytes for cost in one) / 1e6 for one in whole], 0),
        ]

    def megabytes(name: str) -> list[float]:
        return [one.kept[name][1] / 1e6 for one in found]

    tables = [[folder for name, folder in one.kept.items() if name not in {"pages", "prompts"}] for one in found]
    return [
        ("All tables from nothing", steps(lambda one: dict(one.from_nothing))),
        (f"{more:,} new items", steps(lambda one: dict(one.with_more))),
        (
            "Beside the tables",
            [
                Row("landing, CPU s for 100,000", [1e5 * one.landing.cpu_s / one.landing.rows for one in found]),
                Row("  s for 100,000", [1e5 * one.landing.elapsed_s / one.landing.rows for one in found]),
                *costs("report and explorer", [one.report for one in found]),
                *costs("status", [one.status for one in found]),
            ],
        ),
        (
            "In the lake",
            [
                Row("files of pages", [one.kept["pages"][0] for one in found], 0),
                Row("MB of pages", megabytes("pages"), 0),
                Row("MB of prompts", megabytes("prompts"), 0),
                Row("files of other tables", [sum(files for files, _ in one) for one in tables], 0),
                Row("MB of other tables", [sum(size for _, size in one) / 1e6 for one in tables], 0),
            ],
        ),
    ]


def versions_table(found: Sequence[Kept]) -> list[tuple[str, list[Row]]]:
    """The groups of rows about many versions."""

    def every(of: Callable[[Kept], dict[str, Cost]], rows_are: str | None = None) -> list[Row]:
        each = [of(one) for one in found]
        rows = []
        for name in each[0]:
            rows += costs(name, [costs_of[name] for costs_of in each])
            if rows_are is not None:
                rows.append(Row(f"  {rows_are}", [costs_of[name].rows for costs_of in each], 0))
        return rows

    groups = [
        ("A tick of each sensor and schedule", every(lambda one: dict(one.ticks), "run requests")),
        ("Of all versions", every(lambda one: dict(one.others))),
        ("Commands, from start to end", every(lambda one: dict(one.commands))),
        (
            "On the disk",
            [
                Row("files of the lake", [one.lake[0] for one in found], 0),
                Row("  of them pages", [one.pages[0] for one in found], 0),
                Row("MB of the lake", [one.lake[1] / 1e6 for one in found], 0),
                Row("files of DAGSTER_HOME", [one.home[0] for one in found], 0),
                Row("MB of DAGSTER_HOME", [one.home[1] / 1e6 for one in found], 0),
            ],
        ),
    ]
    served = [one.served for one in found if one.served is not None]
    if len(served) == len(found):
        rows = [Row("ready, s", [one.ready_s for one in served])]
        for page in served[0].pages:
            answered = [one.pages[page] for one in served]
            rows.append(Row(f"{page}, CPU s", [one.cpu_s for one in answered], 3))
            rows.append(Row("  s, median", [one.median_s for one in answered], 3))
            rows.append(Row("  s, first", [one.first_s for one in answered], 3))
        rows.append(Row("MB held by all processes", [one.resident_bytes / 1e6 for one in served], 0))
        groups.append(("The web UI", rows))
    return groups


def printed(
    console: Console, title: str, unit: str, sizes: Sequence[int], groups: Sequence[tuple[str, list[Row]]]
) -> None:
    """Prints one table."""
    table = Table(title=title, title_justify="left")
    table.add_column("")
    for size in sizes:
        table.add_column(f"{size:,}\n{unit}", justify="right")
    table.add_column("for ten\ntimes", justify="right")
    for name, rows in groups:
        table.add_row(f"[bold]{name}[/bold]")
        for row in rows:
            table.add_row(*row.cells(sizes))
        table.add_section()
    console.print(table)


def _label(step: str) -> str:
    return f"of which {step}" if step in PARTS else step


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(prog="python -m civitai_pipeline_tests.bench.growth", description=__doc__)
    parser.add_argument("--items", type=int, nargs="*", default=[100_000, 300_000, 1_000_000], help="of one version")
    parser.add_argument("--versions", type=int, nargs="*", default=[20, 200, 2_000], help="in one instance")
    parser.add_argument("--more", type=int, default=1_000, help="new items on each size")
    options = parser.parse_args()
    console = Console(width=110)
    console.print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    console.print("python -m civitai_pipeline_tests.bench.growth " + " ".join(sys.argv[1:]), highlight=False)
    with TemporaryDirectory(prefix="civitai_pipeline-growth-") as folder:
        if options.items:
            (Path(folder) / "items").mkdir()
            found = list(grown(Path(folder) / "items", options.items, options.more))
            groups = items_table(found, options.more)
            printed(console, "One version", "items", options.items, groups)
        if options.versions:
            (Path(folder) / "versions").mkdir()
            looked_after = list(kept(Path(folder) / "versions", options.versions))
            printed(
                console, "Many versions in one instance", "versions", options.versions, versions_table(looked_after)
            )


if __name__ == "__main__":
    main()

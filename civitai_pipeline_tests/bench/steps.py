"""The steps that the benchmark measures, each as the assets do it, and each in a process of its own.

``python -m civitai_pipeline_tests.bench.steps STEP LAKE`` runs one and prints what it cost as JSON.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING, Self

from civitai_pipeline.derive import near_duplicate_groups as groups_table
from civitai_pipeline.derive import prompt_categories, prompt_resources
from civitai_pipeline.derive.analyses import build_analyses
from civitai_pipeline.derive.prompt_tables import build_prompt_tables
from civitai_pipeline.lake import schemas, tables
from civitai_pipeline.lake.paths import Lake
from civitai_pipeline.lake.rows import PinnedTable, earlier_rows
from civitai_pipeline.prompts import near_duplicates as near
from civitai_pipeline.prompts.categories import Categorizer
from civitai_pipeline.prompts.taxonomy import load_taxonomy
from civitai_pipeline.prompts.text import normalise_prompt
from civitai_pipeline_tests.bench.items import VERSION

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pyarrow as pa


def prompts(lake: Lake) -> int:
    """Pages to prompts, rejected_images and landed_pages, near duplicates included."""
    built = build_prompt_tables(lake, VERSION)
    for file in built.files.values():
        file.put_in_place()
    return len(built.files[schemas.PROMPTS.name])


def near_duplicates(lake: Lake) -> int:
    """The part of ``prompts`` that near duplicates are, all signatures made anew; writes nothing."""
    held = _read(lake, schemas.PROMPTS, ["image_id", "prompt"])
    forms = [normalise_prompt(prompt) for prompt in held["prompt"].to_pylist()]
    groups = near.near_duplicate_groups(held["image_id"].to_numpy(), near.signatures(forms))
    return int((groups != near.NO_GROUP).sum())


def resources(lake: Lake) -> int:
    """Prompts to prompt_resources."""
    return _put(prompt_resources.build_resources(_rows(lake, schemas.PROMPTS)).stage(lake, VERSION))


def categories(lake: Lake) -> int:
    """Prompts to prompt_categories."""
    earlier = earlier_rows(lake, schemas.PROMPT_CATEGORIES, VERSION)
    categorizer = Categorizer(load_taxonomy())
    return _put(prompt_categories.stage_categories(lake, VERSION, _rows(lake, schemas.PROMPTS), earlier, categorizer))


def groups(lake: Lake) -> int:
    """Prompts to near_duplicate_groups."""
    made = groups_table.build_near_duplicate_groups(_rows(lake, schemas.PROMPTS))
    return _write(lake, schemas.NEAR_DUPLICATE_GROUPS, made)


def analyses(lake: Lake) -> int:
    """Prompts, resources and categories to the twelve analyses."""
    from_tables = (schemas.PROMPTS, schemas.PROMPT_RESOURCES, schemas.PROMPT_CATEGORIES)
    made = build_analyses(*(_rows(lake, table) for table in from_tables))
    return sum(_write(lake, table, made[table.name]) for table in schemas.ANALYSIS_TABLES)


def _rows(lake: Lake, table: schemas.Table) -> PinnedTable:
    return PinnedTable.of(lake, table, VERSION)


def _put(file: tables.TableFile) -> int:
    file.put_in_place()
    return len(file)


def _read(lake: Lake, table: schemas.Table, columns: Sequence[str]) -> pa.Table:
    return tables.read_table(lake, table, VERSION, columns)


def _write(lake: Lake, table: schemas.Table, data: pa.Table) -> int:
    tables.write_table(lake, table, VERSION, data)
    return len(data)


STEPS: dict[str, Callable[[Lake], int]] = {
    step.__name__: step for step in (prompts, near_duplicates, resources, categories, groups, analyses)
}
# Measured by itself though another step includes it.
PARTS = frozenset({near_duplicates.__name__})


def main(name: str, folder: str) -> None:
    """Runs a step and prints its cost: seconds by the clock and by the processors, bytes at the peak, rows."""
    lake = Lake.at(folder)
    print_cost(lambda: STEPS[name](lake))


def print_cost(work: Callable[[], int]) -> None:
    """Does some work, which returns a number of rows, and prints its cost as JSON."""
    with Memory(os.getpid()) as memory:
        started, cpu = time.perf_counter(), _cpu()
        rows = work()
        elapsed, used = time.perf_counter() - started, _cpu() - cpu
    cost = {"elapsed_s": elapsed, "cpu_s": used, "peak_bytes": memory.peak_bytes, "rows": rows}
    sys.stdout.write(json.dumps(cost) + "\n")


class Memory(Thread):
    """The most memory that a process and those it started hold together, looked at all the while.

    Where there is no /proc, the sum of what each held at its own most, which is more.

    Args:
        pid: The process.
    """

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.peak_bytes = 0
        self._pid = pid
        self._done = Event()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self.join()
        if not self.peak_bytes:
            usage = [resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
            self.peak_bytes = sum(usage) * (1 if sys.platform == "darwin" else 1024)

    def run(self) -> None:
        # At least once: where the system is asked instead, a process of a moment is said to hold what its parent did.
        while True:
            self.peak_bytes = max(self.peak_bytes, sum(map(resident, family(self._pid))))
            if self._done.wait(0.05):
                return


def family(pid: int) -> list[int]:
    """A process and all that it started, as far as /proc says."""
    try:
        # Each thread has children of its own.
        own = [child for task in Path(f"/proc/{pid}/task").glob("*/children") for child in task.read_text().split()]
    except OSError:
        own = []
    return [pid, *(one for child in own for one in family(int(child)))]


def resident(pid: int) -> int:
    """Bytes of memory that a process holds, what it shares with others included; 0 once it is gone."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except OSError:
        return 0
    return pages * resource.getpagesize()


def _cpu() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


if __name__ == "__main__":
    main(*sys.argv[1:])

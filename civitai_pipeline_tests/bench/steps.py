"""The steps that the benchmark measures, each as the assets do it, and each in a process of its own.

``python -m civitai_pipeline_tests.bench.steps STEP LAKE`` runs one and prints what it cost as JSON.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from typing import TYPE_CHECKING

from civitai_pipeline.derive.prompt_categories import build_categories
from civitai_pipeline.derive.prompt_resources import build_resources
from civitai_pipeline.derive.prompt_tables import build_prompt_tables
from civitai_pipeline.lake import schemas, tables
from civitai_pipeline.lake.paths import Lake
from civitai_pipeline.prompts.categories import Categorizer
from civitai_pipeline.prompts.taxonomy import load_taxonomy
from civitai_pipeline_tests.bench.items import VERSION

if TYPE_CHECKING:
    from collections.abc import Callable

    import pyarrow as pa


def prompts(lake: Lake) -> int:
    """Pages to prompts, rejected_images and landed_pages."""
    built = build_prompt_tables(lake, VERSION)
    for file in built.files.values():
        file.put_in_place()
    return len(built.files[schemas.PROMPTS.name])


def resources(lake: Lake) -> int:
    """Prompts to prompt_resources."""
    return _written(lake, schemas.PROMPT_RESOURCES, build_resources(_prompts(lake)))


def categories(lake: Lake) -> int:
    """Prompts to prompt_categories."""
    earlier = tables.read_earlier(lake, schemas.PROMPT_CATEGORIES, VERSION)
    made = build_categories(_prompts(lake), earlier, Categorizer(load_taxonomy()))
    return _written(lake, schemas.PROMPT_CATEGORIES, made)


def _prompts(lake: Lake) -> pa.Table:
    return tables.read_table(lake, schemas.PROMPTS, VERSION)


def _written(lake: Lake, table: schemas.Table, data: pa.Table) -> int:
    tables.write_table(lake, table, VERSION, data)
    return len(data)


STEPS: dict[str, Callable[[Lake], int]] = {step.__name__: step for step in (prompts, resources, categories)}


def main(name: str, folder: str) -> None:
    """Runs a step and prints its cost: seconds by the clock and by the processors, bytes at the peak, rows."""
    lake = Lake.at(folder)
    started, cpu = time.perf_counter(), _cpu()
    rows = STEPS[name](lake)
    elapsed, used = time.perf_counter() - started, _cpu() - cpu
    own, children = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    # Linux counts in KiB, macOS in bytes; of the processes that read pages only the largest is told.
    unit = 1 if sys.platform == "darwin" else 1024
    readers = min(os.cpu_count() or 1, 4) if children > own // 4 else 0
    peak = (own + readers * children) * unit
    sys.stdout.write(json.dumps({"elapsed_s": elapsed, "cpu_s": used, "peak_bytes": peak, "rows": rows}) + "\n")


def _cpu() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


if __name__ == "__main__":
    main(*sys.argv[1:])

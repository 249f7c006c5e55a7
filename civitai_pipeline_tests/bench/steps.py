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

from civitai_pipeline.derive import near_duplicate_groups as groups_table
from civitai_pipeline.derive import prompt_categories, prompt_resources
from civitai_pipeline.derive.analyses import basis, build_analyses
from civitai_pipeline.derive.prompt_tables import build_prompt_tables
from civitai_pipeline.lake import schemas, tables
from civitai_pipeline.lake.paths import Lake
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
    held = _read(lake, schemas.PROMPTS, prompt_resources.PROMPT_COLUMNS)
    return _write(lake, schemas.PROMPT_RESOURCES, prompt_resources.build_resources(held))


def categories(lake: Lake) -> int:
    """Prompts to prompt_categories."""
    earlier = tables.read_earlier(lake, schemas.PROMPT_CATEGORIES, VERSION)
    held = _read(lake, schemas.PROMPTS, prompt_categories.PROMPT_COLUMNS)
    made = prompt_categories.build_categories(held, earlier, Categorizer(load_taxonomy()))
    return _write(lake, schemas.PROMPT_CATEGORIES, made)


def groups(lake: Lake) -> int:
    """Prompts to near_duplicate_groups."""
    held = _read(lake, schemas.PROMPTS, groups_table.PROMPT_COLUMNS)
    return _write(lake, schemas.NEAR_DUPLICATE_GROUPS, groups_table.build_near_duplicate_groups(held))


def analyses(lake: Lake) -> int:
    """Prompts, resources and categories to the twelve analyses."""
    made = build_analyses(
        _read(lake, schemas.PROMPTS, basis.PROMPT_COLUMNS),
        _read(lake, schemas.PROMPT_RESOURCES, basis.RESOURCE_COLUMNS),
        _read(lake, schemas.PROMPT_CATEGORIES, basis.CATEGORY_COLUMNS),
    )
    return sum(_write(lake, table, made[table.name]) for table in schemas.ANALYSIS_TABLES)


def _read(lake: Lake, table: schemas.Table, columns: Sequence[str]) -> pa.Table:
    return tables.read_table(lake, table, VERSION, columns)


def _write(lake: Lake, table: schemas.Table, data: pa.Table) -> int:
    tables.write_table(lake, table, VERSION, data)
    return len(data)


STEPS: dict[str, Callable[[Lake], int]] = {
    step.__name__: step for step in (prompts, near_duplicates, resources, categories, groups, analyses)
}
# Processes that read pages on a machine of two cores or more.
READERS = 2
# Measured by itself though another step includes it.
PARTS = frozenset({near_duplicates.__name__})


def main(name: str, folder: str) -> None:
    """Runs a step and prints its cost: seconds by the clock and by the processors, bytes at the peak, rows."""
    lake = Lake.at(folder)
    started, cpu = time.perf_counter(), _cpu()
    rows = STEPS[name](lake)
    elapsed, used = time.perf_counter() - started, _cpu() - cpu
    own, children = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    # Linux counts in KiB, macOS in bytes. Of the processes that read pages only the largest is told, so that the sum is
    # what they would hold if all were at their largest while this one is at its own.
    unit = 1 if sys.platform == "darwin" else 1024
    peak = (own + (children * READERS if children else 0)) * unit
    sys.stdout.write(json.dumps({"elapsed_s": elapsed, "cpu_s": used, "peak_bytes": peak, "rows": rows}) + "\n")


def _cpu() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


if __name__ == "__main__":
    main(*sys.argv[1:])

"""The process that the kill proof kills: one collection without Dagster, from the API to the views.

It says on standard output what it is about to do, so that its killer can choose the moment. Only what a
collection needs is imported, so that it starts fast.
"""

from __future__ import annotations

import sys
import time

from civitai_pipeline.civitai.client import CivitaiClient
from civitai_pipeline.collect.collector import Collector
from civitai_pipeline.collect.options import CollectOptions
from civitai_pipeline.derive.prompt_tables import STEP_TABLES, build_prompt_tables
from civitai_pipeline.lake.database import build_database
from civitai_pipeline.lake.paths import Lake

PHASES = ("landing", "folding", "writing", "views")
DONE = "done"
# Dagster keeps its records between two tables, which takes longer than writing a small one.
PAUSE_S = 0.02


def _say(phase: str) -> None:
    sys.stdout.write(phase + "\n")
    sys.stdout.flush()


def main(url: str, folder: str, version: int, page_size: int, max_items: int) -> None:
    """Collects, makes the tables and builds the views, once."""
    lake = Lake.at(folder)
    client = CivitaiClient(url, min_request_interval=0, timeout=10, retry_budget=10)
    collector = Collector(client, lake, version, CollectOptions(page_size=page_size, max_items=max_items))
    _say("landing")
    summary = collector.run()
    if not summary.stop_reason or not summary.stop_reason.is_success:
        raise RuntimeError(f"stopped with {summary.stop_reason}: {summary.error}")
    _say("folding")
    built = build_prompt_tables(lake, version)
    _say("writing")
    for table in STEP_TABLES:
        time.sleep(PAUSE_S)
        built.files[table.name].put_in_place()
    _say("views")
    build_database(lake)
    _say(DONE)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:]))

"""The front door: assembles everything that Dagster loads.

Assembled by hand rather than found by folder, because a definition that an import forgot would vanish
without a word; a test pins the set.
"""

from __future__ import annotations

import dagster as dg

from civitai_pipeline.defs.assets import ASSETS
from civitai_pipeline.defs.assets.common import TABLE_IO_MANAGER
from civitai_pipeline.defs.checks import CHECKS
from civitai_pipeline.defs.io_managers import TableIOManager
from civitai_pipeline.defs.jobs import ASSET_JOBS, OP_JOBS
from civitai_pipeline.defs.resources import CivitaiApi, LakeStore, NoProgress, Progress
from civitai_pipeline.defs.schedules import SCHEDULES
from civitai_pipeline.defs.sensors import SENSORS
from civitai_pipeline.defs.upkeep import upkeep_job


def build_defs(progress: Progress | None = None) -> dg.Definitions:
    """The definitions of a code location.

    Args:
        progress: Hears of what runs do; nobody does by default.
    """
    store = LakeStore()
    return dg.Definitions(
        assets=ASSETS,
        asset_checks=CHECKS,
        jobs=[*ASSET_JOBS, *OP_JOBS, upkeep_job],
        sensors=SENSORS,
        schedules=SCHEDULES,
        # Also for what is materialized by hand: a process for each step costs four times the wall clock.
        executor=dg.in_process_executor,
        resources={
            "civitai": CivitaiApi(),
            "store": store,
            "progress": progress or NoProgress(),
            TABLE_IO_MANAGER: TableIOManager(store=store),
        },
    )


@dg.definitions
def defs() -> dg.Definitions:
    """What Dagster loads."""
    return build_defs()

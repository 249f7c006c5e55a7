"""One tick of a sensor, what the daemon makes of it, and what a tick looks at."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import dagster as dg

from civitai_pipeline.collect.collector import Collector
from civitai_pipeline.collect.options import CollectOptions
from civitai_pipeline.definitions import build_defs
from civitai_pipeline.defs.resources import LakeStore, client_for
from civitai_pipeline.sandbox import DEMO_VERSIONS
from civitai_pipeline.settings import load_settings

if TYPE_CHECKING:
    from civitai_pipeline.lake.paths import Lake

VERSION = DEMO_VERSIONS[0]
MODEL = 9001
IMAGE_PAGES = dg.AssetKey("image_pages")
DEFS = build_defs()
COLLECTING = DEFS.resolve_job_def("collect").get_subset(asset_selection={IMAGE_PAGES}, asset_check_selection=set())
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


def watch(text: str) -> None:
    with open(os.environ["CIVITAI_WATCHLIST"], "w", encoding="utf-8") as file:  # noqa: PTH123 - the variable is text
        file.write(text)


def tick(
    sensor: dg.SensorDefinition, instance: dg.DagsterInstance, cursor: str | None = None
) -> dg.SensorExecutionData:
    # With the reference, as the daemon gives it, run requests see the partitions of their own tick.
    with dg.build_sensor_context(
        instance=instance,
        instance_ref=instance.get_ref(),
        cursor=cursor,
        resources={"store": LakeStore()},
        definitions=DEFS,
    ) as context:
        return sensor.evaluate_tick(context)


def walk(lake: Lake, version: int = VERSION, **options: Any) -> None:  # noqa: ANN401 - any option
    Collector(client_for(load_settings()), lake, version, CollectOptions(**options)).run()


def add_run(instance: dg.DagsterInstance, status: dg.DagsterRunStatus, **fields: Any) -> dg.DagsterRun:  # noqa: ANN401 - any field
    """A run as Dagster would have recorded it."""
    tags = {"dagster/partition": str(VERSION), **fields.pop("tags", {})}
    run = dg.DagsterRun(job_name=fields.pop("job_name", "collect"), status=dg.DagsterRunStatus.STARTED, tags=tags)
    instance.add_run(run)
    reports = {
        dg.DagsterRunStatus.FAILURE: instance.report_run_failed,
        dg.DagsterRunStatus.CANCELED: instance.report_run_canceled,
        dg.DagsterRunStatus.CANCELING: instance.report_run_canceling,
    }
    if status in reports:
        reports[status](run)
    return run


def carry_out(
    instance: dg.DagsterInstance, data: dg.SensorExecutionData, most: int = 99
) -> list[dg.ExecuteInProcessResult]:
    """What Dagster's daemon does with a tick: adds the partitions, then launches the runs.

    Of the runs only the collecting itself, which is all that the sensors look at.
    """
    for request in data.dynamic_partitions_requests or []:
        instance.add_dynamic_partitions("model_version", list(request.partition_keys))
    return [
        COLLECTING.execute_in_process(
            instance=instance,
            partition_key=request.partition_key,
            run_config={**json.loads(json.dumps(request.run_config)), **QUIET},
            tags=dict(request.tags),
            raise_on_error=False,
        )
        for request in data.run_requests[:most]
    ]


def config_of(request: dg.RunRequest) -> dict[str, Any]:
    return dict(request.run_config["ops"]["image_pages"]["config"])

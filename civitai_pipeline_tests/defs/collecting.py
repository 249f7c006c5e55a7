"""Jobs carried out in this process, and what their checks say."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg

from civitai_pipeline.definitions import build_defs
from civitai_pipeline.defs.partitions import register_versions
from civitai_pipeline.sandbox import DEMO_VERSIONS

if TYPE_CHECKING:
    from collections.abc import Sequence

VERSION = DEMO_VERSIONS[0]
IMAGE_PAGES = dg.AssetKey("image_pages")


def run(
    instance: dg.DagsterInstance,
    job: str = "collect",
    version: int = VERSION,
    only: Sequence[str] | None = None,
    **config: object,
) -> dg.ExecuteInProcessResult:
    """Runs a job, or of its assets only some with their checks."""
    register_versions(instance, [version])
    return (
        build_defs()
        .resolve_job_def(job)
        .execute_in_process(
            instance=instance,
            partition_key=str(version),
            asset_selection=None if only is None else [dg.AssetKey(name) for name in only],
            run_config={
                "ops": {"image_pages": {"config": config}} if config else {},
                "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
            },
            raise_on_error=False,
        )
    )


def checks_of(result: dg.ExecuteInProcessResult) -> dict[str, bool]:
    return {f"{e.asset_key.to_user_string()}.{e.check_name}": e.passed for e in result.get_asset_check_evaluations()}

"""A code location for proofs: the project's own, with its clocks sped up, so that a week of upkeep takes minutes.

What decides and what runs is the project's code alone. Changed are: how often sensors and schedules are asked, how
long trouble is waited out, and what counts as too large an answer. Loaded by Dagster's processes, never by a test.
"""

from __future__ import annotations

from datetime import timedelta
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import dagster as dg

from civitai_pipeline.civitai import client
from civitai_pipeline.collect import collector
from civitai_pipeline.upkeep import decisions
from civitai_pipeline_tests.proofs.grounds import AUDIT

if TYPE_CHECKING:
    from collections.abc import Callable

TICK_S = 5
# An audit every minute, so that one can be asked for soon; a refresh now and then, or it would be all that is done.
EVERY_MINUTE, NOW_AND_THEN = "* * * * *", "*/4 * * * *"
MAX_BODY_BYTES = 8 * 2**20
_schedule = dg.schedule


def _with(decorator: Callable[..., Any], **changed: object) -> Callable[..., Any]:
    return lambda *given, **named: decorator(*given, **{**named, **changed})


def _hurried_schedule(**named: Any) -> Any:  # noqa: ANN401 - Dagster's own decorator
    cron = EVERY_MINUTE if named.get("name") == AUDIT else NOW_AND_THEN
    return _with(_schedule, cron_schedule=cron)(**named)


with (
    patch.object(dg, "sensor", _with(dg.sensor, minimum_interval_seconds=TICK_S)),
    patch.object(dg, "run_failure_sensor", _with(dg.run_failure_sensor, minimum_interval_seconds=TICK_S)),
    patch.object(dg, "schedule", _hurried_schedule),
):
    from civitai_pipeline import definitions
    from civitai_pipeline.defs import resources

decisions.FIRST_DELAY = timedelta(seconds=1)
decisions.LONGEST_DELAY = timedelta(seconds=5)
decisions.EDGE_CACHE = timedelta(0)
client.FIRST_BACKOFF_S = 0.02
collector.EMPTY_END_PAUSE_S = 0.05
resources._client = lru_cache(maxsize=8)(partial(client.CivitaiClient, max_body_bytes=MAX_BODY_BYTES))

defs = definitions.defs

"""The sensor that tells of failed runs."""

import dagster as dg
import requests

from civitai_pipeline.defs.assets.collection import image_pages
from civitai_pipeline.defs.events import failures_in_log, summary_in_log
from civitai_pipeline.defs.sensors.records import PARTITION_TAG
from civitai_pipeline.settings import load_settings

INTERVAL_S = 60
TIMEOUT_S = (5.0, 10.0)
# Whoever reads it reads it on a telephone, and some services refuse long messages.
MOST_CHARACTERS = 1000
SUCCESS_CLASS = 2


@dg.run_failure_sensor(
    name="tell_of_failures",
    minimum_interval_seconds=INTERVAL_S,
    default_status=dg.DefaultSensorStatus.STOPPED,
    # A run of the command line belongs to no code location.
    monitor_all_code_locations=True,
    description="Posts a small JSON to CIVITAI_FAILURE_WEBHOOK for each failed run.",
)
def tell_of_failures(context: dg.RunFailureSensorContext) -> dg.SkipReason | None:
    """Tells of one failed run; that nobody could be told is said in the tick."""
    run = context.dagster_run
    webhook = load_settings().failure_webhook
    if webhook is None:
        return dg.SkipReason(f"run {run.run_id[:8]} failed; CIVITAI_FAILURE_WEBHOOK is not set, so nobody is told")
    trouble = _post(webhook, _message(context))
    if trouble is not None:
        context.log.warning("nobody could be told of run %s: %s", run.run_id, trouble)
        return dg.SkipReason(f"run {run.run_id[:8]} failed, but nobody could be told: {trouble}")
    return None


def _message(context: dg.RunFailureSensorContext) -> dict[str, object]:
    run = context.dagster_run
    summary = summary_in_log(context.instance, image_pages.key, run.run_id) or {}
    failures = "; ".join(failures_in_log(context.instance, run.run_id))
    error = summary.get("error") or failures or context.failure_event.message or "unknown"
    version = run.tags.get(PARTITION_TAG)
    of = "" if version is None else f" of model version {version}"
    return {
        "job": run.job_name,
        "model_version_id": int(version) if version is not None and version.isdecimal() else None,
        "run_id": run.run_id,
        "stop_reason": summary.get("stop_reason"),
        "error": error[:MOST_CHARACTERS],
        # What chat services show of a JSON posted to them.
        "text": f"{run.job_name}{of} failed: {error}"[:MOST_CHARACTERS],
    }


def _post(webhook: str, message: dict[str, object]) -> str | None:
    """Posts the message; returns what went wrong, without the address, which may hold a secret."""
    try:
        with requests.post(webhook, json=message, timeout=TIMEOUT_S, allow_redirects=False, stream=True) as answer:
            # A redirect is not followed: the message would go where nobody said.
            return None if answer.status_code // 100 == SUCCESS_CLASS else f"the webhook answered {answer.status_code}"
    except (requests.RequestException, ValueError) as error:
        return f"the webhook could not be reached ({type(error).__name__})"

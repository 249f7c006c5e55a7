"""The sensor that looks for new versions of the watched models."""

import time
from dataclasses import replace

import dagster as dg

from civitai_pipeline.civitai.client import CONNECT_TIMEOUT_S, MAX_READ_TIMEOUTS, CivitaiClient
from civitai_pipeline.civitai.failures import ApiFailure
from civitai_pipeline.civitai.listing import MAX_ID
from civitai_pipeline.defs.jobs import collect
from civitai_pipeline.defs.partitions import model_version
from civitai_pipeline.defs.resources import LakeStore, client_for
from civitai_pipeline.defs.sensors.records import TICK_BUDGET_S, View, run_request
from civitai_pipeline.lake.files import LakeError
from civitai_pipeline.settings import load_settings
from civitai_pipeline.upkeep.decisions import Launch, decide_discovery, first_run, rotated

INTERVAL_S = 3600
# An answer that drips may take as many of these as the client allows.
TIMEOUT_S = 4.0
LONGEST_INTERVAL_S = 10.0
LONGEST_REQUEST_S = CONNECT_TIMEOUT_S + (MAX_READ_TIMEOUTS + 1) * TIMEOUT_S


@dg.sensor(
    job=collect,
    minimum_interval_seconds=INTERVAL_S,
    default_status=dg.DefaultSensorStatus.STOPPED,
    description=(
        "Asks the API for the versions of each model in the watchlist; a new one becomes a partition and gets a run "
        "in the same tick. Nothing is ever removed."
    ),
)
def discover_model_versions(context: dg.SensorEvaluationContext, store: LakeStore) -> dg.SensorResult:
    """Adds what is new and asks for its runs."""
    view = View(context.instance, store.lake())
    models = [model.id for model in view.watchlist.models if model.discover]
    if not models:
        return dg.SensorResult(skip_reason="no model is watched; list some under 'models:' in the watchlist")
    client = _bounded_client()
    deadline = time.monotonic() + TICK_BUDGET_S - LONGEST_REQUEST_S
    cursor = context.cursor
    launches: dict[int, Launch] = {}
    said: list[str] = []
    for number, model in enumerate(rotated(models, None if cursor is None else int(cursor))):
        if number and time.monotonic() + client.min_request_interval > deadline:
            said.append(f"{model}: the time of this tick was over; the next one begins here")
            break
        found, words = _versions_of(client, model)
        try:
            launches |= {launch.version: launch for launch in _first_runs(view, model, found)}
        except LakeError as error:
            words += f", but {error}"
        new = sum(launch.model_id == model for launch in launches.values())
        said.append(f"{model}: {words}" + (f", {new} new" if found else ""))
        cursor = str(model)
    if not launches:
        return dg.SensorResult(skip_reason="\n".join(said), cursor=cursor)
    context.log.info("%s", "\n".join(said))
    fresh = [str(version) for version in launches if version not in view.registered]
    return dg.SensorResult(
        run_requests=[run_request(launch) for launch in launches.values()],
        dynamic_partitions_requests=[model_version.build_add_request(fresh)] if fresh else [],
        cursor=cursor,
    )


def _first_runs(view: View, model: int, found: list[int]) -> list[Launch]:
    """The runs that a model's versions need to begin with."""
    begun = {version for version in found if view.has_begun(version)}
    new = decide_discovery(found, view.registered, begun)
    return [first_run(view.state(version, model)) for version in new]


def _versions_of(client: CivitaiClient, model: int) -> tuple[list[int], str]:
    """A model's published versions and what to say of them; none, and why, where it cannot be asked."""
    try:
        found = [version.id for version in client.model(model).versions if 1 <= version.id <= MAX_ID]
    except ApiFailure as failure:
        return [], f"could not be asked, nothing is forgotten: {failure}"
    return found, f"{len(found)} published versions"


def _bounded_client() -> CivitaiClient:
    """A client that is no longer at a request than a tick can bear, and tries each once."""
    settings = load_settings()
    timeout, interval = min(TIMEOUT_S, settings.timeout), min(LONGEST_INTERVAL_S, settings.min_request_interval)
    return client_for(replace(settings, timeout=timeout, min_request_interval=interval, retry_budget=0.0))

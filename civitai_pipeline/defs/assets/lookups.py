"""The asset that asks the API what resources are, when a run says so."""

from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime

import dagster as dg
from pydantic import Field

from civitai_pipeline.collect.options import DEFAULT_MAX_LOOKUPS, DEFAULT_MAX_MINUTES, LookupOptions
from civitai_pipeline.collect.resolve import resolve, unanswered
from civitai_pipeline.defs.assets.common import COLLECTION, OWNERS
from civitai_pipeline.defs.metadata import summary_metadata
from civitai_pipeline.defs.partitions import model_version, version_of
from civitai_pipeline.defs.resources import CivitaiApi, LakeStore, Progress
from civitai_pipeline.defs.turns import turn_at_the_api
from civitai_pipeline.derive.prompt_resources import lookup_keys
from civitai_pipeline.lake import schemas
from civitai_pipeline.lake.paths import Lake
from civitai_pipeline.lake.rows import PinnedTable


class LookupConfig(dg.Config):
    """Whether and how far to look up resources."""

    resolve_resources: bool = Field(
        default=False,
        description=(
            "Ask the API for the names and ids of resources that the metadata gives by id or hash alone, those used "
            "most first. Answers are kept for all model versions; what nobody knew is asked again after 30 days."
        ),
    )
    max_lookups: int = Field(
        default=DEFAULT_MAX_LOOKUPS, ge=1, description="Stop after this many questions; the next run goes on."
    )
    max_minutes: float = Field(
        default=DEFAULT_MAX_MINUTES, gt=0, description="Stop after this many minutes; the next run goes on."
    )


@dg.asset(
    partitions_def=model_version,
    # Named rather than taken as an input: it is read only when something is to be looked up.
    deps=["prompts"],
    group_name=COLLECTION,
    owners=OWNERS,
    kinds={"python", "json"},
    code_version="1",
    description=(
        "What the API says of the resources that a model version's prompts name by id or hash alone. Does nothing "
        "unless `resolve_resources` is on. Its metadata says what was asked; the answers lie in the lake under "
        "`lookups`, for all model versions."
    ),
)
def resource_lookups(
    context: dg.AssetExecutionContext,
    config: LookupConfig,
    civitai: CivitaiApi,
    store: LakeStore,
    progress: dg.ResourceParam[Progress],
) -> dg.MaterializeResult[None]:
    """Looks up what has no answer yet; trouble with the API leaves names empty and is told by a check."""
    if not config.resolve_resources:
        context.log.info("nothing was looked up, because resolve_resources is off")
        return dg.MaterializeResult(metadata={"resolve_resources": False})
    lake = store.lake()
    wanted = lookup_keys(_prompts(lake, version_of(context.partition_key)))
    # With nothing to ask, there is no reason to wait for those who ask.
    turn = _turn(context) if unanswered(lake, wanted, datetime.now(UTC)) else nullcontext()
    with turn:
        options = LookupOptions(config.max_lookups, config.max_minutes)
        summary = resolve(civitai.client(), lake, wanted, options, on_lookup=progress.on_lookup).as_dict()
    context.log.info("looked up %(asked)d of %(wanted)d: %(known)d found, %(unknown)d unknown, %(left)d left", summary)
    return dg.MaterializeResult(metadata={"resolve_resources": True, **summary_metadata(summary)})


def _turn(context: dg.AssetExecutionContext) -> AbstractContextManager[None]:
    return turn_at_the_api(
        context.instance,
        context.run.run_id,
        context.asset_key.to_user_string(),
        on_wait=lambda: context.log.info("another run is asking the API; this one waits for its turn"),
    )


def _prompts(lake: Lake, version: int) -> PinnedTable:
    try:
        return PinnedTable.of(lake, schemas.PROMPTS, version)
    except FileNotFoundError:
        raise dg.Failure(
            f"model version {version} has no table of prompts yet; run the job collect for it", allow_retries=False
        ) from None

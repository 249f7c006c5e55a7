"""Assets that ask the API: the landed pages of a version, and what the API says of it."""

import time
from typing import Any, Self

import dagster as dg
import pyarrow as pa
from pydantic import Field

from civitai_pipeline.civitai.failures import ApiFailure
from civitai_pipeline.civitai.listing import DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE, Sort
from civitai_pipeline.collect.collector import Collector
from civitai_pipeline.collect.options import CollectOptions
from civitai_pipeline.collect.summary import StopReason, Summary
from civitai_pipeline.defs import pictures
from civitai_pipeline.defs.assets.common import API_POOL, COLLECTION, OWNERS, table_asset
from civitai_pipeline.defs.metadata import summary_metadata
from civitai_pipeline.defs.partitions import model_version, version_of
from civitai_pipeline.defs.resources import CivitaiApi, LakeStore, Progress
from civitai_pipeline.derive.version_info import CODE_VERSION as INFO_CODE_VERSION
from civitai_pipeline.derive.version_info import info_row, unknown_info
from civitai_pipeline.lake import schemas, tables
from civitai_pipeline.lake.paths import Lake

CONTRACT_BREACHES, CONTRACT_ODDITIES, CONTRACT_COUNTS = "contract/breaches", "contract/oddities", "contract/counts"
# Some sixty points for a walk of an hour: enough for a curve, little enough for the event log.
OBSERVE_EVERY_S = 60.0


class CollectConfig(dg.Config):
    """How to collect a model version. Every field may be left out."""

    sort: Sort = Field(
        default=Sort.OLDEST,
        description="Order to walk in. OLDEST can be continued for ever; the others are samples and rankings.",
    )
    browsing_levels: list[int] = Field(
        default=[],
        description=(
            "Maturity to ask for: sums of 1 PG, 2 PG-13, 4 R, 8 X, 16 XXX. Each is a listing of its own, walked one "
            "after the other, because a wider mask is no superset of a narrower one. Empty: CIVITAI_BROWSING_LEVEL."
        ),
    )
    max_items: int | None = Field(
        default=None,
        ge=1,
        description="Stop at the first page boundary at or past this many items; no limit if left out.",
    )
    max_minutes: float | None = Field(
        default=None, gt=0, description="Stop at the first page boundary past this many minutes; no limit if left out."
    )
    page_size: int = Field(
        default=DEFAULT_PAGE_SIZE, ge=1, le=MAX_PAGE_SIZE, description="Items to ask for at a time, 1 to 200."
    )
    strict_version_match: bool = Field(
        default=False, description="Accept only images whose metadata names this version as their checkpoint."
    )
    append_only: bool = Field(default=False, description="Never change a row already held.")
    restart: bool = Field(
        default=False, description="Walk the listing anew from its start, which heals gaps; nothing held is lost."
    )

    start_cursor: str | None = Field(
        default=None, description="Start a new walk at this cursor, to begin elsewhere than at the start."
    )

    @classmethod
    def of(cls, options: CollectOptions) -> Self:
        """The configuration of a run with these options; the other way round it is :meth:`options`."""
        levels = list(options.browsing_levels or (options.browsing_level,))
        given = {name: getattr(options, name) for name in cls.model_fields}
        return cls(**given | {"browsing_levels": levels})

    def options(self, default_browsing_level: int) -> CollectOptions:
        """The collector's options."""
        levels = tuple(self.browsing_levels)
        given = {name: getattr(self, name) for name in type(self).model_fields}
        return CollectOptions(**given | {"browsing_level": default_browsing_level, "browsing_levels": levels})


@dg.asset(
    partitions_def=model_version,
    group_name=COLLECTION,
    owners=OWNERS,
    kinds={"python", "json"},
    code_version="1",
    pool=API_POOL,
    description=(
        "The pages of a model version's image listing, landed exactly as the API sent them. A run goes on from the "
        "stored cursor, or continues a finished walk when new images have appeared. Its metadata is the run summary; "
        "the pages stand in the view `landed_pages`, the state of each listing in `collection_state`."
    ),
)
def image_pages(
    context: dg.AssetExecutionContext,
    config: CollectConfig,
    civitai: CivitaiApi,
    store: LakeStore,
    progress: dg.ResourceParam[Progress],
) -> dg.MaterializeResult[None]:
    """Collects one model version from where its ledger stands."""
    observer = _Observer(context, progress)
    try:
        collector = Collector(
            civitai.client(),
            store.lake(),
            version_of(context.partition_key),
            config.options(civitai.default_browsing_level()),
            run_id=context.run.run_id,
            on_page=observer.on_page,
        )
    except ValueError as error:
        raise dg.Failure(str(error), allow_retries=False) from None
    try:
        summary = collector.run()
    except BaseException:
        if collector.summary.stop_reason is StopReason.CANCELED:
            # Ctrl-C or a supervisor's stop, which Dagster would otherwise record as a failure.
            context.instance.report_run_canceling(context.run, message="The run was interrupted.")
        _observe(context, collector.summary)
        raise
    document = summary.as_dict()
    metadata = {**pictures.of_run(document), **summary_metadata(document), **_contract_metadata(collector)}
    if summary.failed:
        _observe(context, summary)
        raise dg.Failure(summary.error or f"stopped: {summary.stop_reason}", metadata=metadata, allow_retries=False)
    return dg.MaterializeResult(metadata={"dagster/partition_row_count": summary.prompts_after, **metadata})


class _Observer:
    """Keeps the numbers of a run under way in the event log every so often, so that the UI plots them."""

    def __init__(self, context: dg.AssetExecutionContext, progress: Progress) -> None:
        self._context = context
        self._progress = progress
        self._last = time.monotonic()

    def on_page(self, summary: Summary) -> None:
        """A page has landed."""
        self._progress.on_page(summary)
        if time.monotonic() - self._last >= OBSERVE_EVERY_S:
            self._last = time.monotonic()
            _observe(self._context, summary)


def _contract_metadata(collector: Collector) -> dict[str, dg.MetadataValue[Any]]:
    """How what came back compares with what the API promises, for the check that looks at it."""
    watch = collector.contract
    return {
        CONTRACT_BREACHES: dg.MetadataValue.json(watch.breaches(held_before=collector.summary.prompts_before)),
        CONTRACT_ODDITIES: dg.MetadataValue.json(watch.oddities()),
        CONTRACT_COUNTS: dg.MetadataValue.json(watch.as_dict()),
    }


def _observe(context: dg.AssetExecutionContext, summary: Summary) -> None:
    """Keeps the summary of a run that will have no materialization to carry it."""
    context.log_event(
        dg.AssetObservation(
            asset_key=context.asset_key, partition=context.partition_key, metadata=summary_metadata(summary.as_dict())
        )
    )


@table_asset(schemas.MODEL_VERSION_INFO, group=COLLECTION, code_version=INFO_CODE_VERSION, pool=API_POOL)
def model_version_info(context: dg.AssetExecutionContext, civitai: CivitaiApi, store: LakeStore) -> pa.Table:
    """Asks the API for the version's names; keeps what was known where it cannot be asked."""
    version = version_of(context.partition_key)
    try:
        return info_row(civitai.client().model_version(version))
    except ApiFailure as failure:
        context.log.warning("keeping what is known of model version %d: %s", version, failure)
        return _known_info(store.lake(), version)


def _known_info(lake: Lake, version: int) -> pa.Table:
    known = tables.read_earlier(lake, schemas.MODEL_VERSION_INFO, version)
    return unknown_info(version) if known is None else known

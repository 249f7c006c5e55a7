"""The job that keeps what grows small: what the commands ``compact`` and ``prune`` do, by the clock or by hand."""

import dagster as dg
from pydantic import Field

from civitai_pipeline.defs.metadata import summary_metadata
from civitai_pipeline.defs.resources import LakeStore
from civitai_pipeline.lake.compaction import compact
from civitai_pipeline.lake.files import LakeError
from civitai_pipeline.pruning import prune
from civitai_pipeline.upkeep.retention import KEEP_DAYS, KEEP_RUNS


class UpkeepConfig(dg.Config):
    """How much of the records to keep."""

    keep_days: float = Field(default=KEEP_DAYS, ge=0, description="Keep the records of younger runs.")
    keep_runs: int = Field(
        default=KEEP_RUNS, ge=1, description="Keep so many runs of each job and version however old they are."
    )


@dg.op(description="Puts pages that were fetched again into bundles; a version being collected is left alone.")
def compaction_of_pages(context: dg.OpExecutionContext, store: LakeStore) -> None:
    """Compacts every version."""
    lake = store.lake()
    try:
        done = [compact(lake, version) for version in lake.versions()]
    except LakeError as error:
        raise dg.Failure(str(error), allow_retries=False) from None
    for each in done:
        if each.skipped or each.error:
            context.log.warning("model version %d: %s", each.model_version_id, each.skipped or each.error)
        elif each.folded:
            context.log.info("model version %d: %d pages put into bundles", each.model_version_id, each.folded)
    sums = ("pages", "folded", "files_before", "files_after", "bytes_before", "bytes_after")
    context.add_output_metadata(summary_metadata({name: sum(getattr(each, name) for each in done) for name in sums}))
    if troubled := [each for each in done if each.error]:
        raise dg.Failure("; ".join(f"model version {e.model_version_id}: {e.error}" for e in troubled))


@dg.op(description="Deletes the records of old finished runs; nothing that was collected is touched.")
def pruning_of_records(context: dg.OpExecutionContext, config: UpkeepConfig) -> None:
    """Prunes the instance's records."""
    done = prune(context.instance, keep_days=config.keep_days, keep_runs=config.keep_runs)
    for note in done.notes:
        context.log.warning("%s", note)
    context.add_output_metadata(summary_metadata(done.as_dict()))


@dg.job(
    name="upkeep",
    description="Puts pages that were fetched again into bundles, and deletes the records of old runs.",
    executor_def=dg.in_process_executor,
)
def upkeep_job() -> None:
    """Keeps what grows small."""
    compaction_of_pages()
    pruning_of_records()

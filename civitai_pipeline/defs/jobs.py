"""Jobs: what a person or a sensor launches as one thing."""

import dagster as dg
from pydantic import Field

from civitai_pipeline.civitai.failures import ApiFailure
from civitai_pipeline.collect.preview import preview_collection
from civitai_pipeline.defs.assets import ASSETS
from civitai_pipeline.defs.assets.lookups import LookupConfig
from civitai_pipeline.defs.exports import export_job
from civitai_pipeline.defs.metadata import summary_metadata
from civitai_pipeline.defs.partitions import model_version, register_versions, version_of
from civitai_pipeline.defs.resources import CivitaiApi, LakeStore
from civitai_pipeline.lake.schemas import ANALYSIS_TABLES, VERSION_OVERVIEWS

collect = dg.define_asset_job(
    "collect",
    selection=dg.AssetSelection.assets(*ASSETS),
    # One process: starting one for each step costs four times the wall clock of a small collection.
    executor_def=dg.in_process_executor,
    description=(
        "Collects one model version from where it stands, brings all its tables and its report up to date, "
        "then the database and the index of reports."
    ),
)

rebuild = dg.define_asset_job(
    "rebuild",
    selection=dg.AssetSelection.assets(*ASSETS)
    - dg.AssetSelection.assets("image_pages", "model_version_info", "resource_lookups"),
    executor_def=dg.in_process_executor,
    config=dg.RunConfig(ops={"prompt_tables": {"config": {"rebuild": True}}}),
    description="Makes all tables and reports of one model version anew from its landed pages, without the API.",
)

resolve_resources = dg.define_asset_job(
    "resolve_resources",
    selection=dg.AssetSelection.assets(
        "resource_lookups",
        "prompt_resources",
        *(table.name for table in ANALYSIS_TABLES),
        "version_report",
        VERSION_OVERVIEWS.name,
        "prompt_database",
        "collection_report",
    ),
    executor_def=dg.in_process_executor,
    config=dg.RunConfig(ops={"resource_lookups": LookupConfig(resolve_resources=True)}),
    description=(
        "Asks the API for the names and ids of the resources that one model version's prompts name by id or hash "
        "alone, and puts them into its table and report."
    ),
)


class RegisterConfig(dg.Config):
    """Which model to register."""

    model_id: int = Field(gt=0, description="The model's id, as in the address of its page: /models/<id>.")


@dg.op(description="Asks the API for the model's published versions and makes each a partition.")
def register_versions_of_model(context: dg.OpExecutionContext, config: RegisterConfig, civitai: CivitaiApi) -> None:
    """Makes partitions of a model's published versions."""
    try:
        model = civitai.client().model(config.model_id)
    except ApiFailure as failure:
        raise dg.Failure(f"model {config.model_id} could not be asked for: {failure}", allow_retries=False) from None
    fresh = register_versions(context.instance, [version.id for version in model.versions])
    for version in model.versions:
        state = "added" if version.id in fresh else "known already"
        context.log.info("%d: %s (%s), %s", version.id, version.name, version.base_model, state)


@dg.job(description="Makes a partition of each published version of a model.", executor_def=dg.in_process_executor)
def register_model() -> None:
    """Registers a model."""
    register_versions_of_model()


@dg.op(description="Says what a collection would do, without landing anything.")
def preview_of_version(context: dg.OpExecutionContext, civitai: CivitaiApi, store: LakeStore) -> None:
    """Logs what a collection of the partition would do."""
    plan = preview_collection(civitai.client(), store.lake(), version_of(context.partition_key))
    for key, value in plan.items():
        context.log.info("%s: %s", key, value)
    context.add_output_metadata(summary_metadata(plan))


@dg.job(
    name="preview_collection",
    description="Says what is held of a model version and what a collection would do.",
    partitions_def=model_version,
    executor_def=dg.in_process_executor,
)
def preview_job() -> None:
    """Previews a collection."""
    preview_of_version()


ASSET_JOBS = [collect, rebuild, resolve_resources]
OP_JOBS = [register_model, preview_job, export_job]

"""The job that exports: what the ``export`` command does, from the web UI and into the lake alone."""

import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import dagster as dg
from pydantic import Field

from civitai_pipeline.defs.metadata import preview, summary_metadata
from civitai_pipeline.defs.partitions import model_version, version_of
from civitai_pipeline.defs.resources import CivitaiApi, LakeStore
from civitai_pipeline.export.options import ExportOptions, OptionError, help_of
from civitai_pipeline.export.run import export_prompts
from civitai_pipeline.export.staging import ExportError
from civitai_pipeline.lake.files import LakeError

# A plain name, so that nobody who may launch a job may write anywhere on this machine.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")

# What the web UI shows of the first rows; names of people stay in the export.
_PREVIEWED = ("image_id", "model_version_id", "browsing_level", "category", "prompt", "clean_prompt")


class ExportConfig(dg.Config):
    """What to export; the options are those of ``civitai-pipeline export``."""

    name: str | None = Field(
        default=None,
        description="The name of the file or folder in the lake's folder exports: letters, digits, points, hyphens and "
        "underscores. By default the model version or 'all', with the format.",
    )
    versions: list[int] = Field(
        default=[],
        description="The model versions to export where no partition is chosen; all of them if none is named.",
    )
    format: str = Field(default="parquet", description=help_of("format"))
    columns: str | None = Field(default=None, description=help_of("columns"))
    max_level: str | None = Field(default=None, description=help_of("max_level"))
    include_unknown_level: bool = Field(default=False, description=help_of("include_unknown_level"))
    include_withdrawn: bool = Field(default=False, description=help_of("include_withdrawn"))
    category: list[str] = Field(default=[], description=help_of("category"))
    primary_category: list[str] = Field(default=[], description=help_of("primary_category"))
    resource: list[str] = Field(default=[], description=help_of("resource"))
    sampler: list[str] = Field(default=[], description=help_of("sampler"))
    base_model: list[str] = Field(default=[], description=help_of("base_model"))
    min_reactions: int | None = Field(default=None, description=help_of("min_reactions"))
    since: str | None = Field(default=None, description=help_of("since"))
    until: str | None = Field(default=None, description=help_of("until"))
    distinct: str = Field(default="none", description=help_of("distinct"))
    max_per_author: int | None = Field(default=None, description=help_of("max_per_author"))
    max_per_version: int | None = Field(default=None, description=help_of("max_per_version"))
    limit: int | None = Field(default=None, description=help_of("limit"))
    hash_authors: bool = Field(default=False, description=help_of("hash_authors"))
    bom: bool = Field(default=False, description=help_of("bom"))
    split_by: str = Field(default="both", description=help_of("split_by"))
    seed: int = Field(default=0, description=help_of("seed"))
    min_images: int = Field(default=2, description=help_of("min_images"))
    min_authors: int = Field(default=2, description=help_of("min_authors"))
    max_terms: int = Field(default=500, description=help_of("max_terms"))

    def options(self) -> ExportOptions:
        """The options that this config spells.

        Raises:
            OptionError: A value is out of range, or two contradict each other.
        """
        values: dict[str, Any] = {option.name: getattr(self, option.name) for option in fields(ExportOptions)}
        values |= {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
        return ExportOptions(**values)


@dg.op(description="Writes the prompts of the partition, or of some or all versions, into the lake's folder exports.")
def export_of_prompts(
    context: dg.OpExecutionContext, config: ExportConfig, store: LakeStore, civitai: CivitaiApi
) -> None:
    """Writes an export and logs what it holds."""
    keys = [context.partition_key] if context.has_partition_key else map(str, config.versions)
    versions = [version_of(key) for key in keys]
    if config.name is not None and not _NAME.fullmatch(config.name):
        raise dg.Failure(f"name must be a plain file name like prompts.csv, not {config.name!r}", allow_retries=False)
    try:
        options = config.options()
        lake = store.lake()
        output = Path(str(lake.exports)) / (config.name or _default_name(versions, options.format))
        result = export_prompts(lake, versions, options, output, default_level=civitai.default_browsing_level())
    except (OptionError, ExportError, LakeError) as error:
        raise dg.Failure(str(error), allow_retries=False) from None
    for note in result.notes():
        context.log.info("%s", note)
    metadata: dict[str, dg.MetadataValue[Any] | int] = {
        **summary_metadata(result.as_dict()),
        "dagster/uri": dg.MetadataValue.path(result.output),
        "dagster/row_count": result.rows,
    }
    if result.first_rows is not None:
        shown = [name for name in _PREVIEWED if name in result.first_rows.column_names]
        metadata["preview"] = preview(result.first_rows.select(shown))
    context.add_output_metadata(metadata)


@dg.job(
    name="export_prompts",
    description=(
        "Exports the prompts of one model version, or without a partition of some or all, as CSV, JSON lines, Parquet, "
        "a Hugging Face dataset folder or wildcards, into the lake's folder `exports`."
    ),
    partitions_def=model_version,
    executor_def=dg.in_process_executor,
)
def export_job() -> None:
    """Exports prompts."""
    export_of_prompts()


def _default_name(versions: list[int], form: str) -> str:
    what = "-".join(map(str, versions[:3])) + ("-and-more" if len(versions) > 3 else "") if versions else "all"  # noqa: PLR2004 - a readable name
    return f"{what}-{form}" if form in {"huggingface", "wildcards"} else f"{what}.{form}"

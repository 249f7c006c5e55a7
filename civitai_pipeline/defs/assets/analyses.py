"""Assets that count and compare what the tables hold: the analyses."""

from collections.abc import Iterator

import dagster as dg
import pyarrow as pa

from civitai_pipeline.defs.assets.common import TABLES, columns_in, table_out
from civitai_pipeline.defs.partitions import model_version
from civitai_pipeline.derive.analyses import CODE_VERSION, build_analyses
from civitai_pipeline.derive.analyses.basis import CATEGORY_COLUMNS, PROMPT_COLUMNS, RESOURCE_COLUMNS
from civitai_pipeline.lake.schemas import ANALYSIS_TABLES


@dg.multi_asset(
    name="prompt_analyses",
    partitions_def=model_version,
    ins={
        "prompts": columns_in(PROMPT_COLUMNS),
        "prompt_resources": columns_in(RESOURCE_COLUMNS),
        "prompt_categories": columns_in(CATEGORY_COLUMNS),
    },
    outs={table.name: table_out(table, group=TABLES, code_version=CODE_VERSION) for table in ANALYSIS_TABLES},
)
def prompt_analyses(
    prompts: pa.Table, prompt_resources: pa.Table, prompt_categories: pa.Table
) -> Iterator[dg.Output[pa.Table]]:
    """Counts and compares the version's prompts; one step, because the families share most of the work."""
    for name, table in build_analyses(prompts, prompt_resources, prompt_categories).items():
        yield dg.Output(table, output_name=name)

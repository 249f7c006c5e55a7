"""Assets that count and compare what the tables hold: the analyses."""

from collections.abc import Iterator

import dagster as dg
import pyarrow as pa

from civitai_pipeline.defs.assets.common import TABLES, rows_in, table_out
from civitai_pipeline.defs.partitions import model_version
from civitai_pipeline.derive.analyses import CODE_VERSION, build_analyses
from civitai_pipeline.lake.rows import PinnedTable
from civitai_pipeline.lake.schemas import ANALYSIS_TABLES


@dg.multi_asset(
    name="prompt_analyses",
    partitions_def=model_version,
    ins={
        "prompts": rows_in(),
        "prompt_resources": rows_in(),
        "prompt_categories": rows_in(),
    },
    outs={table.name: table_out(table, group=TABLES, code_version=CODE_VERSION) for table in ANALYSIS_TABLES},
)
def prompt_analyses(
    prompts: PinnedTable, prompt_resources: PinnedTable, prompt_categories: PinnedTable
) -> Iterator[dg.Output[pa.Table]]:
    """Counts and compares the version's prompts; one step, because the families share most of the work."""
    for name, table in build_analyses(prompts, prompt_resources, prompt_categories).items():
        yield dg.Output(table, output_name=name)

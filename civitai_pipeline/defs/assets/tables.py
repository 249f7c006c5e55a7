"""Assets that fold what landed into tables."""

import dagster as dg
import pyarrow as pa
from pydantic import Field

from civitai_pipeline.defs import pictures
from civitai_pipeline.defs.assets.collection import image_pages
from civitai_pipeline.defs.assets.common import TABLES, rows_in, table_asset, table_out
from civitai_pipeline.defs.assets.lookups import resource_lookups
from civitai_pipeline.defs.metadata import rows_as_table
from civitai_pipeline.defs.partitions import model_version, version_of
from civitai_pipeline.defs.resources import LakeStore, Progress, categorizer_in_use
from civitai_pipeline.derive.category_changes import CODE_VERSION as CHANGES_CODE_VERSION
from civitai_pipeline.derive.category_changes import build_category_changes, latest_change
from civitai_pipeline.derive.near_duplicate_groups import CODE_VERSION as GROUPS_CODE_VERSION
from civitai_pipeline.derive.near_duplicate_groups import build_near_duplicate_groups
from civitai_pipeline.derive.prompt_categories import CODE_VERSION as CATEGORIES_CODE_VERSION
from civitai_pipeline.derive.prompt_categories import stage_categories
from civitai_pipeline.derive.prompt_resources import CODE_VERSION as RESOURCES_CODE_VERSION
from civitai_pipeline.derive.prompt_resources import build_resources
from civitai_pipeline.derive.prompt_tables import CODE_VERSION as PROMPTS_CODE_VERSION
from civitai_pipeline.derive.prompt_tables import STEP_TABLES, build_prompt_tables
from civitai_pipeline.lake import schemas, tables
from civitai_pipeline.lake.lookups import lookups_table, read_lookups
from civitai_pipeline.lake.rows import PinnedTable, earlier_rows
from civitai_pipeline.lake.tables import TableFile


class PromptsConfig(dg.Config):
    """How to bring the tables up to the pages."""

    rebuild: bool = Field(
        default=False, description="Make the tables anew from all landed pages, not only from those not yet covered."
    )


@dg.multi_asset(
    name="prompt_tables",
    partitions_def=model_version,
    deps=[image_pages],
    outs={table.name: table_out(table, group=TABLES, code_version=PROMPTS_CODE_VERSION) for table in STEP_TABLES},
)
def prompt_tables(
    context: dg.AssetExecutionContext,
    config: PromptsConfig,
    store: LakeStore,
    progress: dg.ResourceParam[Progress],
) -> tuple[TableFile, TableFile, TableFile]:
    """Folds the landed pages that the tables do not cover yet into them."""
    version = version_of(context.partition_key)

    def on_slab(folded: int, pages: int) -> None:
        context.log.info("%d of %d pages folded", folded, pages)
        progress.on_fold(version, folded, pages)

    built = build_prompt_tables(store.lake(), version, rebuild=config.rebuild, on_slab=on_slab)
    manner = "from nothing" if built.started_anew else "onto the earlier tables"
    prompts, rejected, pages = (built.files[table.name] for table in STEP_TABLES)
    context.log.info("%d pages folded %s: %d prompts", built.pages_added, manner, len(prompts))
    return prompts, rejected, pages


@table_asset(
    schemas.PROMPT_RESOURCES,
    group=TABLES,
    code_version=RESOURCES_CODE_VERSION,
    deps=[resource_lookups],
    ins={"prompts": rows_in()},
)
def prompt_resources(context: dg.AssetExecutionContext, prompts: PinnedTable, store: LakeStore) -> TableFile:
    """Spreads the resources that each prompt's row names into rows of their own, named as far as is known."""
    lake = store.lake()
    made = build_resources(prompts, lookups_table(read_lookups(lake).values()))
    return made.stage(lake, version_of(context.partition_key))


@dg.multi_asset(
    name="category_tables",
    partitions_def=model_version,
    ins={"prompts": rows_in()},
    outs={
        # Written in this order. Were it the other, a crash between the two would lose a comparison.
        schemas.CATEGORY_CHANGES.name: table_out(
            schemas.CATEGORY_CHANGES, group=TABLES, code_version=CHANGES_CODE_VERSION
        ),
        schemas.PROMPT_CATEGORIES.name: table_out(
            schemas.PROMPT_CATEGORIES, group=TABLES, code_version=CATEGORIES_CODE_VERSION
        ),
    },
)
def category_tables(
    context: dg.AssetExecutionContext, prompts: PinnedTable, store: LakeStore
) -> tuple[pa.Table, TableFile]:
    """Categorizes the prompts not categorized yet by this taxonomy, and compares what another one said of them."""
    lake, version = store.lake(), version_of(context.partition_key)
    earlier = earlier_rows(lake, schemas.PROMPT_CATEGORIES, version)
    history = tables.read_earlier(lake, schemas.CATEGORY_CHANGES, version)
    made = stage_categories(lake, version, prompts, earlier, categorizer_in_use())
    decided = PinnedTable(made.table, made.path)
    changes = build_category_changes(earlier, decided, history)
    shown = pictures.of_categories(decided.read(["category", "confidence", "is_primary"]))
    if len(changes) and (history is None or not changes.equals(history)):
        shown["changes"] = rows_as_table(latest_change(changes), changes.column_names)
    context.add_output_metadata(shown, output_name=schemas.PROMPT_CATEGORIES.name)
    return changes, made


@table_asset(
    schemas.NEAR_DUPLICATE_GROUPS,
    group=TABLES,
    code_version=GROUPS_CODE_VERSION,
    ins={"prompts": rows_in()},
)
def near_duplicate_groups(prompts: PinnedTable) -> pa.Table:
    """Counts the images, prompts and authors of each group of near duplicates."""
    return build_near_duplicate_groups(prompts)

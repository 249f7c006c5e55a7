"""Assets that show what was collected: a report per version, one over all, and the DuckDB file."""

from collections.abc import Mapping
from typing import Any

import dagster as dg
import pyarrow as pa

from civitai_pipeline.defs import pictures
from civitai_pipeline.defs.assets.collection import image_pages
from civitai_pipeline.defs.assets.common import OWNERS, PUBLICATION, columns_in
from civitai_pipeline.defs.events import latest_summary
from civitai_pipeline.defs.partitions import model_version, version_of
from civitai_pipeline.defs.resources import CivitaiApi, LakeStore
from civitai_pipeline.keeping.sizes import size_of
from civitai_pipeline.lake import schemas
from civitai_pipeline.lake.database import build_database, collection_state
from civitai_pipeline.lake.files import remove_others, write_by_digest, write_whole
from civitai_pipeline.lake.paths import Lake
from civitai_pipeline.lake.tables import read_table, table_exists
from civitai_pipeline.report import (
    COLUMNS,
    INDEX_FILE,
    PLOTLY_FILE,
    VersionTables,
    collection_page,
    explorer_file_name,
    explorer_page,
    explorer_script,
    plotly_javascript,
    prompts_file_name,
    report_file_name,
    version_overview,
    version_page,
)

# What a report is made of; a version that lacks one of them has not been collected to the end yet.
REPORT_TABLES = (
    schemas.PROMPTS,
    schemas.REJECTED_IMAGES,
    schemas.PROMPT_RESOURCES,
    schemas.PROMPT_CATEGORIES,
    schemas.LANDED_PAGES,
)


@dg.asset(
    partitions_def=model_version,
    group_name=PUBLICATION,
    owners=OWNERS,
    kinds={"plotly", "html"},
    code_version="3",
    ins={name: columns_in(columns) for name, columns in COLUMNS.items()},
    description=(
        "One HTML page about a model version's prompts, beside the shared Plotly file, and an explorer to search them "
        "with. All of it works offline."
    ),
)
def version_report(
    context: dg.AssetExecutionContext,
    store: LakeStore,
    civitai: CivitaiApi,
    model_version_info: pa.Table,
    prompts: pa.Table,
    rejected_images: pa.Table,
    prompt_resources: pa.Table,
    prompt_categories: pa.Table,
    landed_pages: pa.Table,
    category_changes: pa.Table,
    prompt_structure: pa.Table,
    setting_recipes: pa.Table,
    resource_usage: pa.Table,
    resource_pairs: pa.Table,
    term_lift: pa.Table,
    weekly_trends: pa.Table,
) -> dg.MaterializeResult[None]:
    """Writes the version's explorer and its page."""
    version = version_of(context.partition_key)
    tables = VersionTables(
        info=_info(model_version_info, version),
        prompts=prompts,
        rejected_images=rejected_images,
        prompt_resources=prompt_resources,
        prompt_categories=prompt_categories,
        collection_state=collection_state(landed_pages),
        summary=latest_summary(context.instance, image_pages.key, context.partition_key),
        site=civitai.site(),
        category_changes=category_changes,
        analyses={
            "prompt_structure": prompt_structure,
            "setting_recipes": setting_recipes,
            "resource_usage": resource_usage,
            "resource_pairs": resource_pairs,
            "term_lift": term_lift,
            "weekly_trends": weekly_trends,
        },
    )
    _publish_explorer(store.lake(), tables, version)
    shown = pictures.of_report(prompts, prompt_resources, prompt_categories)
    return _published(store, report_file_name(version), version_page(tables), shown)


@dg.asset(
    deps=[version_report],
    group_name=PUBLICATION,
    owners=OWNERS,
    kinds={"plotly", "html"},
    code_version="1",
    description="The index of reports: all collected model versions side by side.",
)
def collection_report(context: dg.AssetExecutionContext, store: LakeStore) -> dg.MaterializeResult[None]:
    """Writes the index page over all versions that have been collected to the end."""
    lake = store.lake()
    overviews = [
        version_overview(
            _version_tables(lake, version, latest_summary(context.instance, image_pages.key, str(version)))
        )
        for version in lake.versions()
        if all(table_exists(lake, table, version) for table in REPORT_TABLES)
    ]
    return _published(store, INDEX_FILE, collection_page(overviews))


@dg.asset(
    # Any table of any version may have changed a view's shape; the file is cheap to build.
    deps=[table.name for table in schemas.TABLES],
    group_name=PUBLICATION,
    owners=OWNERS,
    kinds={"duckdb"},
    code_version="1",
    description=(
        "The file `civitai.duckdb`: a view of each table over all versions, `images_unique` with one row per image, "
        "`collection_state` with one row per version and listing, and `civitai_prompts` for the older tool's scripts."
    ),
)
def prompt_database(store: LakeStore) -> dg.MaterializeResult[None]:
    """Builds the database under another name and swaps it in."""
    lake = store.lake()
    views = build_database(lake)
    return dg.MaterializeResult(
        metadata={
            "dagster/uri": dg.MetadataValue.path(str(lake.database)),
            "views": ", ".join(views),
            # What the views lie over, as numbers, so that the UI draws how the lake grows.
            **size_of(lake).totals(),
        }
    )


def _info(table: pa.Table, version: int) -> dict[str, object]:
    rows: list[dict[str, object]] = table.to_pylist()
    return rows[0] if rows else {"model_version_id": version}


def _version_tables(lake: Lake, version: int, summary: dict[str, Any] | None) -> VersionTables:
    prompts, rejected, resources, categories, pages = (
        read_table(lake, table, version, COLUMNS.get(table.name)) for table in REPORT_TABLES
    )
    info: dict[str, object] = {"model_version_id": version}
    if table_exists(lake, schemas.MODEL_VERSION_INFO, version):
        info = _info(read_table(lake, schemas.MODEL_VERSION_INFO, version), version)
    return VersionTables(info, prompts, rejected, resources, categories, collection_state(pages), summary)


def _publish_explorer(lake: Lake, tables: VersionTables, version: int) -> None:
    """Writes the prompts, then the page that reads them, then removes the prompts that an earlier page read."""
    page = lake.reports / explorer_file_name(version)
    prompts = None
    if tables.standing:
        prompts = write_by_digest(
            lake.root, explorer_script(tables), lambda digest: lake.reports / prompts_file_name(version, digest)
        )
        write_whole(lake.root, page, explorer_page(tables, prompts.name).encode())
    else:
        page.unlink(missing_ok=True)
    remove_others(lake.reports, prompts_file_name(version, "*"), prompts)


def _published(
    store: LakeStore, name: str, page: str, shown: Mapping[str, Any] | None = None
) -> dg.MaterializeResult[None]:
    lake = store.lake()
    path = lake.reports / name
    if not (lake.reports / PLOTLY_FILE).is_file():
        write_whole(lake.root, lake.reports / PLOTLY_FILE, plotly_javascript().encode())
    write_whole(lake.root, path, page.encode())
    url = store.report_url(name)
    return dg.MaterializeResult(
        metadata={
            **({"report": dg.MetadataValue.url(url)} if url is not None else {}),
            "dagster/uri": dg.MetadataValue.path(str(path)),
            "bytes": path.stat().st_size,
            **(shown or {}),
        }
    )

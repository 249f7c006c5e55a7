"""Assets that show what was collected: a report per version, one over all, and the DuckDB file."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg
import pyarrow as pa

from civitai_pipeline.care.sizes import size_of
from civitai_pipeline.defs import pictures
from civitai_pipeline.defs.assets.collection import image_pages
from civitai_pipeline.defs.assets.common import OWNERS, PUBLICATION, columns_in, table_out
from civitai_pipeline.defs.events import failed_checks, latest_summaries, latest_summary
from civitai_pipeline.defs.partitions import model_version, version_of
from civitai_pipeline.defs.resources import CivitaiApi, LakeStore
from civitai_pipeline.derive.provenance import finished
from civitai_pipeline.lake import schemas
from civitai_pipeline.lake.database import build_database, collection_state, read_all
from civitai_pipeline.lake.files import remove_others, write_by_digest, write_whole
from civitai_pipeline.lake.paths import Lake
from civitai_pipeline.lake.tables import Provenance, from_rows
from civitai_pipeline.report import (
    COLUMNS,
    INDEX_FILE,
    PLOTLY_FILE,
    VersionTables,
    collection_page,
    explorer_file_name,
    explorer_page,
    explorer_script,
    overview_row,
    plotly_javascript,
    prompts_file_name,
    report_file_name,
    version_overview,
    version_page,
)
from civitai_pipeline.report.overview import CODE_VERSION as OVERVIEW_CODE_VERSION


@dg.multi_asset(
    name="version_report",
    partitions_def=model_version,
    ins={name: columns_in(columns) for name, columns in COLUMNS.items()},
    outs={
        "version_report": dg.AssetOut(
            dagster_type=dg.Nothing,
            group_name=PUBLICATION,
            owners=OWNERS,
            kinds={"plotly", "html"},
            code_version="4",
            description=(
                "One HTML page about a model version's prompts, beside the shared Plotly file, and an explorer to "
                "search them with. All of it works offline."
            ),
        ),
        # By the step that has the tables in memory already.
        schemas.VERSION_OVERVIEWS.name: table_out(
            schemas.VERSION_OVERVIEWS, group=PUBLICATION, code_version=OVERVIEW_CODE_VERSION
        ),
    },
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
) -> Iterator[dg.Output[Any]]:
    """Writes the version's explorer and its page, and boils its tables down for the page over all versions."""
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
    published = _published(store, report_file_name(version), version_page(tables), shown)
    yield dg.Output(None, output_name="version_report", metadata=published)
    yield dg.Output(_overview(tables), output_name=schemas.VERSION_OVERVIEWS.name)


@dg.asset(
    deps=["version_report", schemas.VERSION_OVERVIEWS.name],
    group_name=PUBLICATION,
    owners=OWNERS,
    kinds={"plotly", "html"},
    code_version="1",
    description="The index of reports: all collected model versions side by side.",
)
def collection_report(context: dg.AssetExecutionContext, store: LakeStore) -> dg.MaterializeResult[None]:
    """Writes the index page over all versions that have an overview, and names those that have none yet."""
    from civitai_pipeline.defs.checks import CHECKS  # noqa: PLC0415 - checks name the assets of this package

    lake = store.lake()
    rows, infos = (
        read_all(lake, table).to_pylist() for table in (schemas.VERSION_OVERVIEWS, schemas.MODEL_VERSION_INFO)
    )
    info_of = {info["model_version_id"]: info for info in infos}
    listings: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for listing in collection_state(read_all(lake, schemas.LANDED_PAGES)):
        listings[listing["model_version_id"]].append(listing)
    summaries = latest_summaries(context.instance, image_pages.key)
    failed = failed_checks(context.instance, [key for check in CHECKS for key in check.check_keys])
    overviews = [
        version_overview(
            row,
            info_of.get(version, {"model_version_id": version}),
            listings[version],
            summaries.get(str(version)),
            failed.get(str(version)),
        )
        for row in rows
        for version in (row["model_version_id"],)
    ]
    without = sorted(set(lake.versions()) - {row["model_version_id"] for row in rows})
    return dg.MaterializeResult(metadata=_published(store, INDEX_FILE, collection_page(overviews, without)))


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


def _overview(tables: VersionTables) -> pa.Table:
    """The version's row of ``version_overviews``, covering the pages that its prompts cover."""
    table = schemas.VERSION_OVERVIEWS
    made = from_rows(table, [overview_row(tables)])
    return finished(table, made, Provenance.of(tables.prompts.schema), OVERVIEW_CODE_VERSION)


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


def _published(store: LakeStore, name: str, page: str, shown: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Writes a page; what the UI is to say of it."""
    lake = store.lake()
    path = lake.reports / name
    if not (lake.reports / PLOTLY_FILE).is_file():
        write_whole(lake.root, lake.reports / PLOTLY_FILE, plotly_javascript().encode())
    write_whole(lake.root, path, page.encode())
    url = store.report_url(name)
    return {
        **({"report": dg.MetadataValue.url(url)} if url is not None else {}),
        "dagster/uri": dg.MetadataValue.path(str(path)),
        "bytes": path.stat().st_size,
        **(shown or {}),
    }

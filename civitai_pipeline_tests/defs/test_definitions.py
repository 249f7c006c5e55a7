"""The definitions as a whole: what is there, and what every asset must say of itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg
import pytest

from civitai_pipeline.definitions import build_defs
from civitai_pipeline.defs.lineage import column_lineage
from civitai_pipeline.lake import schemas
from civitai_pipeline.report import ANALYSES

if TYPE_CHECKING:
    from collections.abc import Mapping

REPORTED = {
    "model_version_info",
    "prompts",
    "rejected_images",
    "landed_pages",
    "prompt_resources",
    "prompt_categories",
    "category_changes",
    *ANALYSES,
}
EDGES: Mapping[str, set[str]] = {
    "model_version_info": set(),
    "image_pages": set(),
    "prompts": {"image_pages"},
    "rejected_images": {"image_pages"},
    "landed_pages": {"image_pages"},
    "resource_lookups": {"prompts"},
    "prompt_resources": {"prompts", "resource_lookups"},
    "prompt_categories": {"prompts"},
    "near_duplicate_groups": {"prompts"},
    "category_changes": {"prompts"},
    "version_report": REPORTED,
    "version_overviews": REPORTED,
    "collection_report": {"version_report", "version_overviews"},
    "prompt_database": {table.name for table in schemas.TABLES},
    **{table.name: {"prompts", "prompt_resources", "prompt_categories"} for table in schemas.ANALYSIS_TABLES},
}


@pytest.fixture(scope="module")
def specs() -> dict[str, dg.AssetSpec]:
    return {spec.key.to_user_string(): spec for spec in build_defs().resolve_all_asset_specs()}


def test_the_asset_graph_is_the_one_drawn_in_the_documents(specs: dict[str, dg.AssetSpec]) -> None:
    edges = {name: {dep.asset_key.to_user_string() for dep in spec.deps} for name, spec in specs.items()}
    assert edges == EDGES


def test_every_asset_says_what_it_is_whose_it_is_and_which_code_made_it(specs: dict[str, dg.AssetSpec]) -> None:
    for name, spec in specs.items():
        assert spec.description, name
        assert spec.owners == ["team:civitai_pipeline"], name
        assert spec.group_name in {"collection", "tables", "publication"}, name
        assert spec.kinds, name
        assert spec.code_version, name


def test_every_table_declares_the_columns_of_its_file(specs: dict[str, dg.AssetSpec]) -> None:
    for table in schemas.TABLES:
        declared = specs[table.name].metadata["dagster/column_schema"]
        assert [(c.name, c.type) for c in declared.columns] == [(c.name, c.sql_type) for c in table.columns]
        assert all(c.description for c in declared.columns), table.name


def test_column_lineage_names_columns_that_are_there_of_tables_that_come_before() -> None:
    columns = {table.name: {column.name for column in table.columns} for table in schemas.TABLES}
    said = set()
    for table in schemas.TABLES:
        lineage = column_lineage(table)
        if lineage is None:
            continue
        said.add(table.name)
        assert set(lineage.deps_by_column) <= columns[table.name], table.name
        for dep in (dep for deps in lineage.deps_by_column.values() for dep in deps):
            source = dep.asset_key.to_user_string()
            assert source in EDGES[table.name], (table.name, dep)
            assert dep.column_name in columns[source], (table.name, dep)
    assert {"prompt_resources", "prompt_categories", "near_duplicate_groups", "tag_frequencies"} <= said


def test_every_table_says_how_to_query_it(specs: dict[str, dg.AssetSpec]) -> None:
    for table in schemas.TABLES:
        assert f"view `{table.name}` of `civitai.duckdb`" in (specs[table.name].description or "")


def test_all_but_what_spans_versions_is_partitioned_by_model_version(specs: dict[str, dg.AssetSpec]) -> None:
    unpartitioned = {name for name, spec in specs.items() if spec.partitions_def is None}
    assert unpartitioned == {"collection_report", "prompt_database"}
    assert {
        s.partitions_def.name for s in specs.values() if isinstance(s.partitions_def, dg.DynamicPartitionsDefinition)
    } == {"model_version"}


def test_the_jobs_are_there() -> None:
    names = {job.name for job in build_defs().resolve_all_job_defs()}
    jobs = {
        "collect", "rebuild", "resolve_resources", "register_model", "preview_collection", "export_prompts", "upkeep",
    }  # fmt: skip
    assert jobs <= names


def test_the_definitions_load() -> None:
    dg.Definitions.validate_loadable(build_defs())

"""The job ``export_prompts`` on a real instance and a real lake."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pytest

from civitai_pipeline.definitions import build_defs
from civitai_pipeline.defs.exports import ExportConfig
from civitai_pipeline.defs.partitions import register_versions
from civitai_pipeline.export.options import ExportOptions, help_of
from civitai_pipeline.lake.paths import Lake
from civitai_pipeline_tests.lake.examples import prompt_row, write_prompts


@pytest.fixture
def lake(environment: dict[str, str]) -> Lake:
    """Two versions of two prompts, one of them above PG."""
    lake = Lake.at(environment["CIVITAI_LAKE"])
    for version in (5, 7):
        rows = [prompt_row(1, version=version), prompt_row(2, version=version, browsing_level=4, username="ann")]
        write_prompts(lake, *rows, version=version)
    return lake


def _run(instance: dg.DagsterInstance, version: int | None = None, **config: object) -> dg.ExecuteInProcessResult:
    if version is not None:
        register_versions(instance, [version])
    return (
        build_defs()
        .resolve_job_def("export_prompts")
        .execute_in_process(
            instance=instance,
            partition_key=None if version is None else str(version),
            run_config={
                "ops": {"export_of_prompts": {"config": config}},
                "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
            },
            raise_on_error=False,
        )
    )


def _metadata(result: dg.ExecuteInProcessResult) -> dict[str, Any]:
    [output] = [event for event in result.all_node_events if event.is_successful_output]
    return {
        name: [record.data for record in value.records] if isinstance(value, dg.TableMetadataValue) else value.value
        for name, value in output.step_output_data.metadata.items()
    }


def _failure(result: dg.ExecuteInProcessResult) -> str:
    assert not result.success
    [failure] = [event.step_failure_data for event in result.all_node_events if event.is_step_failure]
    return str(failure.user_failure_data.description if failure.user_failure_data else failure.error)


def test_a_partition_or_all_versions_are_exported_into_the_lake(instance: dg.DagsterInstance, lake: Lake) -> None:
    one = _metadata(_run(instance, 7, max_level="R"))
    assert Path(one["dagster/uri"]) == Path(str(lake.exports)) / "7.parquet"
    assert (one["rows"], one["left_out"], one["dagster/row_count"], one["versions"]) == (2, {}, 2, [7])
    assert one["bytes"] == Path(one["dagster/uri"]).stat().st_size
    assert [record["prompt"] for record in one["preview"]] == ["kite 1", "kite 2"]
    assert "username" not in one["preview"][0]
    everything = _metadata(_run(instance, format="csv", name="all-of-it.csv"))
    assert (everything["rows"], everything["left_out"]) == (2, {"above_level": 2})
    assert duckdb.read_csv(everything["dagster/uri"]).shape[0] == 2
    some = _metadata(_run(instance, versions=[5], format="huggingface", max_level="XXX"))
    assert Path(some["dagster/uri"]).name == "5-huggingface"
    assert sum(some["splits"].values()) == 2


def test_a_name_that_leads_out_of_the_lake_is_refused(instance: dg.DagsterInstance, lake: Lake) -> None:
    for name in ("../out", "/etc/passwd", "", ".hidden"):
        assert "name must be a plain file name like prompts.csv" in _failure(_run(instance, name=name))
    assert not lake.exports.exists()


@pytest.mark.usefixtures("lake")
def test_trouble_is_told_in_a_sentence(instance: dg.DagsterInstance) -> None:
    assert "max_level must be one of" in _failure(_run(instance, max_level="adult"))
    assert "there is no column 'colour'" in _failure(_run(instance, columns="colour"))
    assert "run civitai-pipeline collect 9 first" in _failure(_run(instance, versions=[9]))
    assert "not a model version id" in _failure(_run(instance, versions=[0]))


def test_the_config_has_every_option_with_its_meaning_and_default() -> None:
    offered = dict(ExportConfig.model_fields)
    for option in fields(ExportOptions):
        field = offered.pop(option.name)
        assert field.description == help_of(option.name)
    assert set(offered) == {"name", "versions"}
    assert ExportConfig().options() == ExportOptions("parquet")

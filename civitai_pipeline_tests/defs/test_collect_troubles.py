"""The job ``collect`` where the API gives trouble, changes or has nothing, or a partition is no version."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg
import pytest

from civitai_pipeline.definitions import build_defs
from civitai_pipeline.defs.events import latest_summary
from civitai_pipeline.defs.metadata import summary_from_metadata
from civitai_pipeline.defs.partitions import version_of
from civitai_pipeline.lake import schemas, tables
from civitai_pipeline.lake.paths import Lake
from civitai_pipeline_tests.defs.collecting import IMAGE_PAGES, VERSION, checks_of, run

if TYPE_CHECKING:
    from civitai_pipeline.sandbox import Sandbox


def test_trouble_after_some_pages_keeps_them_and_a_check_shows_it(
    instance: dg.DagsterInstance, stand_in: Sandbox
) -> None:
    stand_in.faults.add("forbidden", nth=2)
    result = run(instance, only=["image_pages"], page_size=20)
    assert result.success, [str(e.step_failure_data.error) for e in result.all_events if e.is_step_failure]
    summary = latest_summary(instance, IMAGE_PAGES, str(VERSION))
    assert summary is not None
    assert (summary["stop_reason"], summary["pages"], summary["more_available"]) == ("rejected", 1, True)
    assert checks_of(result)["image_pages.stopped_as_asked"] is False
    assert checks_of(result)["image_pages.summary_adds_up"] is True


def test_a_run_that_lands_nothing_fails_with_its_summary_and_stops_what_follows(
    instance: dg.DagsterInstance, environment: dict[str, str], stand_in: Sandbox
) -> None:
    stand_in.faults.add("forbidden")
    result = run(instance)
    assert not result.success
    failed = {event.step_key for event in result.all_events if event.is_step_failure}
    assert failed == {"image_pages"}
    observations = instance.fetch_observations(IMAGE_PAGES, limit=5).records
    assert len(observations) == 1
    observation = observations[0].asset_observation
    assert observation is not None
    assert observation.partition == str(VERSION)
    assert summary_from_metadata(observation.metadata)["stop_reason"] == "rejected"
    assert not Lake.at(environment["CIVITAI_LAKE"]).table(schemas.PROMPTS, VERSION).exists()


def test_names_stay_empty_with_a_warning_while_they_cannot_be_asked_for(
    instance: dg.DagsterInstance, environment: dict[str, str], stand_in: Sandbox
) -> None:
    stand_in.faults.add("server_error", on="model-versions")
    result = run(instance, only=["model_version_info"])
    assert result.success, [str(e.step_failure_data.error) for e in result.all_events if e.is_step_failure]
    assert checks_of(result)["model_version_info.names_are_known"] is False
    row = tables.read_table(Lake.at(environment["CIVITAI_LAKE"]), schemas.MODEL_VERSION_INFO, VERSION).to_pylist()[0]
    assert row["model_name"] is None


@pytest.mark.parametrize("key", ["0", "-1", "abc", "007", "../../etc", "99999999999"])
def test_a_partition_that_is_no_version_id_fails_with_one_clear_line(key: str) -> None:
    with pytest.raises(dg.Failure, match="is not a model version id"):
        version_of(key)


def test_a_partition_key_that_is_a_path_writes_nothing_outside(
    instance: dg.DagsterInstance, environment: dict[str, str], stand_in: Sandbox
) -> None:
    instance.add_dynamic_partitions("model_version", ["../escape"])
    result = (
        build_defs()
        .resolve_job_def("collect")
        .execute_in_process(instance=instance, partition_key="../escape", raise_on_error=False)
    )
    assert not result.success
    assert stand_in.requests == []
    assert not Lake.at(environment["CIVITAI_LAKE"]).root.joinpath("pages").exists()


def test_metadata_that_stops_coming_is_told_as_a_change_of_the_api_and_names_the_field(
    instance: dg.DagsterInstance, stand_in: Sandbox
) -> None:
    run(instance, only=["image_pages"])
    assert checks_of(run(instance, only=["image_pages"]))["image_pages.api_keeps_its_contract"] is True
    for image in stand_in.world.gallery(VERSION):
        stand_in.world.set_meta(image.id, None)
    result = run(instance, only=["image_pages"], restart=True)
    (found,) = [e for e in result.get_asset_check_evaluations() if e.check_name == "api_keeps_its_contract"]
    assert found.passed is False
    assert found.description is not None
    assert found.description.startswith("CivitAI changed: the field meta is null on every item")


def test_a_version_without_images_is_no_change_of_the_api(instance: dg.DagsterInstance) -> None:
    result = run(instance, version=910013)
    (found,) = [e for e in result.get_asset_check_evaluations() if e.check_name == "api_keeps_its_contract"]
    assert (found.passed, found.description) == (True, "this version has no images at the levels asked for")

"""Looking up resources in Dagster: off by default, on when a run says so, and no reason for a run to fail."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import dagster as dg
import pyarrow.compute as pc
import pytest

from civitai_pipeline.definitions import build_defs
from civitai_pipeline.defs import turns
from civitai_pipeline.defs.assets.common import API_POOL
from civitai_pipeline.defs.events import latest_summary
from civitai_pipeline.defs.partitions import register_versions
from civitai_pipeline.defs.sensors.records import run_request
from civitai_pipeline.defs.turns import turn_at_the_api
from civitai_pipeline.lake import schemas, tables
from civitai_pipeline.lake.paths import Lake
from civitai_pipeline.sandbox import DEMO_VERSIONS
from civitai_pipeline.upkeep.decisions import Launch
from civitai_pipeline.watchlist import Options

if TYPE_CHECKING:
    import pyarrow as pa

    from civitai_pipeline.sandbox import Sandbox

VERSION = DEMO_VERSIONS[0]
LOOKUPS = dg.AssetKey("resource_lookups")
# What comes after is made of the table as it is without look-ups.
TO_RESOURCES = {
    dg.AssetKey(name)
    for name in ("image_pages", "prompts", "rejected_images", "landed_pages", "resource_lookups", "prompt_resources")
}


def run(instance: dg.DagsterInstance, job: str, ops: dict[str, Any] | None = None) -> dg.ExecuteInProcessResult:
    """Runs a job as far as the table of resources; without ``ops``, with the configuration that the job brings."""
    register_versions(instance, [VERSION])
    definition = build_defs().resolve_job_def(job)
    result = definition.execute_in_process(
        instance=instance,
        partition_key=str(VERSION),
        asset_selection=sorted(definition.asset_layer.selected_asset_keys & TO_RESOURCES),
        run_config=None if ops is None else {"ops": ops},
    )
    assert result.success
    return result


def lookups(**config: object) -> dict[str, Any]:
    return {"resource_lookups": {"config": {"resolve_resources": True, **config}}}


def said(instance: dg.DagsterInstance) -> dict[str, Any]:
    summary = latest_summary(instance, LOOKUPS, str(VERSION))
    assert summary is not None
    return summary


def resources(environment: dict[str, str]) -> pa.Table:
    return tables.read_table(Lake.at(environment["CIVITAI_LAKE"]), schemas.PROMPT_RESOURCES, VERSION)


def check(result: dg.ExecuteInProcessResult) -> tuple[bool, str | None]:
    (found,) = [e for e in result.get_asset_check_evaluations() if e.check_name == "lookups_went_through"]
    return found.passed, found.description


def looked_up(stand_in: Sandbox) -> int:
    return sum("/by-hash/" in request.path for request in stand_in.requests)


def test_nothing_is_looked_up_unless_a_run_says_so(
    instance: dg.DagsterInstance, environment: dict[str, str], stand_in: Sandbox
) -> None:
    result = run(instance, "collect")
    assert said(instance) == {"resolve_resources": False}
    assert check(result) == (True, "resolve_resources is off")
    assert looked_up(stand_in) == 0
    assert pc.count(resources(environment).column("resolved_by")).as_py() == 0
    assert not Lake.at(environment["CIVITAI_LAKE"]).lookups.exists()


def test_a_run_that_says_so_names_resources_and_the_next_one_asks_nothing(
    instance: dg.DagsterInstance, environment: dict[str, str], stand_in: Sandbox
) -> None:
    result = run(instance, "collect", lookups())
    first = said(instance)
    # The collection has asked for its own version already.
    assert first["asked"] == first["known"] + first["unknown"] == first["requests"] + 1
    assert first["unknown"] >= 2
    assert check(result) == (True, None)
    named = resources(environment).to_pylist()
    for row in named:
        if row["resource_version_id"] is not None and row["resource_version_id"] in stand_in.world.versions:
            model = stand_in.world.models[stand_in.world.versions[row["resource_version_id"]].model_id]
            assert (row["resource_model_id"], row["resolved_name"]) == (model.id, model.name)
            assert row["resource_name"] is not None
    assert {row["resolved_by"] for row in named} == {None, "version_id", "hash"}
    stand_in.forget_requests()
    run(instance, "resolve_resources")
    assert (said(instance)["asked"], stand_in.requests) == (0, [])
    run(instance, "rebuild")
    assert stand_in.requests == []
    assert resources(environment).to_pylist() == named


def test_a_limit_leaves_the_rest_to_the_next_run_whose_questions_may_bring_no_answer(
    instance: dg.DagsterInstance, environment: dict[str, str], stand_in: Sandbox
) -> None:
    result = run(instance, "collect", lookups(max_lookups=2))
    assert (said(instance)["stop_reason"], said(instance)["asked"]) == ("max_items", 2)
    assert check(result) == (True, None)
    before = pc.count(resources(environment).column("resolved_by")).as_py()
    stand_in.faults.add("wrong_shape_top_level_list", on="model-versions", nth=2)
    result = run(instance, "resolve_resources")
    assert (said(instance)["stop_reason"], said(instance)["failed"]) == ("at_end", 1)
    assert check(result) == (False, "1 questions brought no answer; a later run asks them again")
    assert pc.count(resources(environment).column("resolved_by")).as_py() > before > 0


def test_trouble_leaves_names_empty_with_a_warning_and_the_tables_made(
    instance: dg.DagsterInstance, environment: dict[str, str], stand_in: Sandbox
) -> None:
    # The collection itself asks for its own version first.
    stand_in.faults.add("forbidden", on="model-versions", nth=range(4, 99))
    result = run(instance, "collect", lookups())
    passed, description = check(result)
    assert not passed
    assert description is not None
    assert description.startswith("stopped with rejected: HTTP 403")
    assert 0 < said(instance)["known"] < said(instance)["wanted"]
    assert pc.count(resources(environment).column("resolved_by")).as_py() > 0


def test_the_job_alone_says_what_to_do_first(instance: dg.DagsterInstance, stand_in: Sandbox) -> None:
    register_versions(instance, [VERSION])
    job = build_defs().resolve_job_def("resolve_resources")
    result = job.execute_in_process(instance=instance, partition_key=str(VERSION), raise_on_error=False)
    assert not result.success
    (failed,) = [event for event in result.all_events if event.is_step_failure]
    assert "run the job collect" in str(failed.step_failure_data.user_failure_data)
    assert stand_in.requests == []


def test_the_step_needs_a_place_in_the_pool_only_when_it_asks(
    instance: dg.DagsterInstance, stand_in: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "LOOK_EVERY_S", 0.05)
    run(instance, "collect")
    storage = instance.event_log_storage
    assert storage.claim_concurrency_slot(API_POOL, "another run", "image_pages").is_claimed
    # Off, it does not wait for the other; on, it does.
    alone = build_defs().resolve_job_def("collect").get_subset(asset_selection={LOOKUPS})
    assert alone.execute_in_process(instance=instance, partition_key=str(VERSION)).success
    stand_in.forget_requests()
    asked_meanwhile = []

    def make_room() -> None:
        asked_meanwhile.extend(stand_in.requests)
        storage.free_concurrency_slot_for_step("another run", "image_pages")

    other = threading.Timer(1.0, make_room)
    other.start()
    run(instance, "resolve_resources")
    other.join()
    assert asked_meanwhile == []
    assert looked_up(stand_in) > 0
    assert storage.get_concurrency_info(API_POOL).active_slot_count == 0


def test_a_turn_ends_with_an_error_too_and_a_limit_set_by_hand_holds(instance: dg.DagsterInstance) -> None:
    def taken() -> int:
        return instance.event_log_storage.get_concurrency_info(API_POOL).active_slot_count

    def fail() -> None:
        with turn_at_the_api(instance, "two", "step", pytest.fail):
            assert taken() == 2
            raise RuntimeError

    instance.event_log_storage.set_concurrency_slots(API_POOL, 2)
    with turn_at_the_api(instance, "one", "step", pytest.fail):
        with pytest.raises(RuntimeError):
            fail()
        assert taken() == 1
    assert taken() == 0


def test_an_instance_without_pools_waits_for_nobody() -> None:
    with dg.DagsterInstance.ephemeral() as instance, turn_at_the_api(instance, "one", "step", lambda: None):
        pass


def test_what_the_watchlist_says_goes_into_the_run() -> None:
    def config(options: Options) -> dict[str, Any]:
        launch = Launch(VERSION, options.sort, (1,), options, restart=False, model_id=None, reason="a test")
        ops = run_request(launch).run_config["ops"]
        assert isinstance(ops, dict)
        return ops

    assert "resource_lookups" not in config(Options())
    said = config(Options(resolve_resources=True, max_lookups=7))["resource_lookups"]["config"]
    assert (said["resolve_resources"], said["max_lookups"]) == (True, 7)

"""New versions of watched models are found: tick by tick on the stand-in."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING

import dagster as dg

from civitai_pipeline.defs.partitions import register_versions
from civitai_pipeline.defs.sensors import (
    discover_model_versions,
    resume_collection,
)
from civitai_pipeline.lake.ledger import Ledger
from civitai_pipeline.upkeep import decisions

if TYPE_CHECKING:
    import pytest

    from civitai_pipeline.lake.paths import Lake
    from civitai_pipeline.sandbox import Sandbox

from .ticking import MODEL, VERSION, add_run, carry_out, config_of, tick, watch


def test_a_new_version_becomes_a_partition_and_gets_a_run_in_the_same_tick(
    instance: dg.DagsterInstance, lake: Lake, stand_in: Sandbox
) -> None:
    watch(f"models: [{{id: {MODEL}, page_size: 50, max_items: 50}}]")
    known = [version.id for version in stand_in.world.versions_of(MODEL)]
    register_versions(instance, known)
    for version in known:
        add_run(instance, dg.DagsterRunStatus.FAILURE, tags={"dagster/partition": str(version)})
    assert tick(discover_model_versions, instance).skip_message == (f"{MODEL}: {len(known)} published versions, 0 new")
    stand_in.world.add_version(MODEL, 919191)
    stand_in.world.add_images(919191, 3)
    data = tick(discover_model_versions, instance)
    assert [request.partition_key for request in data.run_requests] == ["919191"]
    assert [request.partition_keys for request in data.dynamic_partitions_requests or []] == [["919191"]]
    assert config_of(data.run_requests[0])["page_size"] == 50
    carry_out(instance, data)
    assert "919191" in instance.get_dynamic_partitions("model_version")
    assert Ledger(lake, 919191).walk_numbers() == [1]
    assert not tick(discover_model_versions, instance).run_requests


def test_a_version_whose_first_run_was_lost_is_begun_after_all(instance: dg.DagsterInstance, stand_in: Sandbox) -> None:
    watch(f"models: [{{id: {MODEL}}}]")
    known = {version.id for version in stand_in.world.versions_of(MODEL)}
    register_versions(instance, sorted(known))
    data = tick(discover_model_versions, instance)
    assert {request.partition_key for request in data.run_requests} == {str(version) for version in known}
    assert not data.dynamic_partitions_requests


def test_a_discovered_version_whose_run_failed_at_once_is_resumed_with_its_models_options(
    instance: dg.DagsterInstance, stand_in: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch(f"models: [{{id: {MODEL}, page_size: 33}}]")
    data = tick(discover_model_versions, instance)
    stand_in.faults.add("server_error", on="any")
    request = data.run_requests[0]
    carry_out(instance, data, most=1)
    assert request.partition_key is not None
    monkeypatch.setattr(decisions, "FIRST_DELAY", timedelta(0))
    requests = {r.partition_key: r for r in tick(resume_collection, instance).run_requests}
    assert config_of(requests[request.partition_key])["page_size"] == 33


def test_while_the_api_is_down_nothing_is_forgotten_and_the_tick_says_so(
    instance: dg.DagsterInstance, stand_in: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CIVITAI_RETRY_BUDGET", "60")
    watch(f"models: [{{id: {MODEL}}}, {{id: 9002}}, {{id: 9003, discover: false}}]")
    register_versions(instance, [VERSION])
    stand_in.faults.add("server_error", on="models")
    said = (tick(discover_model_versions, instance).skip_message or "").splitlines()
    assert len(said) == 2
    assert said[0].startswith(f"{MODEL}: could not be asked, nothing is forgotten: HTTP 500")
    assert instance.get_dynamic_partitions("model_version") == [str(VERSION)]
    assert len(stand_in.requests) == 2, "each is tried once a tick"
    stand_in.faults.clear()
    stand_in.faults.add("not_found", on="models", nth=1)
    data = tick(discover_model_versions, instance)
    assert data.run_requests, "one model that is gone does not hide another"


def test_a_tick_ends_in_time_and_the_next_goes_on_behind_it(
    instance: dg.DagsterInstance, stand_in: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = "civitai_pipeline.defs.sensors.discovery"
    monkeypatch.setattr(f"{module}.TIMEOUT_S", 0.2)
    monkeypatch.setattr(f"{module}.LONGEST_REQUEST_S", 0.0)
    monkeypatch.setattr(f"{module}.TICK_BUDGET_S", 0.3)
    watch(f"models: [{{id: {MODEL}}}, {{id: 9002}}, {{id: 9003}}]")
    stand_in.faults.add("stall", on="models")
    began = time.monotonic()
    first = tick(discover_model_versions, instance)
    assert time.monotonic() - began < 5
    assert (first.skip_message or "").splitlines()[-1] == (
        "9003: the time of this tick was over; the next one begins here"
    )
    second = tick(discover_model_versions, instance, first.cursor)
    assert (second.skip_message or "").startswith("9003: could not be asked")


def test_without_watched_models_nothing_is_asked(instance: dg.DagsterInstance, stand_in: Sandbox) -> None:
    assert "no model is watched" in (tick(discover_model_versions, instance).skip_message or "")
    assert stand_in.requests == []

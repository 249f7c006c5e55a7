"""The job that keeps what grows small, on a real instance and a real lake."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from civitai_pipeline.definitions import build_defs
from civitai_pipeline.lake.ledger import Ledger
from civitai_pipeline.lake.locks import sole_writer
from civitai_pipeline.lake.paths import Lake
from civitai_pipeline_tests.lake.examples import VERSION
from civitai_pipeline_tests.lake.test_compaction import names, polled

if TYPE_CHECKING:
    import dagster as dg

DEFS = build_defs()


@pytest.fixture
def ledger(environment: dict[str, str]) -> Ledger:
    """A version that was polled twenty times, in the lake of the environment."""
    ledger = Ledger(Lake.at(environment["CIVITAI_LAKE"]), VERSION)
    polled(ledger, 20)
    return ledger


def run(instance: dg.DagsterInstance, **config: object) -> dg.ExecuteInProcessResult:
    return DEFS.resolve_job_def("upkeep").execute_in_process(
        instance=instance,
        run_config={"ops": {"pruning_of_records": {"config": config}}},
        raise_on_error=False,
    )


def said(result: dg.ExecuteInProcessResult, op: str) -> dict[str, Any]:
    [output] = [
        event.step_output_data for event in result.all_events if event.is_successful_output and event.step_key == op
    ]
    return {key: value.value for key, value in output.metadata.items()}


def test_the_job_compacts_and_prunes(instance: dg.DagsterInstance, ledger: Ledger) -> None:
    first = run(instance)
    assert first.success
    assert len(names(ledger)) == 3
    assert said(first, "compaction_of_pages")["folded"] == 20
    assert run(instance).success
    done = said(run(instance, keep_days=0), "pruning_of_records")
    # The last finished run of the job stays; the one that prunes is not finished yet.
    assert (done["runs"], done["deleted"]) == (2, 1)


def test_a_version_being_collected_fails_no_run(instance: dg.DagsterInstance, ledger: Ledger) -> None:
    with sole_writer(ledger.lake, VERSION):
        assert run(instance).success
    assert len(names(ledger)) == 22


def test_a_damaged_ledger_fails_the_run_by_name(instance: dg.DagsterInstance, ledger: Ledger) -> None:
    ledger.lake.page(VERSION, 1, 5).unlink()
    result = run(instance)
    assert not result.success
    failure = next(event for event in result.all_events if event.is_step_failure)
    assert f"model version {VERSION}" in str(failure.step_failure_data.user_failure_data)
    assert "000005.json.zst is missing" in str(failure.step_failure_data.user_failure_data)

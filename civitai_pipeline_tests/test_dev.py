"""Running the UI: what is refused before anything is started, and with what it would start."""

from __future__ import annotations

import io
import socket
from typing import TYPE_CHECKING

import dagster as dg
import pytest
from dagster._grpc.utils import default_grpc_timeout  # no public name says what Dagster makes of the variable
from rich.console import Console

from civitai_pipeline.dev import HOST, DevError, _only_one, dagster_environment, run_dev
from civitai_pipeline.settings import load_settings

if TYPE_CHECKING:
    from pathlib import Path


def test_a_second_one_on_the_same_records_is_refused_while_the_first_runs(dagster_home: Path) -> None:
    said = io.StringIO()
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port = probe.getsockname()[1]
    with _only_one(dagster_home), pytest.raises(DevError, match="another civitai-pipeline dev runs on the records in"):
        run_dev(load_settings(), port, Console(file=said), sandbox=False)
    assert said.getvalue() == ""
    with _only_one(dagster_home):
        pass


def test_a_port_that_is_taken_is_told(dagster_home: Path) -> None:
    assert dagster_home.is_dir()
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        with pytest.raises(DevError, match="choose another with --port"):
            run_dev(load_settings(), taken.getsockname()[1], Console(file=io.StringIO()), sandbox=False)


def test_a_run_may_take_as_long_to_start_as_run_monitoring_gives_it(
    dagster_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DAGSTER_GRPC_TIMEOUT_SECONDS", raising=False)
    for name, value in dagster_environment({}).items():
        monkeypatch.setenv(name, value)
    with dg.DagsterInstance.from_config(str(dagster_home)) as instance:
        assert default_grpc_timeout() == instance.run_monitoring_start_timeout_seconds


def test_a_timeout_of_ones_own_is_kept() -> None:
    assert dagster_environment({"DAGSTER_GRPC_TIMEOUT_SECONDS": "7", "A": "b"}) == {
        "DAGSTER_GRPC_TIMEOUT_SECONDS": "7",
        "A": "b",
    }

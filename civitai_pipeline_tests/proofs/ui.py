"""Dagster as a person uses it: ``civitai-pipeline dev`` in a process of its own, and its UI's API asked over HTTP.

What it runs is looked at through the instance, by whoever sets ``DAGSTER_HOME``.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import requests

from civitai_pipeline_tests.proofs.warm import ROOT

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from types import TracebackType
    from typing import Self

Json = dict[str, Any]

# Three processes load the project one after the other, on a busy machine.
READY_S = 180.0
ASK_EVERY_S = 0.5
# With three proofs of kills side by side on two cores, an answer of the webserver took more than a minute.
ANSWER_S = 180.0
STOP_S = 60.0
STOP_TRIES, TICK_WRITES_BACK_S = 10, 10.0

_WHERE = "{ repositoriesOrError { ... on RepositoryConnection { nodes { name location { name } } } } }"
_LAUNCH = """
mutation($params: ExecutionParams!) {
  launchRun(executionParams: $params) { __typename ... on LaunchRunSuccess { run { runId } } }
}"""
_ADD = """
mutation($where: RepositorySelector!, $set: String!, $key: String!) {
  addDynamicPartition(repositorySelector: $where, partitionsDefName: $set, partitionKey: $key) { __typename }
}"""
_START_SENSOR = """
mutation($which: SensorSelector!) { startSensor(sensorSelector: $which) { __typename } }"""
_STATES = """
query($where: RepositorySelector!) {
  sensorsOrError(repositorySelector: $where) { ... on Sensors { results { name sensorState { id selectorId
    ticks(limit: 1000) { status error { message } } } } } }
  schedulesOrError(repositorySelector: $where) { ... on Schedules { results { name scheduleState { id selectorId status
    ticks(limit: 1000) { status error { message } } } } } }
}"""
_STOP_SCHEDULE = """
mutation($id: String!) { stopRunningSchedule(id: $id) { __typename } }"""
_SCHEDULE = """
mutation($which: ScheduleSelector!) { startSchedule(scheduleSelector: $which) { __typename } }"""


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


class Ui:
    """The UI, its daemon and its code server, to be used as a context manager.

    Args:
        folder: Where it is started; a ``workspace.yaml`` there says what it loads, or else it is the project.
        environment: Its variables beside those of this process; an empty one is removed.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.port = free_port()
        self._folder = folder
        self._environment = {name: value for name, value in {**os.environ, **environment}.items() if value}
        self._process: subprocess.Popen[bytes] | None = None
        self._where: Json = {}

    def __enter__(self) -> Self:
        with (self._folder / "dev.log").open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "civitai_pipeline.cli", "dev", "--port", str(self.port)],
                cwd=self._folder,
                env={**self._environment, "PYTHONPATH": str(ROOT)},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            self._where = self._ready()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop()

    def _stop(self) -> None:
        assert self._process is not None
        self._process.terminate()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            raise

    def _ready(self) -> Json:
        end = time.monotonic() + READY_S
        while time.monotonic() < end:
            assert self._process is not None
            assert self._process.poll() is None, self.said()
            with suppress(requests.RequestException):
                nodes = self.ask(_WHERE)["repositoriesOrError"].get("nodes")
                if nodes:
                    return {
                        "repositoryName": nodes[0]["name"],
                        "repositoryLocationName": nodes[0]["location"]["name"],
                    }
            time.sleep(ASK_EVERY_S)
        raise AssertionError(f"the UI does not come up: {self.said()}")

    def said(self) -> str:
        """The end of what it printed."""
        return (self._folder / "dev.log").read_text(errors="replace")[-4000:]

    def ask(self, query: str, **variables: object) -> Json:
        """Asks the UI's API.

        Raises:
            AssertionError: It answered with errors.
        """
        with requests.post(
            f"http://127.0.0.1:{self.port}/graphql", json={"query": query, "variables": variables}, timeout=ANSWER_S
        ) as answer:
            said: Json = answer.json()
        assert not said.get("errors"), said["errors"]
        found: Json = said["data"]
        return found

    def _asked(self, name: str, expected: str, query: str, **variables: object) -> Json:
        said: Json = self.ask(query, **variables)[name]
        assert said["__typename"] == expected, said
        return said

    def add_partition(self, version: int) -> None:
        """Adds a model version."""
        self._asked(
            "addDynamicPartition",
            "AddDynamicPartitionSuccess",
            _ADD,
            where=self._where,
            set="model_version",
            key=str(version),
        )

    def launch(self, version: int, **config: object) -> str:
        """Launches the job ``collect`` for a model version; the run's id."""
        params = {
            "selector": {**self._where, "jobName": "collect"},
            "runConfigData": {"ops": {"image_pages": {"config": config}}},
            "executionMetadata": {"tags": [{"key": "dagster/partition", "value": str(version)}]},
            "mode": "default",
        }
        said = self._asked("launchRun", "LaunchRunSuccess", _LAUNCH, params=params)
        run_id: str = said["run"]["runId"]
        return run_id

    def start_sensor(self, name: str) -> None:
        """Turns a sensor on."""
        self._asked("startSensor", "Sensor", _START_SENSOR, which={**self._where, "sensorName": name})

    def start_schedule(self, name: str) -> None:
        """Turns a schedule on."""
        self._asked("startSchedule", "ScheduleStateResult", _SCHEDULE, which={**self._where, "scheduleName": name})

    def stop_schedule(self, name: str) -> None:
        """Turns a schedule off.

        A tick under way writes the state that it began with back when it ends, so it is looked at whether it stays off.

        Raises:
            AssertionError: It does not stay off.
        """
        for _ in range(STOP_TRIES):
            state = self._schedule_state(name)
            if state["status"] == "STOPPED":
                return
            self._asked("stopRunningSchedule", "ScheduleStateResult", _STOP_SCHEDULE, id=state["id"])
            time.sleep(TICK_WRITES_BACK_S)
        raise AssertionError(f"the schedule {name} cannot be turned off")

    def _schedule_state(self, name: str) -> Json:
        found = self._states()["schedulesOrError"]["results"]
        [state] = [schedule["scheduleState"] for schedule in found if schedule["name"] == name]
        return dict(state)

    def ticks(self) -> dict[str, Counter[str]]:
        """How the ticks of each sensor and schedule ended, and by how many; a failure with what it said."""
        found: dict[str, Counter[str]] = {}
        states = self._states()
        for one in states["sensorsOrError"]["results"] + states["schedulesOrError"]["results"]:
            ticks = (one.get("sensorState") or one.get("scheduleState"))["ticks"]
            found[one["name"]] = Counter(
                f"FAILURE: {tick['error']['message']}" if tick["status"] == "FAILURE" else tick["status"]
                for tick in ticks
            )
        return found

    def _states(self) -> Json:
        return self.ask(_STATES, where=self._where)

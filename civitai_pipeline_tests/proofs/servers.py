"""The product's servers: on loopback alone, without the key in anything that the Dagster UI tells, and deaf to odd ids.

The Dagster UI runs as ``civitai-pipeline dev`` runs it, with the key in a ``.env`` beside it, and is asked over GraphQL
as the browser asks it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import requests

from civitai_pipeline.sandbox import Sandbox, SandboxOptions, World
from civitai_pipeline_tests.lake.examples import VERSION
from civitai_pipeline_tests.proofs.secrets import Watched
from civitai_pipeline_tests.proofs.spying import hits, is_loopback_address, search, spellings
from civitai_pipeline_tests.proofs.ui import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from civitai_pipeline_tests.proofs.verdict import Verdict

# As a .env can hold it: no quotes in it, and still more than letters.
TOKEN = "env+M4rk3d/5Jx7=w2Kp8VcRtY"  # noqa: S105 - made up, to be found again
WAIT_S = 240.0
# Each of them is a process of Dagster's that takes seconds.
ODD_KEYS = ("../../escaped", "0", "\u0661", "<b>x</b>", "910011\n")

_REPOSITORIES = "{ repositoriesOrError { ... on RepositoryConnection { nodes { name location { name } } } } }"
_ADD = """mutation($key: String!, $selector: RepositorySelector!) {
  addDynamicPartition(partitionKey: $key, partitionsDefName: "model_version", repositorySelector: $selector) {
    __typename } }"""
_LAUNCH = """mutation($params: ExecutionParams!) {
  launchRun(executionParams: $params) { __typename
    ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }"""
_RUNS = "{ runsOrError { ... on Runs { results { runId status runConfigYaml tags { key value } } } } }"
_EVENTS = """query($run: ID!, $after: String) { logsForRun(runId: $run, afterCursor: $after, limit: 500) {
  ... on EventConnection { cursor hasMore events { __typename
    ... on MessageEvent { message eventType }
    ... on DisplayableEvent { description label metadataEntries { label description __typename
      ... on TextMetadataEntry { text } ... on JsonMetadataEntry { jsonString } ... on MarkdownMetadataEntry { mdStr }
      ... on PathMetadataEntry { path } ... on UrlMetadataEntry { url }
      ... on TableMetadataEntry { table { records } } } }
    ... on ErrorEvent { error { message stack className cause { message stack } } } } } } }"""
_OTHER = """{ version
  instance { info hasInfo daemonHealth { allDaemonStatuses { daemonType lastHeartbeatErrors { message } } } }
  workspaceOrError { ... on Workspace { locationEntries { name displayMetadata { key value }
    locationOrLoadError { ... on RepositoryLocation { name environmentPath repositories { name } }
      ... on PythonError { message stack } } } } }
  utilizedEnvVarsOrError(repositorySelector: {repositoryName: "__repository__", repositoryLocationName: "LOCATION"}) {
    __typename } }"""


class Ui:
    """The Dagster UI, asked as a browser asks it.

    Attributes:
        said: All that it has answered.
    """

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}"
        self.said = b""

    def ask(self, query: str, **variables: Any) -> Any:  # noqa: ANN401 - any JSON
        """The data that answers a query; None where it is not up yet."""
        try:
            answer = requests.post(f"{self._url}/graphql", json={"query": query, "variables": variables}, timeout=60)
        except requests.ConnectionError:
            return None
        self.said += answer.content
        return answer.json().get("data") if answer.status_code in {200, 400} else None

    def page(self, path: str) -> None:
        """Asks for a page."""
        self.said += requests.get(self._url + path, timeout=60).content

    def repository(self) -> dict[str, str] | None:
        """The selector of the product's repository; None while it is not loaded."""
        found = self.ask(_REPOSITORIES)
        nodes = found["repositoriesOrError"].get("nodes") if found else None
        if not nodes:
            return None
        return {"repositoryName": nodes[0]["name"], "repositoryLocationName": nodes[0]["location"]["name"]}

    def launch(self, selector: dict[str, str], job: str, key: str, config: dict[str, Any] | None = None) -> str | None:
        """Adds a partition and launches a job for it; the run's id, or None if it was refused."""
        self.ask(_ADD, key=key, selector=selector)
        params = {
            "selector": {**selector, "jobName": job},
            "mode": "default",
            "runConfigData": json.dumps(config or {}),
            "executionMetadata": {"tags": [{"key": "dagster/partition", "value": key}]},
        }
        launched = (self.ask(_LAUNCH, params=params) or {}).get("launchRun") or {}
        run: str | None = launched.get("run", {}).get("runId")
        return run

    def status(self, run: str) -> str:
        """A run's status."""
        return next((one["status"] for one in self.runs() if one["runId"] == run), "unknown")

    def runs(self) -> list[Any]:
        """All runs, with their config and tags."""
        found: list[Any] = ((self.ask(_RUNS) or {}).get("runsOrError") or {}).get("results") or []
        return found

    def events(self, run: str) -> list[Any]:
        """All events of a run, with metadata and errors."""
        found: list[Any] = []
        after = None
        while True:
            page = ((self.ask(_EVENTS, run=run, after=after) or {}).get("logsForRun")) or {}
            found += page.get("events") or []
            if not page.get("hasMore"):
                return found
            after = page["cursor"]


@contextmanager
def _running(watched: Watched, *arguments: str, **more: str) -> Iterator[subprocess.Popen[bytes]]:
    """A server of the product while the context is open; what it says is kept in a file that is searched."""
    work = watched.folder / "work"
    work.mkdir(exist_ok=True)
    environment = watched.environment(**more)
    if more.get("CIVITAI_API_KEY") == "":
        del environment["CIVITAI_API_KEY"]
    with (watched.folder / f"{arguments[0]}.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "civitai_pipeline.cli", *arguments],
            env=environment,
            cwd=work,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            yield process
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                watched.trouble[f"{arguments[0]} does not stop"] += 1


def _until(found: Callable[[], Any], watched: Watched, what: str) -> Any:  # noqa: ANN401 - whatever is waited for
    ends = time.monotonic() + WAIT_S
    while time.monotonic() < ends:
        answer = found()
        if answer:
            return answer
        time.sleep(0.5)
    watched.trouble[f"{what} never comes"] += 1
    return None


def _listens(watched: Watched, process: subprocess.Popen[bytes], name: str) -> set[str]:
    """Where a server listens; on loopback, or it is noted."""
    found: set[str] = _until(lambda: watched.look(process.pid), watched, f"{name} listening") or set()
    for address in found:
        if not is_loopback_address(address):
            watched.trouble[f"{name} listens on {address}"] += 1
    return found


def prove_servers(folder: Path) -> list[Verdict]:
    """The Dagster UI, the stand-in and the reports."""
    started, watched = time.monotonic(), Watched(folder, TOKEN)
    folder.mkdir(parents=True)
    world, options = World.synthetic(seed=5, images=60), SandboxOptions(authorization_echo=True, api_keys=(TOKEN,))
    verdicts = []
    with Sandbox(world, options) as server:
        listening, refused = _prove_ui(watched, server)
        wanted = spellings(TOKEN)
        size, found = search(folder, wanted)
        # The file that the key was put into, and nothing else.
        found = Counter({where: count for where, count in found.items() if not where.startswith("work/.env ")})
        watched.trouble += found
        ports = [server.url, *listening]
        count = watched.reached(ports)
        where = ", ".join(sorted(listening))
        about = f"{size / 1e6:,.1f} MB searched, {count:,} connections, {refused} odd ids refused, on {where}"
        verdicts.append(watched.verdict("key and the Dagster UI", about, started))
        started, places = time.monotonic(), set()
        for arguments in (("sandbox", "--port", "0", "--images", "40"), ("reports", "--port", "0")):
            with _running(watched, *arguments, CIVITAI_BASE_URL=server.url) as process:
                places |= _listens(watched, process, arguments[0])
        verdicts.append(watched.verdict("servers on loopback", ", ".join(sorted(places)), started))
    return verdicts


def _prove_ui(watched: Watched, server: Sandbox) -> tuple[set[str], int]:
    """Runs the UI, launches a good run and bad ones, and dumps all it tells; where it listens, how many it refused."""
    work = watched.folder / "work"
    work.mkdir()
    (work / ".env").write_text(f"CIVITAI_API_KEY={TOKEN}\n", encoding="utf-8")
    port = free_port()
    with _running(watched, "dev", "--port", str(port), CIVITAI_API_KEY="", CIVITAI_BASE_URL=server.url) as process:
        ui = Ui(port)
        selector = _until(ui.repository, watched, "the Dagster UI")
        if selector is None:
            return set(), 0
        listening = _listens(watched, process, "dev")
        good = ui.launch(selector, "collect", str(VERSION), {"ops": {"image_pages": {"config": {"page_size": 20}}}})
        odd = {key: ui.launch(selector, "collect", key) for key in ODD_KEYS}
        if good is None or _until(lambda: ui.status(good) in {"SUCCESS", "FAILURE"}, watched, "a run's end") is None:
            watched.trouble["the run could not be launched"] += 1
        elif ui.status(good) != "SUCCESS":
            watched.trouble[f"the run ended with {ui.status(good)}: {ui.events(good)[-3:]}"] += 1
        listening |= _listens(watched, process, "dev")
        _refused(watched, ui, {key: run for key, run in odd.items() if run is not None})
        for run in ui.runs():
            ui.events(run["runId"])
        ui.ask(_OTHER.replace("LOCATION", selector["repositoryLocationName"]))
        for path in ("/", "/server_info", "/overview", f"/runs/{good}"):
            ui.page(path)
    for name in hits(ui.said, spellings(TOKEN)):
        watched.trouble[f"the Dagster UI tells the key ({name})"] += 1
    sent = [request.headers.get("Authorization") for request in server.requests]
    if f"Bearer {TOKEN}" not in sent:
        watched.trouble["the key in .env was never sent: nothing is proved"] += 1
    asked = {request.param("modelVersionId") for request in server.requests if request.path == "/api/v1/images"}
    if asked - {str(VERSION)}:
        watched.trouble[f"an id that is none was asked for: {asked}"] += 1
    return listening, len(odd)


def _refused(watched: Watched, ui: Ui, odd: dict[str, str]) -> None:
    """Runs of ids that are none fail, or wait, and write nothing into the lake."""
    for key, run in odd.items():
        ended = _until(lambda run=run: ui.status(run) not in {"QUEUED", "STARTING", "STARTED"}, watched, "a run's end")  # type: ignore[misc]
        if ended and ui.status(run) == "SUCCESS":
            watched.trouble[f"a run of the partition {key!r} succeeds"] += 1
    lake = watched.folder / "lake"
    strange = [
        str(path.relative_to(watched.folder))
        for path in (*lake.rglob("*"), *watched.folder.glob("*escaped*"), *watched.folder.parent.glob("*escaped*"))
        if path.is_dir() and path.parent.name == "pages" and path.name != str(VERSION)
    ]
    if strange:
        watched.trouble[f"ids that are none left folders: {strange}"] += 1
    with_names = {path.name for path in lake.rglob("*.parquet")} - {f"{VERSION}.parquet"}
    if with_names or os.path.exists(watched.folder.parent / "escaped"):  # noqa: PTH110 - as an attack would name it
        watched.trouble[f"ids that are none left files: {sorted(with_names)}"] += 1

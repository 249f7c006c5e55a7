"""How long the web UI takes to answer: the questions behind its pages, asked of a real one over HTTP."""

from __future__ import annotations

import os
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from civitai_pipeline_tests.bench.steps import family, resident
from civitai_pipeline_tests.proofs.ui import Ui

if TYPE_CHECKING:
    from collections.abc import Mapping

# Enough that one answer during somebody else's burst of work does not count.
TIMES = 5

# As the pages of Dagster's UI ask, with what they show; each may ask for less important things besides.
PAGES: dict[str, str] = {
    "runs": """{
      runsFeedOrError(limit: 30, view: ROOTS) { ... on RunsFeedConnection { hasMore results {
        __typename id ... on Run { jobName status startTime endTime tags { key value } assetSelection { path } } } } }
      runsFeedCountOrError(view: ROOTS) { ... on RunsFeedCount { count } }
    }""",
    "catalog": """{
      assetsOrError(limit: 1000) { ... on AssetConnection { nodes { id key { path } definition {
        id groupName description kinds isPartitioned owners { ... on TeamAssetOwner { team } }
        partitionDefinition { description } tags { key value } jobNames } } } }
    }""",
    "graph, what is new": """{
      assetNodes(loadMaterializations: true) { id opNames repository { id } assetKey { path }
        dependencyKeys { path } assetMaterializations(limit: 1) { timestamp runId stepKey }
        assetObservations(limit: 1) { timestamp runId stepKey }
        assetChecksOrError { ... on AssetChecks { checks { name executionForLatestMaterialization {
          id runId status timestamp stepKey evaluation { severity } } } } }
        partitionStats { numMaterialized numPartitions numFailed numMaterializing } }
    }""",
    "graph, what is stale": """{
      assetNodes { id assetKey { path } staleStatus staleCauses { key { path } reason category } }
    }""",
    "image_pages, its partitions": """{
      assetNodeOrError(assetKey: {path: ["image_pages"]}) { ... on AssetNode {
        partitionKeysByDimension { name partitionKeys }
        partitionStats { numMaterialized numPartitions numFailed numMaterializing }
        assetPartitionStatuses { ... on DefaultPartitionStatuses {
          materializedPartitions failedPartitions unmaterializedPartitions materializingPartitions } } } }
    }""",
    "image_pages, its events": """{
      assetOrError(assetKey: {path: ["image_pages"]}) { ... on Asset {
        assetMaterializations(limit: 50) { timestamp runId partition metadataEntries { label __typename } } } }
    }""",
    "prompts, its checks": """{
      assetNodeOrError(assetKey: {path: ["prompts"]}) { ... on AssetNode { assetChecksOrError {
        ... on AssetChecks { checks { name executionForLatestMaterialization { status timestamp
          evaluation { success metadataEntries { label } } } } } } } }
    }""",
    "sensors and schedules": """{
      repositoriesOrError { ... on RepositoryConnection { nodes {
        sensors { name sensorState { status ticks(limit: 20) { timestamp status } } }
        schedules { name cronSchedule scheduleState { status ticks(limit: 20) { timestamp status } } } } } }
    }""",
    "collect, its partitions": """query($where: RepositorySelector!) {
      partitionSetsOrError(repositorySelector: $where, pipelineName: "collect") { ... on PartitionSets { results {
        name partitionStatusesOrError { ... on PartitionStatuses { results { partitionName runStatus } } } } } }
    }""",
}


@dataclass(frozen=True)
class Answered:
    """How long one page took.

    Attributes:
        first_s: The first time that it was asked for, by the clock.
        median_s: The middle of several more times.
        cpu_s: Seconds of processor that all processes of the UI took for one of those.
    """

    first_s: float
    median_s: float
    cpu_s: float


@dataclass(frozen=True)
class Served:
    """What a UI on an instance did.

    Attributes:
        ready_s: Until it was ready, from its start.
        pages: How long each page took.
        resident_bytes: What its processes held in the end.
    """

    ready_s: float
    pages: Mapping[str, Answered]
    resident_bytes: int


class _Watched(Ui):
    """A UI whose processes are counted."""

    def ask_page(self, query: str) -> dict[str, Any]:
        """Asks what a page asks."""
        return self.ask(query, where=self._where) if "$where" in query else self.ask(query)

    @property
    def pid(self) -> int:
        """The process that started all others."""
        assert self._process is not None
        return self._process.pid

    def cpu_s(self) -> float:
        """Seconds of processor that its processes have used."""
        ticks = 0
        for process in family(self.pid):
            fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")


def serve(folder: Path, environment: Mapping[str, str], times: int = TIMES) -> Served:
    """Starts the UI, asks for each page, and stops it.

    Args:
        folder: Where it writes what it says.
        environment: Its variables.
        times: How often to ask for each page after the first time.
    """
    started = time.perf_counter()
    with _Watched(folder, environment) as ui:
        ready = time.perf_counter() - started
        pages = {name: _asked(ui, query, times) for name, query in PAGES.items()}
        held = sum(map(resident, family(ui.pid)))
    return Served(ready, pages, held)


def _asked(ui: _Watched, query: str, times: int) -> Answered:
    def ask() -> float:
        started = time.perf_counter()
        ui.ask_page(query)
        return time.perf_counter() - started

    first, before = ask(), ui.cpu_s()
    later = [ask() for _ in range(times)]
    return Answered(first, statistics.median(later), (ui.cpu_s() - before) / times)

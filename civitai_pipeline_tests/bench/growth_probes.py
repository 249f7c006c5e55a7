"""What ``growth`` measures beside the steps of the tables, each in a process of its own.

``python -m civitai_pipeline_tests.bench.growth_probes NAME`` does it once on the lake and the instance that the
environment names, and prints what it cost as JSON. What is loaded before is not counted: a tick finds the definitions
loaded by the code server.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import dagster as dg
import duckdb

from civitai_pipeline.definitions import build_defs
from civitai_pipeline.defs import pictures
from civitai_pipeline.defs.assets.publication import collection_report
from civitai_pipeline.defs.resources import LakeStore
from civitai_pipeline.lake import schemas, tables
from civitai_pipeline.lake.database import build_database, collection_state
from civitai_pipeline.lake.paths import Lake
from civitai_pipeline.report import COLUMNS, VersionTables, explorer_script, overview_row, version_page
from civitai_pipeline.report.tables import ANALYSES
from civitai_pipeline.settings import load_settings
from civitai_pipeline_tests.bench.steps import print_cost

if TYPE_CHECKING:
    from collections.abc import Callable

    import pyarrow as pa

SENSORS = (
    "resume_collection",
    "discover_model_versions",
    "repair_dead_runs",
    "tell_of_failures",
)
SCHEDULES = ("refresh_collection", "audit_collection", "weekly_upkeep")
# A question of all versions: which generators, of how many versions, with how many prompts.
QUESTION = """
SELECT generator, count(DISTINCT model_version_id) AS versions, count(*) AS prompts FROM prompts GROUP BY generator
"""


def sensor(name: str) -> Callable[[dg.DagsterInstance], int]:
    """One tick of a sensor; the number of its run requests."""
    repository = build_defs().get_repository_def()
    definition = repository.get_sensor_def(name)

    def tick(instance: dg.DagsterInstance, cursor: str | None) -> Any:  # noqa: ANN401 - its class is not public
        # With the reference, as the daemon gives it, run requests see the partitions of their own tick.
        with dg.build_sensor_context(
            instance=instance,
            instance_ref=instance.get_ref(),
            cursor=cursor,
            repository_def=repository,
            sensor_name=name,
            resources={"store": LakeStore()},
        ) as context:
            return definition.evaluate_tick(context)

    def measured(instance: dg.DagsterInstance) -> int:
        return len(tick(instance, None).run_requests or [])

    def measured_second(instance: dg.DagsterInstance) -> int:
        # The first tick of one that hears of runs only notes where it begins.
        return len(tick(instance, tick(instance, None).cursor).run_requests or [])

    return measured_second if isinstance(definition, dg.RunStatusSensorDefinition) else measured


def schedule(name: str) -> Callable[[dg.DagsterInstance], int]:
    """One tick of a schedule; the number of its run requests."""
    repository = build_defs().get_repository_def()
    definition = repository.get_schedule_def(name)

    def tick(instance: dg.DagsterInstance) -> int:
        with dg.build_schedule_context(
            instance=instance,
            scheduled_execution_time=datetime.now(UTC),
            repository_def=repository,
            resources={"store": LakeStore()},
        ) as context:
            return len(definition.evaluate_tick(context).run_requests or [])

    return tick


def index(instance: dg.DagsterInstance) -> int:
    """The page over all versions; its bytes."""
    with dg.build_asset_context(instance=instance) as context:
        made: Any = collection_report(context, store=LakeStore())
    return int(made.metadata["bytes"])


def database(_: dg.DagsterInstance) -> int:
    """The file civitai.duckdb; the number of its views."""
    return len(build_database(_lake()))


def question(_: dg.DagsterInstance) -> int:
    """Opens civitai.duckdb and asks a question of all versions; the rows of the answer."""
    with duckdb.connect(str(_lake().database), read_only=True) as connection:
        return len(connection.execute(QUESTION).fetchall())


def report(version: int) -> int:
    """The report of a version with its explorer, as the asset makes them, written nowhere; their bytes."""
    lake = _lake()

    def read(name: str) -> pa.Table:
        table = next(table for table in schemas.TABLES if table.name == name)
        return tables.read_table(lake, table, version, COLUMNS.get(name))

    held = VersionTables(
        info={"model_version_id": version},
        **{name: read(name) for name in COLUMNS},
        collection_state=collection_state(read(schemas.LANDED_PAGES.name)),
        analyses={name: read(name) for name in ANALYSES},
    )
    size = sum(len(piece) for piece in explorer_script(held))
    pictures.of_report(held.prompts, held.prompt_resources, held.prompt_categories)
    size += len(version_page(held))
    overview_row(held)
    return size


def _lake() -> Lake:
    return Lake.at(load_settings().lake)


OTHERS: dict[str, Callable[[dg.DagsterInstance], int]] = {one.__name__: one for one in (database, question, index)}


def probe(name: str) -> Callable[[dg.DagsterInstance], int]:
    """What a name stands for, with the definitions loaded."""
    if name in SENSORS:
        return sensor(name)
    return schedule(name) if name in SCHEDULES else OTHERS[name]


def main(name: str) -> None:
    """Does what ``name`` says and prints what it cost; for a model version, its report."""
    if name.isdecimal():
        print_cost(lambda: report(int(name)))
        return
    done = probe(name)
    with dg.DagsterInstance.get() as instance:
        print_cost(lambda: done(instance))


if __name__ == "__main__":
    main(*sys.argv[1:])

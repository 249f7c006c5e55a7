"""What is left when runs were killed, held against a lake that an uninterrupted run made: pages, tables, files.

And what the Dagster instance says of the dead: runs, summaries, slots. ``account`` runs in a child with the
environment of the runs it looks at.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow.parquet as pq

from civitai_pipeline.lake.ledger import Ledger
from civitai_pipeline.lake.schemas import PROMPTS, TABLES
from civitai_pipeline.lake.tables import read_table, table_exists
from civitai_pipeline_tests.proofs.readers import ask

if TYPE_CHECKING:
    from collections.abc import Collection

    import dagster as dg

    from civitai_pipeline.lake.paths import Lake
    from civitai_pipeline.lake.schemas import Table

Json = dict[str, Any]

# What two collections of the same pages may differ in: when, by which run and under which limit.
BY_CHANCE = {
    "first_seen_at", "last_seen_at", "prompt_withdrawn_at", "fetched_at", "elapsed_s", "run_id", "max_items",
}  # fmt: skip
OUTCOMES = ("new", "updated", "duplicate", "no_prompt", "version_mismatch", "malformed")
# The steps that write; the others are checks.
_STEPS = {
    "image_pages", "model_version_info", "prompt_tables", "category_tables", "near_duplicate_groups",
    "resource_lookups", "prompt_resources", "prompt_analyses", "prompt_database", "version_report", "collection_report",
}  # fmt: skip
_DIGEST = re.compile(r"-[0-9a-f]{8,64}\.js$")


@dataclass
class Aftermath:
    """What did not hold; all of it empty if everything did.

    Attributes:
        pages: Pages landed.
        pages_lost: Pages of the uninterrupted run that are missing.
        pages_twice: Pages landed more than once.
        rows_lost: Rows of its tables that are missing.
        rows_extra: Rows that it does not have.
        problems: What else did not hold.
    """

    pages: int = 0
    pages_lost: int = 0
    pages_twice: int = 0
    rows_lost: int = 0
    rows_extra: int = 0
    problems: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing is amiss."""
        return not (self.pages_lost or self.pages_twice or self.rows_lost or self.rows_extra or self.problems)

    def add(self, other: Aftermath) -> None:
        """Adds what another lake came to."""
        for name in ("pages", "pages_lost", "pages_twice", "rows_lost", "rows_extra"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.problems += other.problems


def working_folders(system: Path) -> list[str]:
    """The working folders of the pipeline in a folder of the system's."""
    return [path.name for path in system.glob("civitai_pipeline*")]


def compare_lakes(lake: Lake, whole: Lake, *versions: int) -> Aftermath:
    """Holds a lake against that of uninterrupted runs over the same images."""
    done = Aftermath()
    for version in versions:
        done.add(_compare_version(lake, whole, version))
    if strange := _names(lake) ^ _names(whole):
        done.problems.append(f"files that one of the lakes alone has: {', '.join(sorted(strange))}")
    if left := [path.name for path in (lake.root / ".tmp").iterdir()]:
        done.problems.append(f"temporary files are left: {', '.join(left)}")
    return done


def _compare_version(lake: Lake, whole: Lake, version: int) -> Aftermath:
    done = Aftermath()
    pages = list(Ledger(lake, version).pages())
    if [page.sequence for page in pages] != list(range(1, len(pages) + 1)):
        done.problems.append("the ledger's sequence has gaps")
    # A run killed after its last page makes the next one confirm it.
    found = [(page.id, page.cursor, page.items, page.next_cursor) for page in pages if page.confirms is None]
    expected = [(page.id, page.cursor, page.items, page.next_cursor) for page in Ledger(whole, version).pages()]
    cursors = Counter(str(cursor) for _, cursor, _, _ in found)
    done.pages = len(pages)
    done.pages_lost = sum(page not in found for page in expected)
    done.pages_twice = sum(count - 1 for count in cursors.values())
    if found != expected and not done.pages_lost and not done.pages_twice:
        done.problems.append("the pages differ from the uninterrupted run's")
    for table in TABLES:
        if not table_exists(whole, table, version):
            done.problems.append(f"the uninterrupted run made no table {table.name}")
            continue
        ours, theirs = (table_rows(where, table, version) for where in (lake, whole))
        done.rows_lost += (theirs - ours).total()
        done.rows_extra += (ours - theirs).total()
    return done


def table_rows(lake: Lake, table: Table, version: int, apart: Collection[str] = BY_CHANCE) -> Counter[str]:
    """The rows of a version's table as text, without the columns ``apart``, and how often each is there."""
    rows = read_table(lake, table, version).to_pylist()
    return Counter(str({name: value for name, value in row.items() if name not in apart}) for row in rows)


def _names(lake: Lake) -> set[str]:
    """All files of a lake by name, without a content's digest, but for pages and what is hidden."""
    root = Path(str(lake.root))
    paths = (str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())
    return {_DIGEST.sub(".js", path) for path in paths if not path.startswith((".", "pages/"))}


def half_written(lake: Lake) -> list[str]:
    """Files under the names of data that no reader could read; there must never be one."""
    found = []
    for path in Path(str(lake.root)).glob("*/*.parquet"):
        try:
            pq.read_schema(path)
        except (OSError, ValueError) as error:
            found.append(f"{path.parent.name}/{path.name}: {error}")
    if lake.database.is_file():

        def count() -> None:
            with duckdb.connect(str(lake.database), read_only=True) as connection:
                connection.sql("SELECT count(*) FROM images_unique, collection_state").fetchall()

        try:
            ask(count)
        except duckdb.Error as error:
            found.append(f"{lake.database.name}: {error}")
    return found


def account(version: int) -> Json:
    """Lets the daemon's sensor do its work, then says of all runs of a version how they ended and what they left.

    Returns:
        ``dead``, the step that each unsuccessful run was at by how many there were; ``problems``, what did not hold.
    """
    import dagster as dg  # noqa: PLC0415 - a child has it; the proof itself does without

    from civitai_pipeline.defs.resources import LakeStore  # noqa: PLC0415 - as Dagster
    from civitai_pipeline.defs.sensors.repair import repair_dead_runs  # noqa: PLC0415 - as Dagster
    from civitai_pipeline_tests.defs.sensors.ticking import tick  # noqa: PLC0415 - as Dagster

    with dg.DagsterInstance.get() as instance:
        cursor, following = None, tick(repair_dead_runs, instance).cursor
        while following != cursor:
            cursor, following = following, tick(repair_dead_runs, instance, following).cursor
        return account_of(instance, LakeStore().lake(), version)


def account_of(instance: dg.DagsterInstance, lake: Lake, version: int) -> Json:
    """Says of all runs of a version how they ended and what they left, as ``account`` does."""
    import dagster as dg  # noqa: PLC0415 - as above

    runs = instance.get_runs(dg.RunsFilter(tags={"dagster/partition": str(version)}))
    dead = [run for run in runs if run.status is not dg.DagsterRunStatus.SUCCESS]
    problems = [f"run {run.run_id} is {run.status.value}" for run in runs if not run.is_finished]
    summaries = _summaries(instance, version)
    pages = Counter(page.run_id for page in Ledger(lake, version).pages())
    for run in runs:
        mine = summaries.get(run.run_id, [])
        if len(mine) != 1:
            problems.append(f"run {run.run_id} ({run.status.value}) has {len(mine)} summaries")
        for summary in mine:
            if summary["attempted"] != sum(summary[outcome] for outcome in OUTCOMES):
                problems.append(f"the summary of run {run.run_id} does not add up")
            if summary["pages"] != pages[run.run_id]:
                problems.append(f"run {run.run_id} landed {pages[run.run_id]} pages, and says {summary['pages']}")
    new = sum(summary["new"] for mine in summaries.values() for summary in mine)
    held = read_table(lake, PROMPTS, version, ["image_id"]).num_rows
    if new != held:
        problems.append(f"the summaries tell of {new} new images, the tables of {held}")
    storage = instance.event_log_storage
    for pool in storage.get_concurrency_keys():
        info = storage.get_concurrency_info(pool)
        if info.active_slot_count or info.pending_step_count:
            problems.append(
                f"pool {pool}: {info.active_slot_count} slots are held, {info.pending_step_count} waited for"
            )
    return {
        "runs": len(runs),
        "dead": dict(Counter(_last_step(instance, run.run_id) for run in dead)),
        "summaries": sum(len(summaries.get(run.run_id, [])) for run in dead),
        "problems": problems,
    }


def _summaries(instance: dg.DagsterInstance, version: int) -> dict[str, list[Json]]:
    """The final summaries of a version's runs, wherever they stand."""
    import dagster as dg  # noqa: PLC0415 - as above

    from civitai_pipeline.defs.metadata import summary_from_metadata  # noqa: PLC0415 - as Dagster

    key = dg.AssetKey("image_pages")
    found: dict[str, list[Json]] = {}
    asked = dg.AssetRecordsFilter(asset_key=key, asset_partitions=[str(version)])
    records = [
        *(record.asset_materialization for record in instance.fetch_materializations(asked, limit=10_000).records),
        *(record.asset_observation for record in instance.fetch_observations(asked, limit=10_000).records),
    ]
    for record in records:
        summary = {} if record is None else summary_from_metadata(record.metadata)
        if summary.get("stop_reason") is not None:
            found.setdefault(summary["run_id"], []).append(summary)
    return found


def _last_step(instance: dg.DagsterInstance, run_id: str) -> str:
    """Where a run was when it ended: the step under way, or between which."""
    import dagster as dg  # noqa: PLC0415 - as above

    kinds = {dg.DagsterEventType.STEP_START, dg.DagsterEventType.STEP_SUCCESS}
    events = [entry.dagster_event for entry in instance.all_logs(run_id, of_type=kinds)]
    last = events[-1] if events else None
    if last is None:
        return "before its first step"
    step = str(last.step_key) if last.step_key in _STEPS else "a check"
    return step if last.event_type is dg.DagsterEventType.STEP_START else f"after {step}"

"""The chaos soak: three versions at once by sensors and schedules under the real daemon, with everything going wrong.

A third of all requests meets a fault, every kind that the stand-in can do among them; images are inserted and deleted
while they are walked. ``civitai-pipeline dev`` runs with the switches that a user would turn on and its clocks sped up
(``hurried``). In the end nothing may be lost, held twice, stuck or leaked.
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, Self
from unittest.mock import patch

import dagster as dg

from civitai_pipeline.instance import prepare_home
from civitai_pipeline.lake.ledger import Ledger
from civitai_pipeline.lake.paths import Lake
from civitai_pipeline.lake.schemas import CATEGORY_CHANGES, MODEL_VERSION_INFO, PROMPTS, REJECTED_IMAGES, TABLES
from civitai_pipeline.lake.tables import read_table, table_exists
from civitai_pipeline.sandbox import FAULT_NAMES, Sandbox
from civitai_pipeline_tests.collect.stage import VERSION
from civitai_pipeline_tests.proofs.aftermath import account_of
from civitai_pipeline_tests.proofs.grounds import AUDIT, Script, print_table, world_of
from civitai_pipeline_tests.proofs.soak import VOCABULARY, Dice
from civitai_pipeline_tests.proofs.ui import Ui
from civitai_pipeline_tests.proofs.verdict import Verdict
from civitai_pipeline_tests.proofs.warm import Warm

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from civitai_pipeline.sandbox import World

Json = dict[str, Any]

IMAGES = {VERSION: 8000, VERSION + 1: 7000, VERSION + 2: 5000}
PAGE_SIZE = 200
FAULT_SHARE = 1 / 3
# Trouble that passes is drawn twice as often as trouble that ends a run, as it is in earnest: a run is a process, and
# takes half a minute on a busy machine.
_PASSING = {
    "rate_limited", "server_error", "busy", "brownout", "bad_gateway_html", "timeout_html", "html_200", "invalid_json",
    "cut_json", "reset_before", "reset_headers", "reset_mid_body", "truncated",
}  # fmt: skip
DECK = (*VOCABULARY, *(fault for fault in VOCABULARY if fault.name in _PASSING))
# A lost cursor sends a walk of forty pages back to its start.
MOST_LOST_CURSORS = 4
CHURN_EVERY_S = 0.4
# Long after the last walk should be at its end, a soak that is not has failed.
GIVE_UP_S = 1800.0
LOOK_EVERY_S = 1.0
SENSORS = ("resume_collection", "repair_dead_runs", "tell_of_failures")
# What is no function of the pages: the API is asked for names, and what taxonomies changed is a record.
_NO_FUNCTION_OF_PAGES = {MODEL_VERSION_INFO, CATEGORY_CHANGES}


@dataclass
class Chaos:
    """What a soak did.

    Attributes:
        images: Images in the world at its start, inserted and deleted.
        requests: Requests that the stand-in saw under fire.
        faults: Faults they met, by name.
        runs: Runs by the reason they stopped.
        walks: Walks landed, over all versions.
        pages: Pages landed.
        lost: Images that lived through it and are not held, or were landed and are not held.
        twice: Images held more than once.
        ticks: Ticks of sensors and schedules, by how they ended.
        sizes: Bytes of Dagster's records, by what they are.
        problems: What else did not hold.
        seconds: How long it took.
    """

    images: Counter[str] = field(default_factory=Counter)
    requests: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    runs: Counter[str] = field(default_factory=Counter)
    walks: int = 0
    pages: int = 0
    lost: int = 0
    twice: int = 0
    ticks: Counter[str] = field(default_factory=Counter)
    sizes: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    seconds: float = 0.0


class Churn:
    """Inserts and deletes images for a while, as a context manager."""

    def __init__(self, world: World, versions: Sequence[int], seed: int) -> None:
        self._world = world
        self._versions = versions
        self._random = Random(seed)  # noqa: S311 - reproducible images, no secret
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._go_on, name="churn", daemon=True)
        self.inserted = self.deleted = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_what: object) -> None:
        self._stop.set()
        self._thread.join()

    def _go_on(self) -> None:
        while not self._stop.wait(CHURN_EVERY_S):
            version = self._random.choice(self._versions)
            self._world.add_images(version, 2)
            self._world.delete_image(self._random.choice(self._world.image_ids(version)))
            self.inserted, self.deleted = self.inserted + 2, self.deleted + 1


def soak(images: Mapping[int, int], page_size: int, seed: int, folder: Path) -> Chaos:
    """Lets sensors and schedules collect so many images of each version while everything goes wrong.

    Args:
        images: How many images each version has at the start.
        page_size: Images to ask for at a time.
        seed: Makes the draws the same.
        folder: An empty folder for the lake, the instance and output.

    Raises:
        AssertionError: It does not end.
    """
    started, done = time.monotonic(), Chaos()
    world, dice = world_of(images), Dice(seed, MOST_LOST_CURSORS, FAULT_SHARE, DECK)
    done.images["at its start"] = sum(images.values())
    lake, home = Lake.at(str(folder / "lake")), folder / "dagster"
    with Sandbox(world, faults=dice) as server:
        environment = _environment(server, folder, images, page_size)
        with patch.dict(os.environ):
            prepare_home(home)
        with dg.DagsterInstance.from_config(str(home)) as instance:
            with Ui(folder, environment) as ui:
                done.images.update(_collect_under_fire(ui, instance, lake, world, Churn(world, list(images), seed)))
                done.requests, done.faults = dice.requests, dice.faults
                # The fire is over: what a lie of the stand-in hid, the next refreshing finds.
                server.faults = Script(lambda _endpoint, _number, _cursor: None)
                _wait_for(lambda: not _missing(lake, world, images), 240, "all images", fatal=False)
                ui.stop_schedule("refresh_collection")
                _wait_for(lambda: _is_idle(instance), 240, "the last run", fatal=False)
                _wait_for(lambda: not _troubles(instance, lake, images), 60, "the last summary", fatal=False)
                done.problems += _troubles(instance, lake, images)
                _take_ticks(ui, done)
            done.runs = _stop_reasons(instance)
        _judge(done, lake, world, images)
        with Warm(folder / "calls") as warm:
            _hold_against_rebuilt(done, warm, environment, lake, list(images))
    done.sizes = _sizes(home)
    done.seconds = time.monotonic() - started
    return done


def _environment(server: Sandbox, folder: Path, images: Mapping[int, int], page_size: int) -> dict[str, str]:
    """The environment of the soak, with the files that it names."""
    versions = "".join(f"  - id: {version}\n" for version in images)
    (folder / "watchlist.yaml").write_text(f"defaults:\n  page_size: {page_size}\nversions:\n{versions}")
    (folder / "workspace.yaml").write_text("load_from:\n  - python_module: civitai_pipeline_tests.proofs.hurried\n")
    return {
        "CIVITAI_BASE_URL": server.url,
        "CIVITAI_LAKE": str(folder / "lake"),
        "CIVITAI_WATCHLIST": str(folder / "watchlist.yaml"),
        "CIVITAI_MIN_REQUEST_INTERVAL": "0",
        "CIVITAI_TIMEOUT": "2",
        "CIVITAI_RETRY_BUDGET": "0.2",
        "CIVITAI_API_KEY": "",
        "DAGSTER_HOME": str(folder / "dagster"),
    }


def _collect_under_fire(
    ui: Ui, instance: dg.DagsterInstance, lake: Lake, world: World, churn: Churn
) -> Mapping[str, int]:
    """Turns on what a user would, and waits until all walks, and new ones over all that is old, are at their end.

    Returns:
        How many images were inserted and deleted meanwhile.
    """
    versions = list(world.versions)
    for sensor in SENSORS:
        ui.start_sensor(sensor)
    ui.start_schedule("refresh_collection")
    with churn:
        _wait_for(lambda: _are_at_end(lake, versions), GIVE_UP_S, "the end of all walks")
    # Deletions hide images from a walk; a new one over the whole listing finds them. One tick asks for it: an audit
    # that is refused, or stopped on its first page, is for the sensor to begin again.
    walks = _walks(lake, versions)
    ui.start_schedule(AUDIT)
    _wait_for(lambda: all(_is_asked_for(instance, version) for version in versions), GIVE_UP_S, "an audit of all")
    ui.stop_schedule(AUDIT)
    _wait_for(
        lambda: all(more > before for more, before in zip(_walks(lake, versions), walks, strict=True)),
        GIVE_UP_S,
        "a new walk of all",
    )
    _wait_for(lambda: _are_at_end(lake, versions), GIVE_UP_S, "the end of all new walks")
    return {"inserted": churn.inserted, "deleted": churn.deleted}


def _wait_for(what: Callable[[], bool], seconds: float, name: str, *, fatal: bool = True) -> None:
    end = time.monotonic() + seconds
    while not what():
        if time.monotonic() > end:
            assert not fatal, f"{name} does not come"
            return
        time.sleep(LOOK_EVERY_S)


def _are_at_end(lake: Lake, versions: Sequence[int]) -> bool:
    walks = [list(Ledger(lake, version).walks()) for version in versions]
    return all(found and found[-1].last.next_cursor is None for found in walks)


def _walks(lake: Lake, versions: Sequence[int]) -> list[int]:
    return [len(Ledger(lake, version).walk_numbers()) for version in versions]


def _is_asked_for(instance: dg.DagsterInstance, version: int) -> bool:
    """Whether the schedule has asked for an audit of a version; it leaves out those with a run under way."""
    tags = {"dagster/partition": str(version), "dagster/schedule_name": AUDIT}
    return bool(instance.get_runs(dg.RunsFilter(tags=tags), limit=1))


def _is_idle(instance: dg.DagsterInstance) -> bool:
    return all(run.is_finished for run in instance.get_runs())


def _held(lake: Lake, version: int) -> list[int]:
    """The images that a version's tables speak of, as often as they do."""
    tables = [table for table in (PROMPTS, REJECTED_IMAGES) if table_exists(lake, table, version)]
    return [image for table in tables for image in read_table(lake, table, version).column("image_id").to_pylist()]


def _missing(lake: Lake, world: World, versions: Mapping[int, int]) -> set[int]:
    """The images that live and are not held."""
    return {image for version in versions for image in set(world.image_ids(version)) - set(_held(lake, version))}


def _troubles(instance: dg.DagsterInstance, lake: Lake, versions: Mapping[int, int]) -> list[str]:
    return [problem for version in versions for problem in account_of(instance, lake, version)["problems"]]


def _judge(done: Chaos, lake: Lake, world: World, versions: Mapping[int, int]) -> None:
    """Counts what is lost and what is double."""
    missing = _missing(lake, world, versions)
    for version in versions:
        held, ledger = _held(lake, version), Ledger(lake, version)
        done.problems += _restarts(ledger)
        landed = {item["id"] for page in ledger.pages() for item in page.items}
        missing |= landed - set(held)
        done.twice += len(held) - len(set(held))
        done.walks += len(list(ledger.walks()))
        done.pages += sum(ledger.covered().values())
    done.lost = len(missing)
    if never := set(FAULT_NAMES) - set(done.faults):
        done.problems.append(f"faults that never came: {', '.join(sorted(never))}")
    if left := [path.name for path in (lake.root / ".tmp").iterdir()]:
        done.problems.append(f"temporary files are left: {', '.join(left)}")


def _restarts(ledger: Ledger) -> list[str]:
    """Pages that landed though the stand-in had silently begun again at the first one."""
    found, first = [], set[int]()
    for page in ledger.pages():
        ids = {item["id"] for item in page.items}
        if page.id.page == 1:
            first = ids
        elif page.confirms is None and 2 * len(ids & first) > max(len(ids), len(first)):
            found.append(f"page {page.id} of {ledger.version} is the first one again")
    return found


def _stop_reasons(instance: dg.DagsterInstance) -> Counter[str]:
    """The runs by why they stopped, where they say, and by how they ended, where they do not."""
    from civitai_pipeline.defs.sensors.records import PARTITION_TAG, stop_reason  # noqa: PLC0415 - loads all definitions

    runs = instance.get_runs()
    return Counter(
        str(stop_reason(instance, run.run_id, run.tags.get(PARTITION_TAG, "")) or run.status.value) for run in runs
    )


def _take_ticks(ui: Ui, done: Chaos) -> None:
    for name, ticks in ui.ticks().items():
        for how, count in ticks.items():
            if how.startswith("FAILURE"):
                done.problems.append(f"{count} ticks of {name} failed: {how.splitlines()[0]}")
            done.ticks[how.partition(":")[0].lower()] += count


def rebuild(*versions: int) -> list[str]:
    """Makes the tables of some versions from their pages alone; what failed. Runs in a child."""
    from civitai_pipeline.launch import bring_up_tables  # noqa: PLC0415 - a child has it; the proof does without

    return [failure for run in bring_up_tables(versions) for failure in run.failures]


def _hold_against_rebuilt(
    done: Chaos, warm: Warm, environment: Mapping[str, str], lake: Lake, versions: Sequence[int]
) -> None:
    """Makes all tables anew from a copy of the pages, and compares."""
    rebuilt = Path(str(lake.root)).parent / "rebuilt"
    (rebuilt / "lake").mkdir(parents=True)
    for path in (
        *Path(str(lake.root), "pages").rglob("*.zst"),
        *Path(str(lake.root), MODEL_VERSION_INFO.name).glob("*.parquet"),
    ):
        copy = rebuilt / "lake" / path.relative_to(str(lake.root))
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.hardlink_to(path)
    own = {"CIVITAI_LAKE": str(rebuilt / "lake"), "DAGSTER_HOME": str(rebuilt / "dagster")}
    with patch.dict(os.environ):
        prepare_home(rebuilt / "dagster")
    done.problems += warm.call(rebuild, {**environment, **own}, *versions).result()
    for table in TABLES:
        if table in _NO_FUNCTION_OF_PAGES:
            continue
        for version in versions:
            ours, theirs = (
                read_table(Lake.at(place), table, version) for place in (str(lake.root), own["CIVITAI_LAKE"])
            )
            if not ours.equals(theirs):
                done.problems.append(f"{table.name} of {version} differs from one made anew from the pages")


def _sizes(home: Path) -> dict[str, int]:
    """What Dagster's records take, in bytes."""
    files = {path: path.stat().st_size for path in home.rglob("*") if path.is_file()}
    events = {path: size for path, size in files.items() if path.is_relative_to(home / "history" / "runs")}
    ticks = {path: size for path, size in files.items() if path.is_relative_to(home / "schedules")}
    return {
        "event log": sum(events.values()),
        "ticks": sum(ticks.values()),
        "all of DAGSTER_HOME": sum(files.values()),
    }


def prove(seed: int, folder: Path) -> list[Verdict]:
    """The long form: 20,000 images."""
    done = soak(IMAGES, PAGE_SIZE, seed, folder)
    faults, runs = done.faults.total(), done.runs.total()
    rows = [
        *((f"images {what}", count) for what, count in done.images.items()),
        ("requests under fire", done.requests),
        ("faults", f"{faults} of {len(done.faults)} kinds, {faults / done.requests:.0%} of the requests"),
        ("runs", f"{runs} ({', '.join(f'{count} {why}' for why, count in done.runs.most_common())})"),
        ("walks, pages landed", f"{done.walks}, {done.pages}"),
        ("images lost, twice", f"{done.lost}, {done.twice}"),
        ("ticks", ", ".join(f"{count} {how}" for how, count in done.ticks.most_common())),
        *(
            (f"size of the {what}", f"{size / 1e6:.1f} MB, {size / runs / 1e3:.0f} kB a run")
            for what, size in done.sizes.items()
        ),
    ]
    print_table(f"chaos, seed {seed}", ["what", "how many"], rows)
    how_many = f"{done.images['at its start']:,} images, {done.requests} requests, {faults} faults, {runs} runs"
    return [Verdict("chaos soak", how_many, done.lost, done.twice, tuple(done.problems), done.seconds)]

"""Damage of every kind to files of every kind: it is noticed, named with what mends it, and mended without loss.

A lake with several walks, confirmations and two versions is collected by the real job, then harmed. ``check`` must
find each harm, or it must be shown that it changes nothing; after ``check --repair`` and one more collection the lake
must be like one that was never harmed. What surrounds the files, disks and clocks, is in ``surroundings``.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from click.testing import CliRunner

from civitai_pipeline.care.check import check_lake
from civitai_pipeline.care.findings import Kind
from civitai_pipeline.care.mending import mend_version
from civitai_pipeline.care.pages import check_pages
from civitai_pipeline.care.tables import check_tables
from civitai_pipeline.cli import main as command_line
from civitai_pipeline.lake import schemas
from civitai_pipeline.lake.files import LakeError
from civitai_pipeline.lake.pages import decode
from civitai_pipeline.lake.paths import Lake
from civitai_pipeline.lake.tables import read_table
from civitai_pipeline.sandbox import DEMO_VERSIONS, Sandbox, World
from civitai_pipeline_tests.collect.stage import VERSION, Stage, item, same
from civitai_pipeline_tests.proofs.grounds import Content, compare, hurry, world
from civitai_pipeline_tests.proofs.harm import HARMS, flipped, restore
from civitai_pipeline_tests.proofs.surroundings import prove_surroundings
from civitai_pipeline_tests.proofs.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from civitai_pipeline.care.findings import Finding

VERSIONS = DEMO_VERSIONS[:2]
# What two collections of the same images may differ in: when and where they were seen.
_BY_CHANCE = {
    "first_seen_at", "last_seen_at", "prompt_withdrawn_at", "fetched_at", "elapsed_s", "run_id", "first_page",
    "last_page", "page", "position",
}  # fmt: skip
# How the pages came is another matter than what they say; what taxonomies changed is a record of its own.
_OF_THEIR_OWN = {schemas.LANDED_PAGES.name, schemas.CATEGORY_CHANGES.name}

Json = dict[str, Any]


@dataclass
class Tried:
    """What became of one kind of harm.

    Attributes:
        harms: Files harmed.
        noticed: Harms that a check found.
        harmless: Harms not found that change nothing.
        lost: Harms neither found nor harmless, and images that were not there in the end.
        twice: Images that were there more than once.
        problems: What else did not hold.
        seconds: How long it took.
    """

    harms: int = 0
    noticed: int = 0
    harmless: int = 0
    lost: int = 0
    twice: int = 0
    problems: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def verdict(self, what: str) -> Verdict:
        """The line of the table."""
        how_many = f"{self.harms} harms, {self.noticed} noticed" + (
            f", {self.harmless} change nothing" if self.harmless else ""
        )
        problems = tuple(dict.fromkeys(self.problems))[:3]
        return Verdict(what, how_many, self.lost, self.twice, problems, self.seconds)


@contextmanager
def _timed(tried: Tried) -> Iterator[None]:
    started = time.monotonic()
    yield
    tried.seconds += time.monotonic() - started


def staged(server: Sandbox, folder: Path) -> Stage:
    """A lake of one version: a walk in slices with polls and news in between, and a new walk half done."""
    stage = Stage(server, folder)
    stage.collect(page_size=4, max_items=16)
    stage.collect(page_size=5)
    for _ in range(2):
        stage.collect(page_size=5)
    for image_id in range(9_000_001, 9_000_008):
        server.world.insert(item(image_id), VERSION)
    stage.collect(page_size=5)
    stage.collect(page_size=5)
    stage.collect(page_size=6, restart=True, max_items=12)
    stage.build()
    return stage


def page_files(lake: Lake, version: int) -> list[Path]:
    """The files of a version's pages."""
    return sorted(Path(str(path)) for path in Path(str(lake.pages(version))).rglob("*.zst"))


def flip_pages(lake: Lake, version: int, rounds: int, random: Random) -> Tried:
    """Flips one bit in each page, as often as told, and looks whether each is found."""
    tried, files = Tried(), page_files(lake, version)
    whole = {path: path.read_bytes() for path in files}
    with _timed(tried):
        for _ in range(rounds):
            for path in files:
                flipped(path, random, files)
            found = {str(finding.path): finding for finding in check_pages(lake, version).findings}
            for path in files:
                tried.harms += 1
                if str(path) in found:
                    tried.noticed += 1
                elif decode(path.read_bytes()) == decode(whole[path]):
                    tried.harmless += 1
                else:
                    tried.lost += 1
                restore(path, whole[path])
    return tried


def flip_tables(lake: Lake, version: int, rounds: int, random: Random) -> Tried:
    """Flips one bit in each table, as often as told, and looks whether each is found."""
    tried = Tried()
    files = [Path(str(lake.table(table, version))) for table in schemas.TABLES if lake.table(table, version).is_file()]
    whole = {path: path.read_bytes() for path in files}
    with _timed(tried):
        for _ in range(rounds):
            for path in files:
                flipped(path, random, files)
            found = {str(finding.path): finding.problem for finding in check_tables(lake, version, {})}
            for path, data in whole.items():
                tried.harms += 1
                if found.get(str(path), "it is missing") != "it is missing":
                    tried.noticed += 1
                else:
                    tried.lost += 1
                try:
                    read_table(lake, _table_of(path), version)
                    tried.problems.append(f"a flipped bit in {path.parent.name} can be read over")
                except LakeError as error:
                    _check_words(tried, str(error), path, version)
                restore(path, data)
    return tried


def _table_of(path: Path) -> schemas.Table:
    return next(table for table in schemas.TABLES if table.name == path.parent.name)


def _check_words(tried: Tried, words: str, path: Path, version: int) -> None:
    """An error must name the file and the command."""
    if str(path) not in words or f"civitai-pipeline check {version} --repair" not in words:
        tried.problems.append(f"an error does not name file and command: {words[:200]}")


@dataclass
class PageHarm:
    """Harms pages of a lake in one way.

    Attributes:
        stage: A sound lake; it is sound again after each round.
        clean: What its tables say once its walks are at their end.
        name: The harm.
        random: Chooses the pages.
    """

    stage: Stage
    clean: Content
    name: str
    random: Random
    tried: Tried = field(default_factory=Tried)

    def rounds(self, rounds: int) -> Tried:
        """Harms some pages, mends, collects again, and compares; as often as told."""
        folder = self.stage.folder
        kept = folder.with_name("kept")
        shutil.copytree(folder, kept)
        with _timed(self.tried):
            for _ in range(rounds):
                self._harm()
                self._mend()
                self._compare()
                shutil.rmtree(folder)
                shutil.copytree(kept, folder)
        shutil.rmtree(kept)
        return self.tried

    def _harm(self) -> None:
        files = page_files(self.stage.lake, VERSION)
        chosen = self.random.sample(files, self.random.randint(1, 4))
        whole = {path: path.read_bytes() for path in chosen}
        for path in chosen:
            HARMS[self.name](path, self.random, files)
            if path.is_file() and path.read_bytes() == whole[path]:
                path.write_bytes(b"")
        lake = self.stage.lake
        findings = check_pages(lake, VERSION).findings + check_tables(lake, VERSION, {})
        _count_noticed(self.stage, findings, whole, self.tried)

    def _mend(self) -> None:
        # A run before the repair goes on where what it needs is sound, or else says what mends.
        error = self.stage.collector().run().error or ""
        if ("damaged" in error or "missing" in error) and f"civitai-pipeline check {VERSION} --repair" not in error:
            self.tried.problems.append(f"a run does not say what mends: {error[:150]}")
        lake = self.stage.lake
        list(mend_version(lake, VERSION, check_pages(lake, VERSION).findings))
        if self.random.random() < 0.5:
            # Made with the gaps, the tables are added to later; else they are made anew.
            self.stage.build()
        left = [finding for finding in check_pages(lake, VERSION).findings if finding.kind is Kind.DAMAGED_PAGE]
        self.tried.problems += [f"left after the repair: {finding}" for finding in left]

    def _compare(self) -> None:
        stage, tried = self.stage, self.tried
        summary = stage.collect(page_size=5)
        if summary.stop_reason != "at_end" or summary.walk is None or stage.ledger.gaps(summary.walk):
            tried.problems.append(f"stopped with {summary.stop_reason} and gaps: {summary.error}")
        built = stage.build()
        found = compare(stage, built, self.clean)
        tried.lost += found.lost
        tried.twice += found.duplicated
        if not found.equal:
            tried.problems.append("the tables differ from an undamaged lake's")
        if not same(built, stage.build(rebuild=True, write=False)):
            tried.problems.append("tables added to differ from tables made anew")
        if any(finding.place is None for finding in check_pages(stage.lake, VERSION).findings):
            # Of a walk that was lost whole nothing says which listing it was of; another one takes its place.
            stage.collect(page_size=5, restart=True)
        tried.problems += [f"left in the end: {finding}" for finding in check_pages(stage.lake, VERSION).findings]


def _count_noticed(stage: Stage, findings: Sequence[Finding], whole: dict[Path, bytes], tried: Tried) -> None:
    found = {str(finding.path) for finding in findings}
    lost = {str(finding.path) for finding in findings if finding.kind is Kind.LOST_PAGES}
    ends = {path.parent: max(stage.ledger.page_numbers(int(path.parent.name)), default=0) for path in whole}
    for path, data in whole.items():
        tried.harms += 1
        # A page gone from the end of its walk is told of by the tables that were made from it.
        is_end = not path.exists() and int(path.name[:6]) > ends[path.parent]
        if str(path) in found or (is_end and str(path.parent) in lost):
            tried.noticed += 1
        elif path.is_file() and decode(path.read_bytes()) == decode(data):
            tried.harmless += 1
        else:
            tried.lost += 1


@dataclass
class Household:
    """A lake kept by the command line alone, with its instance."""

    server: Sandbox
    folder: Path

    @property
    def lake(self) -> Lake:
        """The lake."""
        return Lake.at(str(self.folder / "lake"))

    def run(self, *arguments: str) -> tuple[int, str]:
        """Runs a command in this process; its exit status and standard output."""
        environment = {
            "CIVITAI_BASE_URL": self.server.url,
            "CIVITAI_LAKE": str(self.folder / "lake"),
            "CIVITAI_MIN_REQUEST_INTERVAL": "0",
            "DAGSTER_HOME": str(self.folder / "dagster"),
        }
        with patch.dict(os.environ, environment):
            result = CliRunner().invoke(command_line, ["-q", *arguments], catch_exceptions=False)
        return result.exit_code, result.stdout

    def collect(self, *options: str) -> list[str]:
        """Collects both versions; what went wrong."""
        problems = []
        for version in VERSIONS:
            status, said = self.run("collect", str(version), "--page-size", "12", "--json", *options)
            if status:
                problems.append(f"collect {version} ends with {status}: {json.loads(said)['error']}")
        return problems

    def content(self) -> dict[tuple[str, int], list[str]]:
        """What all tables say, without when and where."""
        tables = [table for table in schemas.TABLES if table.name not in _OF_THEIR_OWN]
        return {
            (table.name, version): sorted(map(str, _rows(read_table(self.lake, table, version).to_pylist())))
            for table in tables
            for version in VERSIONS
        }


def _rows(rows: list[Json]) -> list[Json]:
    return [{name: value for name, value in row.items() if name not in _BY_CHANCE} for row in rows]


def harm_households(rounds: int, random: Random, folder: Path) -> list[Verdict]:
    """Harms files of every kind in every way at once, repairs by the command, collects, and compares."""
    tried, sound = Tried(), Tried()
    with Sandbox(World.synthetic(seed=5, images=260)) as server:
        home = Household(server, folder)
        with _timed(sound):
            sound.problems += home.collect("--max-items", "40")
            sound.problems += home.collect("--resolve-resources")
            sound.problems += home.collect()
            status, said = home.run("check", "--json")
            if status or json.loads(said):
                sound.problems.append(f"a lake nobody harmed has findings: {said[:300]}")
        content, kept = home.content(), folder / "kept"
        shutil.copytree(folder / "lake", kept)
        with _timed(tried):
            for _ in range(rounds):
                _harm_household(home, random, tried)
                now = home.content()
                differ = sorted({name for name, version in content if content[name, version] != now[name, version]})
                if differ:
                    tried.problems.append(f"{', '.join(differ)} differ from an undamaged lake's")
                    tried.lost += _images_lost(content, now)
                shutil.rmtree(folder / "lake")
                shutil.copytree(kept, folder / "lake")
                _dot()
    return [
        sound.verdict("a lake that nobody harmed"),
        tried.verdict("pages, tables, look-ups, views, scraps"),
    ]


def _images_lost(content: dict[tuple[str, int], list[str]], now: dict[tuple[str, int], list[str]]) -> int:
    key = schemas.PROMPTS.name
    return sum(len(set(content[key, version]) - set(now[key, version])) for version in VERSIONS)


def _harm_household(home: Household, random: Random, tried: Tried) -> None:
    root = Path(str(home.lake.root))
    harmed: set[Path] = set()
    for version in VERSIONS:
        files = page_files(home.lake, version)
        harmed.update(random.sample(files[:-1], random.randint(1, 3)))
        tables = [Path(str(home.lake.table(table, version))) for table in schemas.TABLES]
        harmed.update(random.sample(tables, random.randint(1, 5)))
    harmed.update(random.sample(sorted((root / "lookups").rglob("*.jsonl")), 1))
    harmed.add(root / "civitai.duckdb")
    everything = [path for path in root.rglob("*") if path.is_file()]
    for path in sorted(harmed):
        kin = [other for other in everything if other.suffix == path.suffix and other.exists()]
        before = path.read_bytes()
        if path.suffix == ".jsonl":
            path.write_bytes(before[: len(before) - 5])
        elif path.suffix == ".duckdb":
            random.choice([HARMS["deleted"], HARMS["emptied"], HARMS["foreign bytes"]])(path, random, kin)
        else:
            random.choice([harm for name, harm in HARMS.items() if name != "another's bytes" or len(kin) > 1])(
                path, random, kin
            )
        tried.harms += 1
        if path.is_file() and path.read_bytes() == before:
            harmed.discard(path)
            tried.harmless += 1
    scrap = root / ".tmp" / f"page-{os.uname().nodename}-{2**22 - 1}-feed"
    scrap.write_bytes(b"half a page")
    status, said = home.run("check", "--json")
    found = {finding["file"]: finding for finding in json.loads(said)}
    for path in (*harmed, scrap):
        # The database's views cannot be told while tables are damaged; that it cannot be opened is found afterwards.
        is_known = str(path) in found or path.suffix == ".duckdb"
        tried.noticed += is_known
        tried.lost += not is_known
    if status != 1 or any("civitai-pipeline" not in finding["mend"] for finding in found.values()):
        tried.problems.append("a finding does not say what mends it")
    status, said = home.run("check", "--repair", "--json")
    left = [finding for finding in json.loads(said) if not finding["repaired"]]
    tried.problems += [
        f"not repaired: {finding['file']}: {finding['problem']}"
        for finding in left
        if finding["kind"] not in {Kind.GAP, Kind.LOST_PAGES}
    ]
    tried.problems += home.collect("--resolve-resources")
    status, said = home.run("check", "--json")
    tried.problems += [f"left: {finding['file']}: {finding['problem']}" for finding in json.loads(said)]


def prove_pages(seed: int, folder: Path, *, rounds: int, flips: int) -> list[Verdict]:
    """Flips bits in pages, and harms pages in every way."""
    random, verdicts = Random(seed), []  # noqa: S311 - reproducible harm, no secret
    with Sandbox(world(30)) as server:
        stage = staged(server, folder / "lake")
        verdicts.append(flip_pages(stage.lake, VERSION, flips, random).verdict("bits flipped in pages"))
        clean = Stage(server, folder / "clean")
        clean.collect(page_size=5)
        content = clean.content()
        for name in HARMS:
            verdicts.append(PageHarm(stage, content, name, random).rounds(rounds).verdict(f"pages: {name}"))
            _dot()
    return verdicts


def prove(seed: int, folder: Path) -> list[Verdict]:
    """The long form."""
    random = Random(seed)  # noqa: S311 - reproducible harm, no secret
    with hurry():
        (folder / "pages").mkdir()
        verdicts = prove_pages(seed, folder / "pages", rounds=12, flips=30)
        (folder / "home").mkdir()
        verdicts += harm_households(3, random, folder / "home")
        lake = Lake.at(str(folder / "home" / "lake"))
        verdicts.append(flip_tables(lake, VERSIONS[0], 25, random).verdict("bits flipped in tables"))
        assert not check_lake(lake, VERSIONS), "a lake put back as it was has findings"
        (folder / "disks").mkdir()
        verdicts += prove_surroundings(seed, folder / "disks")
    return verdicts


def _dot() -> None:
    sys.stderr.write(".")
    sys.stderr.flush()

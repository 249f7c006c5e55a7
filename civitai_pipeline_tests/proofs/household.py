"""Damage as a household has it: a lake kept by the command line alone, harmed, repaired by it, and collected again."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from click.testing import CliRunner

from civitai_pipeline.care.findings import Kind
from civitai_pipeline.cli import main as command_line
from civitai_pipeline.lake import schemas
from civitai_pipeline.lake.paths import Lake
from civitai_pipeline.lake.tables import read_table
from civitai_pipeline.sandbox import DEMO_VERSIONS, Sandbox, World
from civitai_pipeline_tests.proofs.harm import HARMS, Tried, dot, page_files, timed

if TYPE_CHECKING:
    from random import Random

    from civitai_pipeline_tests.proofs.verdict import Verdict

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
        with timed(sound):
            sound.problems += home.collect("--max-items", "40")
            sound.problems += home.collect("--resolve-resources")
            sound.problems += home.collect()
            status, said = home.run("check", "--json")
            if status or json.loads(said):
                sound.problems.append(f"a lake nobody harmed has findings: {said[:300]}")
        content, kept = home.content(), folder / "kept"
        shutil.copytree(folder / "lake", kept)
        with timed(tried):
            for _ in range(rounds):
                _harm_household(home, random, tried)
                now = home.content()
                differ = sorted({name for name, version in content if content[name, version] != now[name, version]})
                if differ:
                    tried.problems.append(f"{', '.join(differ)} differ from an undamaged lake's")
                    tried.lost += _images_lost(content, now)
                shutil.rmtree(folder / "lake")
                shutil.copytree(kept, folder / "lake")
                dot()
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

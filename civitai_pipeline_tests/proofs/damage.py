"""Damage of every kind to files of every kind: it is noticed, named with what mends it, and mended without loss.

A lake with several walks, confirmations and two versions is collected by the real job, then harmed. ``check`` must
find each harm, or it must be shown that it changes nothing; after ``check --repair`` and one more collection the lake
must be like one that was never harmed. What surrounds the files, disks and clocks, is in ``surroundings``.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from civitai_pipeline.care.check import check_lake
from civitai_pipeline.care.findings import Kind
from civitai_pipeline.care.mending import mend_version
from civitai_pipeline.care.pages import check_pages
from civitai_pipeline.care.tables import check_tables
from civitai_pipeline.lake import schemas
from civitai_pipeline.lake.files import LakeError
from civitai_pipeline.lake.pages import decode
from civitai_pipeline.lake.paths import Lake
from civitai_pipeline.lake.tables import read_table
from civitai_pipeline.sandbox import Sandbox
from civitai_pipeline_tests.collect.stage import VERSION, Stage, item, same
from civitai_pipeline_tests.proofs.grounds import Content, compare, hurry, world
from civitai_pipeline_tests.proofs.harm import HARMS, Tried, dot, flipped, page_files, restore, timed
from civitai_pipeline_tests.proofs.household import VERSIONS, harm_households
from civitai_pipeline_tests.proofs.surroundings import prove_surroundings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from civitai_pipeline.care.findings import Finding
    from civitai_pipeline_tests.proofs.verdict import Verdict


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


def flip_pages(lake: Lake, version: int, rounds: int, random: Random) -> Tried:
    """Flips one bit in each page, as often as told, and looks whether each is found."""
    tried, files = Tried(), page_files(lake, version)
    whole = {path: path.read_bytes() for path in files}
    with timed(tried):
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
    with timed(tried):
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
        with timed(self.tried):
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
            dot()
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

"""What a check says of pages: damage, gaps, walks that lead nowhere, and nothing of what is sound."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from civitai_pipeline.care.check import check_lake, standing_findings, versions_of
from civitai_pipeline.care.findings import Kind
from civitai_pipeline.care.mending import mend_version
from civitai_pipeline.care.pages import check_pages
from civitai_pipeline.care.tables import check_tables
from civitai_pipeline.civitai.listing import Sort
from civitai_pipeline.lake import schemas
from civitai_pipeline.lake.pages import PageId
from civitai_pipeline.lake.paths import Lake
from civitai_pipeline.sandbox import Sandbox, World
from civitai_pipeline_tests.collect.stage import VERSION, Stage, items
from civitai_pipeline_tests.lake.examples import body, page

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from civitai_pipeline.care.findings import Finding


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """Twenty images in four pages, and a poll that found nothing new."""
    with Sandbox(World.from_items(items(20), VERSION)) as server:
        stage = Stage(server, tmp_path / "lake")
        for _ in range(2):
            stage.collect()
        stage.build()
        yield stage


def looked(stage: Stage) -> list[Finding]:
    return check_pages(stage.lake, VERSION).findings


def mended(stage: Stage) -> list[str]:
    return list(mend_version(stage.lake, VERSION, looked(stage)))


def test_a_sound_lake_has_no_findings_and_is_not_touched(stage: Stage) -> None:
    before = sorted((str(path), path.stat().st_mtime_ns) for path in stage.folder.rglob("*"))
    seen: list[int] = []
    assert check_pages(stage.lake, VERSION, seen.append).findings == []
    assert seen == [1, 2, 3, 4, 5]
    assert sorted((str(path), path.stat().st_mtime_ns) for path in stage.folder.rglob("*")) == before


def test_a_finding_names_file_fault_and_command(stage: Stage) -> None:
    path = stage.lake.page(VERSION, 1, 2)
    path.write_bytes(path.read_bytes() + b"x")
    (finding,) = looked(stage)
    how = f"civitai-pipeline check {VERSION} --repair sets it aside, and the next collect fetches it again"
    assert str(finding) == f"{path}: something follows its end; {how}"
    assert (
        finding.as_dict() | {"kind": "damaged_page", "model_version_id": VERSION, "file": str(path)}
        == finding.as_dict()
    )


def test_a_damaged_page_becomes_a_gap_that_names_its_listing(stage: Stage) -> None:
    stage.lake.page(VERSION, 1, 2).write_bytes(b"")
    assert mended(stage) == [f"{stage.lake.page(VERSION, 1, 2)}: set aside as 000002.damaged"]
    (finding,) = looked(stage)
    assert (finding.kind, finding.place) == (Kind.GAP, PageId(1, 2))
    assert finding.mend == f"civitai-pipeline collect {VERSION} --browsing-level 1 fetches it again"
    assert mended(stage) == []
    stage.collect()
    assert looked(stage) == []


def test_a_gap_in_another_order_names_it(tmp_path: Path) -> None:
    with Sandbox(World.from_items(items(20), VERSION)) as server:
        stage = Stage(server, tmp_path / "lake")
        stage.collect(sort=Sort.NEWEST, max_items=15)
        stage.lake.page(VERSION, 1, 2).unlink()
        (missing,) = looked(stage)
        assert (missing.kind, missing.problem) == (Kind.MISSING_PAGE, "it is missing")
        assert mended(stage) == [f"{stage.lake.page(VERSION, 1, 2)}: noted as missing in 000002.missing"]
        (finding,) = looked(stage)
        assert finding.mend.startswith(f"civitai-pipeline collect {VERSION} --sort newest --browsing-level 1 fetches")


def test_confirmations_of_a_lost_page_are_told_of(stage: Stage) -> None:
    stage.lake.page(VERSION, 1, 4).write_bytes(b"")
    mended(stage)
    (finding,) = looked(stage)
    assert finding.problem.endswith("what 1 confirmations of it showed is unknown")


def test_a_gap_in_an_old_walk_is_healed_by_a_whole_new_one(stage: Stage) -> None:
    stage.lake.page(VERSION, 1, 2).write_bytes(b"")
    mended(stage)
    stage.collect(restart=True, max_items=10)
    assert [finding.kind for finding in looked(stage)] == [Kind.GAP]
    stage.collect()
    assert looked(stage) == []


def test_a_walk_whose_pages_do_not_follow_each_other_is_told_of(stage: Stage) -> None:
    stage.collect(restart=True, max_items=5)
    # A page of another time, as a hand would put it there.
    stage.ledger.land(
        page(2, 2, 77, cursor="elsewhere", listing=stage.ledger.walks()[0].last.listing), body([{"id": 999}])
    )
    (finding,) = looked(stage)
    assert (finding.kind, finding.place) == (Kind.BROKEN_WALK, PageId(2, 2))
    assert finding.problem == "page 2/1 does not lead to it, so images in between may be missing"
    assert "--restart" in finding.mend


def test_two_pages_that_landed_at_once_are_told_of(stage: Stage) -> None:
    stage.ledger.land(page(2, 1, 3, cursor=None), body())
    (finding,) = looked(stage)
    assert finding.problem == "it says that it landed as number 3, as page 1/3 does"


def test_a_page_that_lands_during_the_check_is_no_finding(stage: Stage) -> None:
    def land(pages: int) -> None:
        if pages == 2:
            stage.collect()

    assert check_pages(stage.lake, VERSION, land).findings == []
    assert stage.ledger.covered() == {1: 6}


def test_pages_gone_from_the_end_are_told_of_by_the_tables(stage: Stage) -> None:
    for number in (4, 5):
        stage.lake.page(VERSION, 1, number).unlink()
    assert looked(stage) == []
    found = [f for f in check_tables(stage.lake, VERSION, {}) if f.kind is Kind.LOST_PAGES]
    assert [finding.problem for finding in found] == ["pages 4 to 5 are gone, which tables were made from"]
    stage.collect()
    stage.build()
    assert not [f for f in check_tables(stage.lake, VERSION, {}) if f.kind is Kind.LOST_PAGES]


def test_a_version_of_which_only_tables_are_left_is_looked_at(stage: Stage) -> None:
    for path in (stage.folder / "pages" / str(VERSION) / "0001").iterdir():
        path.unlink()
    (stage.folder / "pages" / str(VERSION) / "0001").rmdir()
    (stage.folder / "pages" / str(VERSION)).rmdir()
    assert versions_of(stage.lake) == [VERSION]
    found = [finding for finding in check_lake(stage.lake, [VERSION]) if finding.kind is Kind.LOST_PAGES]
    assert [finding.problem for finding in found] == ["pages 1 to 5 are gone, which tables were made from"]


def test_what_a_run_under_way_explains_is_left_out(stage: Stage) -> None:
    found = check_lake(stage.lake, [VERSION])
    # Only the tables of the first step have been made; the others and the database are missing.
    assert {finding.problem for finding in found} == {"it is missing"}
    assert len(found) == len(schemas.TABLES) - 3 + 1
    assert standing_findings(found, {VERSION}) == []
    assert standing_findings(found, {5}) == [finding for finding in found if finding.kind is not Kind.DATABASE]
    assert standing_findings(found, set()) == found


@pytest.mark.parametrize("table", [schemas.PROMPTS, schemas.LANDED_PAGES])
def test_a_table_of_another_version_is_not_taken_for_this_ones(stage: Stage, table: schemas.Table) -> None:
    data = stage.lake.table(table, VERSION).read_bytes()
    stage.lake.table(table, 5).write_bytes(data)
    (finding,) = (f for f in check_tables(stage.lake, 5, {}) if f.table == table.name)
    assert finding.problem == f"it is table {table.name} of model version {VERSION}"


def test_an_empty_lake_is_sound(tmp_path: Path) -> None:
    lake = Lake.at(str(tmp_path))
    assert versions_of(lake) == []
    assert check_lake(lake, []) == []

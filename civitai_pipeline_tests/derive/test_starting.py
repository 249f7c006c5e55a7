"""Where a build starts: from the earlier tables where they can be trusted, else from nothing."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from civitai_pipeline.derive import prompt_tables, slabs
from civitai_pipeline.derive.prompt_tables import STEP_TABLES, load_held, load_landed_pages
from civitai_pipeline.lake.files import LakeError
from civitai_pipeline.lake.tables import Provenance, read_table, write_table
from civitai_pipeline_tests.tables import built_tables

from .landing import VERSION, Pages, column, image, row, same

if TYPE_CHECKING:
    from civitai_pipeline.lake.schemas import Table

TABLES = pytest.mark.parametrize("table", STEP_TABLES, ids=lambda table: table.name)


@pytest.fixture
def two_builds(pages: Pages) -> Pages:
    """Tables that reach over two pages, kept aside, and then over a third; a fourth has landed since."""
    pages.land(image(1), image(2, None), image(9, None))
    pages.land(image(1, "changed"), image(3))
    pages.bring_up()
    for table in STEP_TABLES:
        path = str(pages.lake.table(table, VERSION))
        shutil.copy(path, path + ".earlier")
    pages.land(image(2), image(3, None))
    pages.bring_up()
    pages.land(image(3, "back"), image(4))
    return pages


def check_healed(pages: Pages, *, started_anew: bool) -> None:
    held = load_held(pages.lake, VERSION)
    built = pages.build()
    assert built.started_anew == started_anew
    whole = pages.build(rebuild=True)
    assert same(built, whole)
    assert column(built.landed_pages, "sequence") == [1, 2, 3, 4]
    assert held.landed_pages.equals(whole.landed_pages)
    assert len(held.holdings) == len(whole.prompts)


def test_tables_that_agree_are_added_to(two_builds: Pages) -> None:
    assert two_builds.build().pages_added == 1
    check_healed(two_builds, started_anew=False)


@TABLES
def test_a_crash_between_the_swaps_heals_where_one_table_is_older(two_builds: Pages, table: Table) -> None:
    path = two_builds.lake.table(table, VERSION)
    shutil.copy(f"{path}.earlier", str(path))
    check_healed(two_builds, started_anew=True)


@TABLES
def test_a_crash_between_the_swaps_heals_where_one_table_is_newer(two_builds: Pages, table: Table) -> None:
    newer = two_builds.lake.table(table, VERSION)
    kept = newer.read_bytes()
    for each in STEP_TABLES:
        path = two_builds.lake.table(each, VERSION)
        shutil.copy(f"{path}.earlier", str(path))
    newer.write_bytes(kept)
    check_healed(two_builds, started_anew=True)


@TABLES
def test_a_missing_table_is_made_anew_with_the_others(two_builds: Pages, table: Table) -> None:
    two_builds.lake.table(table, VERSION).unlink()
    check_healed(two_builds, started_anew=True)


@TABLES
@pytest.mark.parametrize("damage", ["cut", "empty", "garbage", "torn"])
def test_a_damaged_table_is_made_anew_with_the_others(two_builds: Pages, table: Table, damage: str) -> None:
    path = two_builds.lake.table(table, VERSION)
    data = path.read_bytes()
    # Torn: the end, where Parquet keeps its schema, is whole, and the rows are not.
    torn = data[:4] + bytes(200) + data[204:]
    path.write_bytes({"cut": data[:-20], "empty": b"", "garbage": b"garbage" * 100, "torn": torn}[damage])
    check_healed(two_builds, started_anew=True)


@TABLES
def test_a_table_of_another_maker_is_made_anew(two_builds: Pages, table: Table) -> None:
    path = two_builds.lake.table(table, VERSION)
    found = read_table(two_builds.lake, table, VERSION)
    # A column short, as an older release would have left it, under provenance of today.
    pq.write_table(found.drop_columns(["model_version_id"]), str(path))
    check_healed(two_builds, started_anew=True)
    pq.write_table(pa.table({"else": [1]}), str(path))
    check_healed(two_builds, started_anew=True)


def test_other_code_makes_the_tables_anew(two_builds: Pages, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prompt_tables, "CODE_VERSION", "another")
    check_healed(two_builds, started_anew=True)


def test_rebuild_reads_no_table_of_before(two_builds: Pages) -> None:
    rows = read_table(two_builds.lake, STEP_TABLES[0], VERSION)
    falsified = rows.set_column(
        rows.schema.get_field_index("username"), rows.schema.field("username"), pa.array(["x"] * len(rows))
    )
    write_table(two_builds.lake, STEP_TABLES[0], VERSION, falsified)
    assert row(two_builds.build().prompts, 1)["username"] == "x"
    built = two_builds.build(rebuild=True)
    assert built.started_anew
    assert set(column(built.prompts, "username")) == {None}


def test_pages_moved_away_and_collected_anew_are_not_taken_for_the_old_ones(pages: Pages) -> None:
    pages.land(image(1), image(2))
    pages.land(image(3))
    pages.bring_up()
    # What the message about a damaged page advises.
    shutil.move(str(pages.lake.walk(VERSION, 1)), str(pages.folder / "away"))
    pages.numbers.clear()
    pages.land(image(2))
    pages.land(image(4))
    pages.land(image(5))
    assert len(load_held(pages.lake, VERSION).holdings) == 3
    built = pages.bring_up()
    assert column(built.prompts, "image_id") == [2, 4, 5]
    assert same(built, pages.build(rebuild=True))


def test_pages_that_went_missing_make_the_tables_anew(pages: Pages) -> None:
    pages.land(image(1))
    pages.land(image(2))
    pages.bring_up()
    pages.lake.page(VERSION, 1, 2).unlink()
    built = pages.build()
    assert (built.started_anew, column(built.prompts, "image_id")) == (True, [1])


def test_a_page_missing_in_the_midst_is_named(pages: Pages) -> None:
    for number in (1, 2, 3):
        pages.land(image(number))
    missing = pages.lake.page(VERSION, 1, 2)
    missing.unlink()
    with pytest.raises(LakeError, match=missing.name):
        pages.build()


def test_what_lands_while_tables_are_made_is_left_to_the_next_build(
    pages: Pages, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slabs, "PAGES_PER_SLAB", 1)
    for number in (1, 2, 3):
        pages.land(image(number))
    numbers = iter(range(10, 20))

    def land_another(_folded: int, _in_all: int) -> None:
        pages.land(image(next(numbers)), walk=2)

    built = built_tables(pages.lake, VERSION, on_slab=land_another)
    provenance = Provenance.of(built.prompts.schema)
    assert provenance is not None
    assert provenance.covered == {1: 3}
    assert column(built.prompts, "image_id") == [1, 2, 3]
    built.put_in_place(pages.lake, VERSION)
    monkeypatch.undo()
    after = pages.build()
    assert (after.pages_added, column(after.prompts, "image_id")) == (3, [1, 2, 3, 10, 11, 12])
    assert same(after, pages.build(rebuild=True))


def test_the_ledger_as_a_table_is_the_same_whether_or_not_the_tables_reach_its_end(pages: Pages) -> None:
    assert load_landed_pages(pages.lake, VERSION).num_rows == 0
    for number in range(1, 4):
        pages.land(image(number), image(1))
        assert load_landed_pages(pages.lake, VERSION).equals(load_held(pages.lake, VERSION).landed_pages)
        if number < 3:
            pages.bring_up()
            assert load_landed_pages(pages.lake, VERSION).equals(load_held(pages.lake, VERSION).landed_pages)
    assert load_landed_pages(pages.lake, VERSION).column("duplicate").to_pylist() == [1, 1, 1]

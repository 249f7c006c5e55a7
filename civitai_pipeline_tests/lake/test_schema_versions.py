"""Files of other schema versions than today's: each change has a number and a line, and no file is misread."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from civitai_pipeline.derive.prompt_tables import load_held
from civitai_pipeline.lake import schemas
from civitai_pipeline.lake.database import connect
from civitai_pipeline.lake.rows import PinnedTable, earlier_rows
from civitai_pipeline.lake.schema_versions import (
    SCHEMA_KEY,
    NewerTableError,
    OlderTableError,
    fingerprint,
    schema_version_of,
)
from civitai_pipeline.lake.schemas import TABLES, Column, Table
from civitai_pipeline.lake.tables import DamagedTableError, file_faults, read_earlier, read_table, stage_table
from civitai_pipeline.lake.tables import Provenance as Origin
from civitai_pipeline_tests.derive.landing import Pages, image
from civitai_pipeline_tests.docs.documents import ROOT, tables_of
from civitai_pipeline_tests.lake.examples import VERSION, prompt_row, write_prompts

if TYPE_CHECKING:
    from pathlib import Path

    from civitai_pipeline.lake.paths import Lake

PROMPTS = schemas.PROMPTS
HISTORY = ROOT / "docs" / "schema-history.md"
GLOW = Column("glow", schemas.DOUBLE, "How much it glows")


def _with(*columns: Column, number: int = PROMPTS.schema_version + 1) -> Table:
    """The table prompts as a newer release might declare it."""
    return replace(PROMPTS, columns=(*PROMPTS.columns, *columns), schema_version=number)


def _history() -> dict[tuple[str, int], str]:
    rows = [row for table in tables_of(HISTORY) for row in table if len(row) == 4]
    return {(name.strip("`"), int(number)): digits.strip("`") for name, number, digits, _ in rows if number.isdigit()}


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_the_schema_of_each_table_has_a_number_and_a_line_in_the_history(table: Table) -> None:
    now, number = fingerprint(table.arrow_schema), table.schema_version
    assert _history().get((table.name, number)) == now, (
        f"the columns of {table.name} are not those that docs/schema-history.md has for its schema version {number}: "
        f"raise schema_version in the declaration, and add a line with the fingerprint `{now}`"
    )


def test_the_history_of_a_table_has_every_number_up_to_todays() -> None:
    numbers: dict[str, list[int]] = {}
    for name, number in _history():
        numbers.setdefault(name, []).append(number)
    assert numbers == {table.name: list(range(1, table.schema_version + 1)) for table in TABLES}


def test_a_fingerprint_tells_names_types_order_and_required_columns_apart() -> None:
    a, b = pa.field("a", pa.int32()), pa.field("b", pa.string())
    others = [[b, a], [a], [a.with_name("c"), b], [a.with_type(pa.int64()), b], [a.with_nullable(False), b]]
    digits = {fingerprint(pa.schema(fields)) for fields in [[a, b], *others]}
    assert len(digits) == 6


def test_a_file_says_which_schema_it_has_however_it_was_written(lake: Lake) -> None:
    write_prompts(lake, prompt_row(1))
    with lake.table(PROMPTS, VERSION).open("rb") as file:
        assert pq.read_schema(file).metadata[SCHEMA_KEY] == b"%d" % PROMPTS.schema_version
    rows = read_table(lake, PROMPTS, VERSION)
    staged = stage_table(lake, PROMPTS, VERSION, [rows], Origin("x", {1: 1}))
    staged.put_in_place()
    with lake.table(PROMPTS, VERSION).open("rb") as file:
        schema = pq.read_schema(file)
    assert schema_version_of(schema) == PROMPTS.schema_version
    assert Origin.of(schema) == Origin("x", {1: 1})


def test_a_file_that_does_not_say_is_of_the_first_version() -> None:
    assert schema_version_of(pa.schema([])) == 1


def test_columns_that_an_older_file_lacks_are_null_to_every_reader(lake: Lake) -> None:
    write_prompts(lake, prompt_row(1), prompt_row(2))
    newer = _with(GLOW)
    assert read_table(lake, newer, VERSION).column("glow").to_pylist() == [None, None]
    assert read_table(lake, newer, VERSION, ["glow", "image_id"]).to_pylist() == [
        {"glow": None, "image_id": 1},
        {"glow": None, "image_id": 2},
    ]
    assert read_table(lake, newer, VERSION, ["glow"]).num_rows == 2
    pinned = PinnedTable.of(lake, newer, VERSION)
    assert pinned.read(["image_id", "glow"]).column("glow").null_count == 2
    assert pinned.read(["glow"]).num_rows == 2
    assert [row["glow"] for batch in pinned.batches() for row in batch.to_pylist()] == [None, None]
    (taken,) = pinned.at(np.array([1]), ["glow", "image_id"])
    assert taken.to_pylist() == [{"glow": None, "image_id": 2}]


def test_rows_of_an_older_schema_are_not_added_to(lake: Lake) -> None:
    write_prompts(lake, prompt_row(1))
    assert earlier_rows(lake, PROMPTS, VERSION) is not None
    assert earlier_rows(lake, _with(GLOW), VERSION) is None
    # The columns alone do not tell: one may have come to mean something else.
    assert earlier_rows(lake, _with(), VERSION) is None


def test_what_pages_cannot_give_back_is_carried_over_from_an_older_file(lake: Lake) -> None:
    write_prompts(lake, prompt_row(1))
    carried = read_earlier(lake, _with(GLOW), VERSION)
    assert carried is not None
    assert carried.column_names[-1] == "glow"
    assert read_earlier(lake, _with(replace(GLOW, required=True)), VERSION) is None


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ((*PROMPTS.columns, replace(GLOW, required=True)), "lacks the column glow"),
        (
            (replace(PROMPTS.columns[0], type=schemas.VARCHAR), *PROMPTS.columns[1:]),
            "another type in the column image_id",
        ),
    ],
)
def test_an_older_file_that_lacks_what_must_be_there_is_refused(
    lake: Lake, columns: tuple[Column, ...], says: str
) -> None:
    write_prompts(lake, prompt_row(1))
    newer = replace(PROMPTS, columns=columns, schema_version=PROMPTS.schema_version + 1)
    for read in (
        lambda: read_table(lake, newer, VERSION),
        lambda: PinnedTable.of(lake, newer, VERSION).read([c.name for c in columns]),
        lambda: list(PinnedTable.of(lake, newer, VERSION).batches()),
    ):
        with pytest.raises(OlderTableError, match=says) as refused:
            read()
        assert str(lake.table(PROMPTS, VERSION)) in str(refused.value)
        assert "the job rebuild" in str(refused.value)


def test_a_newer_file_is_refused_by_all_who_would_read_it_or_add_to_it(lake: Lake) -> None:
    newer = _with(GLOW, number=PROMPTS.schema_version + 2)
    rows = pa.Table.from_pylist([prompt_row(1)], schema=newer.arrow_schema)
    stage_table(lake, newer, VERSION, [rows], Origin("x", {})).put_in_place()
    before = lake.table(PROMPTS, VERSION).read_bytes()
    for read in (
        lambda: read_table(lake, PROMPTS, VERSION),
        lambda: read_earlier(lake, PROMPTS, VERSION),
        lambda: earlier_rows(lake, PROMPTS, VERSION),
        lambda: PinnedTable.of(lake, PROMPTS, VERSION),
    ):
        with pytest.raises(NewerTableError) as refused:
            read()
        said = str(refused.value)
        assert str(lake.table(PROMPTS, VERSION)) in said
        assert f"schema version {newer.schema_version} of prompts" in said
        assert f"up to {PROMPTS.schema_version}" in said
        assert "the job rebuild" in said
    assert lake.table(PROMPTS, VERSION).read_bytes() == before


def test_a_build_onto_newer_tables_changes_nothing_and_one_from_nothing_replaces_them(tmp_path: Path) -> None:
    pages = Pages(tmp_path)
    pages.land(image(1))
    pages.bring_up()
    _raise_number(pages.lake, PROMPTS)
    path = pages.lake.table(PROMPTS, VERSION)
    before = path.read_bytes()
    with pytest.raises(NewerTableError):
        pages.bring_up()
    with pytest.raises(NewerTableError):
        load_held(pages.lake, VERSION)
    assert path.read_bytes() == before
    pages.build(rebuild=True).put_in_place(pages.lake, VERSION)
    assert read_table(pages.lake, PROMPTS, VERSION).column("image_id").to_pylist() == [1]


def test_a_file_whose_number_is_none_is_damaged(lake: Lake) -> None:
    write_prompts(lake, prompt_row(1))
    _raise_number(lake, PROMPTS, to=b"two")
    with pytest.raises(DamagedTableError, match="two"):
        read_table(lake, PROMPTS, VERSION)
    assert earlier_rows(lake, PROMPTS, VERSION) is None


def test_the_check_of_a_schema_names_another_number(lake: Lake) -> None:
    write_prompts(lake, prompt_row(1))
    assert file_faults(lake, PROMPTS, VERSION) == ([], 1)
    older = PROMPTS.schema_version
    assert file_faults(lake, _with(), VERSION)[0] == [f"schema version {older}, not {older + 1}"]


def test_views_read_files_of_several_versions_side_by_side(lake: Lake) -> None:
    write_prompts(lake, prompt_row(1))
    dropped = replace(PROMPTS, columns=tuple(c for c in PROMPTS.columns if c.name != "post_id"), schema_version=7)
    reordered = replace(dropped, columns=(GLOW, *dropped.columns[::-1]))
    rows = pa.Table.from_pylist([prompt_row(2, version=5, glow=0.5)], schema=reordered.arrow_schema)
    stage_table(lake, reordered, 5, [rows], Origin("x", {})).put_in_place()
    with connect(lake) as connection:
        found = connection.sql("SELECT image_id, post_id, prompt FROM prompts ORDER BY 1").fetchall()
        assert "glow" not in connection.sql("SELECT * FROM prompts").columns
    assert found == [(1, None, "kite 1"), (2, None, "kite 2")]


def _raise_number(lake: Lake, table: Table, to: bytes = b"9") -> None:
    path = lake.table(table, VERSION)
    with path.open("rb") as file:
        data = pq.read_table(file)
    with path.open("wb") as file:
        pq.write_table(data.replace_schema_metadata({**data.schema.metadata, SCHEMA_KEY: to}), file)

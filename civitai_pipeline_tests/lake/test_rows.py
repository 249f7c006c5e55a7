"""A table gives the same rows from its file as from memory, in whatever portions."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from civitai_pipeline.lake import rows, schemas, tables
from civitai_pipeline.lake.paths import Lake
from civitai_pipeline.lake.rows import HeldRows, PinnedTable, earlier_rows
from civitai_pipeline.lake.tables import DamagedTableError, Provenance, stage_table, write_table

from .examples import VERSION, category_row

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

TABLE = schemas.PROMPT_CATEGORIES
COLUMNS = ["category", "image_id"]
MADE_BY = Provenance("3", {1: 2})


def table_of(count: int) -> pa.Table:
    return tables.from_rows(TABLE, [category_row(number, f"c{number % 3}") for number in range(1, count + 1)])


def written(lake: Lake, groups: Sequence[int]) -> tuple[PinnedTable, HeldRows]:
    """A table in row groups of these sizes, and the same in memory."""
    data, begins = table_of(sum(groups)), np.cumsum([0, *groups])
    parts = [data.slice(begin, size) for begin, size in zip(begins.tolist(), groups, strict=False)]
    stage_table(lake, TABLE, VERSION, parts, MADE_BY).put_in_place()
    return PinnedTable.of(lake, TABLE, VERSION), HeldRows(MADE_BY.attached_to(data))


@settings(max_examples=40)
@given(st.lists(st.integers(1, 7), max_size=6), st.data())
def test_rows_of_a_file_are_those_in_memory(
    tmp_path_factory: pytest.TempPathFactory, groups: list[int], data: st.DataObject
) -> None:
    pinned, held = written(Lake.at(str(tmp_path_factory.mktemp("lake"))), groups)
    count = sum(groups)
    places = np.array(sorted(data.draw(st.sets(st.integers(0, count - 1)))) if count else [], dtype=np.int64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows, "STREAMED_ROWS", data.draw(st.integers(1, 9)))
        assert len(pinned) == len(held) == count
        assert pinned.provenance == held.provenance == MADE_BY
        assert pinned.read(COLUMNS).to_pylist() == held.read(COLUMNS).to_pylist()
        expected = held.read(COLUMNS).take(pa.array(places)).to_pylist()
        for one in (pinned, held):
            assert [row for batch in one.batches(COLUMNS) for row in batch.to_pylist()] == held.read(
                COLUMNS
            ).to_pylist()
            assert [row for part in one.at(places, COLUMNS) for row in part.to_pylist()] == expected


def test_row_groups_without_a_wanted_row_are_not_read(tmp_path: Path) -> None:
    lake = Lake.at(str(tmp_path))
    written(lake, [500, 500, 500])
    path = lake.table(TABLE, VERSION)
    whole = path.read_bytes()
    # The first half of the file holds the first row group, of three.
    path.write_bytes(whole[:4] + bytes(len(whole) // 6) + whole[4 + len(whole) // 6 :])
    with pytest.raises(DamagedTableError, match="its bytes are not those that were written"):
        PinnedTable.of(lake, TABLE, VERSION)
    pinned = PinnedTable(TABLE, path)
    (last,) = pinned.at(np.array([1400]), ["image_id"])
    assert last.to_pylist() == [{"image_id": 1401}]
    with pytest.raises(DamagedTableError, match="is damaged"):
        list(pinned.at(np.array([3, 1400]), ["image_id", "category", "categorized_hash"]))


def test_a_pinned_table_does_not_see_what_is_swapped_in(tmp_path: Path) -> None:
    pinned, held = written(Lake.at(str(tmp_path)), [3])
    write_table(Lake.at(str(tmp_path)), TABLE, VERSION, table_of(9))
    assert pinned.read(COLUMNS).to_pylist() == held.read(COLUMNS).to_pylist()


def test_an_earlier_table_that_cannot_be_added_to_is_none(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lake = Lake.at(str(tmp_path))
    assert earlier_rows(lake, TABLE, VERSION) is None
    written(lake, [3])
    assert earlier_rows(lake, TABLE, VERSION) is not None
    path = lake.table(TABLE, VERSION)
    path.write_bytes(b"PAR1 and no more")
    with caplog.at_level(logging.WARNING):
        assert earlier_rows(lake, TABLE, VERSION) is None
        with path.open("wb") as file:
            pq.write_table(table_of(3).drop_columns(["categorized_hash"]), file)
        assert earlier_rows(lake, TABLE, VERSION) is None
    assert ["making it anew" in message for message in caplog.messages] == [True, True]

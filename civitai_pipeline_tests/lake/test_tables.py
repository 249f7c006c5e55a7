"""The Parquet tables: what goes in comes out, and what does not fit does not go in."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from civitai_pipeline.lake import schemas
from civitai_pipeline.lake.paths import Lake
from civitai_pipeline.lake.schemas import TABLES, Column, Table
from civitai_pipeline.lake.tables import (
    DamagedTableError,
    Provenance,
    conform,
    from_rows,
    read_earlier,
    read_provenance,
    read_table,
    schema_faults,
    table_exists,
    write_table,
)
from civitai_pipeline_tests.lake.examples import VERSION, prompt_row, write_prompts

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

_VALUES: dict[pa.DataType, SearchStrategy[Any]] = {
    schemas.BIGINT: st.integers(-(2**63), 2**63 - 1),
    schemas.INTEGER: st.integers(-(2**31), 2**31 - 1),
    schemas.DOUBLE: st.floats(allow_nan=False),
    schemas.BOOLEAN: st.booleans(),
    schemas.VARCHAR: st.text(),
    schemas.BIGINT_LIST: st.lists(st.integers(-(2**63), 2**63 - 1), max_size=3),
    schemas.VARCHAR_LIST: st.lists(st.text(), max_size=3),
    schemas.SIGNATURE: st.binary(min_size=64, max_size=64),
    schemas.TIMESTAMPTZ: st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001 - bounds
}


def _rows(table: Table) -> SearchStrategy[list[dict[str, Any]]]:
    def values(column: Column) -> SearchStrategy[Any]:
        return _VALUES[column.type] if column.required else st.none() | _VALUES[column.type]

    return st.lists(st.fixed_dictionaries({c.name: values(c) for c in table.columns}), max_size=3)


@settings(max_examples=20)
@given(st.data(), st.sampled_from(TABLES))
def test_a_table_comes_back_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, table: Table
) -> None:
    lake = Lake.at(str(tmp_path_factory.getbasetemp() / "tables"))
    rows = data.draw(_rows(table))
    provenance = Provenance(data.draw(st.text()), data.draw(st.dictionaries(st.integers(1, 99), st.integers(1, 99))))
    written = provenance.attached_to(from_rows(table, rows))
    write_table(lake, table, VERSION, written)
    back = read_table(lake, table, VERSION)
    assert back.to_pylist() == rows
    assert back.schema.equals(table.arrow_schema)
    assert schema_faults(table, back) == []
    assert read_provenance(lake, table, VERSION) == provenance
    earlier = read_earlier(lake, table, VERSION)
    assert earlier is not None
    assert earlier.equals(back)


def test_some_columns_can_be_read_alone(lake: Lake) -> None:
    write_prompts(lake, prompt_row(1), prompt_row(2))
    assert read_table(lake, schemas.PROMPTS, VERSION, ["prompt", "image_id"]).to_pylist() == [
        {"prompt": "kite 1", "image_id": 1},
        {"prompt": "kite 2", "image_id": 2},
    ]


def test_a_column_that_an_older_code_did_not_know_is_read_as_null(lake: Lake) -> None:
    write_prompts(lake, prompt_row(7))
    path = str(lake.table(schemas.PROMPTS, VERSION))
    pq.write_table(pq.read_table(path).drop_columns(["quality_score"]), path)
    read = read_table(lake, schemas.PROMPTS, VERSION, ["quality_score", "image_id"])
    assert read.to_pylist() == [{"quality_score": None, "image_id": 7}]
    assert read.schema.field("quality_score").type == schemas.PROMPTS.arrow_schema.field("quality_score").type


def test_a_table_that_is_not_there_is_told_from_a_damaged_one(lake: Lake) -> None:
    assert not table_exists(lake, schemas.PROMPTS, VERSION)
    assert read_provenance(lake, schemas.PROMPTS, VERSION) is None
    assert read_earlier(lake, schemas.PROMPTS, VERSION) is None
    with pytest.raises(FileNotFoundError):
        read_table(lake, schemas.PROMPTS, VERSION)
    write_prompts(lake, prompt_row(1))
    assert table_exists(lake, schemas.PROMPTS, VERSION)


def _good() -> pa.Table:
    return from_rows(schemas.PROMPTS, [prompt_row(1), prompt_row(2)])


def _replaced(name: str, values: list[Any], kind: pa.DataType) -> pa.Table:
    table = _good()
    return table.set_column(table.column_names.index(name), pa.field(name, kind), pa.array(values, kind))


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (_good().drop_columns(["prompt", "seed"]), "table prompts lacks the columns prompt, seed"),
        (_replaced("prompt", ["x", None], pa.string()), "does not fit its schema.*null"),
        (_replaced("steps", ["many", "few"], pa.string()), "does not fit its schema"),
        (_replaced("steps", [2**40, 1], pa.int64()), "does not fit its schema"),
        (_replaced("prompt", [[1], [2]], pa.list_(pa.int64())), "does not fit its schema"),
    ],
)
def test_what_does_not_fit_is_refused_and_the_old_file_stays(lake: Lake, data: pa.Table, complaint: str) -> None:
    write_prompts(lake, prompt_row(7))
    with pytest.raises(ValueError, match=complaint):
        write_table(lake, schemas.PROMPTS, VERSION, data)
    assert read_table(lake, schemas.PROMPTS, VERSION).column("image_id").to_pylist() == [7]
    assert list((lake.root / ".tmp").iterdir()) == [] if (lake.root / ".tmp").exists() else True


def test_conforming_puts_columns_in_order_drops_others_and_casts_what_can_be_cast() -> None:
    table = _replaced("steps", [20, 30], pa.int64())
    shuffled = table.select(list(reversed(table.column_names))).append_column("mine", pa.array([1, 2]))
    shuffled = shuffled.replace_schema_metadata({b"k": b"v"})
    conformed = conform(schemas.PROMPTS, shuffled)
    assert conformed.schema.equals(schemas.PROMPTS.arrow_schema)
    assert conformed.schema.metadata == {b"k": b"v"}
    assert conformed.column("steps").to_pylist() == [20, 30]


def test_faults_of_a_schema_are_told_one_sentence_each() -> None:
    table = _replaced("steps", ["20", "30"], pa.string()).drop_columns(["seed"])
    table = table.set_column(table.column_names.index("prompt"), "prompt", pa.array(["x", None]))
    assert schema_faults(schemas.PROMPTS, table) == [
        "column prompt has 1 nulls",
        "column steps is string, not int32",
        "column seed is missing",
    ]
    assert schema_faults(schemas.PROMPTS, _good()) == []


def test_rows_with_a_value_of_the_wrong_kind_are_refused() -> None:
    with pytest.raises((pa.ArrowInvalid, pa.ArrowTypeError)):
        from_rows(schemas.PROMPTS, [prompt_row(1, steps="many")])


def test_a_reader_of_the_old_table_is_not_disturbed_by_the_new_one(lake: Lake) -> None:
    write_prompts(lake, prompt_row(1), prompt_row(2))
    with lake.table(schemas.PROMPTS, VERSION).open("rb") as file:
        reader = pq.ParquetFile(file)
        write_prompts(lake, prompt_row(3))
        assert reader.read().column("image_id").to_pylist() == [1, 2]
    assert read_table(lake, schemas.PROMPTS, VERSION).column("image_id").to_pylist() == [3]


@pytest.mark.parametrize("damage", ["empty", "foreign", "cut", "headless", "text"])
def test_a_damaged_table_is_named_with_the_remedy_and_made_anew(
    lake: Lake, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    write_prompts(lake, *(prompt_row(number, prompt=os.urandom(50).hex()) for number in range(200)))
    path = lake.table(schemas.PROMPTS, VERSION)
    whole = path.read_bytes()
    damaged = {
        "empty": b"",
        "foreign": b"\x89PNG" * 40,
        "cut": whole[: len(whole) // 2],
        "headless": whole[100:-4] + b"XXXX",
        "text": b"a,b,c\n",
    }
    path.write_bytes(damaged[damage])
    for read in (read_table, read_provenance):
        with pytest.raises(DamagedTableError, match=rf"{VERSION}\.parquet is damaged .*check {VERSION} --r") as caught:
            read(lake, schemas.PROMPTS, VERSION)
        assert "\n" not in str(caught.value)
    assert read_earlier(lake, schemas.PROMPTS, VERSION) is None
    assert "making it anew" in caplog.text


def test_a_table_of_an_older_schema_is_made_anew(lake: Lake) -> None:
    path = lake.table(schemas.PROMPTS, VERSION)
    path.parent.mkdir(parents=True)
    pq.write_table(_good().drop_columns(["fingerprint"]), str(path))
    assert read_earlier(lake, schemas.PROMPTS, VERSION) is None


@pytest.mark.parametrize(
    "text", [b"", b"[]", b"{}", b'{"code_version":"1"}', b'{"code_version":"1","covered":[]}', b"\xff", b"null"]
)
def test_a_provenance_that_cannot_be_understood_is_none(text: bytes) -> None:
    schema = pa.schema([], metadata={b"civitai_pipeline": text})
    assert Provenance.of(schema) is None
    assert Provenance.of(pa.schema([])) is None

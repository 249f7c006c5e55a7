"""Seals: whatever becomes of a table's file, opening it says so."""

from __future__ import annotations

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from civitai_pipeline.lake import schemas
from civitai_pipeline.lake.paths import Lake
from civitai_pipeline.lake.rows import PinnedTable
from civitai_pipeline.lake.tables import DamagedTableError, Provenance, read_table, stage_table
from civitai_pipeline_tests.lake.examples import VERSION, prompt_row, write_prompts

FAKE = '{"table":"prompts","model_version_id":910011,"sha256":"' + "7" * 64 + '"}'


def _read(lake: Lake) -> list[int]:
    ids: list[int] = read_table(lake, schemas.PROMPTS, VERSION, ["image_id"]).column(0).to_pylist()
    return ids


def test_every_bit_counts(lake: Lake) -> None:
    write_prompts(lake, prompt_row(1))
    path = lake.table(schemas.PROMPTS, VERSION)
    whole = path.read_bytes()
    for place in range(0, len(whole), 29):
        changed = bytearray(whole)
        changed[place] ^= 1 << place % 8
        path.write_bytes(bytes(changed))
        with pytest.raises(DamagedTableError):
            PinnedTable.of(lake, schemas.PROMPTS, VERSION)


@settings(max_examples=30)
@given(st.data())
def test_every_bit_of_the_seal_counts(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    lake = Lake.at(str(tmp_path_factory.mktemp("lake")))
    write_prompts(lake, prompt_row(1))
    path = lake.table(schemas.PROMPTS, VERSION)
    changed = bytearray(path.read_bytes())
    start = changed.index(b"civitai_pipeline_seal")
    place = data.draw(st.integers(start, start + 21 + 130))
    changed[place] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(bytes(changed))
    with pytest.raises(DamagedTableError):
        _read(lake)


def test_a_prompt_that_looks_like_a_seal_is_a_prompt(lake: Lake) -> None:
    write_prompts(lake, prompt_row(1, prompt=FAKE), prompt_row(2, prompt="civitai_pipeline_seal"))
    assert _read(lake) == [1, 2]


def test_a_file_from_before_there_were_seals_is_taken_as_it_is(lake: Lake) -> None:
    write_prompts(lake, prompt_row(1))
    path = lake.table(schemas.PROMPTS, VERSION)
    table = read_table(lake, schemas.PROMPTS, VERSION)
    assert b"civitai_pipeline_seal" not in (table.schema.metadata or {})
    pq.write_table(table, str(path))
    assert _read(lake) == [1]


def test_a_table_says_whose_it_is(lake: Lake) -> None:
    write_prompts(lake, prompt_row(1))
    data = lake.table(schemas.PROMPTS, VERSION).read_bytes()
    for table, version in ((schemas.PROMPTS, 5), (schemas.REJECTED_IMAGES, VERSION)):
        path = lake.table(table, version)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        with pytest.raises(DamagedTableError, match=f"it is table prompts of model version {VERSION}"):
            read_table(lake, table, version)


def test_the_same_rows_make_the_same_file(lake: Lake) -> None:
    write_prompts(lake, prompt_row(1))
    first = lake.table(schemas.PROMPTS, VERSION).read_bytes()
    write_prompts(lake, prompt_row(1))
    assert lake.table(schemas.PROMPTS, VERSION).read_bytes() == first


def test_a_staged_table_is_sealed_too(lake: Lake) -> None:
    write_prompts(lake, prompt_row(1))
    rows = read_table(lake, schemas.PROMPTS, VERSION)
    stage_table(lake, schemas.PROMPTS, VERSION, [rows, rows], Provenance("1", {1: 1})).put_in_place()
    path = lake.table(schemas.PROMPTS, VERSION)
    assert _read(lake) == [1, 1]
    path.write_bytes(path.read_bytes()[:-200] + bytes(100) + path.read_bytes()[-100:])
    with pytest.raises(DamagedTableError):
        _read(lake)

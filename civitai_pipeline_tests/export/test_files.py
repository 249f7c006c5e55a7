"""Exports: what is written is what is held, and does nothing when a spreadsheet opens it."""

from __future__ import annotations

import csv
import json
import re
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from civitai_pipeline.export.columns import COLUMNS
from civitai_pipeline.export.options import FILE_FORMATS, ExportOptions, OptionError
from civitai_pipeline.export.run import ExportResult, export_prompts
from civitai_pipeline.export.staging import ExportError
from civitai_pipeline.export.writing import FORMULA_STARTS
from civitai_pipeline.lake import schemas
from civitai_pipeline.lake.files import LakeError
from civitai_pipeline.lake.paths import Lake
from civitai_pipeline_tests.export.examples import resource_row, rows_in_duckdb
from civitai_pipeline_tests.lake.examples import THEN, VERSION, category_row, prompt_row, write, write_prompts

if TYPE_CHECKING:
    from collections.abc import Callable

NASTY = [
    "plain",
    'with "quotes", commas; and\ttabs',
    "two\r\nlines\nand\rmore",
    "日本 \U0001f600 e\u0301 \u202e",
    "  spaces around  ",
    "\\N",
    "NULL",
    "null",
    "\u2028\u0085",
    "''",
]
FORMULAS = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "=cmd|'/c calc'!A1"]


def _export(lake: Lake, versions: list[int], kind: str, output: Path, **choices: Any) -> ExportResult:  # noqa: ANN401 - options
    return export_prompts(lake, versions, ExportOptions(kind, **choices), output)


def _reload(path: Path, kind: str) -> list[dict[str, Any]]:
    if kind == "parquet":
        rows: list[dict[str, Any]] = pq.read_table(str(path)).to_pylist()
        return rows
    with path.open(encoding="utf-8", newline="") as file:
        if kind == "jsonl":
            return [json.loads(line) for line in file.read().split("\n") if line]
        csv.field_size_limit(sys.maxsize)
        return list(csv.DictReader(file))


@pytest.mark.parametrize("kind", FILE_FORMATS)
def test_an_export_reloads_row_for_row_and_letter_for_letter(lake: Lake, tmp_path: Path, kind: str) -> None:
    write_prompts(lake, *(prompt_row(number, prompt=text) for number, text in enumerate(NASTY, start=1)))
    output = tmp_path / "new" / "folders" / f"out.{kind}"
    assert _export(lake, [], kind, output).rows == len(NASTY)
    rows = _reload(output, kind)
    assert [row["prompt"] for row in rows] == NASTY
    assert [int(row["image_id"]) for row in rows] == list(range(1, len(NASTY) + 1))
    columns = [column.name for column in schemas.PROMPTS.columns if column.type != schemas.SIGNATURE]
    assert list(rows[0]) == [*columns, "category"]
    assert [path.name for path in output.parent.iterdir()] == [output.name]


HOSTILE = st.one_of(
    st.text(min_size=1),
    st.lists(st.sampled_from([*"=+-@'\"\t\r\n,;\\\0", "None", "\U0001f600", "漢", "<script>"]), min_size=1).map(
        "".join
    ),
)


def _restored(text: str) -> str:
    """What the documents say undoes the guard of a cell."""
    return re.sub(r"\A'('*[=+\-@\t\r])", r"\1", text)


# Few exports of many prompts each: an export costs more than its rows.
@settings(max_examples=8)
@given(prompts=st.lists(HOSTILE, min_size=1, max_size=60))
@pytest.mark.parametrize("kind", FILE_FORMATS)
def test_any_prompt_survives_an_export(tmp_path_factory: pytest.TempPathFactory, kind: str, prompts: list[str]) -> None:
    folder = tmp_path_factory.getbasetemp() / f"export-{kind}"
    lake = Lake.at(str(folder))
    write_prompts(lake, *(prompt_row(number, prompt=text) for number, text in enumerate(prompts)))
    assert _export(lake, [VERSION], kind, folder / "out").rows == len(prompts)
    back = [row["prompt"] for row in _reload(folder / "out", kind)]
    if kind == "csv":
        assert not [text for text in back if text.startswith(FORMULA_STARTS)]
        back = [_restored(text) for text in back]
    assert back == prompts


@settings(max_examples=6)
@given(prompts=st.lists(HOSTILE.filter(lambda text: "\0" not in text), min_size=1, max_size=60))
@pytest.mark.parametrize("kind", FILE_FORMATS)
def test_pandas_and_duckdb_count_the_rows_that_were_written(
    tmp_path_factory: pytest.TempPathFactory, kind: str, prompts: list[str]
) -> None:
    folder = tmp_path_factory.getbasetemp() / f"loaded-{kind}"
    lake = Lake.at(str(folder))
    write_prompts(lake, *(prompt_row(number, prompt=text, nsfw_level="None") for number, text in enumerate(prompts)))
    output = folder / "out"
    written = _export(lake, [], kind, output).rows
    readers: dict[str, Callable[[], pd.DataFrame]] = {
        "csv": lambda: pd.read_csv(output, keep_default_na=False),
        "jsonl": lambda: pd.read_json(output, lines=True, dtype=False),
        "parquet": lambda: pd.read_parquet(output),
    }
    frame = readers[kind]()
    assert (len(frame), set(frame["nsfw_level"])) == (written, {"None"})
    assert rows_in_duckdb(output, kind) == written


def test_a_byte_order_mark_is_written_when_asked_for(lake: Lake, tmp_path: Path) -> None:
    write_prompts(lake, prompt_row(1, prompt="漢"))
    _export(lake, [], "csv", tmp_path / "plain.csv")
    _export(lake, [], "csv", tmp_path / "marked.csv", bom=True)
    assert (tmp_path / "marked.csv").read_bytes() == b"\xef\xbb\xbf" + (tmp_path / "plain.csv").read_bytes()
    assert (tmp_path / "plain.csv").read_bytes().startswith(b"image_id,")


def test_columns_are_written_in_the_order_asked_for(lake: Lake, tmp_path: Path) -> None:
    write_prompts(lake, prompt_row(1, prompt="(Kite:1.2) <lora:x:1>, easyfog", negative_prompt=None, username="ann"))
    write(lake, schemas.PROMPT_CATEGORIES, [category_row(1, "style"), category_row(1, "mood", primary=False)])
    write(lake, schemas.PROMPT_RESOURCES, [resource_row(1, "embedding", "EasyFog"), resource_row(1, "lora", "Kite")])
    asked = "clean_prompt,categories,category,matched_keywords,clean_negative_prompt,image_id"
    expected: dict[str, Any] = {
        "clean_prompt": "Kite",
        "categories": ["mood", "style"],
        "category": "style",
        "matched_keywords": ["kite"],
        "clean_negative_prompt": None,
        "image_id": 1,
    }
    for kind in ("jsonl", "parquet"):
        _export(lake, [], kind, tmp_path / "out", columns=asked)
        assert [list(row.items()) for row in _reload(tmp_path / "out", kind)] == [list(expected.items())]
    _export(lake, [], "csv", tmp_path / "out", columns=asked)
    [row] = _reload(tmp_path / "out", "csv")
    assert (json.loads(row["categories"]), row["clean_negative_prompt"]) == (["mood", "style"], "")
    _export(lake, [], "jsonl", tmp_path / "out", columns=" default , clean_prompt")
    assert list(_reload(tmp_path / "out", "jsonl")[0])[-2:] == ["category", "clean_prompt"]


@pytest.mark.parametrize("names", [[*COLUMNS], ["category"], ["clean_prompt"], ["author_hash"], ["prompt"]])
def test_every_column_has_its_type_with_others_and_alone(lake: Lake, tmp_path: Path, names: list[str]) -> None:
    write_prompts(lake, prompt_row(1, username="ann"))
    _export(lake, [], "parquet", tmp_path / "out", columns=",".join(names))
    written = pq.read_schema(str(tmp_path / "out"))
    assert [(field.name, field.type) for field in written] == [(name, COLUMNS[name].type) for name in names]


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ("image_id,colour", "there is no column 'colour'; there are default, image_id, "),
        ("", "there is no column ''"),
        ("image_id,image_id", "names image_id twice"),
        ("default,prompt", "names prompt twice"),
    ],
)
def test_columns_that_cannot_be_are_told(lake: Lake, tmp_path: Path, columns: str, says: str) -> None:
    write_prompts(lake, prompt_row(1))
    with pytest.raises(OptionError, match=says):
        _export(lake, [], "csv", tmp_path / "out.csv", columns=columns)
    assert not (tmp_path / "out.csv").exists()


@pytest.mark.parametrize("text", FORMULAS)
def test_a_spreadsheet_sees_no_formula_in_any_column_of_text(lake: Lake, tmp_path: Path, text: str) -> None:
    names = [column.name for column in schemas.PROMPTS.columns if column.type == schemas.VARCHAR]
    write_prompts(lake, prompt_row(1) | dict.fromkeys(names, text))
    _export(lake, [], "csv", tmp_path / "out.csv")
    [row] = _reload(tmp_path / "out.csv", "csv")
    assert {row[name] for name in names} == {"'" + text}
    for kind in ("jsonl", "parquet"):
        _export(lake, [], kind, tmp_path / f"out.{kind}")
        assert _reload(tmp_path / f"out.{kind}", kind)[0]["prompt"] == text


def test_a_negative_number_is_no_formula(lake: Lake, tmp_path: Path) -> None:
    write_prompts(lake, prompt_row(1, seed=-5, cfg_scale=-0.5))
    _export(lake, [], "csv", tmp_path / "out.csv")
    [row] = _reload(tmp_path / "out.csv", "csv")
    assert (row["seed"], row["cfg_scale"]) == ("-5", "-0.5")


@pytest.mark.parametrize("kind", FILE_FORMATS)
def test_a_withdrawn_prompt_is_left_out_unless_asked_for(lake: Lake, tmp_path: Path, kind: str) -> None:
    write_prompts(lake, prompt_row(1), prompt_row(2, prompt_withdrawn_at=THEN), prompt_row(3))
    assert _export(lake, [VERSION], kind, tmp_path / "out").rows == 2
    assert [int(row["image_id"]) for row in _reload(tmp_path / "out", kind)] == [1, 3]
    assert _export(lake, [VERSION], kind, tmp_path / "out", include_withdrawn=True).rows == 3
    assert [int(row["image_id"]) for row in _reload(tmp_path / "out", kind)] == [1, 2, 3]


def test_versions_are_chosen_and_all_of_them_is_the_default(lake: Lake, tmp_path: Path) -> None:
    for version in (5, 7, 9):
        write_prompts(lake, prompt_row(1, version=version), prompt_row(version * 10, version=version), version=version)
    for chosen, expected in (([], [5, 5, 7, 7, 9, 9]), ([7], [7, 7]), ([9, 5, 9], [5, 5, 9, 9])):
        assert _export(lake, chosen, "jsonl", tmp_path / "out").rows == len(expected)
        assert [row["model_version_id"] for row in _reload(tmp_path / "out", "jsonl")] == expected


def test_the_primary_category_stands_beside_its_prompt_and_no_other(lake: Lake, tmp_path: Path) -> None:
    write_prompts(lake, prompt_row(1), prompt_row(2))
    write_prompts(lake, prompt_row(1, version=5), version=5)
    rows = [category_row(1, "style"), category_row(1, "mood", primary=False)]
    write(lake, schemas.PROMPT_CATEGORIES, rows)
    write(lake, schemas.PROMPT_CATEGORIES, [category_row(1, "basic", version=5)], 5)
    assert _export(lake, [], "parquet", tmp_path / "out").rows == 3
    found = [
        (row["model_version_id"], row["image_id"], row["category"]) for row in _reload(tmp_path / "out", "parquet")
    ]
    assert found == [(5, 1, "basic"), (VERSION, 1, "style"), (VERSION, 2, None)]


def test_null_and_empty_stay_apart_where_the_format_can_tell(lake: Lake, tmp_path: Path) -> None:
    write_prompts(lake, prompt_row(1, negative_prompt=None), prompt_row(2, negative_prompt=""))
    for kind in ("jsonl", "parquet"):
        _export(lake, [], kind, tmp_path / "out")
        assert [row["negative_prompt"] for row in _reload(tmp_path / "out", kind)] == [None, ""]
    _export(lake, [], "csv", tmp_path / "out")
    assert ',"",' in (tmp_path / "out").read_text(encoding="utf-8").splitlines()[2]


def test_times_are_written_in_utc(lake: Lake, tmp_path: Path) -> None:
    write_prompts(lake, prompt_row(1, created_at=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)))
    for kind, text in (("csv", "2026-01-02 03:04:05+00"), ("jsonl", "2026-01-02 03:04:05+00")):
        _export(lake, [], kind, tmp_path / "out")
        assert _reload(tmp_path / "out", kind)[0]["created_at"] == text


def test_what_was_never_collected_cannot_be_exported_and_nothing_is_written(lake: Lake, tmp_path: Path) -> None:
    write_prompts(lake, prompt_row(1))
    with pytest.raises(ExportError, match=r"nothing has been collected of model version 5, 7; run .* collect 5 first"):
        _export(lake, [5, VERSION, 7], "csv", tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()


def test_an_empty_lake_exports_no_rows_under_the_same_columns(lake: Lake, tmp_path: Path) -> None:
    assert _export(lake, [], "csv", tmp_path / "out.csv").rows == 0
    assert (tmp_path / "out.csv").read_text().strip().split(",")[:2] == ["image_id", "model_version_id"]


@pytest.mark.parametrize("name", ["it's.csv", "a b;c.csv", "[x]*.csv", "日本.csv", "out.csv.gz", ".hidden", "%d.csv"])
def test_the_output_may_have_any_name(lake: Lake, tmp_path: Path, name: str) -> None:
    write_prompts(lake, prompt_row(1))
    _export(lake, [], "csv", tmp_path / name)
    assert len(_reload(tmp_path / name, "csv")) == 1
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == [name]


def test_an_output_that_cannot_be_written_is_told_and_the_old_file_stays(lake: Lake, tmp_path: Path) -> None:
    write_prompts(lake, prompt_row(1))
    (tmp_path / "file").write_text("old")
    (tmp_path / "folder").mkdir()
    for output in (tmp_path / "file" / "out.csv", tmp_path / "folder", Path(), Path("/"), Path("/proc/x.csv")):
        with pytest.raises(ExportError, match=r"cannot write .*choose another --output") as caught:
            _export(lake, [], "csv", output)
        assert "\n" not in str(caught.value)
    assert (tmp_path / "file").read_text() == "old"
    assert list((tmp_path / "folder").iterdir()) == []


def test_a_failed_export_leaves_the_earlier_one(lake: Lake, tmp_path: Path) -> None:
    write_prompts(lake, prompt_row(1))
    output = tmp_path / "out.csv"
    _export(lake, [], "csv", output)
    before = output.read_bytes()
    lake.table(schemas.PROMPTS, VERSION).write_bytes(b"damaged")
    with pytest.raises(LakeError, match=r"910011\.parquet"):
        _export(lake, [], "csv", output)
    assert output.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lake", "out.csv"]

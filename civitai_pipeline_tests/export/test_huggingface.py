"""The dataset folder: splits that do not leak, a card whose numbers are those of the data, names hidden."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from civitai_pipeline.export.card import size_category
from civitai_pipeline.export.columns import columns_of
from civitai_pipeline.export.huggingface import write_splits
from civitai_pipeline.export.options import ExportOptions
from civitai_pipeline.export.rows import RowReader
from civitai_pipeline.export.run import ExportResult, export_prompts
from civitai_pipeline.export.selection import assign_splits, select_rows
from civitai_pipeline.export.staging import MARKER, ExportError
from civitai_pipeline.lake import schemas
from civitai_pipeline.lake.database import connect
from civitai_pipeline.lake.paths import Lake
from civitai_pipeline_tests.docs.documents import rows_after
from civitai_pipeline_tests.lake.examples import VERSION, landed_row, prompt_row, write, write_prompts

if TYPE_CHECKING:
    from pathlib import Path

SPLITS = ("train", "validation", "test")


def _export(lake: Lake, output: Path, **choices: Any) -> ExportResult:  # noqa: ANN401 - options
    return export_prompts(lake, [], ExportOptions("huggingface", **choices), output)


def _rows(folder: Path, split: str) -> list[dict[str, Any]]:
    return [
        row for path in sorted(folder.glob(f"data/{split}-*.parquet")) for row in pq.read_table(str(path)).to_pylist()
    ]


def _card(folder: Path) -> tuple[dict[str, Any], str]:
    text = (folder / "README.md").read_text(encoding="utf-8")
    _, front, body = text.split("---\n", 2)
    return yaml.safe_load(front), body


def _varied(version: int, images: int) -> list[dict[str, Any]]:
    return [
        prompt_row(
            version * 1000 + number,
            version=version,
            username=f"author{number % 37}",
            prompt=f"kite {number}, (dunes:1.2) <lora:fog:0.6>",
            prompt_hash=f"h{number}",
            base_model=["SDXL 1.0", "Pony|<b>\n~http://a@www.b", None][number % 3],
            browsing_level=[1, 1, 2, 4][number % 4],
        )
        for number in range(images)
    ]


@pytest.fixture
def filled(lake: Lake) -> Lake:
    for version in (5, VERSION):
        write_prompts(lake, *_varied(version, 120), version=version)
        write(lake, schemas.LANDED_PAGES, [landed_row(1, 1, 1, browsing_level=4, model_version_id=version)], version)
    info = {"model_version_id": VERSION, "model_name": "Kite | Maker", "version_name": "v1"}
    write(lake, schemas.MODEL_VERSION_INFO, [info])
    return lake


ROWS = st.lists(
    st.tuples(st.sampled_from([None, *"abcdefgh"]), st.integers(0, 30), st.none() | st.integers(1, 10)),
    min_size=1,
    max_size=60,
)


@settings(max_examples=10)
@given(rows=ROWS, split_by=st.sampled_from(["both", "near", "author"]), seed=st.integers(0, 5))
def test_what_must_stay_together_is_in_one_split(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[tuple[str | None, int, int | None]],
    split_by: str,
    seed: int,
) -> None:
    folder = tmp_path_factory.mktemp("splits")
    lake = Lake.at(str(folder / "lake"))
    for version in (5, 7):
        made = [
            prompt_row(number, version=version, username=author, prompt_hash=f"{text}", near_duplicate_group=near)
            for number, (author, text, near) in enumerate(rows, start=1)
            if number % 3 or version == 5
        ]
        write_prompts(lake, *made, version=version)
    result = _export(lake, folder / "out", split_by=split_by, seed=seed)
    places: dict[tuple[str, object], set[str]] = {}
    written = 0
    for split in SPLITS:
        found = _rows(folder / "out", split)
        written += len(found)
        assert result.splits.get(split, 0) == len(found)
        for row in found:
            kept = [("image", row["image_id"])]
            if split_by != "author":
                kept += [("prompt", row["prompt_hash"]), ("near", row["near_duplicate_group"])]
            if split_by != "near":
                kept += [("author", row["author_hash"])]
            for name, value in kept:
                if value is not None:
                    places.setdefault((name, value), set()).add(split)
    assert written == result.rows == result.held
    assert not {key: splits for key, splits in places.items() if len(splits) > 1}


def test_pandas_and_duckdb_load_as_many_rows_as_the_card_says(filled: Lake, tmp_path: Path) -> None:
    result = _export(filled, tmp_path / "out")
    front, body = _card(tmp_path / "out")
    declared = {split["name"]: split["num_examples"] for split in front["dataset_info"]["splits"]}
    assert declared == result.splits
    assert set(declared) == set(SPLITS)
    for split, count in declared.items():
        frames = [pd.read_parquet(path) for path in (tmp_path / "out").glob(f"data/{split}-*.parquet")]
        assert sum(map(len, frames)) == count
        loaded = duckdb.from_parquet(str(tmp_path / "out" / "data" / f"{split}-*.parquet"))
        assert loaded.shape[0] == count
    assert duckdb.from_parquet(str(tmp_path / "out" / "data" / "*.parquet")).shape[0] == result.rows == 240
    assert f"\n{result.rows:,} prompts that people published" in body


def test_every_number_of_the_card_is_that_of_the_data(filled: Lake, tmp_path: Path) -> None:
    _export(filled, tmp_path / "out")
    data = {split: _rows(tmp_path / "out", split) for split in SPLITS}
    _, body = _card(tmp_path / "out")
    names = {1: "PG", 2: "PG-13", 4: "R"}
    for heading, column, shown in (
        ("### By maturity", "browsing_level", lambda value: names[value]),
        ("### By base model", "base_model", lambda value: value or "unknown"),
        ("### By model version", "model_version_id", str),
    ):
        told = {row[0]: [int(cell) for cell in row[1:]] for row in _table(body, heading)}
        counted: dict[str, list[int]] = {}
        for place, split in enumerate(SPLITS):
            for row in data[split]:
                counts = counted.setdefault(shown(row[column]), [0, 0, 0, 0])
                counts[place] += 1
                counts[3] += 1
        renamed = {
            "Pony|<b>\n~http://a@www.b": r"Pony\|&lt;b&gt; \~http\://a\@www\.b",
            str(VERSION): rf"{VERSION} Kite \| Maker v1",
        }
        assert told == {renamed.get(name, name): counts for name, counts in counted.items()}
    assert _table(body, "## Counts")[0] == ["all rows", *(str(len(data[s])) for s in SPLITS), "240"]


def _table(body: str, heading: str) -> list[list[str]]:
    rows = rows_after(body.replace(r"\|", "\0"), heading)
    return [[cell.replace("\0", r"\|") for cell in row] for row in rows]


def test_the_front_matter_describes_the_files_as_they_are(filled: Lake, tmp_path: Path) -> None:
    _export(filled, tmp_path / "out", columns="default,categories")
    front, _ = _card(tmp_path / "out")
    kinds = {"int64": pa.int64(), "int32": pa.int32(), "float64": pa.float64(), "string": pa.string()}
    kinds["timestamp[us, tz=UTC]"] = pa.timestamp("us", tz="UTC")
    declared = [
        (feature["name"], kinds[feature["dtype"]] if "dtype" in feature else pa.list_(kinds[feature["sequence"]]))
        for feature in front["dataset_info"]["features"]
    ]
    files = sorted((tmp_path / "out" / "data").iterdir())
    for path in files:
        assert [(field.name, field.type) for field in pq.read_schema(str(path))] == declared
    assert [(one["split"], one["path"]) for one in front["configs"][0]["data_files"]] == [
        (split, f"data/{split}-*.parquet") for split in SPLITS
    ]
    assert (front["license"], front["size_categories"]) == ("other", ["n<1K"])
    assert front["dataset_info"]["download_size"] == sum(path.stat().st_size for path in files)
    assert "not-for-all-audiences" in front["tags"]
    _export(filled, tmp_path / "out", max_level="PG-13")
    assert "not-for-all-audiences" not in _card(tmp_path / "out")[0]["tags"]


def test_the_card_tells_every_column_and_what_was_left_out(filled: Lake, tmp_path: Path) -> None:
    _export(filled, tmp_path / "out", max_level="PG", limit=100, seed=3)
    front, body = _card(tmp_path / "out")
    told = [row[0].strip("`") for row in rows_after(body, "## Columns")]
    assert told == [feature["name"] for feature in front["dataset_info"]["features"]]
    assert [row[0] for row in rows_after(body, "## How it was made")] == ["120", "20"]
    assert "- `max_level`: PG\n- `limit`: 100\n- `seed`: 3\n" in body
    for part in ("Licence and caution", "any warranty", "keyed BLAKE2b", "Known biases", "240 rows were held"):
        assert part in body


def test_no_file_of_the_folder_holds_a_user_name(filled: Lake, tmp_path: Path) -> None:
    _export(filled, tmp_path / "out")
    assert "username" not in _rows(tmp_path / "out", "train")[0]
    for path in (tmp_path / "out").rglob("*"):
        if path.is_file() and path.suffix != ".parquet":
            assert b"author1" not in path.read_bytes()
    assert not [row for split in SPLITS for row in _rows(tmp_path / "out", split) if "author1" in str(row.values())]


def test_clean_prompts_stand_beside_the_written_ones(filled: Lake, tmp_path: Path) -> None:
    _export(filled, tmp_path / "out")
    row = _rows(tmp_path / "out", "train")[0]
    assert row["prompt"].endswith(", (dunes:1.2) <lora:fog:0.6>")
    assert row["clean_prompt"] == row["prompt"].replace("(dunes:1.2) <lora:fog:0.6>", "dunes")


def test_shards_hold_all_rows_once(filled: Lake, tmp_path: Path) -> None:
    options = ExportOptions("huggingface", columns="image_id,model_version_id,clean_prompt")
    export_prompts(filled, [], options, tmp_path / "whole")
    with connect(filled) as connection:
        select_rows(connection, filled, [], options, 1)
        assign_splits(connection, options.split_by, options.seed)
        reader = RowReader(connection, filled, columns_of(options), batch_rows=25)
        written = write_splits(connection, reader, tmp_path / "cut", shard_rows=40)
    for split in written:
        shards = sorted((tmp_path / "cut" / "data").glob(f"{split.name}-*.parquet"))
        wanted = -(-split.rows // 40)
        assert [p.name for p in shards] == [f"{split.name}-{n:05d}-of-{wanted:05d}.parquet" for n in range(wanted)]
        assert all(pq.read_metadata(str(path)).num_rows <= 40 for path in shards)
        assert _rows(tmp_path / "cut", split.name) == _rows(tmp_path / "whole", split.name)


def test_too_few_groups_leave_out_a_split_and_say_so(lake: Lake, tmp_path: Path) -> None:
    write_prompts(lake, *(prompt_row(number, username="ann", prompt_hash=f"{number}") for number in range(1, 30)))
    result = _export(lake, tmp_path / "out")
    assert (result.splits, result.largest_group) == ({"train": 29}, 29)
    assert any("--split-by" in note for note in result.notes())
    assert "There is no validation and no test split" in _card(tmp_path / "out")[1]
    assert set(_export(lake, tmp_path / "out", split_by="near").splits) == set(SPLITS)


def test_without_a_row_there_is_no_dataset(lake: Lake, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="there is no row to export: nothing is held; run civitai-pipeline collect"):
        _export(lake, tmp_path / "out")
    write_prompts(lake, prompt_row(1, browsing_level=8))
    with pytest.raises(ExportError, match="no row to export: 1 are above the maturity asked for"):
        _export(lake, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_earlier_dataset_is_replaced_and_other_folders_are_not(filled: Lake, tmp_path: Path) -> None:
    _export(filled, tmp_path / "out")
    (tmp_path / "out" / "data" / "stale.parquet").write_bytes(b"")
    _export(filled, tmp_path / "out", limit=50)
    assert "stale.parquet" not in {path.name for path in (tmp_path / "out" / "data").iterdir()}
    assert json.loads((tmp_path / "out" / MARKER).read_bytes())["rows"] == 50
    (tmp_path / "empty").mkdir()
    _export(filled, tmp_path / "empty")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("unique")
    with pytest.raises(ExportError, match="holds other things than an earlier export; choose another --output"):
        _export(filled, tmp_path / "mine")
    with pytest.raises(ExportError, match="it is a file, and this format is a folder"):
        _export(filled, tmp_path / "mine" / "thesis.txt")
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "unique"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "lake", "mine", "out"]


@pytest.mark.parametrize(
    ("rows", "size"), [(0, "n<1K"), (999, "n<1K"), (1000, "1K<n<10K"), (300_000, "100K<n<1M"), (2 * 10**9, "n>1B")]
)
def test_sizes_are_in_the_words_of_the_hub(rows: int, size: str) -> None:
    assert size_category(rows) == size

"""Where things lie, and that nothing else can become part of a path."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from civitai_pipeline.lake import schemas
from civitai_pipeline.lake.files import LakeError, is_local
from civitai_pipeline.lake.paths import MAX_VERSION_ID, Lake, check_version

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.parametrize("version", [0, -1, MAX_VERSION_ID + 1, "5", "../5", "5/..", None, 5.0, True])
def test_what_is_no_version_becomes_no_path(version: Any, lake: Lake) -> None:  # noqa: ANN401 - that is the point
    places: list[Callable[[], object]] = [
        lambda: lake.pages(version),
        lambda: lake.walk(version, 1),
        lambda: lake.page(version, 1, 1),
        lambda: lake.table(schemas.PROMPTS, version),
        lambda: lake.lock(version),
    ]
    for place in places:
        with pytest.raises(ValueError, match="is not a model version id"):
            place()


@settings(max_examples=50)
@given(st.integers(1, MAX_VERSION_ID))
def test_every_version_has_a_place_of_its_own_inside_the_lake(version: int) -> None:
    lake = Lake.at("/lake")
    assert check_version(version) == version
    places = [lake.pages(version), lake.table(schemas.PROMPTS, version), lake.lock(version)]
    assert len(set(map(str, places))) == 3
    assert all(Path("/lake") in Path(str(place)).parents for place in places)


def test_the_layout_is_the_one_of_the_contract() -> None:
    lake = Lake.at("/lake")
    assert str(lake.page(5, 2, 7)) == "/lake/pages/5/0002/000007.json.zst"
    assert str(lake.table(schemas.PROMPTS, 5)) == "/lake/prompts/5.parquet"
    assert [str(lake.reports), str(lake.exports)] == ["/lake/reports", "/lake/exports"]
    assert str(lake.database) == "/lake/civitai.duckdb"


def test_a_relative_place_is_made_absolute_and_home_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    assert str(Lake.at("data").root) == str(tmp_path / "data")
    assert str(Lake.at("~/data").root) == "/home/me/data"


def test_a_file_address_is_a_folder_of_this_machine(tmp_path: Path) -> None:
    lake = Lake.at(f"file://{tmp_path}/lake")
    assert is_local(lake.root)
    assert str(lake.root) == f"{tmp_path}/lake"


@pytest.mark.parametrize("place", ["nonsense://bucket", "~nobody-of-this-name/lake"])
def test_a_place_that_cannot_be_is_told(place: str) -> None:
    with pytest.raises(LakeError, match="CIVITAI_LAKE cannot be"):
        Lake.at(place).check_writable()


def test_an_object_store_whose_package_is_missing_is_told() -> None:
    if importlib.util.find_spec("s3fs") is not None:
        pytest.skip("s3fs is installed here")
    with pytest.raises(LakeError, match=r"CIVITAI_LAKE cannot be 's3://bucket/lake'.*s3fs"):
        Lake.at("s3://bucket/lake")


def test_tables_have_names_that_need_no_quotes_and_columns_declared_once() -> None:
    names = [table.name for table in schemas.TABLES]
    assert len(set(names)) == len(names)
    for table in schemas.TABLES:
        columns = [column.name for column in table.columns]
        assert len(set(columns)) == len(columns)
        assert set(table.key) <= set(columns)
        assert all(name.isidentifier() and name.islower() for name in [table.name, *columns])
        assert all(column.sql_type and column.description for column in table.columns)
        assert table.column(columns[0]) is table.columns[0]
    with pytest.raises(KeyError):
        schemas.PROMPTS.column("nonsense")

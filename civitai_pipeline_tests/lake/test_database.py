"""The DuckDB file and the SQL that its views share."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest

from civitai_pipeline.lake import schemas
from civitai_pipeline.lake.database import VIEWS, build_database, collection_state, connect, read_all
from civitai_pipeline.lake.files import LakeError
from civitai_pipeline.lake.paths import Lake
from civitai_pipeline.lake.schemas import TABLES
from civitai_pipeline.lake.tables import from_rows
from civitai_pipeline_tests.lake.examples import THEN, VERSION, landed_row, prompt_row, write, write_prompts

NAMES = [table.name for table in TABLES] + list(VIEWS)


def _query(lake: Lake, sql: str) -> list[dict[str, Any]]:
    with duckdb.connect(str(lake.database), read_only=True) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        rows: list[dict[str, Any]] = connection.sql(sql).to_arrow_table().to_pylist()
    return rows


def test_an_empty_lake_has_every_view_with_every_column_and_no_row(lake: Lake) -> None:
    assert build_database(lake) == NAMES
    with duckdb.connect(str(lake.database), read_only=True) as connection:
        for name in NAMES:
            assert connection.sql(f"SELECT count(*) FROM {name}").fetchall() == [(0,)]  # noqa: S608 - our own name
        for table in TABLES:
            relation = connection.sql(f"SELECT * FROM {table.name}")  # noqa: S608 - our own name
            assert relation.columns == [column.name for column in table.columns]
            types = [str(kind).replace("TIMESTAMP WITH TIME ZONE", "TIMESTAMPTZ") for kind in relation.types]
            assert types == [column.sql_type for column in table.columns]


def test_views_have_the_same_columns_and_types_with_and_without_data(lake: Lake) -> None:
    build_database(lake)
    with duckdb.connect(str(lake.database), read_only=True) as connection:
        empty = {name: connection.sql(f"DESCRIBE {name}").fetchall() for name in NAMES}
    write_prompts(lake, prompt_row(1))
    write(lake, schemas.LANDED_PAGES, [landed_row(1, 1, 1)])
    build_database(lake)
    with duckdb.connect(str(lake.database), read_only=True) as connection:
        assert {name: connection.sql(f"DESCRIBE {name}").fetchall() for name in NAMES} == empty


def test_a_column_that_no_file_has_yet_is_null(lake: Lake) -> None:
    write_prompts(lake, prompt_row(1))
    path = Path(str(lake.table(schemas.PROMPTS, VERSION)))
    older = pq.read_table(path).drop_columns(["quality_score", "first_page"])
    pq.write_table(older, path)
    build_database(lake)
    [row] = _query(lake, "SELECT image_id, quality_score, first_page FROM images_unique")
    assert row == {"image_id": 1, "quality_score": None, "first_page": None}
    with connect(lake) as connection:
        assert connection.sql("SELECT quality_score FROM civitai_prompts").fetchall() == [(None,)]


AWKWARD = [
    "it's", 'dou"ble', "sp ace", "a[b]c", "[x", "x]", "st*r", "{a,b}", "per%20cent", "semi;colon", "$HOME", "#hash",
    "日本\N{SNOWMAN}", "new\nline", "**", "image_id=7", "prompt=x", "-- comment",
]  # fmt: skip


@pytest.mark.parametrize("name", AWKWARD)
def test_the_lake_may_lie_in_a_folder_of_any_name(tmp_path: Path, name: str) -> None:
    lake = Lake.at(str(tmp_path / name))
    write_prompts(lake, prompt_row(1))
    write_prompts(lake, prompt_row(2, version=5), version=5)
    build_database(lake)
    expected = [{"image_id": 1, "prompt": "kite 1"}, {"image_id": 2, "prompt": "kite 2"}]
    assert _query(lake, "SELECT image_id, prompt FROM prompts ORDER BY 1") == expected
    with connect(lake) as connection:
        assert connection.sql("SELECT count(*) FROM prompts").fetchall() == [(2,)]


@pytest.mark.parametrize("name", ["qu?stion", "back\\slash"])
def test_a_folder_whose_name_duckdb_cannot_take_is_told(tmp_path: Path, name: str) -> None:
    lake = Lake.at(str(tmp_path / name))
    with pytest.raises(LakeError) as caught:
        build_database(lake)
    assert str(lake.database) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_views_follow_the_tables_without_being_built_again(lake: Lake) -> None:
    write_prompts(lake, prompt_row(1))
    build_database(lake)
    write_prompts(lake, prompt_row(1), prompt_row(2))
    write_prompts(lake, prompt_row(3, version=5), version=5)
    assert [row["image_id"] for row in _query(lake, "SELECT image_id FROM prompts ORDER BY 1")] == [1, 2, 3]


def test_a_reader_holds_the_database_open_while_it_is_built_anew(lake: Lake) -> None:
    write_prompts(lake, prompt_row(1))
    build_database(lake)
    with duckdb.connect(str(lake.database), read_only=True) as reader:
        write_prompts(lake, prompt_row(1), prompt_row(2))
        threads = [threading.Thread(target=build_database, args=(lake,)) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert reader.sql("SELECT count(*) FROM prompts").fetchall() == [(2,)]
    assert list((lake.root / ".tmp").iterdir()) == []
    assert sorted(path.name for path in lake.root.iterdir()) == [".tmp", "civitai.duckdb", "prompts"]


def test_a_damaged_table_fails_the_queries_that_read_it_and_nothing_else(lake: Lake) -> None:
    write_prompts(lake, prompt_row(1))
    write(lake, schemas.LANDED_PAGES, [landed_row(1, 1, 1)])
    lake.table(schemas.PROMPTS, 5).write_bytes(b"no parquet")
    build_database(lake)
    assert len(_query(lake, "FROM landed_pages")) == 1
    # Planning opens no file: the longer that took, the more of them were replaced before they were read.
    assert _query(lake, "EXPLAIN FROM prompts")
    with pytest.raises(duckdb.Error, match=r"prompts/5\.parquet"):
        _query(lake, "SELECT count(*) FROM prompts")
    with pytest.raises(LakeError, match=r"prompts/5\.parquet.*check --repair makes") as caught:
        read_all(lake, schemas.PROMPTS)
    assert "\n" not in str(caught.value)


def test_times_are_read_in_utc(lake: Lake) -> None:
    write_prompts(lake, prompt_row(1, created_at=datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)))
    with connect(lake) as connection:
        assert connection.sql("SELECT created_at::VARCHAR FROM prompts").fetchall() == [
            ("2026-01-02 03:04:05.000006+00",)
        ]


def test_the_state_of_a_collection_is_what_was_worked_out_by_hand() -> None:
    other = '{"browsing_level": 31}'
    old, young = THEN - timedelta(days=9), THEN - timedelta(days=1)
    rows = [
        # A first walk to its end: 5 + 4 items.
        landed_row(1, 1, 1, new=3, no_prompt=2, next_cursor="2|x", max_items=9, oldest_created_at=old),
        landed_row(1, 2, 2, new=1, updated=1, duplicate=1, malformed=1, newest_created_at=young),
        # Another listing of the version in between, still open.
        landed_row(2, 1, 3, listing=other, browsing_level=31, duplicate=4, new=2, next_cursor="9|y"),
        # The first listing walked anew, and a confirmation without news.
        landed_row(3, 1, 4, updated=2, version_mismatch=5, next_cursor="2|x", max_items=50),
        landed_row(3, 2, 5, duplicate=3, confirms="3/1", next_cursor="3|x", max_items=70),
        # Another version.
        landed_row(1, 1, 1, model_version_id=5, new=1),
    ]
    states = collection_state(from_rows(schemas.LANDED_PAGES, rows))
    picked = (
        "model_version_id", "browsing_level", "status", "walk", "pages", "attempted", "saved", "duplicates",
        "planned_total", "next_page_cursor", "last_page_number", "total_collected",
    )  # fmt: skip
    assert [tuple(state[name] for name in picked) for state in states] == [
        (5, 1, "at_end", 1, 1, 1, 1, 0, None, None, 1, 1),
        (VERSION, 31, "open", 2, 1, 6, 2, 4, None, "9|y", 1, 2),
        (VERSION, 1, "open", 3, 4, 5 + 4 + 7 + 3, 3 + 2 + 2, 1 + 3, 70, "3|x", 2, 4),
    ]
    assert states[2]["last_successful_fetch_at"] == THEN + timedelta(minutes=5)
    assert (states[2]["oldest_created_at"], states[2]["newest_created_at"]) == (old, young)
    assert [states[1]["listing"], states[1]["sort"]] == [other, "Oldest"]


def test_the_view_of_the_state_says_the_same_as_the_function(lake: Lake) -> None:
    rows = [landed_row(1, 1, 1, new=3, next_cursor="2|x"), landed_row(1, 2, 2, duplicate=1)]
    write(lake, schemas.LANDED_PAGES, rows)
    build_database(lake)
    assert _query(lake, "FROM collection_state") == collection_state(from_rows(schemas.LANDED_PAGES, rows))


def test_an_image_of_several_versions_is_unique_at_its_latest_sighting(lake: Lake) -> None:
    later = THEN + timedelta(days=1)
    write_prompts(lake, prompt_row(1, version=5, last_seen_at=later), prompt_row(2, version=5), version=5)
    write_prompts(lake, prompt_row(1), prompt_row(2), prompt_row(3))
    write_prompts(lake, prompt_row(2, version=7, last_seen_at=later), version=7)
    build_database(lake)
    rows = _query(lake, "SELECT image_id, model_version_id, model_version_ids FROM images_unique ORDER BY 1")
    assert [tuple(row.values()) for row in rows] == [
        (1, 5, [5, VERSION]),
        (2, 7, [5, 7, VERSION]),
        (3, VERSION, [VERSION]),
    ]


def test_the_older_tools_columns_are_served_under_their_names(lake: Lake) -> None:
    row = prompt_row(41, negative_prompt="blur", quality_score=17, reaction_count=6, comment_count=2, tag_count=3)
    write_prompts(lake, row)
    write_prompts(lake, prompt_row(42, version=5), version=5)
    info = {"model_version_id": VERSION, "model_id": 9001, "model_name": "Kites"}
    write(lake, schemas.MODEL_VERSION_INFO, [info])
    build_database(lake)
    known, nameless = _query(lake, "FROM civitai_prompts ORDER BY civitai_id")
    assert known == {
        "civitai_id": "41",
        "full_prompt": "kite 41",
        "negative_prompt": "blur",
        "quality_score": 17,
        "reaction_count": 6,
        "comment_count": 2,
        "prompt_length": 6,
        "tag_count": 3,
        "model_name": "Kites",
        "model_id": "9001",
        "model_version_id": str(VERSION),
        "collected_at": THEN,
    }
    assert (nameless["civitai_id"], nameless["model_name"], nameless["model_id"]) == ("42", None, None)

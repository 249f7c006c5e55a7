"""Queries that can only read: what they give, and all the ways in which they cannot write."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from civitai_pipeline.lake.database import VIEWS, build_database
from civitai_pipeline.lake.files import LakeError
from civitai_pipeline.lake.reading import QueryError, reading
from civitai_pipeline.lake.schemas import TABLES
from civitai_pipeline_tests.lake.examples import prompt_row, write_prompts

if TYPE_CHECKING:
    from pathlib import Path

    from civitai_pipeline.lake.paths import Lake


@pytest.fixture
def filled(lake: Lake) -> Lake:
    write_prompts(lake, *(prompt_row(n) for n in range(1, 2501)))
    build_database(lake)
    return lake


def ask(lake: Lake, script: str) -> list[list[tuple[Any, ...]]]:
    with reading(lake) as reader:
        return [list(answer.rows) for answer in reader.answers(script)]


def test_answers_have_all_rows_and_the_names_of_their_columns(filled: Lake) -> None:
    with reading(filled) as reader:
        (answer,) = reader.answers("SELECT image_id, image_id FROM prompts ORDER BY image_id -- all of them\n;")
        assert answer.columns == ["image_id", "image_id"]
        assert [row[0] for row in answer.rows] == list(range(1, 2501))


def test_a_script_is_answered_statement_by_statement_and_nothing_by_nothing(filled: Lake) -> None:
    assert ask(filled, "SELECT 1; VALUES (2); FROM prompts LIMIT 0;") == [[(1,)], [(2,)], []]
    assert ask(filled, " -- nothing\n") == []


@pytest.mark.parametrize("query", ["DESCRIBE prompts", "SUMMARIZE prompts", "SHOW TABLES", "TABLE collection_state"])
def test_what_looks_at_views_is_a_query_too(filled: Lake, query: str) -> None:
    assert len(ask(filled, query)) == 1


def test_the_views_are_listed(filled: Lake) -> None:
    with reading(filled) as reader:
        assert set(reader.views()) == {table.name for table in TABLES} | set(VIEWS)


@pytest.mark.parametrize(
    "query",
    [
        "COPY (SELECT 1) TO '{lake}/x.csv'",
        "WITH x AS (COPY (SELECT 1) TO '{lake}/x.csv') SELECT 1",
        "SELECT (WITH x AS (COPY (SELECT 1) TO '{lake}/x.csv') SELECT 1)",
        "EXPLAIN ANALYZE COPY (SELECT 1) TO '{lake}/x.csv'",
        "FROM query('COPY (SELECT 1) TO ''{lake}/x.csv''')",
        "EXPORT DATABASE '{lake}/x'",
        "ATTACH '{lake}/x.duckdb' AS x",
        "CREATE TABLE x AS SELECT 1",
        "CREATE TEMP TABLE x AS SELECT 1",
        "DROP VIEW prompts",
        "WITH x AS (INSERT INTO prompts VALUES (1) RETURNING *) FROM x",
        "SET enable_external_access = true",
        "INSTALL httpfs",
        "PRAGMA enable_profiling",
        "SELECT 1); COPY (SELECT 1) TO '{lake}/x.csv'; --",
        "FROM read_text('{outside}')",
        "FROM read_text('{lake}/../outside.txt')",
        "FROM 'https://example.org/x.parquet'",
    ],
)
def test_nothing_can_be_written_and_nothing_read_elsewhere(filled: Lake, tmp_path: Path, query: str) -> None:
    outside = tmp_path / "outside.txt"
    outside.write_text("secret", encoding="utf-8")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(QueryError) as caught:
        ask(filled, query.format(lake=filled.root, outside=outside))
    assert "\n" not in str(caught.value)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()} == before


def test_an_error_is_one_line_without_the_place_in_the_query(filled: Lake) -> None:
    with pytest.raises(QueryError, match=r"^Binder Error: Referenced column \"nope\" not found") as caught:
        ask(filled, "SELECT nope\nFROM prompts")
    assert "LINE" not in str(caught.value)


def test_a_lake_without_a_database_says_what_to_run(lake: Lake) -> None:
    with pytest.raises(LakeError, match="run civitai-pipeline collect"):
        ask(lake, "SELECT 1")


def test_a_query_larger_than_memory_leaves_nothing_in_the_lake(filled: Lake) -> None:
    before = sorted(filled.root.iterdir())
    with reading(filled) as reader:
        (answer,) = reader.answers("SELECT current_setting('temp_directory')")
        ((folder,),) = answer.rows
        assert str(filled.root) not in folder
        assert sorted(filled.root.iterdir()) == before

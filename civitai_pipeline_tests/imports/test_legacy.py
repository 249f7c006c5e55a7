"""Whole databases of the older tool, imported."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pytest

from civitai_pipeline.civitai.client import CivitaiClient
from civitai_pipeline.collect.collector import Collector
from civitai_pipeline.collect.options import CollectOptions
from civitai_pipeline.collect.preview import preview_collection
from civitai_pipeline.derive.prompt_tables import load_held
from civitai_pipeline.imports import legacy
from civitai_pipeline.imports.legacy import import_older_file
from civitai_pipeline.imports.older_file import NoOlderFileError, OlderFileError
from civitai_pipeline.lake import schemas
from civitai_pipeline.lake.database import collection_state
from civitai_pipeline.lake.ledger import Ledger
from civitai_pipeline.lake.locks import sole_writer
from civitai_pipeline.lake.paths import Lake
from civitai_pipeline.lake.tables import read_table
from civitai_pipeline.sandbox import Sandbox, World
from civitai_pipeline.upkeep.standing import is_begun, state_of
from civitai_pipeline.watchlist import Watchlist
from civitai_pipeline_tests.collect.stage import item
from civitai_pipeline_tests.tables import build_resources, built_tables

from .older import MODEL, NAME, START, VERSIONS, Release, make_older

if TYPE_CHECKING:
    from pathlib import Path

    from .older import Older

VERSION = VERSIONS[0]


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake.at(str(tmp_path / "lake"))


def rows_of(lake: Lake) -> dict[tuple[int, int], dict[str, Any]]:
    return {
        (version, row["image_id"]): row
        for version in lake.versions()
        for row in built_tables(lake, version).prompts.to_pylist()
    }


def check_rows(lake: Lake, *databases: Older) -> None:
    expected = {key: row for older in databases for key, row in older.rows.items()}
    found = rows_of(lake)
    assert found.keys() == expected.keys()
    for key, row in expected.items():
        assert {name: found[key][name] for name in row} == row


def collect(server: Sandbox, lake: Lake, **options: Any) -> dict[str, Any]:  # noqa: ANN401 - any option
    client = CivitaiClient(server.url, min_request_interval=0, timeout=5, retry_budget=0)
    return Collector(client, lake, VERSION, CollectOptions(**options)).run().as_dict()


@pytest.mark.parametrize("has_versions", [True, False])
@pytest.mark.parametrize("has_resources", [True, False])
def test_a_generated_database_gives_the_rows_it_should(
    lake: Lake, tmp_path: Path, has_versions: bool, has_resources: bool
) -> None:
    older = make_older(tmp_path / "older.db", rows=90, release=Release(has_versions, has_resources))
    done = import_older_file(lake, older.path)
    check_rows(lake, older)
    assert done.rejected.total() == len(older.broken) >= 6
    assert done.rows == 90
    assert sum(version.tally.attempted for version in done.versions) == 90 - len(older.broken)
    built = {version: built_tables(lake, version) for version in lake.versions()}
    rejected = {(v, row["image_id"]) for v, tables in built.items() for row in tables.rejected_images.to_pylist()}
    assert rejected == older.no_prompt
    naming = {
        (version, row["image_id"])
        for version, tables in built.items()
        for row in build_resources(tables.prompts).to_pylist()
        if row["resource_type"] == "checkpoint" and row["resource_version_id"] == version
    }
    assert naming == older.naming


def test_what_cannot_become_rows_is_kept_aside_whole(lake: Lake, tmp_path: Path) -> None:
    older = make_older(tmp_path / "older.db")
    done = import_older_file(lake, older.path)
    assert done.kept_aside == f"imports/{done.digest}"
    folder = lake.imported(done.digest)
    lines = [json.loads(line) for line in (folder / "rejected.jsonl").read_text(encoding="utf-8").splitlines()]
    assert {line["row"] for line in lines} == older.broken
    assert all(line["reason"] and line["columns"]["full_prompt"] for line in lines)
    assert [example["row"] for example in done.examples] == [line["row"] for line in lines][:5]
    assert len((folder / "prompt_categories.jsonl").read_text(encoding="utf-8").splitlines()) == 60
    states = [json.loads(line) for line in (folder / "collection_state.jsonl").read_text(encoding="utf-8").splitlines()]
    assert {state["status"] for state in states} == {"idle", "running"}


def test_an_import_lands_pages_of_a_walk_of_its_own_at_its_end(lake: Lake, tmp_path: Path) -> None:
    done = import_older_file(lake, make_older(tmp_path / "older.db", rows=30, versions=[VERSION]).path)
    (state,) = Ledger(lake, VERSION).walks()
    assert not state.is_open
    assert state.last.is_imported
    assert state.last.options.append_only
    assert state.last.listing["source"] == "older.db"
    assert str(tmp_path) not in json.dumps(state.last.listing) + state.last.url
    (row,) = collection_state(load_held(lake, VERSION).landed_pages)
    assert (row["sort"], row["status"], row["total_collected"]) == (
        "Import",
        "at_end",
        done.versions[0].as_dict()["new"],
    )
    (info,) = read_table(lake, schemas.MODEL_VERSION_INFO, VERSION).to_pylist()
    assert (info["model_name"], info["model_id"], info["fetched_at"]) == (NAME, MODEL, None)


def test_importing_again_and_the_same_rows_from_another_file_land_nothing(lake: Lake, tmp_path: Path) -> None:
    older = make_older(tmp_path / "older.db", breaks=False)
    shutil.copy(older.path, tmp_path / "copy.db")
    with closing(sqlite3.connect(tmp_path / "copy.db")) as connection, connection:
        connection.execute("UPDATE civitai_prompts SET full_prompt = 'changed since', raw_metadata = ''")
    import_older_file(lake, older.path)
    before = {version: Ledger(lake, version).covered() for version in lake.versions()}
    for path in (older.path, tmp_path / "copy.db"):
        again = import_older_file(lake, path)
        assert [version.pages for version in again.versions] == [0] * len(VERSIONS)
        assert sum(version.items_here_already for version in again.versions) == 60
    assert {version: Ledger(lake, version).covered() for version in lake.versions()} == before
    check_rows(lake, older)


def test_a_second_file_adds_what_the_first_had_not(lake: Lake, tmp_path: Path) -> None:
    first = make_older(tmp_path / "a.db", rows=30, breaks=False)
    second = make_older(tmp_path / "b.db", rows=30, first_image=1020, seed=2, breaks=False)
    import_older_file(lake, first.path)
    held = rows_of(lake)
    import_older_file(lake, second.path)
    found = rows_of(lake)
    # The same image in the galleries of two versions is a row in each.
    assert found.keys() == first.rows.keys() | second.rows.keys()
    assert {key: found[key]["prompt"] for key in held} == {key: row["prompt"] for key, row in held.items()}


def test_a_dry_run_says_what_an_import_then_does_and_writes_nothing(lake: Lake, tmp_path: Path) -> None:
    older = make_older(tmp_path / "older.db")
    said = import_older_file(lake, older.path, dry_run=True).as_dict()
    assert not lake.root.exists()
    assert {**import_older_file(lake, older.path).as_dict(), "kept_aside": None} == said


@pytest.mark.parametrize("after", [1, 12])
def test_a_killed_import_goes_on_where_it_stopped(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    older = make_older(tmp_path / "older.db", rows=40)
    land, landed = Ledger.land, 0

    def dies(self: Ledger, *arguments: Any) -> None:  # noqa: ANN401 - a page and its body
        nonlocal landed
        if landed == after:
            raise KeyboardInterrupt
        landed += 1
        land(self, *arguments)

    monkeypatch.setattr(Ledger, "land", dies)
    with pytest.raises(KeyboardInterrupt):
        import_older_file(lake, older.path)
    monkeypatch.undo()
    import_older_file(lake, older.path)
    check_rows(lake, older)
    for version in VERSIONS:
        assert Ledger(lake, version).walk_numbers() == [1]


def test_what_was_fetched_is_never_overwritten_and_what_was_not_comes_in(lake: Lake, tmp_path: Path) -> None:
    older = make_older(tmp_path / "older.db", rows=40, versions=[VERSION], breaks=False)
    (_, image_id), *_ = sorted(older.rows)
    with Sandbox(World.from_items([item(image_id, "as fetched")], VERSION)) as server:
        collect(server, lake)
    before = rows_of(lake)
    import_older_file(lake, older.path)
    after = rows_of(lake)
    assert after.keys() == older.rows.keys()
    assert after[VERSION, image_id] == before[VERSION, image_id] | {
        name: after[VERSION, image_id][name] for name in ("engagement", "duplicate_of", "near_duplicate_group")
    }


def test_what_is_fetched_later_updates_what_was_imported_and_keeps_when_it_was_first_seen(
    lake: Lake, tmp_path: Path
) -> None:
    older = make_older(tmp_path / "older.db", rows=40, versions=[VERSION], breaks=False)
    import_older_file(lake, older.path)
    keys = sorted(older.rows)
    shown = [item(image_id, "as fetched") for _, image_id in keys[:5]]
    with Sandbox(World.from_items(shown, VERSION)) as server:
        client = CivitaiClient(server.url, min_request_interval=0, timeout=5, retry_budget=0)
        plan = preview_collection(client, lake, VERSION)
        summary = collect(server, lake)
    assert (plan["held"], plan["branch"], plan["estimated_requests"]) == (len(keys), "additional", None)
    # A walk of its own from the listing's start: the import is no walk to go on with.
    assert (summary["walk"], summary["branch"], summary["stop_reason"]) == (2, "additional", "at_end")
    assert (summary["prompts_before"], summary["updated"], summary["new"]) == (len(keys), 5, 0)
    assert Ledger(lake, VERSION).read(Ledger(lake, VERSION).walks()[1].last.id).cursor is None
    for number, key in enumerate(keys):
        row = rows_of(lake)[key] if number in {0, 5} else None
        if row is not None:
            assert row["prompt"] == ("as fetched" if number < 5 else older.rows[key]["prompt"])
            assert row["first_seen_at"] == older.rows[key]["first_seen_at"]
            assert (row["last_seen_at"] > row["first_seen_at"]) == (number < 5)


def test_an_imported_version_counts_as_not_begun(lake: Lake, tmp_path: Path) -> None:
    import_older_file(lake, make_older(tmp_path / "older.db", rows=10, versions=[VERSION]).path)
    assert not is_begun(lake, VERSION)
    unwatched = state_of(lake, VERSION, Watchlist(), model_id=None, default_level=1)
    assert unwatched.standings == ()
    with Sandbox(World.from_items([item(1)], VERSION)) as server:
        collect(server, lake)
    assert is_begun(lake, VERSION)


def test_a_version_that_another_process_writes_to_is_left_alone(lake: Lake, tmp_path: Path) -> None:
    older = make_older(tmp_path / "older.db")
    with sole_writer(lake, VERSION):
        done = import_older_file(lake, older.path)
    errors = {version.model_version_id: version.error for version in done.versions}
    assert "another process" in str(errors.pop(VERSION))
    assert set(errors.values()) == {None}
    assert VERSION not in lake.versions()
    import_older_file(lake, older.path)
    check_rows(lake, older)


def test_rows_come_in_the_order_of_their_times_and_pages_are_bounded(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(legacy, "PAGE_ROWS", 7)
    older = make_older(tmp_path / "older.db", rows=50, versions=[VERSION], rows_a_second=25, breaks=False)
    with closing(sqlite3.connect(older.path)) as connection, connection:
        connection.execute("UPDATE civitai_prompts SET collected_at = '2025-09-01 00:00:00' WHERE id = 50")
        connection.execute("UPDATE civitai_prompts SET collected_at = NULL WHERE id = 1")
        connection.execute("UPDATE civitai_prompts SET collected_at = '2999-01-01' WHERE id = 2")
    done = import_older_file(lake, older.path)
    pages = list(Ledger(lake, VERSION).pages())
    assert max(len(page.items) for page in pages) == 7
    assert len({page.id for page in pages}) == len(pages) < 12
    assert pages[0].items[0]["id"] == 1050
    assert [page.fetched_at for page in pages] == sorted(page.fetched_at for page in pages)
    # Unknown, and beyond today: there by the latest time that the file knows.
    assert done.without_time == 2
    assert {1001, 1002} <= {
        item["id"] for page in pages if page.fetched_at == START + timedelta(seconds=1) for item in page.items
    }


def test_a_page_is_bounded_in_bytes(lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(legacy, "PAGE_BYTES", 1500)
    older = make_older(tmp_path / "older.db", rows=50, versions=[VERSION], rows_a_second=100, breaks=False)
    import_older_file(lake, older.path)
    check_rows(lake, older)
    assert len(list(Ledger(lake, VERSION).pages())) > 12


def test_times_are_of_the_zone_given(lake: Lake, tmp_path: Path) -> None:
    older = make_older(tmp_path / "older.db", rows=3, versions=[VERSION], breaks=False, rows_a_second=9)
    import_older_file(lake, older.path, zone=ZoneInfo("Asia/Tokyo"))
    assert {row["first_seen_at"] for row in rows_of(lake).values()} == {START - timedelta(hours=9)}


def test_a_file_without_any_time_is_as_old_as_it_was_last_written(lake: Lake, tmp_path: Path) -> None:
    older = make_older(tmp_path / "older.db", rows=3, versions=[VERSION], breaks=False)
    with closing(sqlite3.connect(older.path)) as connection, connection:
        connection.execute("UPDATE civitai_prompts SET collected_at = ''")
    import_older_file(lake, older.path)
    written = datetime.fromtimestamp(older.path.stat().st_mtime, UTC)
    assert all(abs(row["first_seen_at"] - written) < timedelta(seconds=1) for row in rows_of(lake).values())


def test_text_that_is_no_utf8_stops_nothing(lake: Lake, tmp_path: Path) -> None:
    older = make_older(tmp_path / "older.db", rows=4, versions=[VERSION], breaks=False)
    with closing(sqlite3.connect(older.path)) as connection, connection:
        connection.execute("UPDATE civitai_prompts SET full_prompt = CAST(x'6b697465ff' AS TEXT), raw_metadata = ''")
    import_older_file(lake, older.path)
    assert {row["prompt"] for row in rows_of(lake).values()} == {"kite�"}


def test_the_file_is_only_read(lake: Lake, tmp_path: Path) -> None:
    folder = tmp_path / "older"
    folder.mkdir()
    older = make_older(folder / "older.db")
    before = older.path.read_bytes()
    import_older_file(lake, older.path)
    assert older.path.read_bytes() == before
    assert [path.name for path in folder.iterdir()] == ["older.db"]


def test_rows_still_in_the_write_ahead_log_come_in(lake: Lake, tmp_path: Path) -> None:
    older = make_older(tmp_path / "older.db", rows=10, versions=[VERSION], breaks=False)
    with closing(sqlite3.connect(older.path)) as writer:
        writer.execute("PRAGMA journal_mode = wal")
        writer.execute("UPDATE civitai_prompts SET full_prompt = 'from the log', raw_metadata = ''")
        writer.commit()
        import_older_file(lake, older.path)
    assert {row["prompt"] for row in rows_of(lake).values()} == {"from the log"}


def test_a_locked_file_says_what_to_do(lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("civitai_pipeline.imports.older_file.BUSY_S", 0.05)
    older = make_older(tmp_path / "older.db")
    with closing(sqlite3.connect(older.path)) as writer:
        writer.execute("BEGIN EXCLUSIVE")
        with pytest.raises(OlderFileError, match="close the older tool, then run again"):
            import_older_file(lake, older.path)


def test_a_damaged_file_says_what_to_do_and_keeps_what_came_before(lake: Lake, tmp_path: Path) -> None:
    older = make_older(tmp_path / "older.db", rows=400, breaks=False)
    data = bytearray(older.path.read_bytes())
    middle = len(data) // 4096 // 2 * 4096
    data[middle : middle + 4096 * 4] = bytes(4096 * 4)
    older.path.write_bytes(data)
    with pytest.raises(OlderFileError, match=r"recover it with sqlite3's \.recover"):
        import_older_file(lake, older.path)


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (str, "there is no file"),
        (lambda path: path.mkdir(), "is a folder"),
        (lambda path: path.write_bytes(b""), "is no SQLite database"),
        (lambda path: path.write_text("id,prompt\n" * 200), "is no SQLite database"),
        (lambda path: execute(path, "CREATE TABLE notes (x)"), "has no table civitai_prompts"),
        (lambda path: execute(path, "CREATE TABLE civitai_prompts (x)"), "has no column civitai_id"),
    ],
)
def test_what_is_no_older_database_is_refused_in_a_sentence(lake: Lake, tmp_path: Path, make: Any, why: str) -> None:  # noqa: ANN401 - a maker
    path = tmp_path / "older.db"
    make(path)
    with pytest.raises(NoOlderFileError, match=why):
        import_older_file(lake, path)
    assert lake.versions() == []


def execute(path: Path, sql: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(sql)

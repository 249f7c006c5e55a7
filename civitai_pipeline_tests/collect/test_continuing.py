"""A walk at its end: continued when images appear, confirmed when none have."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import orjson
import pytest
import zstandard

from civitai_pipeline.civitai.listing import Sort
from civitai_pipeline.collect import collector
from civitai_pipeline.prompts.items import Outcome
from civitai_pipeline.sandbox import Sandbox, World

from .stage import VERSION, Stage, by_id, content_of, item, items

if TYPE_CHECKING:
    from pathlib import Path


def test_new_images_are_found_by_asking_the_last_page_again(stage: Stage) -> None:
    stage.collect()
    for entry in items(5, start=13):
        stage.world.insert(entry, VERSION)
    summary = stage.collect()
    assert (summary.walk, summary.branch, summary.stop_reason) == (1, "additional", "at_end")
    assert (summary.tally.outcomes[Outcome.NEW], summary.tally.outcomes[Outcome.DUPLICATE]) == (5, 2)
    # Of the five, three filled up the last page; the rest came after it.
    assert [[entry["id"] for entry in page.items] for page in stage.ledger.pages()][3:] == [
        [11, 12, 13, 14, 15],
        [16, 17],
    ]
    assert stage.collect().tally.outcomes == {"duplicate": 2}


def test_a_page_without_news_is_landed_as_a_small_confirmation(stage: Stage) -> None:
    stage.collect()
    summary = stage.collect()
    assert (summary.stop_reason, summary.pages, summary.last_page_number) == ("at_end", 1, 4)
    assert summary.tally.outcomes == {"duplicate": 2}
    path = stage.lake.page(VERSION, 1, 4)
    envelope = orjson.loads(zstandard.decompress(path.read_bytes()))
    assert envelope["confirms"] == "1/3"
    assert envelope["response"]["body"] is None
    assert envelope["response"]["metadata"] == {}
    assert path.stat().st_size < 500


def test_a_confirmation_keeps_the_cursor_where_the_walk_goes_on(stage: Stage) -> None:
    stage.collect()
    # The last page is full by now, and its images are older than what comes after it.
    stage.collect(page_size=2)
    page = stage.ledger.last_page(1)
    assert page is not None
    assert (str(page.confirms), page.next_cursor) == ("1/3", None)
    for entry in items(2, start=13):
        stage.world.insert(entry, VERSION)
    first = stage.collect(page_size=2, max_items=2)
    assert (first.stop_reason, first.tally.outcomes) == ("max_items", {"duplicate": 2})
    page = stage.ledger.last_page(1)
    assert page is not None
    assert page.confirms is not None
    assert page.next_cursor is not None
    assert stage.collect().tally.outcomes == {"new": 2}


def test_polling_ten_times_costs_ten_small_files_and_changes_nothing_but_sightings(stage: Stage) -> None:
    stage.collect()
    before = stage.build()
    for _ in range(10):
        assert stage.collect().pages == 1
    after = stage.build()
    assert sum(stage.lake.page(VERSION, 1, page).stat().st_size for page in range(4, 14)) < 5000
    assert content_of(after) == content_of(before)
    early, late = by_id(before.prompts), by_id(after.prompts)
    assert late[12]["last_seen_at"] > early[12]["last_seen_at"]
    assert late[12]["last_page"] == "1/13"
    for row in (*early.values(), *late.values()):
        if row["image_id"] in {11, 12}:
            del row["last_seen_at"], row["last_page"]
    assert late == early


def test_a_poll_reads_few_pages_however_many_polls_came_before(stage: Stage) -> None:
    stage.collect()
    for _ in range(5):
        stage.collect()
    # All confirmations but the last are out of reach; a poll that looks for them would say so.
    stage.build()
    for page in range(4, 8):
        stage.lake.page(VERSION, 1, page).write_bytes(b"unreadable")
    assert stage.collect().stop_reason == "at_end"


def test_an_image_missing_from_a_confirmation_is_not_seen_again(stage: Stage) -> None:
    stage.collect()
    stage.world.delete_image(12)
    summary = stage.collect()
    assert summary.tally.outcomes == {"duplicate": 1}
    last = stage.ledger.last_page(1)
    assert last is not None
    assert last.absent == {12}
    rows = by_id(stage.build().prompts)
    assert (rows[11]["last_page"], rows[12]["last_page"]) == ("1/4", "1/3")


@pytest.mark.parametrize("change", ["stats", "meta", "withdrawn"])
def test_a_changed_image_on_the_last_page_is_landed_whole(stage: Stage, change: str) -> None:
    stage.collect()
    if change == "stats":
        stage.world.update_stats(12, heart=5)
    else:
        stage.world.set_meta(12, {"prompt": "another"} if change == "meta" else None)
    summary = stage.collect()
    assert summary.tally.outcomes == {"duplicate": 1, "updated": 1}
    assert [page.confirms for page in stage.ledger.pages()] == [None] * 4
    # From now on that page is the one confirmed.
    stage.collect()
    assert [str(page.confirms) for page in stage.ledger.pages()][4:] == ["1/4"]


def test_news_under_append_only_is_landed_whole_and_changes_no_row(stage: Stage) -> None:
    stage.collect()
    before = stage.content()
    stage.world.update_stats(12, heart=5)
    assert stage.collect(append_only=True).tally.outcomes == {"duplicate": 2}
    assert stage.content() == before
    assert [page.confirms for page in stage.ledger.pages()] == [None] * 4
    # The page that told it is kept, so a run that may change rows still finds the news.
    assert stage.collect().tally.outcomes == {"duplicate": 1, "updated": 1}


def test_the_same_page_is_no_confirmation_where_other_options_make_it_news(tmp_path: Path) -> None:
    with Sandbox(World.from_items([item(1, meta={"prompt": "names no version"})], VERSION)) as server:
        stage = Stage(server, tmp_path)
        assert stage.collect(strict_version_match=True).tally.outcomes == {"version_mismatch": 1}
        assert stage.collect().tally.outcomes == {"new": 1}
        assert [page.confirms for page in stage.ledger.pages()] == [None, None]
        assert len(stage.build().rejected_images) == 0


def test_a_prompt_that_comes_back_to_the_same_page_is_news(stage: Stage) -> None:
    (image,) = stage.world.find(12)
    stage.collect()
    kept, image.meta = image.meta, b"null"
    stage.collect(sort=Sort.NEWEST)
    assert by_id(stage.build().prompts)[12]["prompt_withdrawn_at"] is not None
    image.meta = kept
    assert stage.collect().tally.outcomes == {"duplicate": 1, "updated": 1}
    assert [page.confirms for page in stage.ledger.pages()] == [None] * 7
    assert by_id(stage.build().prompts)[12]["prompt_withdrawn_at"] is None


def test_a_last_page_with_items_that_have_no_id_is_confirmed_if_nothing_moved(tmp_path: Path) -> None:
    with Sandbox(World.from_items([item(1), {"meta": None}, None, item(1)], VERSION)) as server:
        stage = Stage(server, tmp_path)
        stage.collect()
        stage.build()
        assert stage.collect().tally.outcomes == {"malformed": 2, "duplicate": 2}
        assert [str(page.confirms) for page in stage.ledger.pages()] == ["None", "1/1"]
        stage.world.insert({"meta": 1}, VERSION)
        stage.collect()
        assert [str(page.confirms) for page in stage.ledger.pages()][2:] == ["None"]
        assert len(stage.build().rejected_images) == 3


@pytest.mark.parametrize("depth", [200, 500, 1000])
def test_an_item_nested_deeply_is_collected_and_confirmed(stage: Stage, depth: int) -> None:
    (image,) = stage.world.find(12)
    image.meta = b'{"prompt":"deep","x":' + b"[" * depth + b"]" * depth + b"}"
    assert [stage.collect().stop_reason for _ in range(2)] == ["at_end"] * 2
    assert [str(page.confirms) for page in stage.ledger.pages()][3:] == ["1/3"]
    assert by_id(stage.build().prompts)[12]["prompt"] == "deep"


def test_an_empty_version_is_at_its_end_and_confirmed_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Sandbox(World.from_items([], VERSION)) as server:
        stage = Stage(server, tmp_path)
        first = stage.collect()
        assert (first.stop_reason, first.pages, first.tally.attempted, first.failed) == ("at_end", 1, 0, False)
        assert len(stage.asked()) == 2
        monkeypatch.setattr(collector, "EMPTY_END_PAUSE_S", 60.0)
        started = time.monotonic()
        second = stage.collect()
        assert time.monotonic() - started < 30
        assert (second.stop_reason, second.branch, second.prompts_after) == ("at_end", "additional", 0)
        assert [str(page.confirms) for page in stage.ledger.pages()] == ["None", "1/1"]
        assert len(stage.build().prompts) == 0
        stage.world.insert(item(1), VERSION)
        assert stage.collect().tally.outcomes == {"new": 1}


def test_a_smaller_page_size_gets_past_a_longer_last_page(stage: Stage) -> None:
    stage.collect(page_size=12)
    for entry in items(3, start=13):
        stage.world.insert(entry, VERSION)
    summaries = [stage.collect(page_size=12, max_items=4) for _ in range(4)]
    assert [summary.stop_reason for summary in summaries] == ["max_items", "max_items", "max_items", "at_end"]
    assert summaries[-1].tally.outcomes == {"new": 3}
    assert summaries[0].tally.outcomes == {"duplicate": 4}


def test_pages_of_a_new_walk_are_landed_whole(stage: Stage) -> None:
    stage.collect()
    stage.collect(restart=True)
    assert [page.confirms for page in stage.ledger.pages()] == [None] * 6

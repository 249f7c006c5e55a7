"""The three tables made straight from pages, row by row."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from civitai_pipeline import jsontext
from civitai_pipeline.derive import slabs
from civitai_pipeline.derive.prompt_tables import CODE_VERSION, STEP_TABLES, load_held
from civitai_pipeline.lake import schemas
from civitai_pipeline.lake.pages import Options, PageId
from civitai_pipeline.lake.tables import Provenance, schema_faults
from civitai_pipeline_tests.tables import built_tables

from .landing import NOON, VERSION, Pages, column, image, row, same


def minute(number: int) -> datetime:
    return NOON + timedelta(minutes=number)


def test_no_pages_make_empty_tables_of_the_declared_schema(pages: Pages) -> None:
    built = pages.bring_up()
    for table in STEP_TABLES:
        made = getattr(built, table.name)
        assert len(made) == 0
        assert made.schema.equals(table.arrow_schema)
    assert same(pages.build(), built)
    assert len(load_held(pages.lake, VERSION).holdings) == 0


def test_a_row_says_what_its_item_says_and_where_it_was_seen(pages: Pages) -> None:
    pages.land(
        image(
            7,
            "A kite, (red:1.2), <lora:Kite:0.7>",
            username="maker",
            postId=3,
            createdAt="2026-08-01T09:15:30.123Z",
            stats={
                "cryCount": 1,
                "laughCount": 2,
                "likeCount": 3,
                "heartCount": 4,
                "dislikeCount": 9,
                "commentCount": 5,
            },
        ),
        metadata={"nextCursor": "1|2"},
    )
    pages.land(image(8, "a dog asleep"))
    built = pages.build()
    found = row(built.prompts, 7)
    expected = {
        "model_version_id": VERSION, "prompt": "A kite, (red:1.2), <lora:Kite:0.7>", "username": "maker", "post_id": 3,
        "reaction_count": 10, "dislike_count": 9, "comment_count": 5, "tag_count": 3, "word_count": 4,
        "prompt_length": 34, "first_page": "1/1", "last_page": "1/1", "first_seen_at": minute(1),
        "last_seen_at": minute(1), "prompt_withdrawn_at": None, "quality_score": 2, "duplicate_of": None,
        "near_duplicate_group": None,
    }  # fmt: skip
    assert {name: found[name] for name in expected} == expected
    assert [schema_faults(table, getattr(built, table.name)) for table in STEP_TABLES] == [[], [], []]
    assert column(built.landed_pages, "next_cursor") == ["1|2", None]
    assert Provenance.of(built.prompts.schema) == Provenance(CODE_VERSION, {1: 2})


@pytest.mark.parametrize("pages_per_slab", [1, 2, 200])
@pytest.mark.parametrize("slices", [(8,), (1,) * 8, (3, 5), (5, 3)])
def test_an_images_history_ends_in_one_row_whatever_the_slabs_and_slices(
    pages: Pages, monkeypatch: pytest.MonkeyPatch, pages_per_slab: int, slices: tuple[int, ...]
) -> None:
    monkeypatch.setattr(slabs, "PAGES_PER_SLAB", pages_per_slab)
    history: list[tuple[tuple[object, ...], Options]] = [
        ((image(1, "first"), image(2, None), image(3, "stays")), Options()),
        ((image(1, "first"), image(2, None)), Options()),
        ((image(1, "second", like=5), image(2, "now it has one")), Options()),
        ((image(1, None), image(3, None)), Options()),
        ((image(1, None), image(3, None)), Options()),
        ((image(1, "second", like=5), image(4, None)), Options()),
        ((image(1, "third"), image(2, "refused")), Options(append_only=True)),
        ((image(3, None), image(4, None, like=1)), Options()),
    ]
    waiting = iter(history)
    for size in slices:
        for _ in range(size):
            items, options = next(waiting)
            pages.land(*items, options=options)
        built = pages.bring_up()
    assert same(built, pages.build(rebuild=True))
    one, two, three = (row(built.prompts, image_id) for image_id in (1, 2, 3))
    assert (one["prompt"], one["like_count"], one["prompt_withdrawn_at"]) == ("second", 5, None)
    assert (one["first_page"], one["first_seen_at"], one["last_page"]) == ("1/1", minute(1), "1/6")
    assert (two["prompt"], two["first_page"], two["last_page"]) == ("now it has one", "1/3", "1/3")
    assert (three["prompt"], three["prompt_withdrawn_at"], three["last_page"]) == ("stays", minute(4), "1/8")
    assert three["first_seen_at"] == minute(1)
    assert [(entry["image_id"], entry["page"], entry["outcome"]) for entry in built.rejected_images.to_pylist()] == [
        (4, "1/8", "no_prompt")
    ]
    assert column(built.landed_pages, "updated") == [0, 0, 1, 2, 0, 1, 0, 0]


def test_a_rejected_image_has_one_row_of_its_latest_sighting(pages: Pages) -> None:
    pages.land(image(1, None), {"meta": 1}, None, {"meta": 1}, image(2, None))
    pages.land(image(1, " "), {"meta": 1}, options=Options())
    pages.bring_up()
    pages.land(image(1, "a kite"), image(2, None), None, options=Options(strict_version_match=True))
    built = pages.bring_up()
    told = [
        (entry["image_id"], entry["outcome"], entry["page"], entry["position"])
        for entry in built.rejected_images.to_pylist()
    ]
    assert told == [
        (None, "malformed", "1/1", 3),  # an equal one of the same page is another
        (None, "malformed", "1/2", 1),
        (1, "version_mismatch", "1/3", 0),
        (2, "version_mismatch", "1/3", 1),
        (None, "malformed", "1/3", 2),
    ]
    assert jsontext.loads(row(built.rejected_images, 1)["item"]) == image(1, "a kite")
    pages.land(image(1, "a kite"))
    assert column(pages.bring_up().rejected_images, "image_id") == [None, None, 2, None]


def test_an_accepted_image_never_returns_to_the_rejected_ones(pages: Pages) -> None:
    pages.land(image(1))
    pages.land(image(1), options=Options(strict_version_match=True))
    pages.land(image(1, None))
    built = pages.build()
    assert len(built.rejected_images) == 0
    assert column(built.landed_pages, "version_mismatch") == [0, 1, 0]


def test_a_confirmation_shows_the_items_of_its_page_but_the_absent_ones(pages: Pages) -> None:
    pages.land(image(1), image(2), image(3, None), image(4, None))
    pages.land(confirms=PageId(1, 1), absent=[1, 3], metadata={"nextCursor": 7})
    built = pages.build()
    assert [(entry["image_id"], entry["last_page"]) for entry in built.prompts.to_pylist()] == [(1, "1/1"), (2, "1/2")]
    rejected = [(entry["image_id"], entry["page"]) for entry in built.rejected_images.to_pylist()]
    assert rejected == [(3, "1/1"), (4, "1/2")]
    confirmation = built.landed_pages.to_pylist()[1]
    expected = {"confirms": "1/1", "attempted": 2, "duplicate": 1, "no_prompt": 1, "next_cursor": "7"}
    assert {name: confirmation[name] for name in expected} == expected


def test_the_first_of_equal_prompts_is_the_one_with_the_smallest_id(pages: Pages) -> None:
    pages.land(image(5, "A Kite, (red:1.3)"), image(9, "a kite,  RED"), image(2, "alone"))
    pages.bring_up()
    pages.land(image(3, "a kite, red <lora:x:1>"), image(7, "red, a kite"))
    built = pages.bring_up()
    told = {
        entry["image_id"]: (entry["duplicate_of"], entry["near_duplicate_group"]) for entry in built.prompts.to_pylist()
    }
    assert told == {2: (None, None), 3: (None, 3), 5: (3, 3), 7: (None, 3), 9: (3, 3)}
    pages.land(image(3, "something else"))
    built = pages.bring_up()
    assert (row(built.prompts, 3)["near_duplicate_group"], row(built.prompts, 5)["duplicate_of"]) == (None, None)
    assert row(built.prompts, 9)["duplicate_of"] == 5
    assert same(built, pages.build(rebuild=True))


def test_pages_count_in_the_order_in_which_they_landed_not_that_of_walks(pages: Pages) -> None:
    pages.land(image(1, "old"), walk=1)
    pages.land(image(1, "newer"), walk=2)
    pages.land(image(1, "newest"), walk=1)
    built = pages.build()
    found = row(built.prompts, 1)
    assert (found["prompt"], found["first_page"], found["last_page"]) == ("newest", "1/1", "1/2")
    assert column(built.landed_pages, "walk") == [1, 2, 1]
    assert column(built.landed_pages, "updated") == [0, 1, 1]


def test_text_is_stored_to_the_letter_and_a_lone_surrogate_as_the_replacement_character(pages: Pages) -> None:
    odd = "  née \U0001f600 e\u0301 \u200b\x00\x1f\ttab ''\";-- \n"
    pages.land(image(1, odd), image(2, "lone \ud83d here"), image(3, None, note="\udc00"), {"\udc00": 1})
    built = pages.bring_up()
    assert row(built.prompts, 1)["prompt"] == odd
    assert row(built.prompts, 1)["prompt_length"] == len(odd)
    assert row(built.prompts, 2)["prompt"] == "lone \N{REPLACEMENT CHARACTER} here"
    assert jsontext.loads(row(built.rejected_images, 3)["item"])["note"] == "\udc00"
    assert same(built, pages.build(rebuild=True))


def test_what_no_column_can_hold_does_not_keep_a_table_from_being_made(pages: Pages) -> None:
    huge = 10**30
    deep: Any = None
    for _ in range(1000):
        deep = [deep]
    pages.land(
        image(1, stats={"likeCount": huge}, width=2**31, postId=huge, createdAt="9999-12-31T23:59:59Z"),
        image(2, stats={"likeCount": 2**31 - 1, "heartCount": 2**31 - 1}, createdAt="0001-01-01T00:00:00Z"),
        image(3, meta={"prompt": "a", "seed": huge, "steps": "many", "cfgScale": 1e400, "clipSkip": -(2**40)}),
        image(huge),
        metadata={"nextCursor": "\ud800"},
    )
    raw = jsontext.dumps({"items": [], "metadata": {}}).replace(
        b"[]", b'[{"id":4,"meta":' + b"[" * 1000 + b"]" * 1000 + b"}]"
    )
    landed = pages.land()
    path = pages.lake.page(VERSION, 1, 2)
    path.unlink()
    pages.ledger.land(landed, raw)
    built = pages.bring_up()
    assert column(built.prompts, "image_id") == [1, 2, 3]
    assert column(built.prompts, "reaction_count") == [None, None, 0]
    assert column(built.rejected_images, "outcome") == ["malformed", "no_prompt"]
    assert row(built.rejected_images, 4)["item"].count("[") == 1000
    assert same(built, pages.build(rebuild=True))


def test_ids_too_large_for_a_float_stay_apart(pages: Pages) -> None:
    ids = [2**53, 2**53 + 1, 2**63 - 1]
    pages.land(*(image(image_id) for image_id in ids))
    pages.bring_up()
    pages.land(*(image(image_id, "other") for image_id in ids))
    assert column(pages.bring_up().prompts, "image_id") == ids


def test_progress_is_told_once_for_each_slab(pages: Pages, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slabs, "PAGES_PER_SLAB", 2)
    for number in range(1, 6):
        pages.land(image(number))
    told: list[tuple[int, int]] = []
    built = built_tables(pages.lake, VERSION, on_slab=lambda *numbers: told.append(numbers))
    assert told == [(2, 5), (4, 5), (5, 5)]
    assert (built.pages_added, built.started_anew, len(built.prompts)) == (5, True, 5)


def test_held_is_the_ledger_whether_or_not_tables_reach_it(pages: Pages) -> None:
    pages.land(image(1), image(2, None))
    pages.land(image(2, "late"), image(1, None))
    without = load_held(pages.lake, VERSION)
    pages.bring_up()
    pages.land(image(3), walk=2)
    with_tables = load_held(pages.lake, VERSION)
    assert (len(without.holdings), len(with_tables.holdings)) == (2, 3)
    built = pages.build(rebuild=True)
    assert with_tables.landed_pages.equals(built.landed_pages)
    assert [entry.name for entry in schemas.LANDED_PAGES.columns] == with_tables.landed_pages.column_names

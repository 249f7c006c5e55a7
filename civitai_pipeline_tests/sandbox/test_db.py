"""The DB path, and the newer keyset feed service."""

from __future__ import annotations

import re

import pytest

from civitai_pipeline.sandbox import DEMO_VERSIONS, Sandbox, SandboxOptions, World

from .client import get, ids, item, page, pages

MODEL = 9001


def db_ids(world: World) -> list[int]:
    found: set[int] = set()
    for version in world.versions_of(MODEL):
        found |= {image.id for image in world.gallery(version.id) if image.level == 1}
    return sorted(found)


def test_oldest_walks_ids_upwards_without_loss(server: Sandbox, world: World) -> None:
    walked = pages(server, modelId=MODEL, sort="Oldest", limit=100)
    assert isinstance(walked[0]["metadata"]["nextCursor"], int)
    assert sorted(set(ids(*walked))) == db_ids(world)
    assert ids(*walked) == sorted(ids(*walked))


def test_an_image_of_two_versions_comes_twice(server: Sandbox) -> None:
    walked = ids(*pages(server, modelId=MODEL, sort="Oldest", limit=200))
    assert len(walked) > len(set(walked))


def test_descending_loses_one_row_at_each_boundary_until_fixed() -> None:
    world = World.from_items([item(n) for n in range(1, 31)])
    with Sandbox(world) as server:
        walked = pages(server, modelId=MODEL, sort="Newest", limit=10)
        assert ids(*walked) == [*range(30, 20, -1), *range(19, 9, -1), *range(8, 0, -1)]
    with Sandbox(world, SandboxOptions(db_strict_keyset=False)) as server:
        assert ids(*pages(server, modelId=MODEL, sort="Most Reactions", limit=10)) == list(range(30, 0, -1))


@pytest.mark.parametrize("sort", ["Oldest", "Newest"])
@pytest.mark.parametrize("limit", [1, 7, 20])
def test_thinned_pages_lose_nothing_when_the_keyset_is_fixed(sort: str, limit: int) -> None:
    world = World.from_items([item(n) for n in range(5, 400, 3)])
    options = SandboxOptions(short_pages=True, empty_pages=True, db_strict_keyset=False)
    with Sandbox(world, options) as server:
        walked = pages(server, modelId=MODEL, sort=sort, limit=limit)
    assert sorted(ids(*walked)) == list(range(5, 400, 3))
    assert any(not body["items"] for body in walked)
    with Sandbox(world, SandboxOptions(empty_pages=True)) as server:
        pages(server, modelId=MODEL, sort=sort, limit=limit)


def test_page_works_and_is_capped(server: Sandbox) -> None:
    first, second = (page(server, modelId=MODEL, sort="Oldest", limit=10, page=n) for n in (1, 2))
    assert ids(first)[-1] <= ids(second)[0]
    assert ids(first) != ids(second)
    assert second["metadata"]["currentPage"] == 2
    assert get(server, modelId=MODEL, page=11).status_code == 429


def test_foreign_cursors_and_random_are_400(server: Sandbox) -> None:
    problems = {
        "100|1785400000123": "Invalid cursor: expected 1 value(s) for this sort, received 2",
        "abc": 'Invalid cursor: unparseable numeric value "abc"',
    }
    for cursor, message in problems.items():
        response = get(server, modelId=MODEL, cursor=cursor)
        assert response.status_code == 400
        assert response.json() == {"error": message, "code": "BAD_REQUEST"}
    response = get(server, modelId=MODEL, sort="Random")
    assert (response.status_code, response.json()["error"]) == (400, "Random sort requires a collectionId")


def test_unknown_user_is_404_in_the_style_of_the_time(server: Sandbox, world: World) -> None:
    response = get(server, modelId=MODEL, username="nobody_at_all")
    assert response.status_code == 404
    assert response.json() == {"error": "User not found", "code": "NOT_FOUND"}
    with Sandbox(world, SandboxOptions(error_style="newer")) as newer:
        assert get(newer, modelId=MODEL, username="nobody_at_all").json() == {"message": "User not found"}


def test_meta_is_nested_by_default_and_rows_differ_from_the_feed(server: Sandbox) -> None:
    entries = page(server, modelId=MODEL, withMeta="true", limit=200)["items"]
    assert all(set(entry["meta"]) == {"id", "meta"} for entry in entries)
    assert any(entry["meta"]["meta"] is None for entry in entries)
    assert all({*entry["modelVersionIds"]} & {910011, 910012} for entry in entries)
    assert {entry["baseModel"] for entry in entries} <= {"SDXL 1.0", "Illustrious"}
    flat = page(server, modelId=MODEL, withMeta="true", flatMeta="true", limit=200)["items"]
    assert any("prompt" in (entry["meta"] or {}) for entry in flat)
    feed = {entry["id"]: entry for body in pages(server, modelVersionId=910011, limit=200) for entry in body["items"]}
    pairs = [(entry, feed[entry["id"]]) for entry in entries if entry["id"] in feed]
    assert all(db["createdAt"] < sort["createdAt"] for db, sort in pairs)


def test_one_image_several_images_and_an_empty_page_with_a_cursor(server: Sandbox, world: World) -> None:
    some = db_ids(world)[:3]
    assert ids(page(server, imageId=some[0])) == [some[0]]
    assert ids(page(server, ids=",".join(map(str, some)), sort="Oldest")) == some
    empty = page(server, modelId=MODEL, limit=0, sort="Oldest")
    assert empty["items"] == []
    assert empty["metadata"]["nextCursor"] == some[0]


# -- the feed service

KEYSET = SandboxOptions(feed_cursors="keyset")


@pytest.mark.parametrize("sort", ["Oldest", "Newest", "Most Reactions", "Most Comments"])
def test_keyset_walks_lose_nothing(world: World, sort: str) -> None:
    with Sandbox(world, KEYSET) as server:
        walked = pages(server, modelVersionId=DEMO_VERSIONS[0], sort=sort, limit=50, type="image")
    assert re.fullmatch(r"feed:\d{1,16}:\d{1,12}", walked[0]["metadata"]["nextCursor"])
    assert sorted(ids(*walked)) == sorted(world.image_ids(DEMO_VERSIONS[0]))
    assert walked[-1]["metadata"] == {}


@pytest.mark.parametrize("limit", [1, 4, 25])
def test_keyset_pages_may_be_short_and_empty(world: World, limit: int) -> None:
    options = SandboxOptions(feed_cursors="keyset", short_pages=True, empty_pages=True)
    with Sandbox(world, options) as server:
        for sort in ("Oldest", "Most Comments"):
            walked = pages(server, modelVersionId=DEMO_VERSIONS[2], sort=sort, limit=limit, type="image")
            assert sorted(ids(*walked)) == sorted(world.image_ids(DEMO_VERSIONS[2]))
            assert any(not body["items"] for body in walked)


def test_keyset_cursors_do_not_drift() -> None:
    world = World.from_items([item(n) for n in range(1, 31)])
    with Sandbox(world, KEYSET) as server:
        first = page(server, modelVersionId=910011, sort="Newest", limit=10)
        world.insert(item(1000), 910011)
        second = page(server, modelVersionId=910011, sort="Newest", limit=10, cursor=first["metadata"]["nextCursor"])
        assert ids(second) == list(range(20, 10, -1))


def test_keyset_cursor_errors(world: World) -> None:
    with Sandbox(world, KEYSET) as server:
        cursor = page(server, modelVersionId=DEMO_VERSIONS[0], sort="Newest", limit=10)["metadata"]["nextCursor"]
        response = get(server, modelVersionId=DEMO_VERSIONS[0], sort="Newest", limit=10, cursor=cursor, type="image")
        assert response.status_code == 400
        assert response.json() == {"message": "This cursor cannot be continued with these filters"}
        for unreadable in ("garbage", "feed:1", "99999999"):
            response = get(server, modelVersionId=DEMO_VERSIONS[0], cursor=unreadable)
            assert response.status_code == 400
            assert set(response.json()) == {"message"}


def test_an_old_first_page_is_finished_on_the_old_path(world: World) -> None:
    options = SandboxOptions(feed_cursors="keyset", first_page_old_cursor=True)
    with Sandbox(world, options) as server:
        walked = pages(server, modelVersionId=DEMO_VERSIONS[1], sort="Oldest", limit=100, type="image")
        assert "|" in walked[0]["metadata"]["nextCursor"]
        assert ids(*walked) == world.image_ids(DEMO_VERSIONS[1])


def test_the_feed_service_can_be_forced_and_leaves_some_requests_to_the_old_path(world: World) -> None:
    with Sandbox(world, SandboxOptions(path="feed_service")) as server:
        assert page(server, modelVersionId=910011, limit=5)["metadata"]["nextCursor"].startswith("feed:")
        assert "|" in page(server, modelVersionId=910011, limit=5, sort="Random")["metadata"]["nextCursor"]
        both = page(server, modelVersionId=910011, tags="4,5", withTags="true", limit=200)["items"]
        assert all({4, 5} <= {tag["id"] for tag in entry["tags"]} for entry in both)

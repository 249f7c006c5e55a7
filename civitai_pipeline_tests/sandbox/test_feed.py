"""The Feed path: offsets, post-filter, metadata, and what the parameters select."""

from __future__ import annotations

import itertools

import pytest
import requests

from civitai_pipeline.sandbox import DEMO_VERSIONS, Sandbox, SandboxOptions, World

from .client import TIMEOUT_S, get, ids, item, page, pages

VERSION = DEMO_VERSIONS[0]


def small(count: int = 30) -> World:
    return World.from_items([item(n) for n in range(1, count + 1)])


@pytest.mark.parametrize("version", DEMO_VERSIONS)
def test_an_oldest_walk_returns_every_image_once_in_order(server: Sandbox, world: World, version: int) -> None:
    walked = ids(*pages(server, modelVersionId=version, sort="Oldest", limit=200, browsingLevel=31, type="image"))
    assert walked == world.image_ids(version, level=31)
    assert len(set(walked)) == len(walked)


@pytest.mark.parametrize("sort", ["Newest", "Most Reactions", "Most Comments", "Most Collected", "Random"])
def test_every_sort_returns_the_same_images(server: Sandbox, world: World, sort: str) -> None:
    walked = ids(*pages(server, modelVersionId=VERSION, sort=sort, limit=150, type="image"))
    assert sorted(walked) == sorted(world.image_ids(VERSION))


def test_most_reactions_descends_and_random_is_newest(server: Sandbox) -> None:
    items = [entry for body in pages(server, modelVersionId=VERSION, limit=200) for entry in body["items"]]
    counts = [
        sum(entry["stats"][key] for key in ("cryCount", "laughCount", "likeCount", "heartCount")) for entry in items
    ]
    assert counts == sorted(counts, reverse=True)
    newest = page(server, modelVersionId=VERSION, sort="Newest", limit=50)
    assert ids(newest) == ids(page(server, modelVersionId=VERSION, sort="Random", limit=50))
    times = [entry["createdAt"] for entry in newest["items"]]
    assert times == sorted(times, reverse=True)


def test_the_cursor_is_offset_and_time_and_its_second_part_is_not_used(server: Sandbox) -> None:
    first = page(server, modelVersionId=VERSION, sort="Newest", limit=20)
    offset, ms = first["metadata"]["nextCursor"].split("|")
    assert (offset, len(ms)) == ("20", 13)
    by_any_time = [
        ids(page(server, modelVersionId=VERSION, sort="Newest", limit=20, cursor=cursor))
        for cursor in (f"20|{ms}", "20|1", "20")
    ]
    assert by_any_time[0] == by_any_time[1] == by_any_time[2]


@pytest.mark.parametrize("cursor", ["garbage", "|5", "1|2|3", "feed:1:2", "NaN|1"])
def test_a_garbage_cursor_restarts_silently(server: Sandbox, cursor: str) -> None:
    assert page(server, modelVersionId=VERSION, limit=5, cursor=cursor) == page(
        server, modelVersionId=VERSION, limit=5, cursor="0"
    ) | {"metadata": page(server, modelVersionId=VERSION, limit=5, cursor=cursor)["metadata"]}


def test_a_number_is_a_huge_offset_and_ends_silently(server: Sandbox) -> None:
    assert page(server, modelVersionId=VERSION, cursor=70_001_234) == {"items": [], "metadata": {}}


def test_page_is_ignored_while_next_page_advances(server: Sandbox) -> None:
    first = page(server, modelVersionId=VERSION, limit=10, page=1)
    second = page(server, modelVersionId=VERSION, limit=10, page=2)
    assert ids(first) == ids(second)
    assert second["metadata"]["currentPage"] == 2
    assert second["metadata"]["pageSize"] == 10
    assert second["metadata"]["nextPage"].endswith(f"modelVersionId={VERSION}&limit=10&page=3")
    assert "cursor=" not in second["metadata"]["nextPage"]


def test_too_many_pages_is_a_permanent_429(server: Sandbox) -> None:
    for params in ({"page": 11}, {"page": 6, "limit": 200}):
        response = get(server, "images", modelVersionId=VERSION, **params)
        assert response.status_code == 429
        assert response.json() == {"error": "You've requested too many pages, please use cursors instead"}
        assert "Retry-After" not in response.headers
    assert get(server, modelVersionId=VERSION, page=10).status_code == 200
    assert get(server, modelVersionId=VERSION, page=11, cursor="0|1").status_code == 200


def test_next_page_echoes_what_was_received(server: Sandbox) -> None:
    url = f"{server.url}/api/v1/images?modelVersionId={VERSION}&madeUp=a%20b&tags=&token=secret&cursor=5%7C1&limit=5"
    body = requests.get(url.replace("&tags=", "&empty="), timeout=TIMEOUT_S).json()
    host = server.url.removeprefix("http://")
    cursor = body["metadata"]["nextCursor"].replace("|", "%7C")
    expected = f"modelVersionId={VERSION}&madeUp=a%20b&token=secret&cursor={cursor}&limit=5"
    assert body["metadata"]["nextPage"] == f"https://{host}/api/v1/images?{expected}"


def test_the_last_page_has_empty_metadata(server: Sandbox) -> None:
    *_, last = pages(server, modelVersionId=DEMO_VERSIONS[2], limit=37)
    assert last["metadata"] == {}


def test_an_exactly_full_last_page_ends_without_an_empty_one() -> None:
    with Sandbox(small(20)) as server:
        walked = pages(server, modelVersionId=910011, limit=10)
        assert [len(body["items"]) for body in walked] == [10, 10]


def test_arrivals_repeat_with_newest_and_removals_leave_gaps() -> None:
    world = small(30)
    with Sandbox(world) as server:
        first = page(server, modelVersionId=910011, sort="Newest", limit=10)
        world.insert(item(1000), 910011)
        second = page(server, modelVersionId=910011, sort="Newest", limit=10, cursor=first["metadata"]["nextCursor"])
        assert ids(second)[0] == ids(first)[-1]
        oldest = page(server, modelVersionId=910011, sort="Oldest", limit=10)
        world.delete_image(ids(oldest)[0])
        after = page(server, modelVersionId=910011, sort="Oldest", limit=10, cursor=oldest["metadata"]["nextCursor"])
        assert ids(after)[0] == ids(oldest)[-1] + 2


@pytest.mark.parametrize(("short", "empty"), [(True, False), (False, True), (True, True)])
@pytest.mark.parametrize("limit", [1, 3, 10, 50])
def test_thinned_pages_lose_nothing(short: bool, empty: bool, limit: int) -> None:
    with Sandbox(small(120), SandboxOptions(short_pages=short, empty_pages=empty)) as server:
        walked = pages(server, modelVersionId=910011, sort="Oldest", limit=limit)
    assert ids(*walked) == list(range(1, 121))
    sizes = [len(body["items"]) for body in walked[:-1]]
    if short and limit > 1:
        assert any(0 < size < limit for size in sizes)
    if empty:
        assert 0 in sizes
    cursors = [body["metadata"]["nextCursor"] for body in walked[:-1]]
    assert len(set(cursors)) == len(cursors)


def test_the_search_engine_may_end_a_walk_early() -> None:
    with Sandbox(small(30), SandboxOptions(max_total_hits=12)) as server:
        walked = pages(server, modelVersionId=910011, limit=5)
        assert len(ids(*walked)) == 12


def test_limits(server: Sandbox) -> None:
    assert len(page(server, modelVersionId=VERSION)["items"]) == 100
    response = get(server, modelVersionId=VERSION, limit=0)
    assert response.status_code == 500
    assert set(response.json()) == {"error"}
    assert page(server, modelVersionId=1, limit=0) == {"items": [], "metadata": {}}


def test_an_empty_or_zero_version_is_the_global_feed(server: Sandbox, world: World) -> None:
    everything = len([image for image in world.images if image.level == 1])
    for nothing in ("", "0"):
        walked = pages(server, modelVersionId=nothing, limit=200)
        assert len(ids(*walked)) == everything


def test_levels(server: Sandbox) -> None:
    def levels(**params: object) -> set[int]:
        walked = pages(server, modelVersionId=VERSION, limit=200, **params)
        return {entry["browsingLevel"] for body in walked for entry in body["items"]}

    assert levels() == levels(nsfw="None") == levels(nsfw="false") == levels(browsingLevel=0) == {1}
    assert levels(browsingLevel="", nsfw="X") == {1}
    assert levels(nsfw="Soft") == {1, 2}
    assert levels(nsfw="X") == levels(browsingLevel=31, nsfw="None") == {1, 2, 4}
    # nsfw=true leaves PG and PG-13 out.
    assert levels(nsfw="true") == {4}
    assert levels(nsfw="Blocked") == levels(browsingLevel=32) == set()
    names = {1: "None", 2: "Soft", 4: "Mature"}
    for entry in page(server, modelVersionId=VERSION, limit=200, browsingLevel=31)["items"]:
        assert entry["nsfwLevel"] == names[entry["browsingLevel"]]
        assert entry["nsfw"] == (entry["browsingLevel"] != 1)


def test_a_restricted_region_sees_pg_and_pg13(world: World) -> None:
    with Sandbox(world, SandboxOptions(restricted_region=True)) as server:
        items = page(server, modelVersionId=VERSION, browsingLevel=31, limit=200)["items"]
        assert {entry["browsingLevel"] for entry in items} == {1, 2}


def test_filters(server: Sandbox) -> None:
    everything = [entry for body in pages(server, modelVersionId=VERSION, limit=200) for entry in body["items"]]
    author = everything[0]["username"]
    assert {entry["username"] for entry in page(server, modelVersionId=VERSION, username=author)["items"]} == {author}
    assert page(server, modelVersionId=VERSION, username="nobody_at_all") == {"items": [], "metadata": {}}
    assert page(server, modelVersionId=VERSION, requiringMeta="true") == {"items": [], "metadata": {}}
    assert {entry["type"] for entry in everything} >= {"image", "video"}
    assert {entry["type"] for entry in page(server, modelVersionId=VERSION, type="video")["items"]} == {"video"}
    assert {entry["baseModel"] for entry in page(server, modelVersionId=VERSION, baseModels="SDXL 1.0")["items"]} == {
        "SDXL 1.0"
    }
    month = ids(*pages(server, modelVersionId=VERSION, period="Month", limit=200))
    year = ids(*pages(server, modelVersionId=VERSION, period="Year", limit=200))
    assert 0 < len(month) < len(year) < len(everything)
    post = everything[0]["postId"]
    assert {entry["postId"] for entry in page(server, postId=post)["items"]} == {post}


def test_tags(server: Sandbox) -> None:
    tagged = page(server, modelVersionId=VERSION, tags="4,5", withTags="true")["items"]
    assert tagged
    assert all({4, 5} & {tag["id"] for tag in entry["tags"]} for entry in tagged)
    assert any({tag["id"] for tag in entry["tags"]}.isdisjoint({5}) for entry in tagged)
    assert page(server, modelVersionId=VERSION, tags="5161") == {"items": [], "metadata": {}}
    assert "tags" not in page(server, modelVersionId=VERSION)["items"][0]


def test_items_have_the_documented_keys_in_order(server: Sandbox, world: World) -> None:
    keys = [
        "id", "url", "hash", "width", "height", "nsfwLevel", "type", "nsfw", "browsingLevel", "createdAt", "postId",
        "stats", "meta", "username", "baseModel", "modelVersionIds",
    ]  # fmt: skip
    for entry in page(server, modelVersionId=VERSION, limit=200)["items"]:
        assert list(entry) == keys
        assert list(entry["stats"]) == [
            "cryCount",
            "laughCount",
            "likeCount",
            "dislikeCount",
            "heartCount",
            "commentCount",
        ]
    with Sandbox(world, SandboxOptions(thumbnail_field=True)) as newer:
        for entry in page(newer, modelVersionId=VERSION, type="video", withTags="true")["items"]:
            assert list(entry) == [*keys, "thumbnail", "tags"]
            assert set(entry["thumbnail"]) == {"url", "width", "height"}
        assert page(newer, modelVersionId=VERSION, type="image")["items"][0]["thumbnail"] is None


def test_meta_is_null_unless_asked_for_and_flat_unless_asked_otherwise(server: Sandbox) -> None:
    params = {"modelVersionId": VERSION, "limit": 200, "sort": "Newest"}
    assert {entry["meta"] for entry in page(server, **params)["items"]} == {None}
    flat = page(server, **params, withMeta="true")["items"]
    assert any(entry["meta"] is None for entry in flat)
    assert any("prompt" in (entry["meta"] or {}) for entry in flat)
    nested = page(server, **params, withMeta="1", flatMeta="off")["items"]
    assert [entry["meta"] for entry in nested] == [{"id": entry["id"], "meta": entry["meta"]} for entry in flat]


def test_nested_meta_can_be_forced(world: World) -> None:
    with Sandbox(world, SandboxOptions(nested_meta=True)) as server:
        entry = page(server, modelVersionId=VERSION, withMeta="true", flatMeta="true")["items"][0]
        assert entry["meta"]["id"] == entry["id"]


def test_an_image_is_listed_under_both_its_versions(server: Sandbox) -> None:
    first, second = (
        {entry["id"]: entry for body in pages(server, modelVersionId=version, limit=200) for entry in body["items"]}
        for version in DEMO_VERSIONS[:2]
    )
    both = first.keys() & second.keys()
    assert both
    assert all(first[image_id] == second[image_id] for image_id in both)


def test_the_index_path_hides_newcomers_and_ends_at_an_empty_page() -> None:
    world = small(40)
    with Sandbox(world, SandboxOptions(path="index")) as server:
        first = page(server, modelVersionId=910011, sort="Newest", limit=10)
        anchor = first["metadata"]["nextCursor"].split("|")[1]
        world.insert(item(1000), 910011)
        second = page(server, modelVersionId=910011, sort="Newest", limit=10, cursor=first["metadata"]["nextCursor"])
        assert second["metadata"]["nextCursor"] == f"20|{anchor}"
        assert 1000 not in ids(second)
        assert ids(second)[0] < ids(first)[-1]
        assert get(server, modelVersionId=910011, username="nobody").status_code == 404
    with Sandbox(small(40), SandboxOptions(path="index", empty_pages=True)) as server:
        assert len(list(itertools.chain(*pages(server, modelVersionId=910011, limit=10)))) < 40

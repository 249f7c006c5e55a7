"""Worlds: the synthetic one, those from items and files, and changes while serving."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from civitai_pipeline.sandbox import DEMO_VERSIONS, Sandbox, SandboxError, SandboxOptions, World

from .client import Json, get, ids, item, page, pages

if TYPE_CHECKING:
    from pathlib import Path


def raw_bytes(world: World) -> list[bytes]:
    return [image.head + (image.meta or b"") + image.tail for image in world.images]


def items_of(world: World) -> list[Json]:
    return [entry for image in world.images if isinstance(entry := image.item(), dict)]


@pytest.fixture(scope="module")
def full() -> World:
    return World.synthetic()


def test_a_seed_gives_the_same_world_byte_for_byte() -> None:
    first, again, other = (World.synthetic(seed=seed, images=300) for seed in (5, 5, 6))
    assert raw_bytes(first) == raw_bytes(again) != raw_bytes(other)
    assert first.add_images(910011, 3) == again.add_images(910011, 3)
    assert raw_bytes(first) == raw_bytes(again)


def test_the_default_world_is_quick_and_of_the_promised_size() -> None:
    began = time.monotonic()
    world = World.synthetic()
    assert time.monotonic() - began < 4
    counts = world.summary()
    assert len(world.images) == 4000
    first, second, third = (counts[version] for version in DEMO_VERSIONS)
    # Images posted to two galleries come on top of 2200 and 1300.
    assert 2200 < first < 2350
    assert 1300 < second < 1450
    assert third == 500
    assert counts[910013] == 0


def test_the_share_without_a_usable_prompt(full: World) -> None:
    unusable = 0
    for image in full.images:
        entry = image.item()
        meta = entry["meta"] if isinstance(entry, dict) and not image.meta_hidden else None
        unusable += not ((meta or {}).get("prompt") or "").strip()
    assert 0.11 < unusable / len(full.images) < 0.16


def test_every_kind_of_metadata_is_there(full: World) -> None:
    metas = [entry["meta"] for entry in items_of(full)]
    found = [meta for meta in metas if meta]
    assert None in metas
    assert {} in metas
    assert any("prompt" not in meta for meta in found)
    assert any(not meta.get("prompt", "x").strip() for meta in found)
    assert any(isinstance(meta.get("steps"), str) for meta in found)
    assert any("hashes" in meta and "Model hash" in meta for meta in found)
    assert any("Size" in meta for meta in found)
    assert any(str(meta.get("Model", "")).startswith("urn:air:") for meta in found)
    kinds = {resource["type"] for meta in found for resource in meta.get("civitaiResources", [])}
    assert kinds >= {"checkpoint", "Checkpoint", "lora", "LORA"}
    loras = [entry for meta in found for entry in meta.get("civitaiResources", []) if entry["type"].lower() == "lora"]
    assert {"weight" in entry for entry in loras} == {True, False}
    graphs = [meta["comfy"] for meta in found if "comfy" in meta]
    assert any(isinstance(graph, dict) for graph in graphs)
    assert any(isinstance(graph, str) and "undefined" in graph for graph in graphs)
    assert any(isinstance(graph, str) and "NaN" in graph for graph in graphs)
    assert any(isinstance(graph, str) and json.loads(graph) for graph in graphs if "undefined" not in graph)
    assert max(len(json.dumps(meta)) for meta in found) > 300_000
    assert any(int(meta.get("seed", 0)) > 2**53 for meta in found)
    assert {meta["software"] for meta in found if "software" in meta} == {"SwarmUI", "RuinedFooocus"}
    assert any(image.meta_hidden for image in full.images)


def test_a_checkpoint_resource_names_the_version(full: World) -> None:
    for image in full.images:
        entry = image.item()
        meta = entry["meta"] if isinstance(entry, dict) else None
        for resource in (meta or {}).get("civitaiResources", []):
            if resource["type"].lower() == "checkpoint":
                assert resource["modelVersionId"] == image.versions[0]


def test_prompts_vary_repeat_and_nearly_repeat(full: World) -> None:
    prompts = [
        entry["meta"]["prompt"] for entry in items_of(full) if entry["meta"] and entry["meta"].get("prompt", "").strip()
    ]
    assert len(set(prompts)) > 0.85 * len(prompts)
    repeated = Counter(prompts)
    assert sum(count > 1 for count in repeated.values()) > 100
    folded = Counter(re.sub(r"<[^>]*>|\s|[(),]|:1\.\d+", "", prompt).lower() for prompt in prompts)
    assert sum(folded.values()) - len(folded) > sum(repeated.values()) - len(repeated) + 30
    text = "\n".join(prompts)
    for sign in ("<lora:", ":1.2)", "[", "BREAK", "\\(", "_", "masterpiece", "A photo of"):
        assert sign in text
    for first, last in (("぀", "ヿ"), ("一", "鿿"), ("가", "힣"), ("؀", "ۿ"), ("\u0410", "\u044f"), ("🌊", "🚲")):
        assert any(first <= letter <= last for letter in text)
    lengths = [len(prompt) for prompt in prompts]
    assert min(lengths) < 12
    assert max(lengths) > 3000


def test_authors_engagement_and_oddities(full: World) -> None:
    entries = items_of(full)
    authors = Counter(entry["username"] for entry in entries)
    assert authors.most_common(1)[0][1] > 100
    assert sum(count == 1 for count in authors.values()) > 500
    assert "unknown" in authors
    reactions = sorted(image.reactions for image in full.images)
    assert reactions[0] == 0
    assert reactions[-1] > 30 * (reactions[len(reactions) // 2] + 1)
    bases = {entry["baseModel"] for entry in entries}
    assert {None, "", "SDXL 1.0SDXL 1.0"} <= bases
    lacking = sum(
        image.versions[0] not in entry["modelVersionIds"] for image, entry in zip(full.images, entries, strict=True)
    )
    assert 0.05 < lacking / len(entries) < 0.15
    assert {entry["type"] for entry in entries} == {"image", "video", "audio"}
    assert all(
        entry["url"].endswith({"image": ".jpeg", "video": ".mp4", "audio": ".mp3"}[entry["type"]]) for entry in entries
    )
    times = [entry["createdAt"] for entry in entries]
    assert times == sorted(times)
    assert times[0] < "2025-01"
    assert "2026-10" < times[-1] < "2026-11-01"
    assert sum(len(set(image.versions) & set(DEMO_VERSIONS)) == 2 for image in full.images) > 50


# -- items and files


def test_items_are_served_exactly_as_given() -> None:
    odd: list[object] = [
        item(9), item(3), 7, None, "text", [], {}, {"id": "x"}, item(5, meta=5), {**item(6), "browsingLevel": "PG"},
        item(9), {"id": 12, "meta": {"prompt": "a\ud800b", "seed": 2**70}},
    ]  # fmt: skip
    with Sandbox(World.from_items(odd, model_version_id=77, model_id=66)) as server:
        served = page(server, modelVersionId=77, sort="Oldest", withMeta="true", type="image")["items"]
        assert served == odd
        assert list(served[0]) == list(item(9))
        assert get(server, "model-versions/77").json()["modelId"] == 66


def test_a_file_of_items(tmp_path: Path) -> None:
    path = tmp_path / "items.jsonl"
    lines = [
        item(2, createdAt="2026-01-02T00:00:00.000Z", modelVersionIds=[501, 502]),
        item(1, createdAt="2026-01-01T00:00:00.000Z", modelVersionIds=[501], tags=[{"id": 4, "name": "sea"}]),
        item(
            3,
            createdAt="2026-01-03T00:00:00.000Z",
            modelVersionIds=[502, 5001],
            meta={
                "Model": "urn:air:sdxl:checkpoint:civitai:44@501",
                "civitaiResources": [{"type": "lora", "modelVersionId": 502}],
            },
        ),
    ]
    path.write_text("\n".join(json.dumps(line) for line in lines) + "\n\n")
    world = World.from_jsonl(path)
    with Sandbox(world) as server:
        assert ids(page(server, modelVersionId=501, sort="Oldest")) == [1, 2]
        assert ids(page(server, modelVersionId=502, sort="Oldest")) == [2, 3]
        body = get(server, "model-versions/501").json()
        assert (body["modelId"], body["model"]["type"]) == (44, "Checkpoint")
        assert get(server, "model-versions/502").json()["model"]["type"] == "LORA"
        assert not set(world.models) & set(world.versions)
        assert page(server, modelVersionId=501, sort="Oldest", withTags="true")["items"][0]["tags"] == [
            {"id": 4, "name": "sea"}
        ]
        assert "tags" not in page(server, modelVersionId=501, sort="Oldest")["items"][0]


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("{", "not JSON"),
        ("[]", "not an object but list"),
        ('{"id": 0}', "'id' is not a positive integer"),
        ('{"id": 1, "modelVersionIds": ["5"]}', "'modelVersionIds' is not a list of positive integers"),
        ('{"id": 1, "modelVersionIds": [5]}', "'createdAt' is not a time"),
        ('{"id": 1, "modelVersionIds": [5], "createdAt": "2026-01-01T00:00:00Z"}', "there is no 'meta'"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, complaint: str) -> None:
    path = tmp_path / "items.jsonl"
    path.write_text(json.dumps(item(1)) + "\n" + line + "\n")
    with pytest.raises(SandboxError, match=complaint) as caught:
        World.from_jsonl(path)
    assert str(caught.value).startswith(f"{path}, line 2: ")


def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SandboxError, match="cannot read"):
        World.from_jsonl(tmp_path / "none.jsonl")
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(SandboxError, match="holds no items"):
        World.from_jsonl(tmp_path / "empty.jsonl")
    (tmp_path / "binary.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SandboxError, match="is not UTF-8"):
        World.from_jsonl(tmp_path / "binary.jsonl")


# -- changes


def test_a_world_changes_while_it_is_served() -> None:
    world = World.synthetic(images=200)
    with Sandbox(world) as server:
        before = ids(*pages(server, modelVersionId=910013, limit=50, browsingLevel=31))
        added = world.add_images(910013, 7)
        walked = ids(*pages(server, modelVersionId=910013, sort="Oldest", limit=5, browsingLevel=31))
        assert (before, walked) == ([], added)
        world.delete_image(added[0])
        assert ids(page(server, modelVersionId=910013, sort="Oldest", browsingLevel=31)) == added[1:]
        world.update_stats(added[3], like=5000, comment=2)
        (top, *_) = page(server, modelVersionId=910013, browsingLevel=31)["items"]
        assert top["id"] == added[3]
        assert top["stats"]["likeCount"] >= 5000
        world.set_meta(added[3], {"prompt": "edited"})
        assert page(server, modelVersionId=910013, browsingLevel=31, withMeta="true")["items"][0]["meta"] == {
            "prompt": "edited"
        }
        with pytest.raises(KeyError):
            world.delete_image(added[0])


def test_a_world_without_a_maker_repeats_its_items() -> None:
    world = World.from_items([item(4), item(8)])
    assert world.add_images(910011, 2) == [9, 10]
    assert world.image_ids(910011) == [4, 8, 9, 10]
    lora = World.synthetic(images=100)
    (added,) = lora.add_images(700101, 1)
    assert [image.id for image in lora.gallery(700101)][-1] == added
    with pytest.raises(KeyError):
        world.add_images(5, 1)


def test_a_new_image_appears_at_the_next_snap() -> None:
    world = World.from_items([item(1)])
    with Sandbox(world, SandboxOptions(published_snap_s=1.0)) as server:
        time.sleep(1.05 - time.time() % 1.0)
        world.insert(item(2), 910011)
        assert ids(page(server, modelVersionId=910011, sort="Oldest")) == [1]
        time.sleep(1.05 - time.time() % 1.0)
        assert ids(page(server, modelVersionId=910011, sort="Oldest")) == [1, 2]

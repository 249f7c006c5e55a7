from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from civitai_pipeline_tests.lake.examples import VERSION

from .examples import MONDAY, analyses, image, pick, resource

if TYPE_CHECKING:
    import pyarrow as pa

IMAGES = [
    image(1, "kite", "ann", engagement=1.0),
    image(2, "sea", "ann", engagement=2.0),
    image(3, "sun", "ann"),
    image(4, "moon", "bob", engagement=0.5),
    image(5, "moon", None),
    image(6, "gone", "eve", prompt_withdrawn_at=MONDAY),
]
RESOURCES = [
    resource(1, "checkpoint", "Base", resource_version_id=50, position=0),
    resource(2, "checkpoint", "Refiner", resource_version_id=51, position=0),
    resource(2, "checkpoint", "Mine", resource_version_id=VERSION, position=1),
    resource(3, "checkpoint", "folder/Base.safetensors", position=0),
    # One LoRA: by id, by a name that leads to the id, as a LyCORIS, and twice in one image.
    resource(1, "lora", "Wind", 0.2, resource_version_id=7),
    resource(2, "lora", "wind.safetensors", 0.4),
    resource(3, "lycoris", "Wind", 0.6, resource_version_id=7, position=1),
    resource(3, "lora", "WIND", 0.9, position=2),
    resource(4, "lora", "Wind", 1.0),
    resource(5, "lora", "Wind"),
    resource(6, "lora", "Wind", 5.0),
    # A name that two ids bear leads to neither.
    resource(1, "lora", "Rain", resource_version_id=8, position=4),
    resource(2, "lora", "Rain", resource_version_id=9, position=4),
    resource(3, "lora", "Rain", position=4),
    resource(4, "embedding", None, resource_hash="abcdef0123456", position=4),
    resource(99, "lora", "of no image"),
]


@pytest.fixture(scope="module")
def usage() -> pa.Table:
    return analyses(IMAGES, RESOURCES)["resource_usage"]


def test_a_resource_is_one_under_all_its_names_where_they_lead_to_one_id(usage: pa.Table) -> None:
    assert pick(usage, "resource_type", "resource_key", "resource", "images", checkpoint_key="all") == [
        ("checkpoint", "version 50", "Base", 2),
        ("checkpoint", "version 51", "Refiner", 1),
        ("checkpoint", f"version {VERSION}", "Mine", 1),
        ("embedding", "hash abcdef0123", None, 1),
        ("lora", "name rain", "Rain", 1),
        ("lora", "version 7", "Wind", 5),
        ("lora", "version 8", "Rain", 1),
        ("lora", "version 9", "Rain", 1),
    ]


def test_weights_with_what_is_not_known_beside_them(usage: pa.Table) -> None:
    # 0.2, 0.4, 0.6 of ann and 1.0 of bob; the fifth tells none, and unknown is not 1. Medians of authors: 0.4 and 1.0.
    names = ("weights", "weight_unknown_share", "weight_authors", "weight_minimum", "weight_q1", "weight_median",
             "weight_q3", "weight_maximum", "weight_author_median")  # fmt: skip
    ((n, unknown, authors, *numbers),) = pick(usage, *names, checkpoint_key="all", resource_key="version 7")
    assert (n, unknown, authors) == (4, 0.2, 2)
    assert numbers == pytest.approx([0.2, 0.35, 0.5, 0.7, 1.0, 0.7])
    assert pick(usage, *names, checkpoint_key="all", resource_key="name rain") == [(0, 1.0, 0, *[None] * 6)]


def test_engagement_and_counts_stand_beside(usage: pa.Table) -> None:
    names = ("images", "prompts", "authors", "images_total", "share", "resource_version_id")
    assert pick(usage, *names, checkpoint_key="all", resource_key="version 7") == [(5, 4, 2, 5, 1.0, 7)]
    scores = ("engagement_n", "engagement_mean", "engagement_median")
    assert pick(usage, *scores, checkpoint_key="all", resource_key="version 7") == [(3, 3.5 / 3, 1.0)]
    assert pick(usage, *scores, checkpoint_key="all", resource_key="name rain") == [(0, None, None)]


def test_the_checkpoint_is_the_version_collected_if_an_image_names_it_else_the_first() -> None:
    images = [image(n, f"kite {n}") for n in range(4)]
    resources = [resource(n, "lora", "wind") for n in range(4)]
    resources += [resource(n, "checkpoint", "Refiner", resource_version_id=51, position=1) for n in range(4)]
    resources += [resource(n, "checkpoint", None, resource_version_id=VERSION, position=2) for n in (0, 1)]
    resources += [resource(n, "checkpoint", "Base", position=0) for n in (2, 3)]
    found = pick(analyses(images, resources)["resource_usage"], "checkpoint_key", "images", resource_type="lora")
    assert found == [("all", 4), ("name base", 2), (f"version {VERSION}", 2)]


def test_each_checkpoint_has_its_own_distribution(usage: pa.Table) -> None:
    # Images 1 and 3 are of Base, image 2 of the version, 4 and 5 of none; what one image has is left out.
    names = ("checkpoint_key", "checkpoint", "resource_key", "images", "images_total", "weight_median")
    rows = [row for row in pick(usage, *names) if row[0] != "all"]
    assert rows == [
        ("none", None, "version 7", 2, 2, 1.0),
        ("version 50", "Base", "version 7", 2, 2, pytest.approx(0.4)),
    ]


def test_pairs_of_loras_and_of_checkpoint_and_lora_against_chance() -> None:
    images = [image(n, f"kite {n}", f"author {n % 3}") for n in range(10)]
    # Eight images name a LoRA: six both of them. Six of these name a checkpoint, five with wind.
    resources = [resource(n, "lora", "wind") for n in range(7)]
    resources += [resource(n, "lora", "rain", position=1) for n in (0, 1, 2, 3, 4, 5, 7)]
    resources += [resource(n, "checkpoint", "base", position=0) for n in (0, 1, 2, 3, 4, 7, 8)]
    found = analyses(images, resources)["resource_pairs"]
    names = ("resource_type", "resource_key", "lora_key", "images", "authors", "images_resource", "images_lora",
             "images_total")  # fmt: skip
    assert pick(found, *names) == [
        ("checkpoint", "name base", "name rain", 6, 3, 6, 6, 6),
        ("checkpoint", "name base", "name wind", 5, 3, 6, 5, 6),
        ("lora", "name rain", "name wind", 6, 3, 7, 7, 8),
    ]
    assert [lift for (lift,) in pick(found, "lift")] == pytest.approx([1.0, 1.0, (6 / 8) / ((7 / 8) * (7 / 8))])

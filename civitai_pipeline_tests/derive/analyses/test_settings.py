from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from civitai_pipeline.derive.analyses import settings

from .examples import MONDAY, analyses, image, pick, resource

if TYPE_CHECKING:
    import pyarrow as pa

EULER = {"sampler": "Euler", "steps": 20, "cfg_scale": 7.0, "width": 512, "height": 768}
IMAGES = [
    image(1, "kite", "ann", **EULER, generator="a1111", engagement=1.0),
    image(2, "Kite", "ann", **{**EULER, "steps": 16, "cfg_scale": 7.5}, engagement=3.0),
    image(3, "sea", "bob", **{**EULER, "steps": 21}, seed=7),
    image(4, "sea", None, sampler="UniPC", steps=20, width=768, height=512),
    image(5, "sun", "unknown", width=512, height=512, engagement=2.0),
    image(6, "sun", "eve", **EULER, prompt_withdrawn_at=MONDAY),
]
COUNTS = ("rank", "value", "number", "images", "prompts", "authors", "known", "share", "images_total", "capture_rate")


@pytest.fixture(scope="module")
def tables() -> dict[str, pa.Table]:
    return analyses(IMAGES, [resource(1, "lora", "wind", 0.5), resource(3, "lora", "wind")], [(1, "style")])


def test_values_have_n_of_n_beside_them(tables: dict[str, pa.Table]) -> None:
    found = tables["setting_values"]
    assert pick(found, *COUNTS, setting="sampler") == [
        (1, "Euler", None, 3, 2, 2, 4, 0.75, 5, 0.8),
        (2, "UniPC", None, 1, 1, 0, 4, 0.25, 5, 0.8),
    ]
    assert pick(found, *COUNTS, setting="steps") == [
        (1, "20", 20.0, 2, 2, 1, 4, 0.5, 5, 0.8),
        (2, "16", 16.0, 1, 1, 1, 4, 0.25, 5, 0.8),
        (3, "21", 21.0, 1, 1, 1, 4, 0.25, 5, 0.8),
    ]
    assert pick(found, "value", "number", "images", setting="cfg_scale") == [("7", 7.0, 2), ("7.5", 7.5, 1)]
    assert pick(found, "value", "images", setting="size") == [("512x768", 3), ("512x512", 1), ("768x512", 1)]
    assert pick(found, "value", "images", setting="orientation") == [("portrait", 3), ("landscape", 1), ("square", 1)]


def test_an_unknown_generator_is_not_known(tables: dict[str, pa.Table]) -> None:
    assert pick(tables["setting_values"], "value", "known", setting="generator") == [("a1111", 1)]


def test_what_comes_after_the_most_used_is_one_row_so_that_all_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "MOST_VALUES", 1)
    images = [image(n, "kite", f"author {n // 2}", steps=steps) for n, steps in enumerate([9, 9, 5, 6, 7])]
    assert pick(
        analyses(images)["setting_values"], "rank", "value", "number", "images", "authors", setting="steps"
    ) == [
        (1, "9", 9.0, 2, 1),
        (2, None, None, 3, 2),
    ]


def test_recipes_among_images_that_tell_all_four(tables: dict[str, pa.Table]) -> None:
    # 20 and 16 steps are one bin, 21 is the next; a recipe of one image is none.
    found = tables["setting_recipes"]
    assert pick(found, "sampler", "steps_from", "steps_to", "cfg_from", "cfg_below", "width", "height") == [
        ("Euler", 16, 20, 7.0, 8.0, 512, 768)
    ]
    counts = ("images", "prompts", "authors", "known", "share", "images_total", "engagement_n", "engagement_median")
    assert pick(found, *counts) == [(2, 1, 1, 3, 2 / 3, 5, 2, 2.0)]


def test_capture_rates_say_what_is_known_of_how_much(tables: dict[str, pa.Table]) -> None:
    found = {row["fact"]: row for row in tables["capture_rates"].to_pylist()}

    def rate(fact: str) -> tuple[Any, ...]:
        return tuple(found[fact][name] for name in ("known", "total", "capture_rate", "different", "authors"))

    assert rate("standing") == (5, 6, 5 / 6, 3, 2)
    assert rate("author") == (3, 5, 0.6, 2, 2)
    assert rate("engagement") == (3, 5, 0.6, 3, 1)
    assert rate("created_at") == (0, 5, 0.0, 0, 0)
    assert rate("negative_prompt") == (0, 5, 0.0, 0, 0)
    assert rate("sampler") == (4, 5, 0.8, 2, 2)
    assert rate("seed") == (1, 5, 0.2, 1, 1)
    assert rate("size") == (5, 5, 1.0, 3, 2)
    assert rate("tag") == (5, 5, 1.0, 3, 2)
    assert rate("lora") == (2, 5, 0.4, 1, 2)
    assert rate("lora_weight") == (1, 2, 0.5, 1, 1)
    assert rate("checkpoint") == (0, 5, 0.0, 0, 0)
    assert rate("category") == (1, 5, 0.2, 1, 1)

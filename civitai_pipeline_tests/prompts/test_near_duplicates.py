"""Signatures and groups: by hand, by their promises, and against exact similarities."""

from __future__ import annotations

import time
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from civitai_pipeline.prompts.near_duplicates import (
    NO_GROUP,
    SIGNATURE_VERSION,
    SLOTS,
    THRESHOLD,
    _agreeing,
    near_duplicate_groups,
    signatures,
)
from civitai_pipeline.prompts.shingles import Shingler
from civitai_pipeline.prompts.text import normalise_prompt
from civitai_pipeline_tests.prompts.near_texts import families

BASES = np.random.default_rng(4).integers(0, 256, (3, SLOTS), dtype=np.uint8)
LIST = "red fox, snow, pine forest, morning light, bokeh, red scarf, sitting, from side, watercolor, blue sky"
SENTENCE = "An old fisherman mends his net on a foggy pier while gulls circle above the harbour lights."


@st.composite
def _collections(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Ids and signatures: some of them equal, some about as alike as the threshold, some strangers."""
    changed = draw(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2**SLOTS - 1), st.integers(0, 3)), max_size=12))
    rows = []
    for base, mask, value in changed:
        row = BASES[base].copy()
        # About a quarter of the slots, each set to one of a few values, so that the changed are alike too.
        slots = np.array([mask >> slot & mask >> (slot + 7) % SLOTS & 1 for slot in range(SLOTS)], dtype=np.bool_)
        row[slots] = value
        rows.append(row)
    ids = draw(st.lists(st.integers(1, 10**9), min_size=len(rows), max_size=len(rows), unique=True))
    return np.array(ids, dtype=np.int64), np.array(rows, dtype=np.uint8).reshape(-1, SLOTS)


def groups_of(*prompts: str) -> list[int]:
    """The groups of prompts whose images are numbered from 1."""
    found = signatures([normalise_prompt(prompt) for prompt in prompts])
    groups: list[int] = near_duplicate_groups(np.arange(1, len(prompts) + 1), found).tolist()
    return groups


@pytest.mark.parametrize(
    ("prompt", "starts_with"),
    [
        ("a red kite over the dunes, watercolor, soft light", "6798da8f5461a22c1cf2ebe2859ee72d345726ea"),
        ("masterpiece, best quality", "600b05f6ec039468ade199ce74ef3c702b6e8ddd"),
        ("山间的湖泊, 古老的茶馆", "859dc9a400859bf732589cf00ba78e9aa8478f53"),
        ("", "9d59085bcbd08bea5773aea19d9240287421d13e"),
    ],
)
def test_signatures_are_these_bytes_everywhere(prompt: str, starts_with: str) -> None:
    # Tables keep signatures. If this fails, raise SIGNATURE_VERSION with the bytes, or new ones meet old ones.
    assert SIGNATURE_VERSION == "1.2"
    assert signatures([prompt])[0].tobytes().hex().startswith(starts_with)


@pytest.mark.parametrize(
    "near",
    [
        LIST.replace("snow", "deep grass"),
        LIST + ", night, lantern",
        LIST.replace("watercolor, ", ""),
        "watercolor, blue sky, red fox, snow, pine forest, morning light, bokeh, red scarf, sitting, from side",
        f"masterpiece, best quality, score_9, {LIST}, 8k, highly detailed",
        LIST.replace("red scarf", "(red_scarf:1.3)") + " <lora:winter:0.7>",
    ],
)
def test_a_list_with_a_part_or_two_changed_is_a_near_duplicate(near: str) -> None:
    assert groups_of(LIST, "a stranger", near) == [1, NO_GROUP, 1]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (SENTENCE, SENTENCE.replace("foggy", "sunny")),
        (SENTENCE, SENTENCE.replace("old fisherman", "young woman")),
        (SENTENCE, SENTENCE + " Rain."),
        ("水墨画风格的山间湖泊和古老的茶馆在雨中", "水墨画风格的山间湖泊和古老的茶馆在雪中"),
        ("1girl, solo", "solo, 1girl"),
        ("🌊🌙", "🌊🌙"),
        ("<lora:a:1>", "<lora:b:1>"),
    ],
)
def test_near_duplicates(one: str, other: str) -> None:
    assert groups_of(one, other) == [1, 1]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (
            "masterpiece, best quality, highres, absurdres, 8k, newest, very aesthetic, ultra-detailed, red fox, snow",
            "masterpiece, best quality, highres, absurdres, 8k, newest, very aesthetic, ultra-detailed, market, rain",
        ),
        ("score_9, score_8_up, score_7_up, score_6_up, 1girl", "score_9, score_8_up, score_7_up, score_6_up, 1boy"),
        (SENTENCE, "An old astronomer reads his book in a quiet tower while stars circle above the mountain lights."),
        (LIST, "red barn, wheat, oak forest, evening light, film grain, red door, open, from above, gouache, grey sky"),
        ("cat", "cats"),
        ("red kite", "blue kite"),
        ("🌊", "🌙"),
        ("", "cat"),
        ("猫", "犬"),
    ],
)
def test_strangers(one: str, other: str) -> None:
    assert groups_of(one, other) == [NO_GROUP, NO_GROUP]


def test_step_by_step_a_prompt_leaves_its_group() -> None:
    # Each step replaces one of ten parts: two steps away are near, five are not, and no chain leads from end to end.
    parts = [f"first{n} second{n}" for n in range(20)]
    steps = [", ".join(parts[step : step + 10]) for step in range(11)]
    groups = groups_of(*steps)
    assert groups[0] == groups[1] == 1
    assert groups[5] != 1
    assert len(set(groups)) > 2
    for image, group in enumerate(groups, 1):
        assert group == NO_GROUP or image - group < 4


def test_an_image_joins_the_leader_it_is_most_like() -> None:
    first, second = BASES[0].copy(), BASES[0].copy()
    second[:24] = BASES[1][:24]
    between = BASES[0].copy()
    between[:16] = BASES[1][:16]
    between[60:] = BASES[1][60:]
    rows = np.stack([first, second, between])
    assert near_duplicate_groups(np.array([10, 20, 30]), rows).tolist() == [NO_GROUP, 20, 20]
    # As alike to both: the first of them.
    between[12:16] = BASES[0][12:16]
    rows = np.stack([first, second, between])
    assert near_duplicate_groups(np.array([10, 20, 30]), rows).tolist() == [10, NO_GROUP, 10]


@given(_collections(), st.randoms(use_true_random=False))
def test_the_order_of_the_rows_does_not_matter(rows: tuple[np.ndarray, np.ndarray], shuffler: object) -> None:
    ids, found = rows
    order = np.arange(len(ids))
    shuffler.shuffle(order)  # type: ignore[attr-defined]
    groups = near_duplicate_groups(ids, found)
    assert near_duplicate_groups(ids[order], found[order]).tolist() == groups[order].tolist()


@given(_collections())
def test_what_a_group_is(rows: tuple[np.ndarray, np.ndarray]) -> None:
    ids, found = rows
    groups = near_duplicate_groups(ids, found)
    for group in set(groups.tolist()) - {NO_GROUP}:
        members = groups == group
        assert members.sum() > 1
        assert ids[members].min() == group
        (leader,) = found[ids == group]
        alike = ((found[members] == leader).mean(axis=1) - 1 / 256) / (1 - 1 / 256)
        assert alike.min() >= THRESHOLD
    by_text: dict[bytes, set[int]] = {}
    for row, image_id, group in zip(found, ids.tolist(), groups.tolist(), strict=True):
        by_text.setdefault(row.tobytes(), set()).add(group or -image_id)
    # Equal ones are together, and none of several is alone.
    assert all(len(of_one_text) == 1 for of_one_text in by_text.values())


@given(_collections())
def test_later_images_change_nobody_but_who_was_alone(rows: tuple[np.ndarray, np.ndarray]) -> None:
    ids, found = rows
    order = np.argsort(ids)
    ids, found = ids[order], found[order]
    groups = near_duplicate_groups(ids, found).tolist()
    for held in range(len(ids)):
        before = near_duplicate_groups(ids[:held], found[:held]).tolist()
        for image_id, early, late in zip(ids.tolist(), before, groups, strict=False):
            assert late == early or (early == NO_GROUP and late == image_id)


@given(_collections())
def test_bytes_that_agree_are_counted_as_numpy_counts_them(rows: tuple[np.ndarray, np.ndarray]) -> None:
    _, found = rows
    for one, other in zip(found, np.roll(found, 1, axis=0), strict=True):
        numbers = [int.from_bytes(row.tobytes(), "little") for row in (one, other)]
        assert _agreeing(*numbers) == (one == other).sum()


@settings(max_examples=30)
@given(st.lists(st.sampled_from([LIST, SENTENCE, "", "8k", "雨"]) | st.text(max_size=12), max_size=12))
def test_a_signature_is_the_prompts_alone(prompts: list[str]) -> None:
    forms = [normalise_prompt(prompt) for prompt in prompts]
    together = signatures(forms)
    assert together.shape == (len(forms), SLOTS)
    assert together.dtype == np.uint8
    for form, found in zip(forms, together, strict=True):
        assert signatures([form])[0].tolist() == found.tolist()


def test_recall_and_precision_against_exact_similarities() -> None:
    prompts = [prompt for family in families(500) for prompt in family]
    np.random.default_rng(2).shuffle(prompts)
    exact = _similarities(prompts)
    groups = np.array(groups_of(*prompts))
    leader = np.where(groups == NO_GROUP, np.arange(len(groups)), groups - 1)
    leads = leader == np.arange(len(groups))
    to_leader = exact[np.arange(len(groups)), leader][~leads]
    assert len(to_leader) > 300
    assert (to_leader >= THRESHOLD).mean() > 0.95
    assert to_leader.min() > THRESHOLD - 0.2
    # How alike the image that leads or is alone is to the leaders before it: none should have been missed.
    before = np.tril(exact, -1)[leads][:, leads]
    missed = before.max(axis=1) >= THRESHOLD
    assert missed.sum() / (missed.sum() + len(to_leader)) < 0.03
    assert before.max() < THRESHOLD + 0.15


def test_a_hundred_thousand_images_in_few_buckets_take_seconds() -> None:
    rng = np.random.default_rng(3)
    # Each band is one of two, so that every bucket holds half of all images and no two are alike but by chance.
    found = np.where(np.repeat(rng.integers(0, 2, (20_000, 16)), 4, axis=1) == 0, BASES[0], BASES[1])
    variants = np.where(rng.random((20_000, SLOTS)) < 0.2, rng.integers(0, 256, (20_000, SLOTS)), BASES[2])
    found = np.concatenate([found, variants, np.repeat(BASES[:1], 60_000, axis=0)]).astype(np.uint8)
    started = time.process_time()
    near_duplicate_groups(np.arange(1, len(found) + 1), found)
    assert time.process_time() - started < 10


def test_signatures_of_many_prompts_take_a_moment() -> None:
    prompts = [
        ", ".join(f"tag{(image * 7 + place * place) % 5000} word" for place in range(40)) for image in range(10_000)
    ]
    started = time.process_time()
    found = signatures(prompts)
    near_duplicate_groups(np.arange(1, len(found) + 1), found)
    assert time.process_time() - started < 4


def test_no_images() -> None:
    assert signatures([]).shape == (0, SLOTS)
    assert near_duplicate_groups(np.zeros(0, dtype=np.int64), signatures([])).tolist() == []


@pytest.mark.parametrize(
    ("ids", "shape", "complaint"),
    [
        ([1, 2], (1, SLOTS), "2 ids do not go with signatures of shape"),
        ([1], (1, SLOTS // 2), "do not go with"),
        ([1, 1], (2, SLOTS), "all different"),
        ([0, 1], (2, SLOTS), "must be positive"),
    ],
)
def test_what_does_not_fit_is_refused(ids: list[int], shape: tuple[int, int], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        near_duplicate_groups(np.array(ids), np.zeros(shape, dtype=np.uint8))


def _similarities(prompts: list[str]) -> np.ndarray:
    """The exact Jaccard similarity of each prompt's shingles with those of each other."""
    hashes, offsets = Shingler().shingles([normalise_prompt(prompt) for prompt in prompts])
    every, number = np.unique(hashes, return_inverse=True)
    held = np.zeros((len(prompts), len(every)), dtype=np.float32)
    for row, (start, end) in enumerate(pairwise(offsets.tolist())):
        held[row, number[start:end]] = 1
    shared, sizes = held @ held.T, held.sum(axis=1)
    similarities: np.ndarray = shared / (sizes[:, None] + sizes[None, :] - shared)
    return similarities

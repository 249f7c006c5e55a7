"""What two prompts have in common, counted in shingles."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from civitai_pipeline.prompts.shingles import BOILERPLATE, Shingler
from civitai_pipeline.prompts.text import normalise_prompt

PROMPTS = st.lists(
    st.sampled_from(["kite", "red kite", "over the sea", "8k", "masterpiece", "🌊", "...", "霧の港", "a-b_c", ""]),
    max_size=6,
).map(", ".join) | st.text(max_size=20)


def sets_of(*prompts: str) -> list[set[int]]:
    hashes, offsets = Shingler().shingles([normalise_prompt(prompt) for prompt in prompts])
    return [set(hashes[start:end].tolist()) for start, end in pairwise(offsets.tolist())]


def test_shingles_are_the_words_and_the_pairs_within_a_part() -> None:
    (both,) = sets_of("red kite over dunes, sea")
    assert len(both) == 5 + 3
    (words,) = sets_of("red, kite, over, dunes, sea")
    assert len(words) == 5
    assert words < both


@pytest.mark.parametrize(
    ("one", "other", "shared", "all_of_them"),
    [
        ("red kite, sea", "sea, red kite", 4, 4),
        ("red kite", "kite red", 2, 4),
        ("red kite, sea", "(Red kite:1.3), <lora:fog:0.6> sea", 4, 4),
        ("red_kite, sea-side", "red kite, sea side", 6, 6),
        ("red kite over dunes", "blue kite over dunes", 5, 9),
        ("kite, kite, kite", "kite", 1, 1),
        # Written without spaces, each character counts: six and the five pairs of them, the last one changed.
        ("雨の日の電車", "雨の日の電話", 5 - 1 + 4, 5 - 1 + 4 + 2 + 2),
        # The characters of a word with accents are a word all the same.
        ("café noir", "café blanc", 1, 5),
    ],
)
def test_what_two_prompts_share(one: str, other: str, shared: int, all_of_them: int) -> None:
    first, second = sets_of(one, other)
    assert (len(first & second), len(first | second)) == (shared, all_of_them)


def test_boilerplate_is_left_out_where_anything_else_is_left() -> None:
    plain, praised, praise, scored = sets_of(
        "red kite", "masterpiece, (best quality:1.2), score_9, red kite, ultra-detailed", "masterpiece, 8k", "score_9"
    )
    assert praised == plain
    assert (len(praise), len(scored)) == (2, 3)
    assert not praise & plain


def test_boilerplate_within_a_part_is_kept() -> None:
    kept, without = sets_of("a masterpiece of glass, sea", "of glass, sea")
    assert without < kept


def test_boilerplate_is_listed_as_words() -> None:
    assert all(part == " ".join(part.lower().replace("-", " ").replace("_", " ").split()) for part in BOILERPLATE)
    assert len(set(BOILERPLATE)) == len(BOILERPLATE)


def test_prompts_without_a_word_are_one_shingle_each() -> None:
    waves, fire, nothing, dots = sets_of("🌊🌊", "🔥", "<lora:only:1>", "...")
    assert [len(one) for one in (waves, fire, nothing, dots)] == [1, 1, 1, 1]
    assert len(waves | fire | nothing | dots) == 4


def test_a_prompt_of_several_lines_is_refused() -> None:
    with pytest.raises(ValueError, match="several lines"):
        Shingler().shingles(["a kite\nover dunes"])


@given(st.lists(PROMPTS, min_size=1, max_size=6), st.sampled_from([0, 20, 10**6]))
def test_a_prompt_is_cut_up_alike_in_any_company(prompts: list[str], most_word_bytes: int) -> None:
    together = sets_of(*prompts)
    shingler = Shingler(most_word_bytes)
    for prompt, found in zip(prompts, together, strict=True):
        hashes, offsets = shingler.shingles([normalise_prompt(prompt)])
        assert set(hashes.tolist()) == found
        assert offsets.tolist() == [0, len(hashes)]
        assert len(found) >= 1

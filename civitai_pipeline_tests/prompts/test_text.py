"""The normal form, its hash, and the counts."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from civitai_pipeline.prompts.text import clean_prompt, normalise_prompt, prompt_counts, prompt_hash, storable

# Text dense in what the normal form is about, so that odd nestings come up.
PROMPT_LIKE = st.lists(
    st.sampled_from(
        [
            *"()[]{}<>\\:,. \n",
            "<lora:",
            "a",
            "Wide",
            "1.2",
            ":1.2)",
            "\\(",
            "\\)",
            "\uff46",
            "é",
            "e",
            "\u0301",
            "İ",
            "\uff1c",
            "ς",
            "  ",
            " ,",
            "\u3000",
            "\x1c",
        ]
    ),
    max_size=25,
).map("".join)


@pytest.mark.parametrize(
    ("prompt", "normal"),
    [
        ("A Red  Kite,\n over   dunes", "a red kite, over dunes"),
        ("castle <lora:fog:0.6>, hill", "castle, hill"),
        ("<hypernet:x:1><lyco:y:0.5:0.5>sea", "sea"),
        ("(kite:1.2), ((dunes)), [sky], {sea}", "kite, dunes, sky, sea"),
        ("((kite:1.1) and string:1.3)", "kite and string"),
        ("( kite : 0.8 )", "kite"),
        (r"eevee \(pokemon\), (big \(very\):1.4)", r"eevee \(pokemon\), big \(very\)"),
        ("16:9 frame, f/1.4", "16:9 frame, f/1.4"),
        (", a,, ,b ,", "a, b"),
        ("\uff37\uff29\uff24\uff25 ﬁeld", "wide field"),
        ("i <3 you", "i <3 you"),
        ("<(lora):x>sea", "sea"),
        ("caf(e\u0301), e(\u0301)", "café, é"),
        ("a\\b, (c\\:1.2)\\)", "ab, c\\)"),
        ("<a:<b:c>>x", "x"),
        ("<a:i <3 you> b>x, <a:b", "x, <a:b"),
        ("<lora:open:1, b", "<lora:open:1, b"),
        ("<lora:a, b:1>c", "c"),
        ("(<lora:a:1>:1.2) sea", "sea"),
        ("(a:-1.5), (b:.5), (c:1.2.3)", "a, b, c:1.2.3"),
        (" ,a ,b , c,", "a, b, c"),
        (", a, b", "a, b"),
        ("a\t\u3000b\x1cc\u200bd", "a b c\u200bd"),
        ("b, a", "b, a"),
        ("<lora:only:1>", ""),
    ],
)
def test_normal_form(prompt: str, normal: str) -> None:
    assert normalise_prompt(prompt) == normal


@given(PROMPT_LIKE | st.text())
def test_normalising_twice_changes_nothing(prompt: str) -> None:
    once = normalise_prompt(prompt)
    assert normalise_prompt(once) == once


@pytest.mark.parametrize("unit", ["<a:", "(", ":1", ": ", "1", "<", "\\", "\u0301\u0327", "a\u0f73\uff9e" * 40])
def test_normalising_takes_linear_time(unit: str) -> None:
    # Quadratic work on these 300 kB took minutes; linear takes a fraction of a second.
    started = time.perf_counter()
    normalise_prompt(":" + unit * (300_000 // len(unit)) + ">" * 1000)
    assert time.perf_counter() - started < 5


def test_a_long_row_of_marks_is_parted_and_a_short_one_is_not() -> None:
    marks = "\u0327" * 15 + "\u0301" * 15
    assert normalise_prompt("x\u0301\u0327" + marks[2:]) == "x\u0327" + marks[2:15] + "\u0301" + marks[15:]
    assert normalise_prompt("x" + marks * 2) == f"x{marks}\u034f{marks}"


def test_equal_prompts_have_equal_hashes() -> None:
    assert prompt_hash("(Red kite:1.3), <lora:x:1> dunes") == prompt_hash("red  kite, dunes")
    assert prompt_hash("dunes, red kite") != prompt_hash("red kite, dunes")
    assert len(prompt_hash("")) == 32
    assert prompt_hash("\ud800") == prompt_hash("\ufffd")


def test_counts() -> None:
    assert prompt_counts("a b,, c ,\n d é🜂") == (15, 3, 6)
    assert prompt_counts("") == (0, 0, 0)


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_storable_keeps_what_a_file_can_hold(text: str) -> None:
    assert storable(text) == text


@given(st.text(st.characters()))
def test_storable_makes_text_a_file_can_hold(text: str) -> None:
    storable(text).encode()


def test_storable_replaces_only_the_lone_surrogate() -> None:
    assert storable("a\ud800b\x00") == "a\ufffdb\x00"
    assert storable("\ud83d\ude00") == "😀"


@pytest.mark.parametrize(
    ("prompt", "clean"),
    [
        ("A Red  Kite,\n over   dunes", "A Red Kite, over dunes"),
        ("Castle <lora:Fog:0.6>, hill", "Castle, hill"),
        ("<lora:a<lora:b:1>:1>Sea <hypernet:x:1>", "Sea"),
        ("a photo of <cat-toy> <b>bold</b>", "a photo of bold"),
        ("(Kite:1.2), ((dunes)), [sky]", "Kite, dunes, sky"),
        (r"eevee \(pokemon\)", r"eevee \(pokemon\)"),
        ("sea, embedding:soft_light, (Embedding:fog:1.2) sky", "sea, sky"),
        ("sea, urn:air:sdxl:lora:civitai:1@2, sky", "sea, sky"),
        ("EasyFog, (easyfog:1.2), an easyfog day", "an easyfog day"),
        ("i <3 you, 16:9", "i <3 you, 16:9"),
        ("<lo(ra:x>sea", "sea"),
        (" 海 \U0001f600 ,, ", "海 \U0001f600"),
        ("<lora:only:1>", ""),
    ],
)
def test_a_clean_prompt_is_the_words_alone(prompt: str, clean: str) -> None:
    assert clean_prompt(prompt, ["easyFog"]) == clean


@settings(max_examples=300)
@given(st.lists(PROMPT_LIKE | st.sampled_from(["embedding:", "urn:air:", "<a>", ", fog,"]), max_size=4).map("".join))
def test_cleaning_twice_changes_nothing_and_leaves_no_tag(prompt: str) -> None:
    clean = clean_prompt(prompt, ["fog"])
    assert clean_prompt(clean, ["fog"]) == clean
    assert not re.search(r"<[\w-]+:[^<>]*>|(?<![\w<])embedding:\w|(?:^|, )fog(?:,|$)", clean, re.IGNORECASE)


@pytest.mark.parametrize("evil", ["<a:", "(", "embedding:", "urn:air:", "<(a>", "embedding(:1):(a", "</a"])
def test_cleaning_costs_no_more_than_its_length(evil: str) -> None:
    started = time.process_time()
    clean_prompt(evil * (300_000 // len(evil)))
    assert time.process_time() - started < 2

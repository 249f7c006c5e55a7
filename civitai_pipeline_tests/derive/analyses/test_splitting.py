from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from civitai_pipeline.derive.analyses import splitting
from civitai_pipeline.derive.analyses.splitting import MAX_TAG_LENGTH, Vocabulary, normal_forms, split_texts
from civitai_pipeline.prompts.text import normalise_prompt, storable


def tags_of(*texts: str) -> list[list[tuple[str, int]]]:
    """The tags of each text with their places, in order of place."""
    vocabulary = Vocabulary()
    given = pa.table({"text": pa.array(range(len(texts)), pa.int32()), "content": pa.array(texts, pa.string())})
    tables = list(split_texts([given], vocabulary))
    names = vocabulary.names.to_pylist()
    found: list[list[tuple[str, int]]] = [[] for _ in texts]
    for row in pa.concat_tables(tables).to_pylist() if tables else []:
        found[row["text"]].append((names[row["tag"]], row["position"]))
    return [sorted(tags, key=lambda tag: tag[1]) for tags in found]


@pytest.mark.parametrize(
    ("text", "tags"),
    [
        ("a kite,  Red  Kite ,, (sky:1.2), ((sea)), [sand]", ["a kite", "red kite", "sky", "sea", "sand"]),
        ("(a kite, b:1.3), c", ["a kite", "b", "c"]),
        ("dunes <lora:Wind_v2:0.8> gulls, <lora:a:1>", ["dunes", "gulls"]),
        ("<lora:<x:y>:1>dunes", ["dunes"]),
        ("one BREAK two, BREAKFAST", ["one", "two", "breakfast"]),
        ("one\ntwo,\r\nthree", ["one", "two", "three"]),
        ("桜並木、春風，花びら, ＳＫＹ", ["桜並木", "春風", "花びら", "sky"]),  # noqa: RUF001 - the commas of Japanese
        (r"mario \(nintendo\), 🦊 fox", [r"mario \(nintendo\)", "🦊 fox"]),
        ("", []),
        (" , ,\n", []),
    ],
)
def test_a_text_is_cut_at_its_separators(text: str, tags: list[str]) -> None:
    assert [name for name, _ in tags_of(text)[0]] == tags


def test_a_tag_has_the_place_of_its_first_time_and_a_sentence_keeps_its_place() -> None:
    sentence = "a" * (MAX_TAG_LENGTH + 1)
    assert tags_of(f"kite, , {sentence}, sea, KITE, sun") == [[("kite", 1), ("sea", 3), ("sun", 5)]]
    assert tags_of("a" * MAX_TAG_LENGTH) == [[("a" * MAX_TAG_LENGTH, 1)]]


def test_slices_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ["kite, sea", "sea, (sun)", "", "sun, kite", "夏, sea"]
    whole = tags_of(*texts)
    monkeypatch.setattr(splitting, "TEXTS_PER_SLICE", 2)
    assert tags_of(*texts) == whole
    monkeypatch.setattr(splitting, "_TAGS_NUMBERED_AT_ONCE", 1)
    assert tags_of(*texts) == whole


PARTS = st.text() | st.text(st.sampled_from("aB é\u3000\x1c\t()[]{}\\<>:.12，ﬁİ"))  # noqa: RUF001 - odd on purpose


@settings(max_examples=200)
@given(st.lists(PARTS.map(storable), min_size=1, max_size=5))
def test_the_normal_form_is_the_one_that_tells_equal_prompts(parts: list[str]) -> None:
    parts = [part.replace(",", "") for part in parts]
    expected = [normalise_prompt(part).replace(",", " ") for part in parts]
    assert normal_forms(pa.array(parts, type=pa.string())).to_pylist() == expected


@settings(max_examples=100)
@given(st.lists(PARTS.map(storable) | st.lists(PARTS.map(storable)).map(",".join), max_size=5))
def test_no_text_whatsoever_gives_a_tag_that_is_blank_too_long_or_holds_a_comma(texts: list[str]) -> None:
    for tags in tags_of(*texts):
        names = [name for name, _ in tags]
        assert len(set(names)) == len(names)
        assert all(name.strip() and len(name) <= MAX_TAG_LENGTH and "," not in name for name in names)
        assert [position for _, position in tags] == sorted({position for _, position in tags})

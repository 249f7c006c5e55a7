"""Untrusted text, made safe for each place it is shown."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from civitai_pipeline.report.text import drawable, excerpt, json_for_script, plotly_literal, quoted, shortened


def test_json_cannot_end_its_script_element() -> None:
    text = json_for_script({"label": "</script><!--&\u2028\u2029"})
    assert not set("<>&\u2028\u2029") & set(text)
    assert json.loads(text) == {"label": "</script><!--&\u2028\u2029"}


@given(st.text(st.characters()))
def test_json_keeps_any_text_to_the_letter(text: str) -> None:
    script = json_for_script([text])
    assert json.loads(script) == [text]
    assert script.encode()


def test_json_refuses_what_json_cannot_say() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        json_for_script([float("nan")])


def test_plotly_shows_markup_to_the_letter() -> None:
    assert plotly_literal('<a href="x">b</a> & c') == '&lt;a href="x"&gt;b&lt;/a&gt; &amp; c'
    assert plotly_literal("one\ntwo\u202ethree") == "one twothree"


def test_labels_count_wide_characters_twice() -> None:
    assert shortened("abcdef", 6) == "abcdef"
    assert shortened("abcdefg", 6) == "abcde…"
    assert shortened("水彩画風の絵", 7) == "水彩…"


@given(st.text(), st.integers(min_value=3, max_value=40))
def test_labels_are_one_short_line(text: str, columns: int) -> None:
    assert len(shortened(text, columns)) <= columns
    assert "\n" not in shortened(text, columns)


def test_a_name_in_a_sentence_is_isolated() -> None:
    assert quoted("\u202e\u05d0\u05d1") == "“\u2068\u05d0\u05d1\u2069”"


def test_what_no_page_may_hold_is_replaced() -> None:
    assert drawable("a\x00b\x1bc\ud800d\te\nf") == "a\ufffdb\ufffdc\ufffdd\te\nf"


def test_long_prompts_are_cut() -> None:
    assert excerpt("  short ") == "short"
    assert len(excerpt("x" * 1000)) == 280

"""JSON at its edges: surrogates, big numbers, deep nesting, what is no JSON."""

from __future__ import annotations

import json
import math
import tracemalloc
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from civitai_pipeline.jsontext import KEPT_LEVELS, MAX_LEVELS, InvalidJsonError, dumps, loads
from civitai_pipeline.prompts.values import canonical_json

if TYPE_CHECKING:
    from collections.abc import Callable

TEXT = st.text(st.characters(codec=None, exclude_categories=()))
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(TEXT, inner, max_size=5),
    max_leaves=25,
)
# Keeps orjson from doing the work.
ODD = "\ud800"


@settings(max_examples=50)
@given(VALUES)
def test_what_is_written_reads_back_the_same(value: object) -> None:
    assert loads(dumps(value)) == value


@settings(max_examples=50)
@given(VALUES, st.booleans())
def test_the_patient_writer_agrees_with_the_standard_library(value: object, sort_keys: bool) -> None:
    odd = {"a": value, ODD: ODD}
    expected = json.dumps(odd, separators=(",", ":"), sort_keys=sort_keys).encode()
    assert dumps(odd, sort_keys=sort_keys) == expected


@settings(max_examples=50)
@given(st.dictionaries(st.text(), st.integers(0, 9)))
def test_sorted_keys_give_one_spelling_however_they_came(value: dict[str, int]) -> None:
    assert dumps(value, sort_keys=True) == dumps(dict(reversed(value.items())), sort_keys=True)


@settings(max_examples=50)
@given(VALUES)
def test_text_and_bytes_read_alike(value: object) -> None:
    text = json.dumps(value, ensure_ascii=True)
    assert loads(text) == loads(text.encode()) == value


@pytest.mark.parametrize("raw", [rb'"\ud800"', rb'"\udc00\ud800"', b'"\xed\xa0\x80"'])
def test_lone_surrogates_are_read_and_written(raw: bytes) -> None:
    value = loads(raw)
    assert all("\ud800" <= character <= "\udfff" for character in value)
    assert loads(dumps(value)) == value


@pytest.mark.parametrize(
    "raw",
    [
        b"", b" ", b"NaN", b"[Infinity]", b'{"a":-Infinity}', rb'["\ud800",NaN]', b"undefined", b"{'a':1}", b"[1,]",
        b"01", b"\xff", b"\xef\xbb\xbf{}",
        '{"a":1}'.encode("utf-16"), '{"a":1}'.encode("utf-32"), b"[" * 10**6, b"[1]x",
        b'"\x01"',
    ],
)  # fmt: skip
def test_what_is_no_json_is_refused(raw: bytes) -> None:
    with pytest.raises(InvalidJsonError):
        loads(raw)


@settings(max_examples=50)
@given(st.binary())
@example(b"1e310")
@example(b'[-1e999, {"a": 1e400}]')
def test_no_bytes_fail_in_another_way(raw: bytes) -> None:
    try:
        value = loads(raw)
    except InvalidJsonError:
        return
    assert loads(dumps(value)) == _in_range(value)


def _in_range(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    """The value with null for numbers beyond the range of a double, for which JSON has no word."""
    if isinstance(value, dict):
        return {key: _in_range(inside) for key, inside in value.items()}
    if isinstance(value, list):
        return [_in_range(inside) for inside in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@pytest.mark.parametrize("depth", [253, 254, 255, 256, 990, 1000, 1023, 1024, 1025, KEPT_LEVELS])
@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_whatever_depth_can_be_read_can_be_written(depth: int, opening: str) -> None:
    text = opening * depth + "0" + ("]" if opening == "[" else "}") * depth
    assert dumps(loads(text)) == text.encode()


def test_whole_numbers_of_64_bits_stay_exact() -> None:
    for number in (2**53 + 1, 2**63 - 1, -(2**63), 2**64 - 1):
        assert loads(dumps([number])) == [number]
    assert dumps([2**70]) == str([2**70]).encode()


DIGITS = ["1" * 19, "1" * 20, "9" * 20, "-" + "9" * 19, "1" * 300, "-0", str(2**64), str(-(2**63) - 1)]


@pytest.mark.parametrize("digits", DIGITS)
def test_a_number_reads_the_same_whatever_stands_beside_it(digits: str) -> None:
    alone, [beside, _] = loads(digits), loads(f'[{digits},"\\ud800"]')
    assert (alone, type(alone)) == (beside, type(beside))


def test_a_number_of_any_length_can_be_read() -> None:
    assert loads("1" * 5000) == math.inf


@pytest.mark.parametrize("beside", ["plain", ODD])
@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_number_that_json_cannot_spell_becomes_null(number: float, beside: str) -> None:
    assert loads(dumps([number, beside])) == [None, beside]


@pytest.mark.parametrize("beside", ["plain", ODD])
@pytest.mark.parametrize("contents", [b'{ "a" : 1.0 }', '["\N{SNOWMAN}"]'])
def test_a_fragment_is_copied_as_it_is(contents: bytes | str, beside: str) -> None:
    raw = contents if isinstance(contents, bytes) else contents.encode()
    assert raw in dumps({"beside": beside, "body": orjson.Fragment(contents)})


@pytest.mark.parametrize("value", [{1}, object(), {"a": [b"bytes", ODD]}, {1: ODD}, [1j, ODD]])
def test_what_is_no_json_value_is_refused(value: Any) -> None:  # noqa: ANN401 - that is the point
    with pytest.raises(TypeError):
        dumps(value)


DEEP = "[" * 1_200, "]" * 1_200


@settings(max_examples=50)
@given(VALUES, st.sampled_from(["", " ", "\n\t"]))
def test_a_deep_document_is_read_as_the_same_in_a_flat_one(value: object, space: str) -> None:
    text = json.dumps(value, indent=1 if space else None)
    found = loads(f"{DEEP[0]}{space}{text}{space}{DEEP[1]}")
    for _ in range(1_200):
        (found,) = found
    assert found == value


@pytest.mark.parametrize(
    "part", ["1,", ",1", '{"a":1,}', '{"a"}', '{"a":}', "{1:2}", '"\x01"', "01", "tru", "1 2", "[}", '{"a" 1}', "NaN"]
)
def test_what_is_no_json_is_refused_in_a_deep_document_too(part: str) -> None:
    with pytest.raises(InvalidJsonError):
        loads(DEEP[0] + part + DEEP[1])


def test_what_lies_too_deep_is_cut_off_and_beyond_all_bounds_refused() -> None:
    found, levels = loads("[1,[" * KEPT_LEVELS + '{"a":[2]}' + "],3]" * KEPT_LEVELS), 0
    while found[1][0] is not None:
        found, levels = found[1][0], levels + 2
    assert (found, levels + 2) == ([1, [None], 3], KEPT_LEVELS)
    with pytest.raises(InvalidJsonError):
        loads("[" * (MAX_LEVELS + 1) + "]" * (MAX_LEVELS + 1))


@pytest.mark.parametrize("write", [dumps, canonical_json])
def test_many_short_values_are_written_without_much_memory(write: Callable[[object], bytes]) -> None:
    odd = {"odd": ODD, "names": {f"name {number}": f"value {number}" for number in range(10_000)}}
    fragments = [orjson.Fragment(b"1")] * 10_000 if write is dumps else []
    tracemalloc.start()
    try:
        written = write([odd, fragments])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # Eighteen times at most, of what is yet to be written; a piece of orjson's kept for each value made it 180.
    assert peak < 25 * len(written)

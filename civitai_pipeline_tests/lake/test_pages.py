"""A page's envelope and its bytes."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta, timezone

import orjson
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from civitai_pipeline import jsontext
from civitai_pipeline.lake.pages import DamagedPageError, LandedPage, NewerPageError, Options, PageId, decode, encode
from civitai_pipeline_tests.lake.examples import THEN, body, page

# Lone surrogates included: uploaders send them.
TEXT = st.text(st.characters(codec=None, exclude_categories=())) | st.just("\ud800x\udfff")
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(10**300), 10**300)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=15,
)
SCALAR_CURSORS = st.none() | st.integers(0, 2**63) | TEXT
PAGES = st.builds(
    LandedPage,
    id=st.builds(PageId, st.integers(1, 9999), st.integers(1, 999_999)),
    model_version_id=st.integers(1, 2**31 - 1),
    sequence=st.integers(0, 10**9),
    run_id=st.none() | st.uuids().map(str),
    listing=st.dictionaries(st.text(), st.text() | st.integers(0, 99), max_size=5),
    cursor=SCALAR_CURSORS,
    url=st.text(),
    options=st.builds(Options, st.booleans(), st.booleans(), st.none() | st.integers(1, 10**6)),
    fetched_at=st.datetimes(timezones=st.just(THEN.tzinfo) | st.just(timezone(timedelta(hours=5, minutes=30)))).filter(
        lambda moment: 1900 < moment.year < 9000
    ),
    elapsed_s=st.integers(0, 10**9).map(lambda microseconds: microseconds / 10**6),
    items=st.just([]),
    metadata=st.just({}),
)


def _document(data: bytes) -> bytes:
    return zstandard.ZstdDecompressor().decompress(data, max_output_size=2**26)


@settings(max_examples=50)
@given(PAGES, st.lists(JSON, max_size=4), st.dictionaries(TEXT, JSON, max_size=3), st.booleans())
def test_a_page_comes_back_as_it_was_landed(
    envelope: LandedPage, items: list[object], metadata: dict[str, object], as_text: bool
) -> None:
    raw = json.dumps({"items": items, "metadata": metadata}, ensure_ascii=as_text).encode("utf-8", "surrogatepass")
    told = jsontext.loads(raw)
    back = decode(encode(envelope, raw))
    assert back == replace(envelope, items=told["items"], metadata=told["metadata"])


@settings(max_examples=50)
@given(PAGES, JSON)
def test_the_bytes_of_a_body_are_kept_to_the_letter(envelope: LandedPage, value: object) -> None:
    raw = json.dumps({"items": [value], "metadata": {}}, indent=1).encode() + b"\n "
    assert raw in _document(encode(envelope, raw))


@pytest.mark.parametrize(
    "raw",
    [
        b' { "items":[1.0,1e5,1E400,-0.0,"\\u0041\\/"],\n"metadata" : {} }\n',
        b'{"items":[123456789012345678901234567890],"metadata":{},"metadata":{"nextCursor":"a"}}',
        '{"items":["日本\U0001f600\\ud83d"],"metadata":{}}'.encode(),
    ],
)
@pytest.mark.parametrize("cursor", [None, "2|x", "\ud800"])
def test_odd_spellings_of_a_body_are_kept(raw: bytes, cursor: str | None) -> None:
    data = encode(page(cursor=cursor), raw)
    assert raw in _document(data)
    assert decode(data).cursor == cursor
    assert repr(decode(data).items) == repr(jsontext.loads(raw)["items"])


@settings(max_examples=50)
@given(PAGES, st.dictionaries(st.text(), JSON, max_size=3), st.frozensets(st.integers(1, 2**31), max_size=9))
def test_a_confirmation_comes_back_without_a_body(
    envelope: LandedPage, metadata: dict[str, object], absent: frozenset[int]
) -> None:
    known = jsontext.loads(jsontext.dumps(metadata))
    landed = replace(envelope, metadata=known, confirms=PageId(3, 14), absent=absent)
    data = encode(landed, None)
    assert decode(data) == landed
    assert orjson.loads(_document(encode(replace(landed, cursor="2|x", metadata={}), None)))["response"]["body"] is None


def test_a_landed_page_is_the_json_object_that_the_contract_names() -> None:
    landed = page(2, 7, 9, cursor="7|x", options=Options(strict_version_match=True, max_items=50))
    assert orjson.loads(_document(encode(landed, b'{"items":[],"metadata":{}}'))) == {
        "model_version_id": 910011,
        "walk": 2,
        "page": 7,
        "sequence": 9,
        "run_id": "run-1",
        "listing": landed.listing,
        "request": {"cursor": "7|x", "url": "http://127.0.0.1/api/v1/images"},
        "options": {"strict_version_match": True, "append_only": False, "max_items": 50},
        "response": {
            "fetched_at": "2026-11-01T12:00:00+00:00",
            "elapsed_s": 0.25,
            "body": {"items": [], "metadata": {}},
        },
    }


def test_a_page_of_another_maker_needs_only_what_the_contract_names() -> None:
    envelope = orjson.loads(_document(encode(page(), body([{"id": 1}]))))
    for ours in ("sequence", "run_id"):
        del envelope[ours]
    del envelope["options"]["max_items"]
    compressor = zstandard.ZstdCompressor().compressobj()  # which does not write the size into the frame's head
    foreign = decode(compressor.compress(orjson.dumps(envelope)) + compressor.flush())
    assert (foreign.sequence, foreign.run_id, foreign.options.max_items) == (0, None, None)
    assert foreign.items == [{"id": 1}]


WHOLE = encode(page(), body([{"id": number, "prompt": f"kite {number} " * 5} for number in range(20)], "2|x"))


@settings(max_examples=50)
@given(st.integers(0, len(WHOLE) - 1), st.integers(0, 7))
def test_a_flipped_bit_is_noticed_or_makes_no_difference(place: int, bit: int) -> None:
    flipped = bytearray(WHOLE)
    flipped[place] ^= 1 << bit
    try:
        found = decode(bytes(flipped))
    except DamagedPageError:
        return
    assert found == decode(WHOLE)


@settings(max_examples=50)
@given(st.integers(0, len(WHOLE) - 1))
def test_a_file_cut_short_is_damaged_or_whole(length: int) -> None:
    try:
        found = decode(WHOLE[:length])
    except DamagedPageError:
        assert length < len(WHOLE)
        return
    # Only the checksum at the very end can be missing.
    assert length >= len(WHOLE) - 4
    assert found == decode(WHOLE)


def _without(*path: str) -> bytes:
    envelope = orjson.loads(_document(WHOLE))
    part = envelope
    for key in path[:-1]:
        part = part[key]
    del part[path[-1]]
    return zstandard.compress(orjson.dumps(envelope))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"PAR1",
        b"{}",
        zstandard.compress(b""),
        zstandard.compress(b"no json"),
        zstandard.compress(b"[]"),
        zstandard.compress(b"null"),
        zstandard.compress(b"{}"),
        *(_without(key) for key in ("model_version_id", "walk", "page", "listing", "request", "options", "response")),
        _without("response", "body"),
        _without("response", "fetched_at"),
        _without("response", "body", "items"),
        _without("response", "body", "metadata"),
        zstandard.compress(_document(WHOLE).replace(b"+00:00", b"")),
        zstandard.compress(_document(WHOLE).replace(b'"metadata":{', b'"metadata":[').replace(b'x"}}}', b'x"]}}')),
    ],
)
def test_what_is_no_landed_page_is_damaged(data: bytes) -> None:
    with pytest.raises(DamagedPageError):
        decode(data)


@settings(max_examples=50)
@given(st.binary())
def test_no_bytes_make_decoding_fail_in_another_way(data: bytes) -> None:
    with pytest.raises(DamagedPageError):
        decode(data)


@settings(max_examples=50)
@given(st.builds(PageId, st.integers(1, 10**6), st.integers(1, 10**6)))
def test_a_place_survives_being_written(place: PageId) -> None:
    assert PageId.parse(str(place)) == place


@settings(max_examples=50)
@given(JSON)
def test_no_json_value_in_an_envelopes_place_makes_decoding_fail_in_another_way(value: object) -> None:
    for data in (jsontext.dumps(value), jsontext.dumps({"response": value, "options": value, "confirms": value})):
        with pytest.raises(DamagedPageError):
            decode(zstandard.compress(data))


@pytest.mark.parametrize("form", [2, 10**6])
def test_a_page_of_a_form_that_is_not_known_is_newer_and_not_damaged(form: int) -> None:
    envelope = orjson.loads(_document(encode(page(), body([{"id": 1}]))))
    for written in (envelope | {"format": form}, {"format": form} | envelope):
        data = zstandard.compress(orjson.dumps(written))
        with pytest.raises(NewerPageError, match=f"format {form}, and this release knows up to 1"):
            decode(data)


@pytest.mark.parametrize("form", [0, -1, "1", None, 1.5, True])
def test_a_form_that_is_no_number_is_damage(form: object) -> None:
    envelope = orjson.loads(_document(encode(page(), body([{"id": 1}]))))
    with pytest.raises(DamagedPageError, match="format"):
        decode(zstandard.compress(orjson.dumps(envelope | {"format": form})))


def test_a_page_without_a_form_is_of_the_first() -> None:
    envelope = orjson.loads(_document(encode(page(), body([{"id": 1}]))))
    assert "format" not in envelope
    assert decode(zstandard.compress(orjson.dumps(envelope | {"format": 1}))) == decode(
        encode(page(), body([{"id": 1}]))
    )

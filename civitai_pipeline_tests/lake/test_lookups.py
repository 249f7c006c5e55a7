"""The cache of what the API says of resources: kept whole, read back, and mended where it is damaged."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from civitai_pipeline.lake.files import LakeError
from civitai_pipeline.lake.locks import LockedError, sole_asker, sole_writer
from civitai_pipeline.lake.lookups import (
    LOOKUP_SCHEMA,
    Lookup,
    LookupBy,
    LookupKey,
    damaged_lookups,
    keep_lookup,
    lookups_table,
    mend_lookups,
    read_lookups,
)
from civitai_pipeline.lake.paths import Lake
from civitai_pipeline_tests.lake.examples import VERSION, python

if TYPE_CHECKING:
    from pathlib import Path

NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)
KITE = Lookup(LookupKey(LookupBy.HASH, "a1b2c3d4e5"), NOON, 7, 5, "Kite", "v1", "LORA", "SDXL 1.0")

TEXT = st.text(st.characters(exclude_categories=["Cs"])) | st.sampled_from(["a\nb", "\u2028", "\x00", '"}\\'])
IDS = st.integers(1, 2**31 - 1)
KEYS = st.builds(LookupKey, st.just(LookupBy.VERSION_ID), IDS.map(str)) | st.builds(
    LookupKey, st.just(LookupBy.HASH), st.text("0123456789abcdef", min_size=8, max_size=64)
)
TIMES = st.datetimes(datetime(2020, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - the zone is the strategy's
LOOKUPS = st.builds(Lookup, KEYS, TIMES) | st.builds(Lookup, KEYS, TIMES, IDS, st.none() | IDS, *[st.none() | TEXT] * 4)


@settings(max_examples=15)
@given(st.lists(LOOKUPS, max_size=6))
def test_what_is_kept_is_read_back_to_the_letter_and_the_last_answer_counts(
    tmp_path_factory: pytest.TempPathFactory, lookups: list[Lookup]
) -> None:
    lake = Lake.at(str(tmp_path_factory.mktemp("lake")))
    for lookup in lookups:
        keep_lookup(lake, lookup)
    assert read_lookups(lake) == {lookup.key: lookup for lookup in lookups}


@pytest.mark.parametrize(
    ("by", "value"),
    [
        (LookupBy.HASH, "../../etc/passwd"),
        (LookupBy.HASH, "A1B2C3D4E5"),
        (LookupBy.HASH, "a1b2c3d"),
        (LookupBy.HASH, "a" * 65),
        (LookupBy.HASH, "a1b2c3d4e5\n"),
        (LookupBy.HASH, ""),
        (LookupBy.VERSION_ID, "0"),
        (LookupBy.VERSION_ID, "007"),
        (LookupBy.VERSION_ID, "-7"),
        (LookupBy.VERSION_ID, "2147483648"),
        (LookupBy.VERSION_ID, "../7"),
        (LookupBy.VERSION_ID, "\u0667"),
        (LookupBy.VERSION_ID, ""),
    ],
)
def test_what_is_no_id_and_no_hash_can_become_no_path(by: LookupBy, value: str) -> None:
    with pytest.raises(ValueError, match="could be asked about"):
        LookupKey(by, value)


def test_a_damaged_line_is_named_and_the_others_are_kept(lake: Lake, caplog: pytest.LogCaptureFixture) -> None:
    other = Lookup(LookupKey(LookupBy.HASH, "a1ffffffff"), NOON)
    keep_lookup(lake, KITE)
    keep_lookup(lake, other)
    path = lake.lookups / "hash" / "a1.jsonl"
    good = path.read_bytes().splitlines(keepends=True)
    bad = [
        good[0].replace(b"Kite", b"\xff"),
        good[0][:-9],
        good[0].replace(b'"Kite"', b"17"),
        good[0].replace(b":7,", b':"7",'),
        good[0].replace(b":7,", b":99999999999,"),
        good[0].replace(b"+00:00", b""),
        good[0].replace(b"a1b2c3d4e5", b"../../..//"),
        b"[]\n",
    ]
    for line in bad:
        path.write_bytes(line.rstrip() + b"\n" + good[1])
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            assert list(read_lookups(lake)) == [other.key], line
        assert f"{path}, line 1 is damaged" in caplog.text
    keep_lookup(lake, KITE)
    assert set(read_lookups(lake)) == {KITE.key, other.key}


def test_a_file_that_is_none_of_ours_is_left_alone(lake: Lake) -> None:
    keep_lookup(lake, KITE)
    (lake.lookups / "hash" / "notes.txt").write_text("mine", encoding="utf-8")
    (lake.lookups / "other").mkdir()
    assert set(read_lookups(lake)) == {KITE.key}


def test_a_folder_where_a_file_should_be_is_one_clear_error(lake: Lake) -> None:
    (lake.lookups / "hash" / "a1.jsonl").mkdir(parents=True)
    with pytest.raises(LakeError, match=r"a1\.jsonl"):
        read_lookups(lake)


def test_the_unknown_is_good_for_thirty_days_and_the_known_for_good() -> None:
    unknown = Lookup(KITE.key, NOON)
    assert unknown.is_good_at(NOON + timedelta(days=29))
    assert not unknown.is_good_at(NOON + timedelta(days=30))
    assert KITE.is_good_at(NOON + timedelta(days=9999))
    # It was noted by a clock that ran years ahead.
    assert not unknown.is_good_at(NOON - timedelta(days=3650))


def test_only_what_is_known_stands_in_the_table() -> None:
    table = lookups_table([KITE, Lookup(LookupKey(LookupBy.HASH, "ffffffff"), NOON)])
    assert table.schema.equals(LOOKUP_SCHEMA)
    assert table.to_pylist() == [
        {"asked_by": "hash", "value": "a1b2c3d4e5", "version_id": 7, "model_id": 5, "model_name": "Kite",
         "version_name": "v1", "model_type": "LORA", "base_model": "SDXL 1.0"}
    ]  # fmt: skip
    assert lookups_table([]).schema.equals(LOOKUP_SCHEMA)


_ASK = """
import sys
from civitai_pipeline.lake.locks import sole_asker
from civitai_pipeline.lake.paths import Lake
with sole_asker(Lake.at(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.readline()
"""


def test_one_process_asks_at_a_time_whatever_is_collected_meanwhile(lake: Lake) -> None:
    process = python(_ASK, str(lake.root))
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    with pytest.raises(LockedError, match=rf"pid {process.pid}\) is looking up resources"), sole_asker(lake):
        pass
    with sole_writer(lake, VERSION):
        pass
    process.kill()
    process.communicate()
    with sole_asker(lake):
        keep_lookup(lake, KITE)


def test_a_crash_while_a_file_is_replaced_leaves_the_old_one(lake: Lake, tmp_path: Path) -> None:
    keep_lookup(lake, KITE)
    scratch = lake.root / ".tmp"
    (scratch / "file-elsewhere-1-aa").write_bytes(b'{"key": "a1b2c3')
    assert set(read_lookups(lake)) == {KITE.key}
    assert not list(tmp_path.rglob("*.jsonl.*"))


def test_a_line_changed_by_one_bit_is_not_taken(lake: Lake) -> None:
    keep_lookup(lake, KITE)
    (path,) = (lake.lookups / KITE.key.by.value).iterdir()
    whole = path.read_bytes()
    for bit in range(8 * len(whole)):
        changed = bytearray(whole)
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(bytes(changed))
        kept = read_lookups(lake)
        assert not kept or kept == {KITE.key: KITE}, bytes(changed)
        assert kept or len(list(damaged_lookups(lake))) == 1


def test_what_can_be_read_of_a_damaged_file_is_kept_and_the_rest_set_aside(lake: Lake) -> None:
    other = Lookup(LookupKey(LookupBy.HASH, KITE.key.value[:2] + "ff" * 5), NOON)
    for one in (KITE, other) if KITE.key.by is LookupBy.HASH else (other,):
        keep_lookup(lake, one)
    path = lake.lookups / "hash" / f"{other.key.bucket}.jsonl"
    path.write_bytes(path.read_bytes() + b"{half a li")
    ((found, by, problem),) = damaged_lookups(lake)
    assert (found, by) == (path, LookupBy.HASH)
    assert "cannot be used" in problem
    aside = mend_lookups(lake, path, by)
    assert aside.read_bytes().endswith(b"{half a li")
    assert other.key in read_lookups(lake)
    assert list(damaged_lookups(lake)) == []

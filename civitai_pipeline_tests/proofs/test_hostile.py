"""The short form of the proof of hostile items; the long one is ``make prove``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from civitai_pipeline.lake.paths import Lake
from civitai_pipeline.prompts import text
from civitai_pipeline_tests.collect.stage import VERSION
from civitai_pipeline_tests.tables import built_tables

from .baits import draw_and_grow
from .bodies import BOMB, TWISTS
from .grounds import hurry
from .hostile import check, land, prove_added, prove_wired, slow_items
from .letters import stored
from .mutations import Hostile

if TYPE_CHECKING:
    from pathlib import Path


def test_hostile_items_in_landed_pages_end_in_exactly_one_table_each_to_the_letter(tmp_path: Path) -> None:
    source, lake = Hostile(3), Lake.at(str(tmp_path))
    pages = [source.page() for _ in range(6)]
    land(lake, pages)
    built_tables(lake, VERSION).put_in_place(lake, VERSION)
    found = check(lake)
    assert found.ok, found
    assert found.accepted > 600
    assert [slow for one in pages for slow in slow_items(one)] == []


def test_hostile_answers_stop_a_run_for_the_right_reason_and_lose_nothing(tmp_path: Path) -> None:
    with hurry():
        (verdict,) = prove_wired(4, tmp_path, 600, [twist for twist in TWISTS if twist is not BOMB][::3])
    assert verdict.ok, verdict


def test_hostile_pages_added_to_tables_make_the_same_tables(tmp_path: Path) -> None:
    (verdict,) = prove_added(5, tmp_path, 400)
    assert verdict.ok, verdict


def test_no_text_takes_longer_to_read_than_its_length() -> None:
    (verdict,) = draw_and_grow(6, 0, [".", "\u0301\u0327", "<a:", "\\(", ":1)", "embedding:", "f/", '{"a":'])
    assert verdict.ok, verdict


@pytest.mark.parametrize(
    ("written", "kept"),
    [("a\ud800b", "a\ufffdb"), ("\ud83d\ude00", "\U0001f600"), ("\udc00\ud800\ud800", "\ufffd" * 3)],
)
def test_the_proof_and_the_product_agree_on_lone_surrogates(written: str, kept: str) -> None:
    assert stored(written) == text.storable(written) == kept

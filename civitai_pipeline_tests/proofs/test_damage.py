"""The damage proof's short form; the long one is ``make prove``."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from civitai_pipeline.lake.paths import Lake
from civitai_pipeline.sandbox import Sandbox
from civitai_pipeline_tests.collect.stage import VERSION

from .damage import flip_tables, prove_pages, staged
from .grounds import hurry, world
from .surroundings import jump_clock

if TYPE_CHECKING:
    from pathlib import Path


def test_pages_harmed_in_every_way_are_found_and_fetched_again(tmp_path: Path) -> None:
    with hurry():
        verdicts = prove_pages(3, tmp_path, rounds=1, flips=1)
    assert [verdict.cells() for verdict in verdicts if not verdict.ok] == []


def test_a_flipped_bit_in_a_table_is_always_found(tmp_path: Path) -> None:
    with hurry(), Sandbox(world(30)) as server:
        staged(server, tmp_path)
    tried = flip_tables(Lake.at(str(tmp_path)), VERSION, 30, Random(4))  # noqa: S311 - reproducible harm
    assert (tried.harms, tried.noticed, tried.problems) == (90, 90, [])


def test_a_clock_that_jumps_by_years_loses_nothing(tmp_path: Path) -> None:
    with hurry():
        verdict = jump_clock(5, tmp_path / "lake", jumps=4)
    assert verdict.ok, verdict

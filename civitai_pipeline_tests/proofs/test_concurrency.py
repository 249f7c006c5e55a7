"""The concurrency proof's short form: an upgrade under a reader; the long one is ``make prove``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from civitai_pipeline.sandbox import Sandbox
from civitai_pipeline_tests.collect.stage import VERSION

from .grounds import world
from .kills import Ground
from .upgrade import upgrade_under_a_reader

if TYPE_CHECKING:
    from pathlib import Path

    from .warm import Warm


def test_tables_of_an_older_code_are_made_anew_while_a_reader_holds_them_open(warm: Warm, tmp_path: Path) -> None:
    with Sandbox(world(24)) as server:
        ground = Ground(warm, server, tmp_path)
        ground.prepare(VERSION)
        verdict = upgrade_under_a_reader(ground, "whole", VERSION)
    assert verdict.ok, verdict

"""The concurrency proof's short form: an upgrade under a reader; the long one is ``make prove``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from civitai_pipeline.sandbox import Sandbox
from civitai_pipeline_tests.collect.stage import VERSION

from .grounds import world
from .kills import Ground
from .upgrade import upgrade_under_a_reader
from .warm import Warm

if TYPE_CHECKING:
    from pathlib import Path


def test_tables_of_an_older_code_are_made_anew_while_a_reader_holds_them_open(tmp_path: Path) -> None:
    with Sandbox(world(24)) as server, Warm(tmp_path / "calls") as warm:
        ground = Ground(warm, server, tmp_path)
        ground.prepare(VERSION)
        verdict = upgrade_under_a_reader(ground, "whole", VERSION)
    assert verdict.ok, verdict

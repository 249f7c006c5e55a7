"""The growth benchmark in short: that what it measures is what the pipeline makes, at two small sizes."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import dagster as dg
import pytest
from click.testing import CliRunner
from rich.console import Console

from civitai_pipeline.cli import main as cli
from civitai_pipeline.derive.prompt_tables import build_prompt_tables, load_landed_pages
from civitai_pipeline.lake.ledger import Ledger
from civitai_pipeline.lake.paths import Lake
from civitai_pipeline.lake.schemas import PROMPTS, TABLES
from civitai_pipeline.lake.tables import file_faults
from civitai_pipeline_tests.bench.__main__ import Cost

from . import growth_items, growth_versions, many
from .growth import Row, items_table, printed, versions_table
from .growth_costs import command_cost
from .growth_items import grown
from .growth_probes import probe
from .growth_versions import kept
from .steps import STEPS

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("values", "growth"),
    [
        ([3.0, 30.0], "10.00"),
        ([1.0, 100.0], "100.00"),
        ([5.0, 5.2], "flat"),
        ([0.0, 2.0], ""),
        ([9.0, 1.0, 10.0], "10.00"),
    ],
)
def test_growth_is_that_for_ten_times_as_much(values: list[float], growth: str) -> None:
    assert Row("", values).growth([20, 200, 2000][-len(values) :]) == growth


def test_growth_between_other_sizes_is_put_in_terms_of_ten_times() -> None:
    assert Row("", [3.0, 9.0]).growth([100, 300]) == "10.00"
    assert not Row("", [3.0]).growth([100])


def test_a_version_is_measured_at_each_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Of the steps one, and in this process: test_bench has them all, each in its own.
    monkeypatch.setattr(growth_items, "STEPS", ("prompts",))
    monkeypatch.setattr(growth_items, "measure", lambda step, lake: Cost(1.0, 1.0, 1, STEPS[step](lake)))
    monkeypatch.setattr(growth_items, "probe_cost", lambda *_: Cost(1.0, 1.0, 1, 1))
    monkeypatch.setattr(growth_items, "command_cost", lambda *_: Cost(1.0, 1.0, 1, 1))
    found = list(grown(tmp_path, [200, 600], 100))
    assert [one.kept["pages"][0] for one in found] == [1, 4]
    assert 170 < found[0].from_nothing["prompts"].rows < 200 < found[0].with_more["prompts"].rows < 300
    assert 540 < found[1].from_nothing["prompts"].rows < 600 < found[1].with_more["prompts"].rows < 700
    assert "files of pages" in shown_table(items_table(found, 100))


def test_a_command_is_measured_from_its_start_to_its_end(tmp_path: Path) -> None:
    environment = {**os.environ, "CIVITAI_LAKE": str(tmp_path / "lake"), "DAGSTER_HOME": str(tmp_path)}
    cost = command_cost(["status"], environment)
    assert cost.cpu_s > 0.1
    assert cost.peak_bytes > 50e6
    with pytest.raises(subprocess.CalledProcessError):
        command_cost(["status", "nothing"], environment)


def test_versions_are_measured_at_each_count_and_copies_are_sound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A tick that asks for runs and one that only reads, in this process: of its own, each loads Dagster anew.
    monkeypatch.setattr(growth_versions, "SENSORS", ("resume_collection",))
    monkeypatch.setattr(growth_versions, "SCHEDULES", ("refresh_collection",))
    monkeypatch.setattr(growth_versions, "OTHERS", ("database", "index"))
    monkeypatch.setattr(growth_versions, "COMMANDS", {})
    monkeypatch.setattr(growth_versions, "probe_cost", lambda name, _: Cost(1.0, 1.0, 1, probed(name)))
    monkeypatch.setattr(many, "OPEN_EVERY", 3)
    monkeypatch.setattr(many, "run", lambda grounds, *arguments: run_here(monkeypatch, grounds, *arguments))
    found = list(kept(tmp_path, [4, 6], ui=False))
    # Open are the first and every third; the other original was asked for just now.
    assert [one.ticks["resume_collection"].rows for one in found] == [2, 2]
    assert [one.ticks["refresh_collection"].rows for one in found] == [1, 3]
    assert found[1].lake[0] - found[0].lake[0] >= 2 * len(TABLES)
    assert found[0].home[0] < found[1].home[0]
    assert "run requests" in shown_table(versions_table(found))
    lake = Lake.at(str(tmp_path / "lake"))
    for version in lake.versions():
        # Tables that did not fit their pages, or did not read as they were written, would be made anew.
        assert len(load_landed_pages(lake, version)) == len(Ledger(lake, version).order())
        assert not file_faults(lake, PROMPTS, version)[0]
        assert build_prompt_tables(lake, version).pages_added == 0


def run_here(monkeypatch: pytest.MonkeyPatch, grounds: many.Grounds, *arguments: str) -> str:
    """Runs a command in this process, which then has its environment for good."""
    for name in ("CIVITAI_BASE_URL", "CIVITAI_LAKE", "DAGSTER_HOME", "CIVITAI_WATCHLIST"):
        monkeypatch.setenv(name, grounds.environment[name])
    monkeypatch.setenv("CIVITAI_MIN_REQUEST_INTERVAL", "0")
    done = CliRunner().invoke(cli, arguments)
    assert done.exit_code == 0, done.output
    return done.output


def probed(name: str) -> int:
    with dg.DagsterInstance.get() as instance:
        return probe(name)(instance)


def shown_table(groups: list[tuple[str, list[Row]]]) -> str:
    console = Console(width=110)
    with console.capture() as captured:
        printed(console, "", "", [1, 10], groups)
    return captured.get()

"""The commands that look after what is held, each in a process of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from civitai_pipeline.lake.ledger import Ledger
from civitai_pipeline.lake.locks import sole_writer
from civitai_pipeline.lake.paths import Lake
from civitai_pipeline_tests.lake.examples import VERSION
from civitai_pipeline_tests.lake.test_compaction import names, polled, texts

if TYPE_CHECKING:
    import subprocess

    from .conftest import Program


def ended(run: Program, *arguments: str, status: int = 0) -> subprocess.CompletedProcess[str]:
    """What came of a command, which must end with a status."""
    done = run(*arguments)
    assert done.returncode == status, done.stderr
    return done


@pytest.fixture
def ledger(environment: dict[str, str]) -> Ledger:
    """A version that was polled twenty times, in the lake of the environment."""
    ledger = Ledger(Lake.at(environment["CIVITAI_LAKE"]), VERSION)
    polled(ledger, 20)
    return ledger


def test_a_lake_is_measured_compacted_copied_and_brought_back(
    run: Program, environment: dict[str, str], ledger: Ledger, tmp_path: Path
) -> None:
    before, copy = texts(ledger), str(tmp_path / "copy")
    size = json.loads(ended(run, "size", "--json").stdout)
    assert size["could_be_folded"]["compact_files"] == 20
    assert (size["totals"]["pages"], size["totals"]["bundles"]) == (22, 0)
    assert ended(run, "compact", "--json", str(VERSION)).stdout.count('"folded": 20') == 1
    assert len(names(ledger)) == 3
    said = json.loads(ended(run, "backup", copy, "--json").stdout)
    assert (said["copied"], said["versions"]) == (3, [{"model_version_id": VERSION, "pages": 22}])
    again = str(tmp_path / "again")
    said = json.loads(ended(run, "restore", copy, "--into", again, "--json").stdout)
    assert (said["restored"], said["error"], said["target"]) == (3, None, again)
    assert texts(Ledger(Lake.at(again), VERSION)) == before
    # The tables, the reports and the partition follow.
    assert (Path(again) / "prompts" / f"{VERSION}.parquet").exists()
    assert (Path(again) / "civitai.duckdb").exists()
    assert not (Path(environment["CIVITAI_LAKE"]) / "prompts").exists()
    # Dagster has run now, so there are records to look after and to copy.
    pruned = json.loads(ended(run, "prune", "--keep-days", "0", "--dry-run", "--json").stdout)
    assert (pruned["runs"], pruned["deleted"], pruned["notes"]) == (1, 0, [])
    said = json.loads(ended(run, "backup", copy, "--instance", "--json").stdout)
    assert said["records_copied"] >= 4
    assert (tmp_path / "copy" / "dagster" / "history" / "runs.db").is_file()


def test_tables_are_printed_for_people(run: Program, ledger: Ledger) -> None:
    with sole_writer(ledger.lake, VERSION):
        done = ended(run, "compact")
    assert f"model version {VERSION} is left for the next time" in done.stderr
    assert "22" in ended(run, "compact").stdout
    done = ended(run, "size")
    assert str(VERSION) in done.stdout
    assert "prune --dry-run" in done.stderr


def test_misuse_is_told_in_one_line(run: Program, ledger: Ledger, tmp_path: Path) -> None:
    for arguments, words in (
        (("compact", "5"), "nothing of model version 5 is held"),
        (("prune",), "there are no records of runs in"),
        (("backup", str(ledger.lake.root / "copy")), "would go down with it"),
        (("restore", str(tmp_path / "nowhere")), "is no copy of a lake"),
        (("backup", "memory://copy", "--instance"), "--instance copies to a folder of this machine"),
    ):
        done = ended(run, *arguments, status=2)
        assert done.stdout == ""
        assert words in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1, done.stderr


def test_a_damaged_page_makes_backup_and_compact_end_in_trouble(run: Program, ledger: Ledger, tmp_path: Path) -> None:
    path = Path(str(ledger.lake.page(VERSION, 1, 9)))
    path.write_bytes(path.read_bytes()[:-20])
    for arguments in (("backup", str(tmp_path / "copy")), ("compact",)):
        assert "000009.json.zst is damaged" in ended(run, *arguments, status=1).stderr

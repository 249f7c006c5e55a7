"""What takes how much room: every byte is counted once, under what it is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from civitai_pipeline.care.sizes import RecordsSize, VersionSize, size_of, size_of_records
from civitai_pipeline.lake.compaction import compact, foldable
from civitai_pipeline.lake.paths import Lake
from civitai_pipeline_tests.lake.examples import VERSION, write_prompts

if TYPE_CHECKING:
    from civitai_pipeline.lake.ledger import Ledger


def write(folder: Path, name: str, size: int) -> int:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)
    return size


def test_every_byte_is_counted_once(ledger: Ledger) -> None:
    lake, root = ledger.lake, Path(str(ledger.lake.root))
    write_prompts(lake)
    compact(lake, VERSION)
    write(root, f"reports/{VERSION}.html", 10)
    write(root, f"reports/{VERSION}-prompts-0a1b.js", 20)
    write(root, "reports/index.html", 30)
    write(root, "exports/a/b.csv", 40)
    write(root, "civitai.duckdb", 50)
    write(root, ".tmp/page-host-1-2", 60)
    write(root, "notes.txt", 70)
    size = size_of(lake)
    [version] = size.versions
    assert (version.model_version_id, version.pages, version.page_files, version.bundles) == (VERSION, 22, 2, 1)
    assert version.report_bytes == 30
    assert version.table_bytes == (root / "prompts" / f"{VERSION}.parquet").stat().st_size
    assert size.other == {
        "reports": 30, "exports": 40, "imports": 2, "lookups": 3, "database": 50, "temporary": 60,
        "other": 70 + len("key") + len((root / ".locks" / str(VERSION)).read_bytes()),
    }  # fmt: skip
    everything = sum(path.stat().st_size for path in root.rglob("*") if path.is_file())
    assert size.totals()["lake_bytes"] == everything
    assert size.totals()["pages"] == 22
    assert size.as_dict()["versions"][0]["total_bytes"] == version.total_bytes


def test_a_lake_that_is_not_there_takes_nothing(tmp_path: Path) -> None:
    size = size_of(Lake.at(str(tmp_path / "nowhere")))
    assert (size.versions, size.totals()["lake_bytes"]) == ([], 0)


def test_a_lake_in_an_object_store_is_counted_too(ledger: Ledger) -> None:
    lake = Lake.at("memory://sizes")
    for path in Path(str(ledger.lake.root)).rglob("*.zst"):
        place = lake.root / str(path.relative_to(str(ledger.lake.root)))
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(path.read_bytes())
    [version], [local] = size_of(lake).versions, size_of(ledger.lake).versions
    assert (version.pages, version.page_bytes) == (22, local.page_bytes)


def test_what_compaction_would_fold_is_what_it_folds(ledger: Ledger) -> None:
    files, count = foldable(ledger.lake, VERSION)
    before = size_of(ledger.lake).versions[0]
    assert 0 < count < before.page_bytes
    assert compact(ledger.lake, VERSION).folded == files == 20
    assert foldable(ledger.lake, VERSION) == (0, 0)
    assert before.page_bytes - count == size_of(ledger.lake).versions[0].page_bytes


def test_the_records_of_runs_are_told_apart(tmp_path: Path) -> None:
    for name, size in (
        ("history/runs/abc.db", 1), ("history/runs/abc.db-wal", 2), ("history/runs/index.db", 4),
        ("history/runs.db", 8), ("schedules/schedules.db", 16), ("storage/abc/compute_logs/x.err", 32),
        ("dagster.yaml", 64),
    ):  # fmt: skip
        write(tmp_path, name, size)
    records = size_of_records(tmp_path)
    assert records == RecordsSize(1, run_bytes=3, index_bytes=12, tick_bytes=16, output_bytes=32, other_bytes=64)
    assert records.total_bytes == 127
    assert size_of_records(tmp_path / "nowhere").total_bytes == 0


def test_the_total_of_a_version_is_the_sum_of_its_parts() -> None:
    assert VersionSize(1, 2, 3, 10, 1, 20, 30, 40).total_bytes == 100

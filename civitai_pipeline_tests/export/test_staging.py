"""Interruptions, kills and size: a name holds a whole export or none, and memory does not grow with the rows."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from civitai_pipeline.export.options import ExportOptions
from civitai_pipeline.export.run import export_prompts
from civitai_pipeline.export.staging import staged
from civitai_pipeline.lake import schemas
from civitai_pipeline.lake.paths import Lake
from civitai_pipeline.lake.tables import from_rows
from civitai_pipeline_tests.lake.examples import VERSION, prompt_row, python

EXPORT = """
import sys
from pathlib import Path
from civitai_pipeline.export.options import ExportOptions
from civitai_pipeline.export.run import export_prompts
from civitai_pipeline.lake.paths import Lake
lake, output = sys.argv[1:]
print("ready", flush=True)
result = export_prompts(Lake.at(lake), [], ExportOptions("jsonl"), Path(output))
# Not getrusage, whose peak may be that of the process it was forked from.
peak_kb = Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]
print(result.rows, int(peak_kb) // 1024, flush=True)
"""


def _write_many(lake: Lake, rows: int) -> None:
    """Prompts of 500 characters, as many as an export is to stream."""
    table = from_rows(schemas.PROMPTS, [prompt_row(1, username="ann", seed=1, steps=30)])
    table = pa.concat_tables([table] * rows).combine_chunks()
    numbers = pa.array(range(1, rows + 1), pa.int64())
    texts = pa.array([f"kite {n}, " + os.urandom(240).hex() for n in range(rows)])
    table = table.set_column(table.column_names.index("image_id"), "image_id", numbers)
    table = table.set_column(table.column_names.index("prompt"), "prompt", texts)
    path = Path(str(lake.table(schemas.PROMPTS, VERSION)))
    path.parent.mkdir(parents=True)
    pq.write_table(table.cast(schemas.PROMPTS.arrow_schema), path, compression="zstd", row_group_size=50_000)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from Linux")
def test_70_000_rows_need_little_more_memory_than_20_000(tmp_path: Path) -> None:
    peaks = []
    for rows in (20_000, 70_000):
        lake = Lake.at(str(tmp_path / str(rows)))
        _write_many(lake, rows)
        answer, _ = python(EXPORT, str(lake.root), str(tmp_path / "out")).communicate(timeout=120)
        written, peak_mb = map(int, answer.split()[1:])
        assert written == rows
        peaks.append(peak_mb)
    # In batches it is some 40 MB more, all at once 250.
    assert peaks[1] - peaks[0] < 140


def test_a_killed_export_leaves_the_old_one_and_the_next_sweeps_up(lake: Lake, tmp_path: Path) -> None:
    _write_many(lake, 60_000)
    output = tmp_path / "there" / "out.jsonl"
    output.parent.mkdir()
    output.write_text("old")
    process = python(EXPORT, str(lake.root), str(output))
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    deadline = time.monotonic() + 60
    while not any(path.stat().st_size for path in output.parent.glob(".civitai-export-part-*/out")):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert output.read_text() == "old"
    assert len(list(output.parent.iterdir())) == 2
    assert export_prompts(lake, [], ExportOptions("jsonl", limit=10), output).rows == 10
    assert [path.name for path in output.parent.iterdir()] == ["out.jsonl"]
    assert len(output.read_text(encoding="utf-8").splitlines()) == 10


@pytest.mark.parametrize("trouble", [KeyboardInterrupt, ValueError])
@pytest.mark.parametrize("folder", [True, False])
def test_an_interrupted_export_leaves_nothing(tmp_path: Path, trouble: type[BaseException], folder: bool) -> None:
    output = tmp_path / "new" / "out"

    def write_half() -> None:
        with staged(output, folder=folder) as scratch:
            (scratch / "out").write_text("half")
            raise trouble

    with pytest.raises(trouble):
        write_half()
    assert list(output.parent.iterdir()) == []


def test_the_folder_of_a_living_export_is_not_swept(tmp_path: Path) -> None:
    with staged(tmp_path / "one", folder=False) as mine:
        with staged(tmp_path / "two", folder=False) as other:
            (other / "out").write_text("2")
        (mine / "out").write_text("1")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]


def test_a_foreign_file_of_like_name_is_left_alone(tmp_path: Path) -> None:
    dead = subprocess.Popen(["/bin/true"])
    dead.wait()
    kept = [f".civitai-export-part-elsewhere-{dead.pid}-00", ".civitai-export-part-", ".civitai-export"]
    for name in kept:
        (tmp_path / name).write_text("x")
    with staged(tmp_path / "out", folder=False) as scratch:
        (scratch / "out").write_text("1")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*kept, "out"])

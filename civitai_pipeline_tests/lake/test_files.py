"""Bytes on disk: whole or not at all, and trouble told in a line."""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from upath import UPath

from civitai_pipeline.export.options import ExportOptions
from civitai_pipeline.export.run import export_prompts
from civitai_pipeline.export.staging import ExportError
from civitai_pipeline.lake import schemas
from civitai_pipeline.lake.database import build_database
from civitai_pipeline.lake.files import (
    LakeError,
    remove_others,
    sweep_abandoned,
    temporary,
    temporary_folder,
    working_folder,
    write_by_digest,
    write_whole,
)
from civitai_pipeline.lake.ledger import Ledger
from civitai_pipeline.lake.locks import sole_writer
from civitai_pipeline.lake.paths import Lake
from civitai_pipeline.lake.tables import read_table
from civitai_pipeline.processes import started, this_process
from civitai_pipeline_tests.lake.examples import VERSION, body, land, page, prompt_row, python, write_prompts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def _scratch(lake: Lake, name: str, age_s: float = 0.0) -> Path:
    folder = Path(str(lake.root)) / ".tmp"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_bytes(b"half")
    os.utime(path, (time.time() - age_s,) * 2)
    return path


def _dead_pid() -> int:
    process = subprocess.Popen(["/bin/true"])
    process.wait()
    return process.pid


def test_the_file_of_a_dead_writer_is_swept_and_that_of_a_living_one_stays(lake: Lake) -> None:
    host = socket.gethostname()
    dead = _scratch(lake, f"page-{host}-{_dead_pid()}-0a1b2c3d")
    dead_log = _scratch(lake, f"database-{host}-{_dead_pid()}-0a1b2c3d.wal")
    impossible = _scratch(lake, f"page-{host}-{10**30}-0a1b2c3d")
    alive = _scratch(lake, f"page-{host}-{os.getpid()}-0a1b2c3d", age_s=23 * 3600)
    not_ours = _scratch(lake, f"page-{host}-1-0a1b2c3d", age_s=23 * 3600)
    assert sweep_abandoned(lake.root) == 3
    assert [path.exists() for path in (dead, dead_log, impossible, alive, not_ours)] == [
        False,
        False,
        False,
        True,
        True,
    ]


def test_the_file_of_another_machine_is_swept_after_a_day(lake: Lake) -> None:
    young = _scratch(lake, "page-other-host-12-0a1b2c3d", age_s=23 * 3600)
    old = _scratch(lake, "page-other-host-12-0a1b2c3e", age_s=25 * 3600)
    foreign = _scratch(lake, "²", age_s=25 * 3600)
    assert sweep_abandoned(lake.root) == 2
    assert [path.exists() for path in (young, old, foreign)] == [True, False, False]


def test_the_file_of_a_dead_writer_whose_number_another_process_has_is_swept(lake: Lake) -> None:
    host, pid = socket.gethostname(), os.getpid()
    _scratch(lake, f"page-{host}-{pid}.4f00ba12345-0a1b2c3d")
    mine = _scratch(lake, f"page-{this_process()}-0a1b2c3d", age_s=10 * 365 * 24 * 3600)
    assert sweep_abandoned(lake.root) == (1 if started(pid) else 0)
    assert mine.exists()


def test_the_folder_of_a_dead_writer_is_swept_and_that_of_a_living_one_stays(lake: Lake) -> None:
    dead = Path(str(lake.root)) / ".tmp" / f"slabs-{socket.gethostname()}-{_dead_pid()}-00"
    (dead / "content").mkdir(parents=True)
    (dead / "content" / "1.arrow").write_bytes(b"rows")
    with temporary_folder(lake.root, "slabs") as alive:
        (alive / "content").mkdir()
        assert sweep_abandoned(lake.root) == 1
        assert (dead.exists(), alive.exists()) == (False, True)
    assert not alive.exists()


def test_sweeping_an_empty_lake_does_nothing(lake: Lake) -> None:
    assert sweep_abandoned(lake.root) == 0
    assert not lake.root.exists()


_KILLED = """
import sys, os, signal
from civitai_pipeline.lake.files import temporary
from civitai_pipeline.lake.paths import Lake
lake = Lake.at(sys.argv[1])
with temporary(lake.root, "page") as scratch:
    scratch.write_bytes(b"half a page")
    print(scratch.name, flush=True)
    sys.stdin.readline()
"""


def test_what_a_killed_writer_left_is_no_data_and_is_swept(lake: Lake) -> None:
    writer = python(_KILLED, str(lake.root))
    assert writer.stdout is not None
    name = writer.stdout.readline().strip()
    assert sweep_abandoned(lake.root) == 0
    writer.kill()
    writer.communicate()
    assert (lake.root / ".tmp" / name).read_bytes() == b"half a page"
    assert lake.versions() == []
    assert sweep_abandoned(lake.root) == 1


_KILLED_AT_WORK = """
import sys, pathlib
from civitai_pipeline.lake.files import working_folder
with working_folder() as folder:
    pathlib.Path(folder, "spilled").write_bytes(b"rows")
    print(folder, flush=True)
    sys.stdin.readline()
"""


def test_the_next_working_folder_takes_that_of_a_killed_process_away_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    somebodys = [tmp_path / name for name in ("civitai_pipeline-main", "civitai_pipeline", "civitai_pipeline_worked")]
    elsewhere = f"civitai_pipeline_work-other-host-12.{started(os.getpid()) or ''}-0a1b2c3d"
    somebodys += [tmp_path / elsewhere]
    for folder in somebodys:
        folder.mkdir()
        os.utime(folder, (time.time() - (23 if folder.name == elsewhere else 2300) * 3600,) * 2)
    killed, alive = python(_KILLED_AT_WORK), python(_KILLED_AT_WORK)
    assert killed.stdout is not None
    assert alive.stdout is not None
    left, used = Path(killed.stdout.readline().strip()), Path(alive.stdout.readline().strip())
    killed.kill()
    killed.communicate()
    assert (left / "spilled").exists()
    with working_folder() as mine:
        assert set(tmp_path.iterdir()) == {*somebodys, used, Path(mine)}
        assert (used / "spilled").read_bytes() == b"rows"
    os.utime(tmp_path / elsewhere, (time.time() - 25 * 3600,) * 2)
    with working_folder():
        assert not (tmp_path / elsewhere).exists()
    alive.communicate("\n")
    assert set(tmp_path.iterdir()) == set(somebodys[:-1])


def test_a_working_folder_that_cannot_be_removed_is_no_reason_to_do_without_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    in_the_way = tmp_path / f"civitai_pipeline_work-{socket.gethostname()}-{_dead_pid()}-0a1b2c3d"
    in_the_way.symlink_to(tmp_path)
    with working_folder() as mine:
        assert set(tmp_path.iterdir()) == {in_the_way, Path(mine)}


def test_a_temporary_file_goes_however_its_use_ends(lake: Lake) -> None:
    def fail() -> None:
        with temporary(lake.root, "page") as scratch:
            scratch.write_bytes(b"x")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert list((lake.root / ".tmp").iterdir()) == []


def test_a_file_is_replaced_whole_and_a_reader_keeps_the_old_one(lake: Lake) -> None:
    path = lake.root / "reports" / "index.html"
    write_whole(lake.root, path, b"old")
    with path.open("rb") as reader:
        write_whole(lake.root, path, b"new and longer")
        assert reader.read() == b"old"
    assert path.read_bytes() == b"new and longer"


def test_a_file_written_in_pieces_is_named_by_its_content(lake: Lake) -> None:
    place = lake.reports / hashlib.sha256(b"onetwo").hexdigest()
    assert (
        write_by_digest(lake.root, (piece for piece in (b"one", b"two")), lambda digest: lake.reports / digest) == place
    )
    assert place.read_bytes() == b"onetwo"


def test_pieces_that_break_off_leave_nothing(lake: Lake) -> None:
    def pieces() -> Iterator[bytes]:
        yield b"one"
        raise KeyError

    with pytest.raises(KeyError):
        write_by_digest(lake.root, pieces(), lambda digest: lake.reports / digest)
    assert [path for path in lake.root.rglob("*") if path.is_file()] == []


def test_other_files_of_a_kind_are_removed_and_no_more(lake: Lake) -> None:
    remove_others(lake.reports, "7-*.js")
    for name in ("7-a.js", "7-b.js", "77-a.js", "7.html"):
        write_whole(lake.root, lake.reports / name, b"")
    remove_others(lake.reports, "7-*.js", lake.reports / "7-b.js")
    assert {path.name for path in lake.reports.iterdir()} == {"7-b.js", "77-a.js", "7.html"}


def test_a_lake_that_can_be_written_is_checked_without_a_trace(lake: Lake) -> None:
    lake.check_writable()
    assert [entry.name for entry in lake.root.iterdir()] == [".tmp"]
    assert list((lake.root / ".tmp").iterdir()) == []


def _one_clear_line(error: Exception) -> str:
    message = str(error)
    assert "\n" not in message
    assert "Traceback" not in message
    return message


def test_a_file_where_the_lake_should_be_is_told(tmp_path: Path) -> None:
    (tmp_path / "lake").write_text("a file")
    lake = Lake.at(str(tmp_path / "lake"))
    with pytest.raises(LakeError) as caught:
        lake.check_writable()
    assert "a file stands where a folder should be" in _one_clear_line(caught.value)
    (tmp_path / "lake").unlink()
    (tmp_path / "lake").mkdir()
    (tmp_path / "lake" / ".tmp").write_text("a file")
    with pytest.raises(LakeError, match="a file stands where a folder should be"):
        lake.check_writable()


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mounts a file system of one megabyte, with the options given."""
    folder = tmp_path / "mounted"
    folder.mkdir()

    def mount(options: str) -> Path:
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        done = subprocess.run(command, check=False, capture_output=True)
        if done.returncode:
            pytest.skip("mounting a small file system needs root")
        return folder

    yield mount
    subprocess.run(["umount", str(folder)], check=False, capture_output=True)  # noqa: S607 - a fixed command


def _fill(folder: Path, leave: int = 0) -> None:
    space = os.statvfs(folder)
    (folder / "filler").write_bytes(b"x" * (space.f_bavail * space.f_frsize - leave))


def test_a_full_disk_is_told_and_what_has_landed_is_safe(mounted: Callable[[str], Path]) -> None:
    folder = mounted("size=1m")
    lake = Lake.at(str(folder / "lake"))
    ledger = Ledger(lake, VERSION)
    land(ledger, 1, 1, 1, [1])
    write_prompts(lake, prompt_row(1))
    _fill(folder)
    noise = os.urandom(20_000).hex()
    doings: list[Callable[[], object]] = [
        lambda: ledger.land(page(1, 2, 2), body([{"id": 2, "prompt": noise}])),
        lambda: write_prompts(lake, prompt_row(2, prompt=noise)),
        lambda: write_whole(lake.root, lake.reports / "index.html", noise.encode()),
    ]
    for doing in doings:
        with pytest.raises(LakeError) as caught:
            doing()
        assert "the disk is full" in _one_clear_line(caught.value)
    with pytest.raises(LakeError, match="if the disk is full"):
        build_database(lake)
    assert list((lake.root / ".tmp").iterdir()) == []
    assert [landed.items for landed in ledger.pages()] == [[{"id": 1}]]
    assert read_table(lake, schemas.PROMPTS, VERSION).column("image_id").to_pylist() == [1]
    with pytest.raises(LakeError, match="the disk is full"), sole_writer(lake, 5):
        pass
    (folder / "filler").unlink()
    land(ledger, 1, 2, 2, [2])
    assert ledger.covered() == {1: 2}


def test_a_disk_that_fills_while_a_table_is_written_leaves_the_old_one(mounted: Callable[[str], Path]) -> None:
    folder = mounted("size=1m")
    lake = Lake.at(str(folder / "lake"))
    write_prompts(lake, prompt_row(1))
    _fill(folder, leave=40_000)
    rows = [prompt_row(number, prompt=os.urandom(2000).hex()) for number in range(100)]
    with pytest.raises(LakeError, match="the disk is full"):
        write_prompts(lake, *rows)
    assert read_table(lake, schemas.PROMPTS, VERSION).num_rows == 1


def test_an_export_to_a_full_or_missing_place_is_told(mounted: Callable[[str], Path], lake: Lake) -> None:
    folder = mounted("size=1m")
    write_prompts(lake, *(prompt_row(number, prompt=os.urandom(5000).hex()) for number in range(300)))
    for kind in ("csv", "jsonl", "parquet"):
        output = folder / f"out.{kind}"
        with pytest.raises(ExportError) as caught:
            export_prompts(lake, [], ExportOptions(kind), output)
        assert str(output) in _one_clear_line(caught.value)
    assert list(folder.iterdir()) == []


def test_a_disk_that_may_not_be_written_is_told(mounted: Callable[[str], Path]) -> None:
    folder = mounted("size=1m")
    lake = Lake.at(str(folder))
    land(Ledger(lake, VERSION), 1, 1, 1, [1])
    write_prompts(lake, prompt_row(1))
    subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)  # noqa: S607 - a fixed command
    doings: list[Callable[[], object]] = [
        lake.check_writable,
        lambda: land(Ledger(lake, VERSION), 1, 2, 2),
        lambda: write_prompts(lake, prompt_row(2)),
    ]
    for doing in doings:
        with pytest.raises(LakeError) as caught:
            doing()
        assert "this user may not write there; set CIVITAI_LAKE" in _one_clear_line(caught.value)
    with pytest.raises(LakeError):
        build_database(lake)
    with pytest.raises(LakeError, match="may not write there"), sole_writer(lake, VERSION):
        pass
    with pytest.raises(ExportError):
        export_prompts(lake, [], ExportOptions("csv"), folder / "out.csv")
    assert Ledger(lake, VERSION).covered() == {1: 1}
    assert read_table(lake, schemas.PROMPTS, VERSION).num_rows == 1


def test_a_file_in_an_object_store_is_replaced_too() -> None:
    root = UPath("memory://replaced")
    for data in (b"old", b"new"):
        write_whole(root, root / "reports" / "index.html", data)
        assert (root / "reports" / "index.html").read_bytes() == data
    assert list((root / ".tmp").iterdir()) == []

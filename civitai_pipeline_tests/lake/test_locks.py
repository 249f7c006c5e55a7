"""One writer per version, across processes, and freed however its holder ends."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest

from civitai_pipeline.lake.locks import LockedError, sole_writer
from civitai_pipeline.lake.paths import Lake
from civitai_pipeline_tests.lake.examples import VERSION, python

if TYPE_CHECKING:
    import subprocess

_HOLD = """
import sys
from civitai_pipeline.lake.locks import LockedError, sole_writer
from civitai_pipeline.lake.paths import Lake
try:
    with sole_writer(Lake.at(sys.argv[1]), int(sys.argv[2])):
        print("held", flush=True)
        sys.stdin.readline()
except LockedError as error:
    print(error, flush=True)
"""


def _holder(lake: Lake) -> subprocess.Popen[str]:
    process = python(_HOLD, str(lake.root), str(VERSION))
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_process_is_refused_and_told_who_holds_the_lock(lake: Lake) -> None:
    holder = _holder(lake)
    with pytest.raises(LockedError, match=rf"pid {holder.pid}\) is collecting model version {VERSION}"):  # noqa: SIM117
        with sole_writer(lake, VERSION):
            pass
    with sole_writer(lake, 5):
        pass
    holder.communicate("done\n", timeout=10)
    with sole_writer(lake, VERSION):
        pass


def test_the_lock_of_a_killed_process_is_free(lake: Lake) -> None:
    holder = _holder(lake)
    holder.kill()
    holder.communicate()
    with sole_writer(lake, VERSION):
        pass


def test_a_second_run_in_the_same_process_is_refused_too(lake: Lake) -> None:
    with sole_writer(lake, VERSION):
        with pytest.raises(LockedError, match=f"pid {os.getpid()}"):  # noqa: SIM117
            with sole_writer(lake, VERSION):
                pass
        other = python(_HOLD, str(lake.root), str(VERSION))
        assert "is collecting" in other.communicate("\n", timeout=10)[0]


def test_the_lock_is_free_after_an_exception(lake: Lake) -> None:
    def fail() -> None:
        with sole_writer(lake, VERSION):
            raise KeyError

    for _ in range(2):
        with pytest.raises(KeyError):
            fail()


def test_an_error_of_the_work_is_not_taken_for_one_of_the_lock(lake: Lake) -> None:
    def fail() -> None:
        with sole_writer(lake, VERSION):
            raise PermissionError(13, "of the work")

    with pytest.raises(PermissionError, match="of the work"):
        fail()


def test_a_shorter_number_leaves_nothing_of_a_longer_one(lake: Lake) -> None:
    path = lake.lock(VERSION)
    path.parent.mkdir(parents=True)
    path.write_text("9" * 30)
    with sole_writer(lake, VERSION):
        assert path.read_text() == str(os.getpid())


def test_the_lock_does_not_wait(lake: Lake) -> None:
    with sole_writer(lake, VERSION):
        started = time.monotonic()
        with pytest.raises(LockedError), sole_writer(lake, VERSION):
            pass
        assert time.monotonic() - started < 0.5


def test_an_object_store_has_no_lock_to_hold() -> None:
    with sole_writer(Lake.at("memory://locks"), VERSION), sole_writer(Lake.at("memory://locks"), VERSION):
        pass

"""Whether the process of a run is gone, tried on real processes."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from civitai_pipeline.upkeep.processes import HOST_TAG, PID_TAG, START_TAG, is_gone, process_tags, tags_of

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    yield process
    process.kill()
    process.wait()


def test_this_process_is_not_gone() -> None:
    assert process_tags()[PID_TAG] == str(os.getpid())
    assert is_gone(process_tags()) is False


def test_a_killed_process_is_gone_even_before_its_parent_looks(sleeper: subprocess.Popen[bytes]) -> None:
    tags = tags_of(str(sleeper.pid))
    assert is_gone(tags) is False
    sleeper.kill()
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)
    assert is_gone(tags) is True
    sleeper.wait()
    assert is_gone(tags) is True


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux says when a process started")
def test_another_process_under_the_same_id_is_not_the_run(sleeper: subprocess.Popen[bytes]) -> None:
    assert is_gone({**process_tags(), PID_TAG: str(sleeper.pid)}) is True
    assert is_gone({**process_tags(), START_TAG: "other-boot"}) is True


@pytest.mark.parametrize("tags", [{}, {PID_TAG: "1"}, {HOST_TAG: "elsewhere", PID_TAG: "999999999"}, tags_of("x")])
def test_of_other_machines_and_untold_processes_nothing_is_known(tags: dict[str, str]) -> None:
    assert is_gone(tags) is None

"""What a process costs that is started for it: a command of the project, or a probe."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from os import wait4
from typing import TYPE_CHECKING

from civitai_pipeline_tests.bench.__main__ import Cost
from civitai_pipeline_tests.bench.steps import Memory

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def probe_cost(name: str, environment: Mapping[str, str]) -> Cost:
    """What a probe of ``growth_probes`` says that it took, in a process of its own."""
    command = [sys.executable, "-m", "civitai_pipeline_tests.bench.growth_probes", name]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True, text=True)
    return Cost(**json.loads(done.stdout.splitlines()[-1]))


def command_cost(arguments: Sequence[str], environment: Mapping[str, str]) -> Cost:
    """What a command of the project takes from its start to its end, with all that it loads.

    Raises:
        subprocess.CalledProcessError: It failed.
    """
    command = [sys.executable, "-m", "civitai_pipeline.cli", *arguments]
    started = time.perf_counter()
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as process:
        with Memory(process.pid) as memory:
            _, status, used = wait4(process.pid, 0)
        elapsed = time.perf_counter() - started
        process.returncode = status
    if status:
        raise subprocess.CalledProcessError(status, command)
    return Cost(elapsed, used.ru_utime + used.ru_stime, memory.peak_bytes, 0)

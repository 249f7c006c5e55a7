"""The program as a person or a script runs it, in a process of its own, without what a start costs each time."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Protocol

import pytest

from civitai_pipeline_tests.proofs.warm import program

if TYPE_CHECKING:
    from civitai_pipeline_tests.proofs.warm import Warm


class Program(Protocol):
    """Runs the program with some arguments and, by keyword, other environment variables."""

    def __call__(self, *arguments: str, **overrides: str) -> subprocess.CompletedProcess[str]: ...


@pytest.fixture
def run(environment: dict[str, str], warm: Warm) -> Program:
    def run(*arguments: str, **overrides: str) -> subprocess.CompletedProcess[str]:
        call = warm.call(program, {**environment, **overrides}, *arguments)
        status = call.wait(120)
        if status == 0 and arguments[0] == "collect":
            warm.learn(call)
        return subprocess.CompletedProcess(arguments, status, *call.output())

    return run

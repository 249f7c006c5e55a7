"""Which proofs there are, and how one is run."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from collections.abc import Callable

    from civitai_pipeline_tests.proofs.verdict import Verdict

# Modules beside this one, each with ``prove(seed, folder)``: a seed, and an empty folder of its own. Each says on
# standard error where it is.
PROOFS = ("fault_matrix", "soak", "kill", "chaos", "concurrency", "damage", "upkeep", "hostile", "secrets")


def prove(name: str, seed: int) -> list[Verdict]:
    """Runs one proof in an empty folder.

    Raises:
        AssertionError: What must hold on the way did not.
    """
    run = cast("Callable[[int, Path], list[Verdict]]", import_module(f"civitai_pipeline_tests.proofs.{name}").prove)
    with TemporaryDirectory(prefix=f"{name}-") as folder:
        return run(seed, Path(folder))

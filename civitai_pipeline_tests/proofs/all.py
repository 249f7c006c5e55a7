"""Which proofs there are, and how one is run."""

from __future__ import annotations

import shutil
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, cast

from civitai_pipeline_tests.report.browser import NO_CHROMIUM, chromium

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from civitai_pipeline_tests.proofs.verdict import Verdict

# Modules beside this one, each with ``prove(seed, folder)``: a seed, and an empty folder of its own. Each says on
# standard error where it is.
PROOFS = ("fault_matrix", "soak", "kill", "chaos", "concurrency", "damage", "upkeep", "hostile", "secrets")
# Those of them that open pages in a browser.
IN_CHROMIUM = frozenset({"hostile"})
# A file system in memory, where Linux has one. Kills and faults take nothing that the kernel holds, so a disk would try
# no more; and Dagster, which waits for the disk a thousand times a run, is two to three times as quick there.
IN_MEMORY = Path("/dev/shm")  # noqa: S108 - folders of their own are made in it
ROOM_BYTES = 6 * 2**30


def what_is_missing(names: Iterable[str]) -> str | None:
    """What these proofs need that is not on this machine, and what to do; None if all is there.

    Two runs of all of them learnt it after two and a half hours, in the last step of the last proof but one.
    """
    in_chromium = sorted(IN_CHROMIUM.intersection(names))
    if not in_chromium or chromium():
        return None
    return f"{NO_CHROMIUM}, or name the proofs to run without {', '.join(in_chromium)}"


def prove(name: str, seed: int) -> list[Verdict]:
    """Runs one proof in an empty folder.

    Raises:
        AssertionError: What must hold on the way did not.
    """
    run = cast("Callable[[int, Path], list[Verdict]]", import_module(f"civitai_pipeline_tests.proofs.{name}").prove)
    with TemporaryDirectory(prefix=f"{name}-", dir=_place()) as folder:
        return run(seed, Path(folder))


def _place() -> Path | None:
    """Where folders of proofs are made; None for where temporary files usually are."""
    has_room = IN_MEMORY.is_dir() and shutil.disk_usage(IN_MEMORY).free >= ROOM_BYTES
    return IN_MEMORY if has_room else None

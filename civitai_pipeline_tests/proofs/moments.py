"""Moments of a collection: its phases, the files by which each can be seen to begin, and waiting for one."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from civitai_pipeline.lake import schemas

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from civitai_pipeline.lake.paths import Lake

# A look costs some microseconds, and files are renewed some tens of milliseconds apart.
LOOK_EVERY_S = 0.002

PHASES = ("starting", "landing", "prompts", "categories", "resources", "analyses", "views", "report")

Mark = tuple[int, int] | None


def _signals(lake: Lake, version: int) -> Mapping[str, Path | None]:
    """The file or folder whose renewal says that a phase has begun; the first begins with the process."""
    made = (
        lake.walk(version, 1),
        lake.table(schemas.MODEL_VERSION_INFO, version),
        lake.table(schemas.LANDED_PAGES, version),
        lake.table(schemas.PROMPT_CATEGORIES, version),
        lake.table(schemas.PROMPT_RESOURCES, version),
        lake.table(schemas.ANALYSIS_TABLES[-1], version),
        lake.database,
    )
    return dict(zip(PHASES, (None, *(Path(str(path)) for path in made)), strict=True))


class Watch:
    """A look at what renews itself while a collection goes on, from the moment it is made.

    Args:
        lake: The lake.
        version: The model version collected.
    """

    def __init__(self, lake: Lake, version: int) -> None:
        self._signals = _signals(lake, version)
        self._before = {phase: _mark(path) for phase, path in self._signals.items()}
        self._started = time.monotonic()

    def wait_for(self, phase: str, is_over: Callable[[], bool]) -> bool:
        """Waits until a phase has begun; false if all is over before."""
        if phase == PHASES[-1]:
            # All versions share the file that begins it, so it counts only when this one's turn has come.
            self.wait_for(PHASES[-2], is_over)
            self._before[phase] = _mark(self._signals[phase])
        path = self._signals[phase]
        while path is not None and _mark(path) == self._before[phase]:
            if is_over():
                return False
            time.sleep(LOOK_EVERY_S)
        return True

    def durations(self, is_over: Callable[[], bool]) -> Mapping[str, float]:
        """How many seconds each phase takes, from the first to the end of all."""
        begun = {}
        for phase in self._signals:
            self.wait_for(phase, is_over)
            begun[phase] = time.monotonic()
        while not is_over():
            time.sleep(LOOK_EVERY_S)
        moments = [self._started, *list(begun.values())[1:], time.monotonic()]
        return {phase: after - before for phase, before, after in zip(begun, moments, moments[1:], strict=False)}


def _mark(path: Path | None) -> Mark:
    if path is None:
        return None
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns

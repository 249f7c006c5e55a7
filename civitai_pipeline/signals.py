"""Waiting in the foreground until somebody stops the process."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType


@contextmanager
def until_signalled() -> Iterator[threading.Event]:
    """Yields an event that SIGINT and SIGTERM set; must be entered in the main thread, where signals arrive."""
    stop = threading.Event()

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def wait(stop: threading.Event) -> None:
    """Waits for the event."""
    # On some systems a wait without end cannot be interrupted.
    while not stop.wait(1.0):
        pass

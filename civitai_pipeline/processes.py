"""Processes of this machine: which one made something, and whether it is still there."""

from __future__ import annotations

import os
import socket
from pathlib import Path

_STATE, _START_TICKS = 0, 19
_DEAD_STATES = {"Z", "X"}


def this_process() -> str:
    """A name of this process for the names of its files, by which :func:`is_gone` knows it."""
    start = started(os.getpid()) or ""
    return f"{socket.gethostname()}-{os.getpid()}.{start.replace('-', '')}"


def is_gone(name: str) -> bool | None:
    """Whether the process that :func:`this_process` named is gone; None if that cannot be told from this machine."""
    host, _, process = name.rpartition("-")
    pid, _, start = process.partition(".")
    if host != socket.gethostname() or not (pid.isascii() and pid.isdigit()):
        return None
    if not is_alive(int(pid)):
        return True
    now = started(int(pid))
    # Process ids are used again, soonest of all by the first processes of a container.
    return bool(start) and now is not None and now.replace("-", "") != start


def is_alive(pid: int) -> bool:
    """Whether a process of this machine is alive."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    fields = _stat(pid)
    # A killed process stays in the table until its parent has asked for its end.
    return fields is None or fields[_STATE] not in _DEAD_STATES


def started(pid: int) -> str | None:
    """When a process started, as text that no other process of this machine shares; None where that is unknown."""
    fields = _stat(pid)
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return None
    return None if fields is None else f"{boot[:8]}-{fields[_START_TICKS]}"


def _stat(pid: int) -> list[str] | None:
    """What Linux says of a process from its state on; None elsewhere."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # Behind the program's name, which stands in brackets and may hold anything.
    return text.rpartition(")")[2].split()

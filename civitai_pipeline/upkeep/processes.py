"""Which process carries out a run, and whether it is still there."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from civitai_pipeline.lake.files import is_alive

if TYPE_CHECKING:
    from collections.abc import Mapping

HOST_TAG, PID_TAG = "civitai/host", "civitai/pid"
# Process ids are used again, soon after a restart even for the same program; this tells two users of one apart.
START_TAG = "civitai/process_start"

_STATE, _START_TICKS = 0, 19
_DEAD_STATES = {"Z", "X"}


def process_tags() -> dict[str, str]:
    """The tags by which a run names the process that carries it out: this one."""
    start = _started(os.getpid())
    own = {HOST_TAG: socket.gethostname(), PID_TAG: str(os.getpid())}
    return own if start is None else own | {START_TAG: start}


def tags_of(pid: str) -> dict[str, str]:
    """The tags that name a process of this machine of which no more is known."""
    return {HOST_TAG: socket.gethostname(), PID_TAG: pid}


def is_gone(tags: Mapping[str, str]) -> bool | None:
    """Whether the process named by a run's tags is gone; None if that cannot be told from this machine."""
    pid = tags.get(PID_TAG, "")
    if tags.get(HOST_TAG) != socket.gethostname() or not (pid.isascii() and pid.isdigit()):
        return None
    if not _is_alive(int(pid)):
        return True
    start = _started(int(pid))
    return START_TAG in tags and start is not None and start != tags[START_TAG]


def _is_alive(pid: int) -> bool:
    if not is_alive(pid):
        return False
    fields = _stat(pid)
    # A killed process stays in the table until its parent has asked for its end.
    return fields is None or fields[_STATE] not in _DEAD_STATES


def _started(pid: int) -> str | None:
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

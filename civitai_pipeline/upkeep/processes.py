"""Which process carries out a run, and whether it is still there."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

from civitai_pipeline.processes import is_alive, started

if TYPE_CHECKING:
    from collections.abc import Mapping

HOST_TAG, PID_TAG = "civitai/host", "civitai/pid"
# Process ids are used again, soon after a restart even for the same program; this tells two users of one apart.
START_TAG = "civitai/process_start"


def process_tags() -> dict[str, str]:
    """The tags by which a run names the process that carries it out: this one."""
    start = started(os.getpid())
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
    if not is_alive(int(pid)):
        return True
    start = started(int(pid))
    return START_TAG in tags and start is not None and start != tags[START_TAG]

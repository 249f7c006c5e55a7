"""The process whose children the upkeep proof kills: each compacts a lake, copies it, or reads it, once.

It forks, so that a child is at work at once and not after seconds of imports. A line on standard input says what to
do and after how many seconds to kill it; a line on standard output answers how it ended.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
import traceback
from typing import TYPE_CHECKING

from civitai_pipeline.keeping.backup import back_up
from civitai_pipeline.lake.compaction import compact
from civitai_pipeline.lake.paths import Lake

if TYPE_CHECKING:
    from collections.abc import Callable

KILLED, DONE, FAILED = "killed", "done", "failed"


def _compact(folder: str, version: str) -> None:
    done = compact(Lake.at(folder), int(version))
    if done.error is not None:
        raise RuntimeError(done.error)


def _back_up(folder: str, target: str) -> None:
    back_up(Lake.at(folder), Lake.at(target))


WORK: dict[str, Callable[[str, str], None]] = {"compact": _compact, "backup": _back_up}


def _child(work: str, *arguments: str) -> int:
    """Starts a process that does ``work``, once."""
    pid = os.fork()
    if pid:
        return pid
    try:
        WORK[work](*arguments)
    except BaseException:  # noqa: BLE001 - the end of a process of its own
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    os._exit(0)


def main() -> None:
    """Answers one line for each line, until there are no more."""
    for line in sys.stdin:
        delay_s, work, *arguments = line.rstrip("\n").split("\t")
        pid = _child(work, *arguments)
        # A descriptor of the process is readable when it has ended, so that none is waited for in vain.
        descriptor = os.pidfd_open(pid)
        started = time.monotonic()
        ended, _, _ = select.select([descriptor], [], [], float(delay_s))
        if not ended:
            os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        os.close(descriptor)
        said = DONE if status == 0 else KILLED if os.WIFSIGNALED(status) else FAILED
        sys.stdout.write(f"{said}\t{time.monotonic() - started}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()

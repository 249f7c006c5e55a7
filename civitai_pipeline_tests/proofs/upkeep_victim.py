"""The process whose children the upkeep proof kills: each compacts a lake or copies it, once.

It forks, so that a child is at work at once and not after seconds of imports. A line on standard input says what to
do and when to die: after so many seconds, or just before its so many-th change to a folder, so that every gap between
two changes is met as often as any other. A line on standard output answers how it ended.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import traceback
from typing import TYPE_CHECKING

from civitai_pipeline.care.backup import back_up
from civitai_pipeline.lake.compaction import compact
from civitai_pipeline.lake.paths import Lake

if TYPE_CHECKING:
    from collections.abc import Callable

KILLED, DONE, FAILED = "killed", "done", "failed"
# By their names as Python's audit events.
CHANGES = frozenset({"os.link", "os.remove", "os.rename", "os.mkdir", "os.rmdir"})


def _compact(folder: str, version: str) -> None:
    done = compact(Lake.at(folder), int(version))
    if done.error is not None:
        raise RuntimeError(done.error)


def _back_up(folder: str, target: str) -> None:
    back_up(Lake.at(folder), Lake.at(target))


WORK: dict[str, Callable[[str, str], None]] = {"compact": _compact, "backup": _back_up}


def _die_before(change: int) -> None:
    """Makes this process kill itself just before it makes, moves or removes a file for the so many-th time."""
    seen = 0

    def look(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal seen
        is_write = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if is_write or event in CHANGES:
            seen += 1
            if seen == change:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(look)


def _child(change: int, work: str, *arguments: str) -> int:
    """Starts a process that does ``work``, once."""
    pid = os.fork()
    if pid:
        return pid
    try:
        if change:
            _die_before(change)
        WORK[work](*arguments)
    except BaseException:  # noqa: BLE001 - the end of a process of its own
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    os._exit(0)


def main() -> None:
    """Answers one line for each line, until there are no more."""
    for line in sys.stdin:
        delay_s, change, work, *arguments = line.rstrip("\n").split("\t")
        pid = _child(int(change), work, *arguments)
        # A descriptor of the process is readable when it has ended, so that none is waited for in vain.
        descriptor = os.pidfd_open(pid)
        ended, _, _ = select.select([descriptor], [], [], float(delay_s))
        if not ended:
            os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        os.close(descriptor)
        said = DONE if status == 0 else KILLED if os.WIFSIGNALED(status) else FAILED
        sys.stdout.write(said + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()

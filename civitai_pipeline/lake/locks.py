"""One writer at a time: locks that the operating system frees when their holder dies, however it dies."""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from civitai_pipeline.lake.files import explained, is_local, make_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from upath import UPath

    from civitai_pipeline.lake.paths import Lake


class LockedError(Exception):
    """Another process is at work on the same; the message says which."""


@contextmanager
def sole_writer(lake: Lake, version: int) -> Iterator[None]:
    """Holds the right to land pages of ``version``.

    On an object store there is no lock to hold; there, the exclusive creation of pages alone keeps two
    writers apart.

    Raises:
        LockedError: Another process holds it.
        LakeError: The lake cannot be written.
    """
    with _held(lake.lock(version), f"is collecting model version {version}"):
        yield


@contextmanager
def sole_asker(lake: Lake) -> Iterator[None]:
    """Holds the right to ask about resources and to keep the answers.

    Two processes would ask for the same, most used first. On an object store there is no lock to hold; there,
    the worst is that an answer is lost and asked for again.

    Raises:
        LockedError: Another process holds it.
        LakeError: The lake cannot be written.
    """
    with _held(lake.lookup_lock, "is looking up resources"):
        yield


@contextmanager
def _held(path: UPath, doing: str) -> Iterator[None]:
    if not is_local(path):
        yield
        return
    make_folder(path.parent)
    with explained(path, "write"):
        descriptor = os.open(str(path), os.O_RDWR | os.O_CREAT, 0o644)
    try:
        with explained(path, "lock"):
            _lock(descriptor, doing)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, doing: str) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
        raise LockedError(
            f"another process (pid {holder}) {doing}; wait for it to finish, or stop it, then run again"
        ) from None
    os.truncate(descriptor, 0)
    os.pwrite(descriptor, str(os.getpid()).encode(), 0)

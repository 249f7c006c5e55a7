"""One writer per version: a lock that the operating system frees when its holder dies, however it dies."""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from civitai_pipeline.lake.files import explained, is_local, make_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from civitai_pipeline.lake.paths import Lake


class LockedError(Exception):
    """Another process is collecting this version; the message says which."""


@contextmanager
def sole_writer(lake: Lake, version: int) -> Iterator[None]:
    """Holds the right to land pages of ``version``.

    On an object store there is no lock to hold; there, the exclusive creation of pages alone keeps two
    writers apart.

    Raises:
        LockedError: Another process holds it.
        LakeError: The lake cannot be written.
    """
    path = lake.lock(version)
    if not is_local(path):
        yield
        return
    make_folder(path.parent)
    with explained(path, "write"):
        descriptor = os.open(str(path), os.O_RDWR | os.O_CREAT, 0o644)
    try:
        with explained(path, "lock"):
            _lock(descriptor, version)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, version: int) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
        raise LockedError(
            f"another process (pid {holder}) is collecting model version {version}; "
            "wait for it to finish, or stop it, then run again"
        ) from None
    os.truncate(descriptor, 0)
    os.pwrite(descriptor, str(os.getpid()).encode(), 0)

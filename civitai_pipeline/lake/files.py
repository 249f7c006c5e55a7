"""Putting bytes on disk so that a crash at any moment leaves either the old file or the new one.

Every file is written under ``.tmp`` in the lake, flushed to the disk, and only then moved to its name. A
temporary file can therefore never be mistaken for data, and all of them are found in one place. What is no part of a
lake, or comes from one that may only be read, has its place in a working folder of the system's. Either is named by the
process that made it, so that what a killed one left is known for what it is and removed.
"""

from __future__ import annotations

import errno
import hashlib
import os
import pathlib
import secrets
import shutil
import tempfile
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from civitai_pipeline.processes import is_gone, this_process

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from upath import UPath

TMP_DIR = ".tmp"
# No name that a folder of somebody else's has: whatever bears it, and whose process is gone, is removed.
# One hyphen, behind which the process is named as in the names of temporary files.
_WORKING_FOLDER = "civitai_pipeline_work-"
_NO_HARD_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
# Longer than any single file takes to write, so a temporary file of another machine this old is a dead one's.
ABANDONED_AFTER_S = 24 * 3600.0

_ANSWERS = (FileExistsError, FileNotFoundError)


class LakeError(Exception):
    """The lake cannot be read or written; the message names the file and what to do."""


@contextmanager
def explained(path: UPath, doing: str, *, answers: tuple[type[OSError], ...] = _ANSWERS) -> Iterator[None]:
    """Turns an operating system's error into a :class:`LakeError` that names the file and the remedy.

    That a file is there already, or is not there, is an answer rather than trouble and passes through, unless
    ``answers`` says otherwise.
    """
    try:
        yield
    except OSError as error:
        if isinstance(error, answers):
            raise
        if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
            advice = "the disk is full; free some space and run again, what has landed is safe"
        elif error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
            advice = (
                "this user may not read it; give it the right, then run again"
                if doing == "read"
                else "this user may not write there; set CIVITAI_LAKE to a folder you can write to"
            )
        elif error.errno in {errno.ENOTDIR, errno.EEXIST}:
            advice = "a file stands where a folder should be; set CIVITAI_LAKE to a folder"
        else:
            advice = "look at the disk, then run again"
        raise LakeError(f"cannot {doing} {path}: {error.strerror or error} ({advice})") from error


def is_local(path: UPath) -> bool:
    """Whether ``path`` lies on a file system of this machine, where links, flushes and renames exist."""
    return isinstance(path, pathlib.Path)


def make_folder(path: UPath) -> None:
    """Makes sure that there is a folder at ``path``.

    Raises:
        LakeError: There cannot be one.
    """
    with explained(path, "write to", answers=()):
        path.mkdir(parents=True, exist_ok=True)


@contextmanager
def temporary(root: UPath, purpose: str) -> Iterator[UPath]:
    """A name for a temporary file in the lake at ``root``; whatever is still there at the end is removed."""
    path = _temporary_name(root, purpose)
    try:
        yield path
    finally:
        # What cannot be removed, on a disk gone read-only say, is swept later; the trouble itself must be heard.
        with suppress(OSError):
            path.unlink()


@contextmanager
def temporary_folder(root: UPath, purpose: str) -> Iterator[pathlib.Path]:
    """A folder on this machine for a while: in the lake at ``root``, where a dead process's is found and removed.

    Beside a lake in an object store, it is where the system keeps such folders.
    """
    if not is_local(root):
        with working_folder() as elsewhere:
            yield pathlib.Path(elsewhere)
        return
    path = pathlib.Path(str(_temporary_name(root, purpose)))
    with explained(root, "write to", answers=()):
        path.mkdir()
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def working_folder() -> tempfile.TemporaryDirectory[str]:
    """A folder that is no part of a lake, where the system keeps such; also removes those of processes that are gone.

    What one holds may be as large as a version, and a server may clear the place only when it starts anew.
    """
    # What another user left, or somebody else removes in this moment, is no reason to do without a folder.
    with suppress(OSError):
        for path in pathlib.Path(tempfile.gettempdir()).glob(f"{_WORKING_FOLDER}*"):
            if _is_abandoned(path):
                shutil.rmtree(path, ignore_errors=True)
    return tempfile.TemporaryDirectory(prefix=f"{_WORKING_FOLDER}{this_process()}-")


def _temporary_name(root: UPath, purpose: str) -> UPath:
    folder = root / TMP_DIR
    make_folder(folder)
    return folder / f"{purpose}-{this_process()}-{secrets.token_hex(4)}"


def write_flushed(path: UPath, data: bytes) -> None:
    """Writes ``data`` to ``path`` and waits until the disk has it."""
    with path.open("wb") as file:
        file.write(data)
        if is_local(path):
            file.flush()
            os.fsync(file.fileno())


def flush(path: UPath) -> None:
    """Waits until the disk has the file or folder at ``path``, where that can be asked for."""
    if not is_local(path):
        return
    descriptor = os.open(str(path), os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def create_exclusively(root: UPath, path: UPath, data: bytes) -> None:
    """Puts ``data`` at ``path``, whole and flushed, unless something is there already.

    Raises:
        FileExistsError: Something is there already; it is untouched.
        LakeError: The lake cannot be written.
    """
    make_folder(path.parent)
    with explained(path, "write"):
        if not is_local(path):
            # Object stores make an object visible only when it is complete.
            with path.open("xb") as file:
                file.write(data)
            return
        with temporary(root, "page") as scratch:
            write_flushed(scratch, data)
            _move_exclusively(scratch, path)
        flush(path.parent)


def _move_exclusively(scratch: UPath, path: UPath) -> None:
    """Gives the finished file ``scratch`` the name ``path``, unless something has that name already."""
    try:
        os.link(str(scratch), str(path))
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        # exFAT drives and some network shares have no hard links; the version's lock keeps other writers away there.
        if path.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from None
        scratch.replace(path)


def swap_in(scratch: UPath, path: UPath) -> None:
    """Moves the finished file ``scratch`` to ``path``, replacing what is there in one step.

    Readers who hold the old file open keep reading it.

    Raises:
        LakeError: The lake cannot be written.
    """
    make_folder(path.parent)
    with explained(path, "write"):
        if not is_local(path):
            # An object store has no renaming; a copy shows there only when it is complete.
            path.fs.mv(scratch.path, path.path)
            return
        flush(scratch)
        scratch.replace(path)
        flush(path.parent)


def write_whole(root: UPath, path: UPath, data: bytes) -> None:
    """Puts ``data`` at ``path`` in the lake at ``root``, replacing what is there in one step.

    Raises:
        LakeError: The lake cannot be written; what was there stays.
    """
    with temporary(root, "file") as scratch:
        with explained(path, "write"):
            write_flushed(scratch, data)
        swap_in(scratch, path)


def write_by_digest(root: UPath, pieces: Iterable[bytes], place: Callable[[str], UPath]) -> UPath:
    """Puts ``pieces``, one after the other, at the place that the digest of their content gives.

    Args:
        root: The lake.
        pieces: The content; no more than one of them is held at a time.
        place: The place by the content's SHA-256, in hexadecimal digits.

    Raises:
        LakeError: The lake cannot be written.
    """
    digest = hashlib.sha256()
    with temporary(root, "file") as scratch:
        with explained(scratch, "write"), scratch.open("wb") as file:
            for piece in pieces:
                digest.update(piece)
                file.write(piece)
        path = place(digest.hexdigest())
        swap_in(scratch, path)
    return path


def set_aside(path: UPath, name: str) -> UPath:
    """Gives what stands at ``path`` another name in its folder, whatever it is; where it is then.

    A name that is taken gets a number, so that nothing is ever replaced.

    Args:
        path: What to set aside.
        name: Its new name.

    Raises:
        LakeError: The lake cannot be written.
    """
    aside, number = path.with_name(name), 1
    with explained(path, "set aside", answers=()):
        while aside.exists():
            number += 1
            aside = path.with_name(f"{name}{number}")
        path.rename(aside)
        flush(path.parent)
    return aside


def remove_others(folder: UPath, pattern: str, keep: UPath | None = None) -> None:
    """Removes the files in ``folder`` whose names match ``pattern``, but for ``keep``.

    Raises:
        LakeError: They cannot be removed.
    """
    with explained(folder, "clear"):
        for path in list(folder.glob(pattern)) if folder.is_dir() else []:
            if path != keep:
                path.unlink(missing_ok=True)


def abandoned(root: UPath) -> list[UPath]:
    """The temporary files and folders whose writers are dead.

    A writer on this machine is dead when its process is gone; one elsewhere, when its file is a day old.

    Raises:
        LakeError: The folder of temporary files cannot be read.
    """
    folder = root / TMP_DIR
    with explained(folder, "read"):
        return sorted(path for path in folder.iterdir() if _is_abandoned(path)) if folder.is_dir() else []


def sweep_abandoned(root: UPath) -> int:
    """Removes temporary files and folders whose writers are dead; returns how many.

    Raises:
        LakeError: They cannot be removed.
    """
    dead = abandoned(root)
    with explained(root / TMP_DIR, "clear"):
        for path in dead:
            if path.is_dir():
                shutil.rmtree(str(path), ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
    return len(dead)


def _is_abandoned(path: UPath | pathlib.Path) -> bool:
    _, _, rest = path.name.partition("-")
    gone = is_gone(rest.rpartition("-")[0])
    if gone is not None:
        return gone
    try:
        return time.time() - path.stat().st_mtime > ABANDONED_AFTER_S
    except FileNotFoundError:
        return False

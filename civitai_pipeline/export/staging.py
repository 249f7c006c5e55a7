"""Where an export is written before it gets its name: a folder beside the output, on the same disk.

Whatever happens, the name holds either the old export or the new one; what is left of a killed process's folder
is removed by the next export into the same parent folder.
"""

from __future__ import annotations

import secrets
import shutil
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from upath import UPath

from civitai_pipeline.lake.files import flush
from civitai_pipeline.processes import is_gone, this_process

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Says that a folder was written by an export, and what it holds. Without an extension, because the wildcard
# extensions read every .txt, .json and .yaml.
MARKER = ".civitai-export"
_SCRATCH = ".civitai-export-part-"


class ExportError(Exception):
    """There is nothing to export, or nowhere to put it; the message says what to do."""


@contextmanager
def staged(output: Path, *, folder: bool) -> Iterator[Path]:
    """A folder to write in; at the end, ``out`` in it becomes ``output``, unless there was trouble.

    Missing parent folders of ``output`` are made. A file is replaced; a folder only if it is empty or holds an
    earlier export.

    Raises:
        ExportError: ``output`` cannot be written.
    """
    if not output.name:
        raise ExportError(f"cannot write {output}: it is a folder; choose another --output")
    with explained(output):
        output.parent.mkdir(parents=True, exist_ok=True)
        _refuse_what_is_not_ours(output, folder=folder)
        _sweep(output.parent)
        scratch = output.with_name(f"{_SCRATCH}{this_process()}-{secrets.token_hex(4)}")
        scratch.mkdir()
    try:
        yield scratch
        with explained(output):
            _move_in(scratch, output, folder=folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@contextmanager
def explained(output: Path) -> Iterator[None]:
    """Turns an operating system's error into an :class:`ExportError` that names the output."""
    try:
        yield
    except OSError as error:
        raise ExportError(f"cannot write {output}: {error.strerror or error}; choose another --output") from error


def _refuse_what_is_not_ours(output: Path, *, folder: bool) -> None:
    if not folder and output.is_dir():
        raise ExportError(f"cannot write {output}: it is a folder; choose another --output")
    if folder and output.is_dir():
        if any(output.iterdir()) and not (output / MARKER).is_file():
            raise ExportError(
                f"cannot write {output}: the folder holds other things than an earlier export; choose another --output"
            )
    elif folder and output.exists():
        raise ExportError(f"cannot write {output}: it is a file, and this format is a folder; choose another --output")


def _move_in(scratch: Path, output: Path, *, folder: bool) -> None:
    finished = scratch / "out"
    if not folder:
        flush(UPath(finished))
        finished.replace(output)
    else:
        for path in finished.rglob("*"):
            flush(UPath(path))
        if output.is_dir():
            # A folder with something in it cannot be replaced in one step: the old one steps aside first.
            output.rename(scratch / "old")
        try:
            finished.rename(output)
        except OSError:
            if (scratch / "old").is_dir():
                (scratch / "old").rename(output)
            raise
    # Not every file system can flush a folder; the export is whole without it.
    with suppress(OSError):
        flush(UPath(output.parent))


def _sweep(folder: Path) -> None:
    """Removes what exports of this machine that were killed left in a folder."""
    for left in folder.glob(f"{_SCRATCH}*"):
        if is_gone(left.name.removeprefix(_SCRATCH).rpartition("-")[0]):
            shutil.rmtree(left, ignore_errors=True)

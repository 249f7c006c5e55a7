"""The tables as they stand at one moment, for those who read them with DuckDB while others may renew them.

Reading with Arrow through one open file needs none of this: see ``rows``.
"""

from __future__ import annotations

import os
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from upath import UPath

from civitai_pipeline.lake.files import LakeError, is_local, temporary_folder
from civitai_pipeline.lake.paths import Lake
from civitai_pipeline.lake.schemas import TABLES

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    from civitai_pipeline.lake.schemas import Table

# A writer takes milliseconds to put the next file in place, a link some microseconds.
MOST_TRIES = 100


@contextmanager
def pinned(lake: Lake, tables: Collection[Table] = TABLES) -> Iterator[Lake]:
    """A lake's tables as they stand now, as a lake of their own; what takes their places meanwhile does not show there.

    DuckDB opens a file more than once while it answers, and takes one that was swapped in between for damaged. In an
    object store, on file systems without hard links and where nothing may be written, the tables are given as they are.

    Args:
        lake: The lake.
        tables: The tables that will be read; the lake that is given has no others.

    Raises:
        LakeError: Whatever the body raised, with the tables' own paths.
    """
    with ExitStack() as stack:
        still = _pin(lake, tables, stack)
        try:
            yield still
        except LakeError as error:
            raise type(error)(str(error).replace(str(still.root), str(lake.root))) from error


def _pin(lake: Lake, tables: Collection[Table], stack: ExitStack) -> Lake:
    if not is_local(lake.root):
        return lake
    try:
        folder = stack.enter_context(temporary_folder(lake.root, "pinned"))
        _link_tables(lake, tables, folder)
    except (LakeError, OSError):
        return lake
    return Lake(UPath(folder))


def _link_tables(lake: Lake, tables: Collection[Table], folder: Path) -> None:
    for table in tables:
        held = lake.root / table.name
        if held.is_dir():
            (folder / table.name).mkdir()
            for path in held.glob("*.parquet"):
                _link(path, folder / table.name / path.name)


def _link(path: UPath, place: Path) -> None:
    """Gives the file at ``path`` a second name; leaves out one that is gone.

    Of a file that is replaced between the look at its name and the link, the system says that it is not there.
    """
    for _ in range(MOST_TRIES):
        try:
            os.link(str(path), str(place))
        except FileNotFoundError:
            if not path.exists():
                return
        else:
            return
    raise LakeError(f"{path} is replaced faster than it can be read")

"""A copy of Dagster's records beside a copy of the lake, made while Dagster uses them."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

from civitai_pipeline.care.backup import BackupError

if TYPE_CHECKING:
    from pathlib import Path

DATABASE = ".db"
# What SQLite keeps beside a database that is open; its own copy takes in what is there.
_COMPANIONS = ("-wal", "-shm", "-journal")
PARTIAL = ".part"


def back_up_records(home: Path, target: Path) -> int:
    """Makes the folder ``target`` hold what Dagster's folder ``home`` holds; returns how many files were copied.

    A database is copied by SQLite itself, which gives it as it stood at one moment, whoever writes to it meanwhile.
    What has not changed since the last copy is not copied again; what is gone from ``home`` goes from the copy.

    Raises:
        BackupError: A file cannot be copied.
    """
    copied = 0
    try:
        wanted = {
            path.relative_to(home) for path in home.rglob("*") if path.is_file() and not path.name.endswith(_COMPANIONS)
        }
        for place in target.rglob("*"):
            if place.is_file() and place.relative_to(target) not in wanted:
                place.unlink()
        for name in sorted(wanted):
            copied += _copy(home / name, target / name)
    except (OSError, sqlite3.Error) as error:
        raise BackupError(f"Dagster's records in {home} could not be copied to {target}: {error}") from error
    return copied


def _copy(path: Path, place: Path) -> bool:
    """Copies a file unless the copy is of the same moment; returns whether it did."""
    try:
        moment = max(found.stat().st_mtime_ns for found in (path, path.with_name(f"{path.name}-wal")) if found.exists())
    except ValueError:
        # A run's files may be pruned, and a temporary one removed, while the others are copied.
        return False
    if place.exists() and place.stat().st_mtime_ns == moment:
        return False
    place.parent.mkdir(parents=True, exist_ok=True)
    scratch = place.with_name(place.name + PARTIAL)
    scratch.unlink(missing_ok=True)
    if path.suffix == DATABASE:
        with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(scratch)) as copy:
            source.backup(copy)
    else:
        shutil.copyfile(path, scratch)
    os.utime(scratch, ns=(moment, moment))
    scratch.replace(place)
    return True

"""Dagster's instance folder: made, given its ``dagster.yaml``, named to Dagster, and opened."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import tempfile
from contextlib import contextmanager
from importlib import resources
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import dagster as dg

INSTANCE_FILE = "dagster.yaml"

# What SQLite says, and what is to be done then.
_DAMAGED = "put a backup of them in their place, or move them away; pages and tables are not in them"
_ADVICE = {
    "locked": "another process has held them for too long; run again, and stop what uses them first if that lasts",
    "full": "free some space, then run again",
    "readonly": "set DAGSTER_HOME to a folder you can write to",
    "malformed": _DAMAGED,
    "not a database": _DAMAGED,
}


class InstanceError(Exception):
    """The Dagster instance cannot be used; the message says why and what to do."""


def prepare_home(home: Path) -> None:
    """Makes the instance's folder, puts its ``dagster.yaml`` there if missing, and points Dagster at it.

    Raises:
        InstanceError: The folder cannot be written.
    """
    file = home / INSTANCE_FILE
    try:
        home.mkdir(parents=True, exist_ok=True)
        if not file.exists():
            with _alone(home):
                if not file.exists():
                    _make_records(home)
        with tempfile.TemporaryFile(dir=home):
            pass
    except OSError as error:
        raise InstanceError(
            f"cannot use {home} for Dagster's records: {error.strerror or error}; "
            "set DAGSTER_HOME to a folder you can write to"
        ) from None
    os.environ["DAGSTER_HOME"] = str(home)


@contextmanager
def _alone(home: Path) -> Iterator[None]:
    """Waits until no other process prepares the folder, and keeps others waiting."""
    with (home / ".lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _make_records(home: Path) -> None:
    """Lets Dagster make its databases, then puts ``dagster.yaml`` in its place.

    Of two processes that make the databases at once, one fails in the midst of it. The file comes last, so that a
    process killed meanwhile leaves the rest to the next. That one must ask for the rest: Dagster takes an event log
    that has a file for one that has its tables, and 2 of 2,700 kills left a file of 0 bytes, with which nothing
    could ever be collected.
    """
    import dagster as dg  # noqa: PLC0415 - takes seconds to load, once in the life of a folder

    fresh = home / f".{INSTANCE_FILE}"
    fresh.write_bytes(resources.files("civitai_pipeline").joinpath(INSTANCE_FILE).read_bytes())
    with dg.DagsterInstance.from_config(str(home), fresh.name) as instance:
        # Both make what is missing, and note what is new and so needs no conversion.
        instance.event_log_storage.reindex_events()
        instance.event_log_storage.reindex_assets()
    fresh.replace(home / INSTANCE_FILE)


@contextmanager
def records() -> Iterator[dg.DagsterInstance]:
    """Dagster's records in the folder that was prepared.

    What they refuse in the midst of a run is lost with the run's last words only: pages land without them, and its
    summary is made up for when the next run starts.

    Raises:
        InstanceError: They cannot be read or written.
    """
    import dagster as dg  # noqa: PLC0415 - takes seconds to load
    import sqlalchemy.exc  # noqa: PLC0415 - as the other

    home = os.environ.get("DAGSTER_HOME", "")
    try:
        with dg.DagsterInstance.get() as instance:
            yield instance
    # Pruning goes to the files themselves, past what Dagster puts between.
    except (sqlalchemy.exc.DBAPIError, sqlite3.Error) as error:
        said = str(error.orig if isinstance(error, sqlalchemy.exc.DBAPIError) else error)
        advice = next((words for sign, words in _ADVICE.items() if sign in said), "look at the disk, then run again")
        raise InstanceError(f"Dagster's records in {home} cannot be used: {said} ({advice})") from error

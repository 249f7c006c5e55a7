"""Dagster's instance folder: made, given its ``dagster.yaml``, and named to Dagster."""

from __future__ import annotations

import fcntl
import os
import tempfile
from contextlib import contextmanager
from importlib import resources
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

INSTANCE_FILE = "dagster.yaml"


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
    process killed meanwhile leaves the rest to the next.
    """
    import dagster as dg  # noqa: PLC0415 - takes seconds to load, once in the life of a folder

    fresh = home / f".{INSTANCE_FILE}"
    fresh.write_bytes(resources.files("civitai_pipeline").joinpath(INSTANCE_FILE).read_bytes())
    with dg.DagsterInstance.from_config(str(home), fresh.name):
        pass
    fresh.replace(home / INSTANCE_FILE)

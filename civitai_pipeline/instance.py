"""Dagster's instance folder: made, given its ``dagster.yaml``, and named to Dagster."""

from __future__ import annotations

import os
import tempfile
from importlib import resources
from typing import TYPE_CHECKING

if TYPE_CHECKING:
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
            file.write_bytes(resources.files("civitai_pipeline").joinpath(INSTANCE_FILE).read_bytes())
        with tempfile.TemporaryFile(dir=home):
            pass
    except OSError as error:
        raise InstanceError(
            f"cannot use {home} for Dagster's records: {error.strerror or error}; "
            "set DAGSTER_HOME to a folder you can write to"
        ) from None
    os.environ["DAGSTER_HOME"] = str(home)

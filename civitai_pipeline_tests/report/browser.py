"""A real Chromium for the tests of pages: the one this machine has, or none."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
MAC = "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"
NO_CHROMIUM = "there is no Chromium here; install it, or name it in CHROMIUM"


def chromium() -> str | None:
    """Where Chromium is; None where there is none. ``CHROMIUM`` names it where it is somewhere else."""
    named = os.environ.get("CHROMIUM")
    if named:
        return named
    found = next(filter(None, map(shutil.which, NAMES)), None)
    return found or (MAC if Path(MAC).is_file() else None)

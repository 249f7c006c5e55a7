"""The main job end to end against the embedded stand-in, offline: what ``civitai-pipeline demo`` does."""

from __future__ import annotations

import os
import shutil
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from civitai_pipeline import launch
from civitai_pipeline.collect.options import CollectOptions, LookupOptions
from civitai_pipeline.console import ConsoleProgress, summary_table
from civitai_pipeline.instance import prepare_home
from civitai_pipeline.report import INDEX_FILE
from civitai_pipeline.sandbox import DEMO_VERSIONS, Sandbox, SandboxOptions, World

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rich.console import Console

# Only a folder with this file in it is cleared, since only the demo makes one.
MARKER = ".made-by-civitai-pipeline-demo"


class DemoError(Exception):
    """The demo could not do its work; the message says why."""


def run_demo(home: Path, out: Console, err: Console) -> None:
    """Collects three model versions of two models and shows what came of it.

    Args:
        home: Where to put the lake and Dagster's records; cleared first if an earlier demo made it.
        out: Where the answer goes.
        err: Where progress goes.

    Raises:
        DemoError: A collection failed, or ``home`` holds something that is not the demo's.
    """
    started = time.monotonic()
    home = home.resolve()
    _clear(home)
    lake = home / "lake"
    summaries = []
    with Sandbox(World.synthetic(seed=1), SandboxOptions()) as server, _environment(server.url, lake, home / "dagster"):
        err.print(f"The stand-in for the API listens on {server.url}; nothing leaves this machine.", highlight=False)
        prepare_home(home / "dagster")
        summaries = [_collect(version, err) for version in DEMO_VERSIONS]
    out.print(summary_table(summaries))
    for label, path in (
        ("database", lake / "civitai.duckdb"),
        ("reports", lake / "reports" / INDEX_FILE),
        ("lake", lake),
    ):
        out.print(f"{label + ':':10}{path}", markup=False, highlight=False, soft_wrap=True)
    out.print(f"\nDone in {time.monotonic() - started:.0f} s.", highlight=False)


def _collect(version: int, err: Console) -> dict[str, Any]:
    progress = ConsoleProgress(err)
    try:
        run = launch.collect(version, CollectOptions(), progress, lookups=LookupOptions())
    finally:
        progress.close()
    if run.failures or run.summary is None:
        raise DemoError(f"collecting model version {version} failed: {'; '.join(run.failures)}")
    return run.summary


def _clear(home: Path) -> None:
    if home.exists() and any(home.iterdir()) and not (home / MARKER).exists():
        raise DemoError(f"{home} holds something that the demo did not make; choose another folder with --home")
    try:
        if home.exists():
            shutil.rmtree(home)
        home.mkdir(parents=True)
        (home / MARKER).touch()
    except OSError as error:
        raise DemoError(f"cannot write {home}: {error.strerror or error}; choose another folder with --home") from None


@contextmanager
def _environment(url: str, lake: Path, dagster_home: Path) -> Iterator[None]:
    """Points this process at the stand-in for a while, whatever its environment said."""
    ours = {
        "CIVITAI_BASE_URL": url,
        "CIVITAI_LAKE": str(lake),
        "CIVITAI_MIN_REQUEST_INTERVAL": "0",
        "DAGSTER_HOME": str(dagster_home),
    }
    # A key is for the real API alone; a maturity chosen for it would change the demo.
    cleared = ("CIVITAI_API_KEY", "CIVITAI_BROWSING_LEVEL", "CIVITAI_TIMEOUT", "CIVITAI_RETRY_BUDGET")
    before = {name: os.environ.get(name) for name in (*ours, *cleared)}
    os.environ.update(ours)
    for name in cleared:
        os.environ.pop(name, None)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value

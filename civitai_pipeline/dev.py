"""The Dagster UI with its daemon, as ``civitai-pipeline dev`` runs them, on the real API or on the stand-in."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from civitai_pipeline.instance import prepare_home

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import FrameType

    from rich.console import Console

    from civitai_pipeline.settings import Settings

HOST = "127.0.0.1"
SANDBOX_HOME = Path(".sandbox")
# New images come in at this pace, so that a second collection of a version has something to find.
SANDBOX_GROWS_EVERY_S = 60.0
STOP_TIMEOUT_S = 10.0
POLL_S = 0.2
# Dagster waits so long for the code server, which answers when the process of a new run has loaded the project: ten
# processor seconds. By Dagster's own 60 s, runs that five versions began at once beside other work were given up as
# failed while they started: 3 of some 140. Its run monitoring gives a run as long as this.
ANSWER_TIMEOUT_S = 180

_NOTE = """
The Dagster UI opens at http://{host}:{port}

What to click first:
  1. Jobs > collect > Materialize all > Add a partition: the id of a model version{hint}.
     It is the number after modelVersionId= in the address of the model's page.
  2. Launch 1 run, then Runs > its id: the log says a line per landed page.
  3. Catalog > image_pages: the run summary and the checks. version_report says where its HTML page is.

The lake: {lake}
Ctrl-C stops everything.
"""


class DevError(Exception):
    """The UI cannot be started; the message says why and what to do."""


def run_dev(settings: Settings, port: int, err: Console, *, sandbox: bool) -> int:
    """Runs the Dagster UI and daemon in the foreground until they are stopped.

    Args:
        settings: What the environment says.
        port: The UI's port on loopback.
        err: Where the note on what to click goes.
        sandbox: Run on the stand-in, with a lake and records of its own under ``.sandbox``.

    Returns:
        The exit status of Dagster; 0 if it was stopped on purpose.

    Raises:
        DevError: The port is taken, or the UI runs on these records already.
        InstanceError: The instance's folder cannot be written.
    """
    _check_port(port)
    with ExitStack() as stack:
        overrides = stack.enter_context(_stand_in()) if sandbox else {}
        home = Path(overrides.get("DAGSTER_HOME", settings.dagster_home))
        prepare_home(home)
        lock = stack.enter_context(_only_one(home))
        lake = overrides.get("CIVITAI_LAKE", settings.lake)
        hint = ", such as 910011" if sandbox else ""
        err.print(
            _NOTE.format(host=HOST, port=port, hint=hint, lake=Path(lake).resolve()), markup=False, highlight=False
        )
        # Dagster puts a .env of the folder it runs in over the environment, which would point the stand-in's runs at
        # the real API with a real key.
        folder = home if sandbox else Path.cwd()
        environment = dagster_environment(os.environ) | overrides | {"DAGSTER_HOME": str(home)}
        return _run_dagster(port, environment, folder, lock)


def dagster_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that Dagster runs with: those given, which win, and what its own defaults are too short for."""
    return {"DAGSTER_GRPC_TIMEOUT_SECONDS": str(ANSWER_TIMEOUT_S), **environment}


@contextmanager
def _only_one(home: Path) -> Iterator[int]:
    """Holds the right to run a daemon on these records: two would launch every run twice. Yields the lock.

    Raises:
        DevError: Another process holds it.
    """
    descriptor = os.open(home / ".dev", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise DevError(
            f"another civitai-pipeline dev runs on the records in {home}; stop it, or set DAGSTER_HOME to another place"
        ) from None
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _stand_in() -> Iterator[dict[str, str]]:
    """Serves a growing stand-in; yields the environment that points at it."""
    from civitai_pipeline.sandbox import Sandbox, World  # noqa: PLC0415 - needed only on the stand-in
    from civitai_pipeline.sandbox.command import grow  # noqa: PLC0415 - needed only on the stand-in

    stop = threading.Event()
    world = World.synthetic(seed=1)
    with Sandbox(world) as server:
        threading.Thread(target=grow, args=(world, SANDBOX_GROWS_EVERY_S, stop), daemon=True).start()
        try:
            yield {
                "CIVITAI_BASE_URL": server.url,
                "CIVITAI_LAKE": str((SANDBOX_HOME / "lake").resolve()),
                "DAGSTER_HOME": str((SANDBOX_HOME / "dagster").resolve()),
                "CIVITAI_MIN_REQUEST_INTERVAL": os.environ.get("CIVITAI_MIN_REQUEST_INTERVAL", "0.2"),
                "CIVITAI_API_KEY": "",
            }
        finally:
            stop.set()


def _check_port(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise DevError(
                f"port {port} on {HOST} cannot be used: {error.strerror}; choose another with --port"
            ) from None


def _run_dagster(port: int, environment: dict[str, str], folder: Path, lock: int) -> int:
    workspace = Path("workspace.yaml").resolve()
    command = [sys.executable, "-m", "dagster", "dev", "-h", HOST, "-p", str(port)]
    command += ["-w", str(workspace)] if workspace.exists() else ["-m", "civitai_pipeline.definitions"]
    stopped = threading.Event()

    def stop(_number: int, _frame: FrameType | None) -> None:
        stopped.set()

    # Set before Dagster starts: a process begun in the background of a script ignores SIGINT, and its children would.
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    # A group of its own, because Dagster's processes outlive one that is stopped alone.
    # It holds the lock with this process, and alone should this one be killed.
    process = subprocess.Popen(  # noqa: S603 - our own command
        command, env=environment, cwd=folder, start_new_session=True, pass_fds=(lock,)
    )
    try:
        while process.poll() is None and not stopped.wait(POLL_S):
            pass
    finally:
        _end_group(process)
        for number, handler in before.items():
            signal.signal(number, handler)
    return 0 if stopped.is_set() else process.returncode


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """Makes sure that nothing of what was started goes on."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        _signal_group(process, number)
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while time.monotonic() < deadline:
            # Reaped first, or it would stand in its group as a zombie for ever.
            process.poll()
            if not _signal_group(process, 0):
                return
            time.sleep(POLL_S)


def _signal_group(process: subprocess.Popen[bytes], number: int) -> bool:
    """Sends a signal to all that was started, 0 to none; whether there was anybody left."""
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        return False
    return True

"""A process that has imported everything, and forks a child for each call: what a start costs is paid once.

A child is a process of its own, in a group of its own, with its own environment, folder and output; it can be killed
like any other. The parent has but one thread, so nothing that a fork would break is under way.
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections import deque
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType
    from typing import Self

Json = dict[str, Any]

ROOT = Path(__file__).resolve().parents[2]
# A call takes seconds; one that hangs must not hang the proof.
GIVE_UP_S = 300.0
POLL_S = 0.005


def program(*arguments: str) -> None:
    """The program ``civitai-pipeline``, as the console script runs it."""
    from civitai_pipeline.cli import main  # noqa: PLC0415 - the parent imports this module before it has imported that

    main(arguments, prog_name="civitai-pipeline")


class Call:
    """A call under way in a child.

    Attributes:
        pid: The child, and its process group.
        folder: Where its output is.
        started: When it was started, on the monotonic clock.
        cpu_s: Seconds of processor that it used, once it has ended.
    """

    def __init__(self, pid: int, folder: Path) -> None:
        self.pid = pid
        self.folder = folder
        self.started = time.monotonic()
        self.cpu_s = 0.0
        self._ended = threading.Event()
        self._code = 0

    def end(self, status: int, cpu_s: float) -> None:
        """Notes how it ended, as ``wait4`` says it, and what it used."""
        self._code = os.waitstatus_to_exitcode(status)
        self.cpu_s = cpu_s
        self._ended.set()

    @property
    def code(self) -> int | None:
        """Its exit status, negative for a signal; None while it goes on."""
        return self._code if self._ended.is_set() else None

    def is_over(self) -> bool:
        """Whether it has ended."""
        return self._ended.is_set()

    def wait(self, seconds: float = GIVE_UP_S) -> int:
        """Waits for its end; its exit status.

        Raises:
            AssertionError: It does not end.
        """
        if not self._ended.wait(seconds):
            self.kill()
            raise AssertionError(f"a call did not end within {seconds:g} s: {self.said()}")
        return self._code

    def kill(self) -> None:
        """Kills the child and whatever it started, and waits until it is gone."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        assert self._ended.wait(GIVE_UP_S), "a killed child does not go away"

    def said(self) -> str:
        """The end of what it printed."""
        return "\n".join(text[-8000:] for text in self.output()).strip()

    def output(self) -> tuple[str, str]:
        """What it printed on standard output and standard error."""
        out, err = ((self.folder / name).read_text() for name in ("stdout", "stderr"))
        return out, err

    def result(self) -> Any:  # noqa: ANN401 - whatever the function returned
        """What the function returned, once it has.

        Raises:
            AssertionError: It failed.
        """
        code = self.wait()
        assert code == 0, f"exit status {code}: {self.said()}"
        return json.loads((self.folder / "result").read_text())


class Warm:
    """The parent, to be used as a context manager from any thread.

    Args:
        folder: A folder for the output of children.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._calls: dict[int, Call] = {}
        self._early: dict[int, tuple[int, float]] = {}
        self._answers: deque[threading.Event] = deque()
        self._pids: deque[int] = deque()
        self._lock = threading.Lock()
        self._asking = threading.Lock()
        self._number = 0
        self._learned = False
        self._process = subprocess.Popen(
            [sys.executable, "-m", "civitai_pipeline_tests.proofs.warm"],
            cwd=ROOT,
            # Threads of a library for sums would be copied by halves.
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._listener = threading.Thread(target=self._listen, name="warm", daemon=True)
        self._listener.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        for call in list(self._calls.values()):
            call.kill()
        self._process.stdin.close()
        self._process.wait(GIVE_UP_S)
        self._listener.join()
        self._process.stdout.close()

    def call(self, function: Callable[..., object], environment: Mapping[str, str], *arguments: object) -> Call:
        """Calls a function of a module in a child.

        Args:
            function: The function. What it returns must be JSON.
            environment: The variables of the child beside those of this process; an empty one is removed.
            arguments: Its arguments, which must be JSON.
        """
        with self._asking:
            self._number += 1
            folder = self._folder / f"{self._number:05d}"
            folder.mkdir()
            request = {
                "function": f"{function.__module__}:{function.__qualname__}",
                "arguments": arguments,
                "environment": dict(environment),
                "folder": str(folder),
            }
            self._ask(request)
            with self._lock:
                call = Call(self._pids.popleft(), folder)
                if call.pid in self._early:
                    call.end(*self._early.pop(call.pid))
                else:
                    self._calls[call.pid] = call
        return call

    def learn(self, call: Call) -> None:
        """Imports whatever a finished call has imported, so that no later one has to; once is enough."""
        call.result()
        with self._asking:
            if not self._learned:
                self._ask({"modules": str(call.folder / "modules")})
                self._pids.popleft()
                self._learned = True

    def _ask(self, request: Json) -> None:
        assert self._process.stdin is not None
        answered = threading.Event()
        self._answers.append(answered)
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        assert answered.wait(GIVE_UP_S), "the warm process does not answer"

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            said = json.loads(line)
            with self._lock:
                if "status" not in said:
                    self._pids.append(said["pid"])
                    self._answers.popleft().set()
                elif said["pid"] in self._calls:
                    self._calls.pop(said["pid"]).end(said["status"], said["cpu_s"])
                else:
                    self._early[said["pid"]] = (said["status"], said["cpu_s"])


def _serve() -> NoReturn:
    """Forks a child for each request, and tells of each one's end."""
    for name in ("civitai_pipeline.launch", "civitai_pipeline.cli"):
        import_module(name)
    waking, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
    # Ctrl-C reaches the whole group; whoever started this process ends it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    rest = b""
    while True:
        ready, _, _ = select.select([0, waking], [], [])
        if waking in ready:
            os.read(waking, 512)
            _tell_of_the_dead()
        if 0 in ready:
            data = os.read(0, 1 << 16)
            if not data:
                # Without what libraries say at an end in which their parts went in an odd order.
                os._exit(0)
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                _answer(json.loads(line))


def _tell_of_the_dead() -> None:
    with suppress(ChildProcessError):
        while True:
            pid, status, used = os.wait4(-1, os.WNOHANG)
            if not pid:
                return
            _say({"pid": pid, "status": status, "cpu_s": used.ru_utime + used.ru_stime})


def _answer(request: Json) -> None:
    if "modules" in request:
        for name in json.loads(Path(request["modules"]).read_text()):
            # Some names stand for no module that could be imported by itself.
            with suppress(ImportError, AttributeError, ValueError):
                import_module(name)
        _prepare()
        gc.collect()
        gc.freeze()
        _say({"pid": 0})
        return
    pid = os.fork()
    if not pid:
        _run(request)
    _say({"pid": pid})


def _prepare() -> None:
    """Does once what every child would do by itself, as far as it starts no thread: a quarter of a short run."""
    from civitai_pipeline.definitions import build_defs  # noqa: PLC0415 - the parent imports this module first of all
    from civitai_pipeline.defs import resources  # noqa: PLC0415 - as above
    from civitai_pipeline.prompts.taxonomy import load_taxonomy  # noqa: PLC0415 - as above

    resources._categorizer(load_taxonomy())
    build_defs().resolve_job_def("collect")
    _keep_engines()


def _keep_engines() -> None:
    """Lets Dagster's records in files keep their engines.

    It makes one for each of the thousand times that a run asks them, and with it a new cache of compiled statements,
    in which nothing is ever found.
    """
    for name in ("event_log.sqlite.sqlite_event_log", "runs.sqlite.sqlite_run_storage"):
        module = import_module(f"dagster._core.storage.{name}")
        make, made = module.create_engine, dict[str, Any]()

        def kept(url: str, make: Any = make, made: dict[str, Any] = made, **options: Any) -> Any:  # noqa: ANN401 - SQLAlchemy's
            if url not in made:
                made[url] = make(url, **options)
            return made[url]

        module.create_engine = kept  # type: ignore[attr-defined]  # Dagster's own name


def _say(said: Json) -> None:
    os.write(1, (json.dumps(said) + "\n").encode())


def _run(request: Json) -> NoReturn:
    """What a child does."""
    code = 99
    try:
        os.setsid()
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        folder = Path(request["folder"])
        for descriptor, name in ((0, os.devnull), (1, folder / "stdout"), (2, folder / "stderr")):
            opened = os.open(name, os.O_RDWR | os.O_CREAT, 0o644)
            os.dup2(opened, descriptor)
            os.close(opened)
        os.chdir(folder)
        os.environ.update(request["environment"])
        for name in [name for name, value in os.environ.items() if not value]:
            del os.environ[name]
        # The parent may have looked already where temporary files go.
        tempfile.tempdir = None
        code = _called(request, folder)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # noqa: BLE001 - whatever it is, the child ends with it
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _called(request: Json, folder: Path) -> int:
    module, _, name = request["function"].partition(":")
    try:
        returned = getattr(import_module(module), name)(*request["arguments"])
    except SystemExit as end:
        if end.code:
            raise
        returned = None
    (folder / "result").write_text(json.dumps(returned))
    # What it prints at its end, a real process prints before it is gone.
    (folder / "modules").write_text(json.dumps(sorted(sys.modules)))
    return 0


if __name__ == "__main__":
    _serve()

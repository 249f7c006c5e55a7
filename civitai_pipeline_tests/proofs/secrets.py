"""Secrets and reach: a marked key and every place it could go, and every address that is ever connected to.

Processes of the product run with the key in their environment, against servers that throw it back at them and
against the stand-in's faults; the Dagster UI runs with it in a ``.env``. Then everything they wrote, said, sent or
recorded is searched for it, in every encoding.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from civitai_pipeline.sandbox import FAULT_NAMES, Fault, FaultRule, FaultSchedule, Sandbox, SandboxOptions, World
from civitai_pipeline_tests.proofs.echo import ANSWERS, Echo, echoing
from civitai_pipeline_tests.proofs.spying import (
    WATCHER,
    addresses,
    arguments,
    descendants,
    hits,
    is_loopback_address,
    search,
    spellings,
)
from civitai_pipeline_tests.proofs.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from civitai_pipeline_tests.proofs.grounds import Json

# With letters that addresses, JSON, HTML and shells each spell in another way.
TOKEN = "ck+M4rk3d/7Qz&9<x>=w8Kp\"2V'cR"  # noqa: S105 - made up, to be found again
_LOOK_EVERY_S = 0.3
_POLL_S = 0.02
_TIMEOUT_S = 600
_FAULTS: dict[str, Json] = {"slow": {"seconds": 0.1}, "stall": {"seconds": 1}, "oversized": {"size": 2**20}}


@dataclass
class Watched:
    """What processes did while they were watched.

    Attributes:
        folder: Their working folder, with all they write.
        token: The key that they hold.
        said: What they wrote on standard output and error.
        trouble: What does not hold.
    """

    folder: Path
    token: str = TOKEN
    said: bytes = b""
    trouble: Counter[str] = field(default_factory=Counter)

    def environment(self, **more: str) -> dict[str, str]:
        """The environment of a watched process: lake, records, key and watcher."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("CIVITAI_", "DAGSTER_"))}
        watcher = self.folder / "watcher"
        watcher.mkdir(parents=True, exist_ok=True)
        (watcher / "sitecustomize.py").write_text(WATCHER, encoding="utf-8")
        path = [str(watcher), str(Path(__file__).parents[2]), inherited.get("PYTHONPATH", "")]
        return {
            **inherited,
            "PYTHONPATH": os.pathsep.join(filter(None, path)),
            "PROOF_WATCHES": str(self.folder / "watched.jsonl"),
            "CIVITAI_API_KEY": self.token,
            "CIVITAI_LAKE": str(self.folder / "lake"),
            "CIVITAI_MIN_REQUEST_INTERVAL": "0",
            "CIVITAI_RETRY_BUDGET": "0",
            "CIVITAI_TIMEOUT": "0.5",
            "DAGSTER_HOME": str(self.folder / "dagster"),
            **more,
        }

    def run(self, *command: str, status: int | None = 0, more: Mapping[str, str] | None = None) -> bytes:
        """Runs a Python module with arguments, and with more in its environment, and watches it; what it wrote."""
        work = self.folder / "work"
        work.mkdir(exist_ok=True)
        with (self.folder / "written").open("w+b") as written:
            process = subprocess.Popen(
                [sys.executable, "-m", *command],
                env=self.environment(**(more or {})),
                cwd=work,
                stdin=subprocess.DEVNULL,
                stdout=written,
                stderr=subprocess.STDOUT,
            )
            self.watch(process)
            written.seek(0)
            said = written.read()
        if status is not None and process.returncode != status:
            self.trouble[f"{' '.join(command[:4])} ends with {process.returncode}: {said[-300:]!r}"] += 1
        self.said += said
        return said

    def watch(self, process: subprocess.Popen[bytes]) -> None:
        """Looks at a process's arguments and addresses until it ends."""
        ends, looked = time.monotonic() + _TIMEOUT_S, 0.0
        while process.poll() is None:
            if time.monotonic() > ends:
                process.kill()
                self.trouble["a process never ends"] += 1
            if time.monotonic() - looked > _LOOK_EVERY_S:
                looked = time.monotonic()
                self.look(process.pid)
            time.sleep(_POLL_S)

    def look(self, pid: int) -> set[str]:
        """Looks once at a process and all that came of it; where they listen."""
        pids = descendants(pid)
        for name in hits(arguments(pids), spellings(self.token)):
            self.trouble[f"the key is among a process's arguments ({name})"] += 1
        if not Path("/proc/net/tcp").exists():
            return set()
        listening, connected = addresses(pids)
        for address in {one for one in listening | connected if not is_loopback_address(one)}:
            self.trouble[f"a process listens on or talks to {address}"] += 1
        return listening

    def reached(self, allowed: Iterable[str]) -> int:
        """Checks that Python code connected to nothing but some addresses, ``host:port``; how often it did."""
        ports = {address.rpartition(":")[2] for address in allowed}
        count = 0
        lines = (self.folder / "watched.jsonl").read_text(encoding="utf-8").splitlines()
        for event, _pid, what in map(json.loads, lines):
            if event == "subprocess.Popen":
                continue
            if event == "socket.getaddrinfo":
                if what[0] not in {"127.0.0.1", "localhost", None, "::1", "0.0.0.0"}:  # noqa: S104 - only looked for
                    self.trouble[f"the name {what[0]} is looked up"] += 1
                continue
            count += 1
            # Processes of this machine talk over files as well.
            if isinstance(what, list) and (what[0] not in {"127.0.0.1", "::1"} or str(what[1]) not in ports):
                self.trouble[f"a connection to {what}"] += 1
        return count

    def searched(self, wanted: dict[str, bytes], *, besides: Iterable[str] = ()) -> int:
        """Searches everything written and said; how many bytes that were."""
        size, found = search(self.folder, wanted)
        self.trouble += Counter({where: n for where, n in found.items() if not where.startswith(tuple(besides))})
        for name in hits(self.said, wanted):
            self.trouble[f"a process says it ({name})"] += 1
        return size + len(self.said)

    def verdict(self, what: str, how_many: str, started: float) -> Verdict:
        """What was found since the last one, as a line of the table."""
        said = tuple(f"{count} x {problem}" for problem, count in self.trouble.items())
        self.trouble.clear()
        return Verdict(what, how_many, problems=said, seconds=time.monotonic() - started)


def prove_thrown_back(folder: Path, answers: Iterable[str], faults: Iterable[str]) -> list[Verdict]:
    """Collections from servers that throw the key back, and through the stand-in's faults."""
    started, watched = time.monotonic(), Watched(folder)
    folder.mkdir(parents=True)
    with ExitStack() as stack:
        echoes = [stack.enter_context(echoing(answer)) for answer in answers]
        world = World.synthetic(seed=5, images=60)
        options = SandboxOptions(authorization_echo=True, api_keys=(TOKEN,))
        elsewhere = stack.enter_context(Sandbox(world))
        stand_ins: list[Sandbox] = []
        for name in faults:
            fault = Fault.named(name, **_FAULTS.get(name, {"location": f"{elsewhere.url}/api/v1/images"}))
            schedule = FaultSchedule([FaultRule(fault, on="any", every=2)])
            stand_ins.append(stack.enter_context(Sandbox(world, options, faults=schedule)))
        urls = [*(server.url for server in stand_ins), *(echo.url for echo in echoes)]
        plan = folder / "plan.json"
        plan.write_text(json.dumps(urls), encoding="utf-8")
        watched.run("civitai_pipeline_tests.proofs.indiscreet", str(plan))
        if elsewhere.requests:
            watched.trouble["another host was asked"] += 1
        _check_sent(watched, stand_ins, echoes)
        size = watched.searched(spellings(TOKEN))
        about = f"{len(echoes)} answers, {len(stand_ins)} stand-ins, {size / 1e6:,.0f} MB searched"
        verdicts = [watched.verdict("key thrown back", about, started)]
        started = time.monotonic()
        count = watched.reached(urls)
        return [*verdicts, watched.verdict("connections of collections", f"{count:,}", started)]


def prove_commands(folder: Path) -> list[Verdict]:
    """Commands with a server that throws the key back, and what they leave: tables, reports and exports."""
    started, watched = time.monotonic(), Watched(folder)
    folder.mkdir(parents=True)
    options = SandboxOptions(authorization_echo=True, api_keys=(TOKEN,))
    with Sandbox(World.synthetic(seed=5, images=60), options) as server, echoing("403 in words") as echo:
        good, bad = {"CIVITAI_BASE_URL": server.url}, {"CIVITAI_BASE_URL": echo.url}
        for arguments, status, address in (
            (("collect", "910011", "--resolve-resources"), 0, good),
            (("versions", "9001"), 0, good),
            (("preview", "910011", "--json"), 0, good),
            (("export", "910011", "--format", "csv", "--output", "all.csv"), 0, good),
            (("versions", "5"), 1, bad),
            (("collect", "5", "--json"), 1, bad),
        ):
            watched.run("civitai_pipeline.cli", "-v", *arguments, status=status, more=address)
        _check_sent(watched, [server], [echo])
        size = watched.searched(spellings(TOKEN))
        watched.reached([server.url, echo.url])
    return [watched.verdict("key and commands", f"6 commands, {size / 1e6:,.1f} MB searched", started)]


def _check_sent(watched: Watched, stand_ins: list[Sandbox], echoes: list[Echo]) -> None:
    """The key was sent, or nothing would be proved; and in its header alone."""
    wanted, sent = spellings(TOKEN), 0
    for server in stand_ins:
        for request in server.requests:
            sent += request.headers.get("Authorization") == f"Bearer {TOKEN}"
            others = [value for name, value in request.headers.items() if name != "Authorization"]
            asked = [request.path, *others, *(text for pair in request.query for text in pair)]
            if hits("\n".join(asked).encode(), wanted):
                watched.trouble["the key was sent elsewhere than in its header"] += 1
    for echo in echoes:
        for head in echo.heads:
            lines = [line for line in head.splitlines() if not line.startswith("Authorization: Bearer ")]
            sent += len(lines) < len(head.splitlines())
            # A server that redirects to an address with the key in it asks for what it then gets.
            if hits("\n".join(lines).encode(), wanted) and echo.answer != "to the same host":
                watched.trouble[f"the key was sent elsewhere than in its header, after {echo.answer!r}"] += 1
    if not sent:
        watched.trouble["the key was never sent: nothing is proved"] += 1


def prove_proxies(folder: Path) -> list[Verdict]:
    """Proxies of the environment, and addresses over which the key must not go at all."""
    started, watched = time.monotonic(), Watched(folder)
    folder.mkdir(parents=True)
    with echoing("a page") as proxy, Sandbox(World.synthetic(seed=5, images=40)) as server:
        proxies = {f"{scheme}_PROXY": proxy.url for scheme in ("HTTP", "HTTPS", "ALL")}
        proxies |= {name.lower(): url for name, url in proxies.items()}
        look = ("civitai_pipeline.cli", "-v", "versions", "9001")
        watched.run(*look, more={**proxies, "CIVITAI_BASE_URL": server.url})
        if proxy.heads:
            watched.trouble["a proxy saw what goes to this machine"] += 1
        said = watched.run(*look, status=2, more={**proxies, "CIVITAI_BASE_URL": "http://civitai.invalid"})
        if b"unencrypted" not in said:
            watched.trouble["the key goes over plain http"] += 1
        # The proxy that a user has set may carry what is encrypted; it is told where to and nothing else.
        watched.run(*look, status=1, more={**proxies, "CIVITAI_BASE_URL": "https://civitai.invalid"})
        if not proxy.heads or any(not head.startswith("CONNECT civitai.invalid:443 ") for head in proxy.heads):
            watched.trouble[f"the proxy was asked {proxy.heads[:2]}"] += 1
        for name in hits("\n".join(proxy.heads).encode(), spellings(TOKEN)):
            watched.trouble[f"the proxy saw the key ({name})"] += 1
        size = watched.searched(spellings(TOKEN))
        watched.reached([server.url, proxy.url])
    return [watched.verdict("key and proxies", f"{len(proxy.heads)} tunnels, {size / 1e6:,.1f} MB searched", started)]


def prove(_seed: int, folder: Path) -> list[Verdict]:
    """The long form: every answer and fault, proxies, and the servers."""
    from civitai_pipeline_tests.proofs.servers import prove_servers  # noqa: PLC0415 - it uses what stands above

    verdicts = prove_thrown_back(folder / "thrown", ANSWERS, FAULT_NAMES)
    verdicts += prove_commands(folder / "commands")
    verdicts += prove_proxies(folder / "proxies")
    return verdicts + prove_servers(folder / "servers")

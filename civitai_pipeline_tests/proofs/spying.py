"""What a proof of secrecy looks with: spellings of a token, every file read whole, and what processes listen on.

Nothing here knows what is being proved.
"""

from __future__ import annotations

import base64
import gzip
import html
import json
import re
import sqlite3
from collections import Counter
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus

import pyarrow.parquet as pq
import zstandard

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# As much of a token in a row as nothing else would hold by chance.
_PART = 12
_PACKED = re.compile(rb'"([A-Za-z0-9+/=]{40,})"')
_LISTENS = "0A"

# Loaded by every Python process whose path holds its folder. Notes every address that the process connects to or
# looks up, and the arguments of every process that it starts.
WATCHER = """
import json
import os
import sys

_FILE = os.environ.get("PROOF_WATCHES")


def _watch(event, arguments, file=_FILE):
    if event == "socket.connect" or event == "socket.sendto":
        what = arguments[1]
    elif event == "socket.getaddrinfo":
        what = arguments[:2]
    elif event == "subprocess.Popen":
        what = arguments[1]
    else:
        return
    line = json.dumps([event, os.getpid(), what], default=repr) + "\\\\n"
    handle = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(handle, line.encode())
    os.close(handle)


if _FILE:
    sys.addaudithook(_watch)
""".replace("\\\\n", "\\n")


def spellings(token: str) -> dict[str, bytes]:
    """How a token may stand in bytes, by the name of the encoding."""
    plain = token.encode()
    found = {
        "plain": plain,
        "beginning": plain[:_PART],
        "end": plain[-_PART:],
        "middle": plain[len(plain) // 2 - _PART // 2 :][:_PART],
        "URL": quote(token, "").encode(),
        "URL in lower case": re.sub("%..", lambda found: found[0].lower(), quote(token, "")).encode(),
        "form": quote_plus(token).encode(),
        "JSON": json.dumps(token)[1:-1].encode(),
        "JSON twice": json.dumps(json.dumps(token))[3:-3].encode(),
        "JSON escapes": "".join(f"\\u{ord(letter):04x}" for letter in token).encode(),
        "HTML": html.escape(token).encode(),
        "Python": repr(token)[1:-1].encode(),
        "hex": plain.hex().encode(),
        "hex in upper case": plain.hex().upper().encode(),
        "UTF-16": token.encode("utf-16-le"),
        "backwards": plain[::-1],
    }
    for shift in range(3):
        # Wherever it begins in what is encoded, these letters depend on nothing before and after it.
        whole = base64.b64encode(b"\0" * shift + plain)
        inside = whole[4 if shift else 0 : len(whole) // 4 * 4 - 4]
        found[f"base64 {shift}"] = inside
        found[f"base64 for addresses {shift}"] = inside.replace(b"+", b"-").replace(b"/", b"_")
    return found


def hits(data: bytes, wanted: dict[str, bytes]) -> list[str]:
    """The spellings that occur in some bytes."""
    return [name for name, spelling in wanted.items() if spelling in data]


def search(folder: Path, wanted: dict[str, bytes]) -> tuple[int, Counter[str]]:
    """Reads every file in a folder, packed ones unpacked too; how many bytes that were, and where spellings occur."""
    size, found = 0, Counter[str]()
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()):
        for data in _readings(path):
            size += len(data)
            for name in hits(data, wanted) + hits(path.name.encode(), wanted):
                found[f"{path.relative_to(folder)} holds it ({name})"] += 1
    return size, found


def _readings(path: Path) -> Iterator[bytes]:
    """A file's bytes, and what they mean to whoever opens it."""
    try:
        data = path.read_bytes()
    except OSError:  # of a process that is going: sockets, and files removed since
        return
    yield data
    if path.suffix == ".zst":
        yield zstandard.ZstdDecompressor().stream_reader(data).read()
    elif path.suffix == ".parquet":
        table = pq.read_table(path)
        yield repr(table.schema.metadata).encode()
        yield repr(table.to_pylist()).encode("utf-8", "replace")
    elif path.suffix == ".js":
        for packed in _PACKED.findall(data):
            with suppress(ValueError, OSError, EOFError):
                yield gzip.decompress(base64.b64decode(packed))
    elif data.startswith(b"SQLite format 3"):
        # What still stands in the write-ahead log or over several pages of the file.
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
            yield "\n".join(connection.iterdump()).encode("utf-8", "replace")


def descendants(pid: int) -> list[int]:
    """A process and all that came of it, as far as Linux tells."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            found += [each for child in task.read_text().split() for each in descendants(int(child))]
    return found


def arguments(pids: Iterable[int]) -> bytes:
    """What everybody on this machine sees of some processes: their arguments."""
    read = []
    for pid in pids:
        with suppress(OSError):
            read.append(Path(f"/proc/{pid}/cmdline").read_bytes())
    return b"\n".join(read)


def addresses(pids: Iterable[int]) -> tuple[set[str], set[str]]:
    """Where some processes listen, and whom they are connected to over TCP; as host:port."""
    sockets = set()
    for pid in pids:
        with suppress(OSError):
            for handle in Path(f"/proc/{pid}/fd").iterdir():
                with suppress(OSError):
                    sockets.add(str(handle.readlink()).removeprefix("socket:[").removesuffix("]"))
    listening, connected = set(), set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[9] in sockets:
                if fields[3] == _LISTENS:
                    listening.add(_address(fields[1]))
                else:
                    connected.add(_address(fields[2]))
    return listening, connected


def _address(text: str) -> str:
    """The address that the kernel writes as words of hex in the machine's order."""
    host, _, port = text.partition(":")
    words = [bytes.fromhex(host[at : at + 8])[::-1] for at in range(0, len(host), 8)]
    raw = b"".join(words)
    if len(raw) == 16 and raw[:12] in {b"\0" * 10 + b"\xff\xff", b"\0" * 12} and raw[12:] != b"\0\0\0\x01":
        raw = raw[12:] if raw[10:12] == b"\xff\xff" else raw
    name = ".".join(map(str, raw)) if len(raw) == 4 else raw.hex()
    return f"{name}:{int(port, 16)}"


def is_loopback_address(address: str) -> bool:
    """Whether ``addresses`` means this machine by it."""
    host = address.rpartition(":")[0]
    return host.startswith("127.") or host == "00" * 15 + "01"

"""The short form of the proof of secrecy; the long one is ``make prove``."""

from __future__ import annotations

import base64
import gzip
import json
import os
import socket
import sqlite3
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from .secrets import TOKEN, prove_thrown_back
from .spying import addresses, hits, is_loopback_address, search, spellings

WANTED = spellings(TOKEN)


def test_a_key_that_servers_throw_back_is_nowhere_and_nobody_else_is_asked(tmp_path: Path) -> None:
    verdicts = prove_thrown_back(tmp_path / "short", ["a page, escaped"], ["redirect_elsewhere"])
    assert [verdict for verdict in verdicts if not verdict.ok] == []


@pytest.mark.parametrize("name", WANTED)
def test_each_spelling_is_found_and_none_by_chance(name: str) -> None:
    assert name in hits(b"before " + WANTED[name] + b" after", WANTED)
    assert len(WANTED[name]) >= 12
    assert hits(b"M4rk3d/7 Qz&9 Bearer [redacted]", WANTED) == []


@pytest.mark.parametrize("before", ["", "x", "xy", "Bearer "])
def test_a_key_is_found_wherever_it_stands_in_base64(before: str) -> None:
    assert hits(base64.b64encode(f"{before}{TOKEN} and more".encode()), WANTED)


def test_a_key_is_found_in_files_that_are_packed(tmp_path: Path) -> None:
    told = json.dumps({"said": f"Bearer {TOKEN}"}).encode()
    (tmp_path / "page.json.zst").write_bytes(zstandard.compress(told))
    (tmp_path / "prompts.js").write_bytes(b'held("' + base64.b64encode(gzip.compress(told)) + b'")')
    pq.write_table(pa.table({"prompt": [TOKEN] * 50}), tmp_path / "prompts.parquet", compression="zstd")
    with closing(sqlite3.connect(tmp_path / "runs.db")) as connection:
        connection.execute("CREATE TABLE events (body TEXT)")
        connection.execute("INSERT INTO events VALUES (?)", ["x" * 5000 + TOKEN])
        connection.commit()
    (tmp_path / "harmless.txt").write_text("nothing")
    size, found = search(tmp_path, WANTED)
    assert size > 5000
    assert {where.split()[0] for where in found} == {"page.json.zst", "prompts.js", "prompts.parquet", "runs.db"}


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="only Linux tells")
def test_where_a_process_listens_and_whom_it_talks_to_is_seen() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()):
        here = f"127.0.0.1:{server.getsockname()[1]}"
        listening, connected = addresses([os.getpid()])
        assert here in listening
        assert here in connected
    with socket.create_server(("0.0.0.0", 0)) as server:  # noqa: S104 - to be seen
        (everywhere,) = {address for address in addresses([os.getpid()])[0] if not is_loopback_address(address)}
        assert everywhere == f"0.0.0.0:{server.getsockname()[1]}"

"""The stand-in in the foreground."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest
import requests

from civitai_pipeline.sandbox import Sandbox, SandboxError
from civitai_pipeline.sandbox.command import serve

from .client import TIMEOUT_S, item

if TYPE_CHECKING:
    from pathlib import Path


def url_in(text: str) -> str | None:
    found = re.search(r"export CIVITAI_BASE_URL=(http://127\.0\.0\.1:\d+)", text)
    return found[1] if found else None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_says_where_it_is_and_ends_cleanly(number: signal.Signals) -> None:
    out = io.StringIO()
    seen: dict[str, object] = {}

    def visit() -> None:
        while (url := url_in(out.getvalue())) is None:
            time.sleep(0.01)
        params = {"modelVersionId": "910011", "browsingLevel": "31"}
        seen["status"] = requests.get(f"{url}/api/v1/images", params=params, timeout=TIMEOUT_S).status_code
        time.sleep(0.3)
        body = requests.get(
            f"{url}/api/v1/images", params={"period": "Day", "browsingLevel": "31"}, timeout=TIMEOUT_S
        ).json()
        seen["grown"] = len(body["items"])
        os.kill(os.getpid(), number)

    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    visitor = threading.Thread(target=visit)
    visitor.start()
    serve(images=60, grow_every_s=0.02, out=out)
    visitor.join()
    assert seen["status"] == 200
    assert seen["grown"]
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers
    assert re.search(r"910011 +9001 +\d+  Harbor Light XL, v1\.0 \(Checkpoint\)", out.getvalue())


def test_it_serves_a_file_in_a_process_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "items.jsonl"
    path.write_text(json.dumps(item(5)) + "\n")
    code = f"from civitai_pipeline.sandbox.command import serve; serve(items_path={str(path)!r})"
    with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        url = next(found for line in process.stderr if (found := url_in(line)))
        body = requests.get(f"{url}/api/v1/images?modelVersionId=910011", timeout=TIMEOUT_S).json()
        process.send_signal(signal.SIGTERM)
        assert process.wait(TIMEOUT_S) == 0
    assert [entry["id"] for entry in body["items"]] == [5]


def test_what_cannot_be_used_is_named(server: Sandbox, tmp_path: Path) -> None:
    with pytest.raises(SandboxError, match="is taken"):
        serve(port=server.port, images=5, out=io.StringIO())
    with pytest.raises(SandboxError, match="cannot read"):
        serve(items_path=tmp_path / "none.jsonl", out=io.StringIO())
    with pytest.raises(SandboxError, match="cannot read the fault schedule"):
        serve(faults_path=tmp_path / "none.json", out=io.StringIO())
    with pytest.raises(SandboxError, match="every 0 seconds"):
        serve(images=5, grow_every_s=0, out=io.StringIO())

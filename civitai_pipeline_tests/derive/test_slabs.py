"""Pages read by several processes: the same rows, the same errors, and no process left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from civitai_pipeline.derive import slabs
from civitai_pipeline.derive.slabs import read_slab, read_slabs
from civitai_pipeline.lake.compaction import compact
from civitai_pipeline.lake.files import LakeError
from civitai_pipeline.lake.pages import PageId

from .landing import VERSION, Pages, image, same

if TYPE_CHECKING:
    from collections.abc import Sequence

    from civitai_pipeline.derive.slabs import Slab


@pytest.fixture
def many(pages: Pages, monkeypatch: pytest.MonkeyPatch) -> Pages:
    """Eight pages, each a slab of its own, and few enough for processes to be used."""
    for number in range(1, 9):
        pages.land(image(number, f"kite {number}"), image(number + 1, None), {"id": None}, walk=1 + number % 2)
    monkeypatch.setattr(slabs, "PAGES_PER_SLAB", 1)
    monkeypatch.setattr(slabs, "LEAST_PAGES_FOR_PROCESSES", 1)
    monkeypatch.setattr(slabs, "_cores", lambda: 2)
    return pages


def told(read: Sequence[Slab]) -> list[object]:
    return [(slab.pages, slab.content.to_pylist()) for slab in read]


def test_processes_read_what_one_process_reads_in_the_same_order(many: Pages) -> None:
    order = many.ledger.order()
    by_one = [read_slab(many.lake, VERSION, [place]) for place in order]
    assert [slab.pages[0].page.sequence for slab in by_one] == list(range(1, 9))
    assert told(list(read_slabs(many.lake, VERSION, order))) == told(by_one)


def test_the_tables_are_the_same_by_one_process_and_by_several(many: Pages, monkeypatch: pytest.MonkeyPatch) -> None:
    by_several = many.build()
    monkeypatch.setattr(slabs, "_cores", lambda: 1)
    assert same(by_several, many.build())


def test_bundles_are_read_alike_by_one_process_and_by_several(pages: Pages, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(30):
        # Every page of this ledger asks for the same.
        pages.land(image(1, like=number), image(number, f"kite {number}"), walk=1 + number % 2)
    monkeypatch.setattr(slabs, "PAGES_PER_SLAB", 7)
    before = pages.build()
    assert [compact(pages.lake, VERSION).folded for _ in range(2)] == [28, 0]
    assert same(before, pages.build())
    monkeypatch.setattr(slabs, "LEAST_PAGES_FOR_PROCESSES", 1)
    monkeypatch.setattr(slabs, "_cores", lambda: 2)
    assert same(before, pages.build())


@pytest.mark.parametrize("cores", [1, 2])
def test_a_slab_ends_where_its_pages_hold_much_text(pages: Pages, monkeypatch: pytest.MonkeyPatch, cores: int) -> None:
    for number in range(1, 10):
        # A refused item's text is kept as well, and a page is never cut.
        long = image(number, "a kite " * 400) if number % 3 else {"id": None, "meta": {"prompt": "a kite " * 400}}
        pages.land(long, image(100 + number, "a kite"))
    pages.land(image(1), confirms=PageId(1, 1))
    order, together = pages.ledger.order(), pages.build()
    monkeypatch.setattr(slabs, "TEXT_PER_SLAB", 5_000, raising=False)
    monkeypatch.setattr(slabs, "LEAST_PAGES_FOR_PROCESSES", 1)
    monkeypatch.setattr(slabs, "_cores", lambda: cores)
    read = list(read_slabs(pages.lake, VERSION, order))
    assert [len(slab.pages) for slab in read] == [2] * 5
    assert [reading.page.id for slab in read for reading in slab.pages] == order
    assert same(together, pages.build())


def test_a_damaged_page_is_named_by_whichever_process_reads_it(many: Pages) -> None:
    path = many.lake.page(VERSION, 1, 3)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(LakeError, match=r"000003\.json\.zst is damaged"):
        list(read_slabs(many.lake, VERSION, many.ledger.order()[:2] + many.ledger.order()))


def die() -> None:
    os._exit(3)


def test_where_processes_die_one_goes_on(
    many: Pages, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    order = many.ledger.order()
    whole = told([read_slab(many.lake, VERSION, [place]) for place in order])
    monkeypatch.setattr(slabs, "_serve_parent", die)
    assert told(list(read_slabs(many.lake, VERSION, order))) == whole
    assert "going on in one" in caplog.text


KILLED = """
import sys, time
from civitai_pipeline.derive import slabs
from civitai_pipeline.lake.ledger import Ledger
from civitai_pipeline.lake.paths import Lake

if __name__ == "__main__":
    slabs.PAGES_PER_SLAB = slabs.LEAST_PAGES_FOR_PROCESSES = 1
    slabs._cores = lambda: 2
    lake = Lake.at(sys.argv[1])
    for slab in slabs.read_slabs(lake, int(sys.argv[2]), Ledger(lake, int(sys.argv[2])).order()):
        print("read", flush=True)
        time.sleep(60)
"""


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks at processes through /proc")
def test_no_process_outlives_the_one_that_reads(many: Pages, tmp_path: Path) -> None:
    script = tmp_path / "reading.py"
    script.write_text(KILLED)
    with subprocess.Popen(
        [sys.executable, str(script), str(many.folder), str(VERSION)], stdout=subprocess.PIPE, text=True
    ) as reading:
        assert reading.stdout is not None
        assert reading.stdout.readline() == "read\n"
        children = descendants(reading.pid)
        assert children
        reading.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{child}").exists() for child in children) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not [child for child in children if Path(f"/proc/{child}").exists()]


def descendants(pid: int) -> list[int]:
    own = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return own + [below for child in own for below in descendants(child)]

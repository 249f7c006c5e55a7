"""What the upkeep proof is made of: a hand that kills, polls that land in two lakes alike, and a reader between."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING, Any, Self
from unittest.mock import patch

from civitai_pipeline.derive import slabs
from civitai_pipeline.lake.bundles import list_walk, list_walks
from civitai_pipeline.lake.files import LakeError
from civitai_pipeline.lake.ledger import Ledger
from civitai_pipeline.lake.pages import PageId
from civitai_pipeline_tests.collect.stage import VERSION, item
from civitai_pipeline_tests.lake.examples import THEN, body, page
from civitai_pipeline_tests.proofs.upkeep_victim import DONE, FAILED, KILLED
from civitai_pipeline_tests.tables import built_tables

if TYPE_CHECKING:
    from collections.abc import Iterator
    from random import Random

    from civitai_pipeline.lake.paths import Lake

WALKS = (1, 2)
# Of all polls, those that come to a page of their own, and those that show other counts than before.
NEW_PAGES, CHANGED = 0.02, 0.4
# Making tables takes as long as reading all pages a few times.
READINGS_A_TABLE = 5
# What takes longer hangs.
LONGEST_S = 300.0
ROOT = Path(__file__).resolve().parents[2]


class Killer:
    """Has work done by processes of their own, and kills them."""

    def __init__(self, log: Path) -> None:
        self._log = log
        with log.open("w") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "civitai_pipeline_tests.proofs.upkeep_victim"],
                cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True,
            )  # fmt: skip

    def work(self, *work: str, delay_s: float = LONGEST_S, change: int = 0) -> str:
        """Has some work done.

        Args:
            work: What, and where.
            delay_s: Kill it after so many seconds.
            change: Kill it before its so many-th change to a folder; 0 for at none.

        Returns:
            How it ended.

        Raises:
            AssertionError: It failed by itself.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\t".join([str(delay_s), str(change), *work]) + "\n")
        self._process.stdin.flush()
        said = self._process.stdout.readline().strip()
        assert said in {DONE, KILLED}, f"{said or FAILED}: {self._log.read_text()}"
        return said

    def close(self) -> None:
        """Ends the process that has the work done."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)
        assert self._process.stdout is not None
        self._process.stdout.close()


@contextmanager
def alone() -> Iterator[None]:
    """Has tables made by one process for a while: others take seconds to start, and a reader is to read often."""
    with patch.object(slabs, "LEAST_PAGES_FOR_PROCESSES", sys.maxsize):
        yield


@contextmanager
def killer(folder: Path) -> Iterator[Killer]:
    """A killer for a while."""
    found = Killer(folder / "victim.log")
    try:
        yield found
    finally:
        found.close()


@dataclass
class Polls:
    """Polls that land in two lakes alike: most show the same as before, some other counts, few a new page.

    Attributes:
        lakes: The lakes.
        random: Draws what a poll shows.
        pages: Pages landed of each walk.
        items: What the last page of each walk shows.
        whole: The last page of each walk that is no confirmation.
        cursor: What the polls of each walk ask for.
    """

    lakes: tuple[Lake, Lake]
    random: Random
    pages: Counter[int] = field(default_factory=Counter)
    items: dict[int, list[Any]] = field(default_factory=dict)
    whole: dict[int, PageId] = field(default_factory=dict)
    cursor: dict[int, int] = field(default_factory=dict)

    def land(self, count: int) -> None:
        """Lands so many polls."""
        for _ in range(count):
            self._land(self.random.choice(WALKS))

    def _land(self, walk: int) -> None:
        drawn = self.random.random()
        sequence = self.pages.total() + 1
        self.pages[walk] += 1
        number = self.pages[walk]
        is_new = number == 1 or drawn < NEW_PAGES
        is_whole = is_new or drawn < NEW_PAGES + CHANGED
        if is_new:
            self.cursor[walk] = number
            first = sequence * 10 + 1
            self.items[walk] = [item(image_id) for image_id in range(first, first + 5)]
        elif is_whole:
            changed = self.random.randrange(5)
            shown = self.items[walk][changed]
            stats = {**shown["stats"], "likeCount": shown["stats"]["likeCount"] + 1}
            self.items[walk][changed] = {**shown, "stats": stats}
        cursor = None if self.cursor[walk] == 1 else f"{self.cursor[walk]}|x"
        landed = page(walk, number, sequence, cursor=cursor, fetched_at=THEN + timedelta(minutes=sequence))
        landed = replace(landed, run_id=f"{self.random.getrandbits(64):x}")
        if is_whole:
            self.whole[walk] = landed.id
        else:
            landed = replace(landed, confirms=self.whole[walk], metadata={"nextCursor": None})
        for lake in self.lakes:
            Ledger(lake, VERSION).land(landed, body(self.items[walk]) if is_whole else None)


def texts(lake: Lake) -> dict[str, str]:
    """Of each page, in the order of landing, the digest of its text."""
    ledger = Ledger(lake, VERSION)
    return {str(place): hashlib.sha256(ledger.text(place)).hexdigest() for place in ledger.order()}


def page_files(lake: Lake) -> Counter[str]:
    """How many files each page is in."""
    found: Counter[str] = Counter()
    for walk in list_walks(lake.pages(VERSION)):
        listed = list_walk(lake.walk(VERSION, walk))
        found.update(str(PageId(walk, n)) for file in (*listed.files, *listed.superseded) for n in file.pages)
    return found


class Reader:
    """Reads a lake again and again while others are at work on it, from ``with`` to its end, however that comes.

    Attributes:
        readings: How often it has read all pages.
        tables: How often it has made tables from nothing.
        problems: What was not as it should be.
    """

    def __init__(self, lake: Lake, twin: Lake) -> None:
        """A reader that has not begun; every page must be as in ``twin``."""
        self.readings = self.tables = 0
        self.problems: list[str] = []
        self._lake = lake
        self._pages, self._tables = texts(twin), built_tables(twin, VERSION, rebuild=True)
        self._stop = Event()
        self._thread = Thread(target=self._read)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._stop.set()
        self._thread.join()

    def _read(self) -> None:
        while not self._stop.is_set():
            try:
                if texts(self._lake) != self._pages:
                    self.problems.append("pages read while they were put together differ")
                self.readings += 1
                if self.readings % READINGS_A_TABLE == 0:
                    if not built_tables(self._lake, VERSION, rebuild=True).equals(self._tables, provenance=True):
                        self.problems.append("tables made while pages were put together differ")
                    self.tables += 1
            except LakeError as error:
                self.problems.append(f"a reader met: {error}")

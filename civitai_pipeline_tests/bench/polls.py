"""What a year of hourly polls leaves in a lake, without compaction and with it every week.

``python -m civitai_pipeline_tests.bench.polls`` prints one table. A poll of a quiet version lands a confirmation; one
whose counts of reactions changed lands the page anew.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
import uuid
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import orjson
from rich.console import Console
from rich.table import Table

from civitai_pipeline.lake.compaction import compact
from civitai_pipeline.lake.ledger import Ledger
from civitai_pipeline.lake.pages import LandedPage, Options, PageId
from civitai_pipeline.lake.paths import Lake
from civitai_pipeline_tests.bench.__main__ import measure
from civitai_pipeline_tests.bench.items import START, VERSION, Items

if TYPE_CHECKING:
    from collections.abc import Iterator

HOURS_OF_A_YEAR = 365 * 24
HOURS_OF_A_WEEK = 7 * 24
ITEMS = 100
# Of a hundred images at the end of a listing, these get a reaction more within an hour.
MOST_CHANGED = 15


def pages(polls: int, *, whole: bool, seed: int = 1) -> Iterator[tuple[LandedPage, bytes | None]]:
    """A first page and its polls, an hour apart."""
    random, items = Random(seed), list(Items(seed).draw(ITEMS))  # noqa: S311 - not a secret
    cursor, metadata = "1762000000000|51234567", {"nextPage": None}
    first = LandedPage(
        id=PageId(1, 1),
        model_version_id=VERSION,
        sequence=1,
        run_id=str(uuid.UUID(int=random.getrandbits(128))),
        listing={"model_version_id": VERSION, "sort": "Oldest", "browsing_level": 1, "period": "AllTime"},
        cursor=cursor,
        url=f"http://127.0.0.1/api/v1/images?modelVersionId={VERSION}&limit=100&sort=Oldest&cursor={cursor}",
        options=Options(),
        fetched_at=START,
        elapsed_s=0.5,
        items=[],
        metadata={},
    )
    yield first, _body(items, metadata)
    for poll in range(1, polls + 1):
        page = replace(
            first,
            id=PageId(1, poll + 1),
            sequence=poll + 1,
            run_id=str(uuid.UUID(int=random.getrandbits(128))),
            fetched_at=START + timedelta(hours=poll, microseconds=random.getrandbits(31)),
            elapsed_s=random.random(),
        )
        if not whole:
            yield replace(page, confirms=first.id, metadata=metadata), None
            continue
        for item in random.sample(items, random.randint(1, MOST_CHANGED)):
            item["stats"]["likeCount"] += 1
        yield page, _body(items, metadata)


def _body(items: list[dict[str, Any]], metadata: dict[str, Any]) -> bytes:
    return orjson.dumps({"items": items, "metadata": metadata})


@dataclass(frozen=True)
class Left:
    """What the polls left, and what it costs.

    Attributes:
        files: Files of pages.
        bytes: What is in them.
        disk_bytes: What they take on the disk, in whole blocks.
        compaction_s: Seconds of processor time that all compactions took together.
        rebuild_s: Seconds of processor time to make the tables from nothing.
    """

    files: int
    bytes: int
    disk_bytes: int
    compaction_s: float
    rebuild_s: float


def poll(folder: Path, polls: int, *, whole: bool, compacted: bool) -> Left:
    """Lands a year of polls, with a compaction each week or without any, and says what is left."""
    lake = Lake.at(str(folder))
    ledger, spent = Ledger(lake, VERSION), 0.0
    for number, (page, raw) in enumerate(pages(polls, whole=whole), start=1):
        ledger.land(page, raw)
        if compacted and (number % HOURS_OF_A_WEEK == 0 or number == polls + 1):
            started = time.process_time()
            done = compact(lake, VERSION)
            spent += time.process_time() - started
            if done.error is not None:
                raise RuntimeError(done.error)
    stats = [path.stat() for path in (folder / "pages").rglob("*.zst")]
    return Left(
        len(stats),
        sum(stat.st_size for stat in stats),
        sum(stat.st_blocks for stat in stats) * 512,
        spent,
        measure("prompts", lake).cpu_s,
    )


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(prog="python -m civitai_pipeline_tests.bench.polls", description=__doc__)
    parser.add_argument("--polls", type=int, default=HOURS_OF_A_YEAR, help="default: each hour of a year")
    options = parser.parse_args()
    table = Table(title=f"{options.polls:,} polls of a page of {ITEMS} images", title_justify="left")
    table.add_column("")
    for heading in ("files", "MB", "MB on disk", "compaction, CPU s", "rebuild, CPU s", "ratio"):
        table.add_column(heading, justify="right")
    for whole in (False, True):
        without = None
        for compacted in (False, True):
            with TemporaryDirectory(prefix="civitai_pipeline-polls-") as folder:
                left = poll(Path(folder) / "lake", options.polls, whole=whole, compacted=compacted)
                shutil.rmtree(folder, ignore_errors=True)
            sys.stderr.write(f"{left}\n")
            what = "changed counts" if whole else "confirmations"
            table.add_row(
                f"{what}, {'compacted each week' if compacted else 'as they landed'}",
                f"{left.files:,}",
                f"{left.bytes / 1e6:.2f}",
                f"{left.disk_bytes / 1e6:.2f}",
                f"{left.compaction_s:.1f}" if compacted else "",
                f"{left.rebuild_s:.1f}",
                f"{left.rebuild_s / without:.2f}" if without else "",
            )
            without = left.rebuild_s
        table.add_section()
    Console(width=120).print(table)


if __name__ == "__main__":
    main()

"""What the proofs share: a world worth collecting, short waits, what must hold at the end, and how it is printed."""

from __future__ import annotations

import logging
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from rich.console import Console
from rich.table import Table

from civitai_pipeline.civitai import client
from civitai_pipeline.collect import collector
from civitai_pipeline.sandbox import Fault, FaultSchedule, Sandbox, SandboxOptions, World
from civitai_pipeline.sandbox import server as sandbox_server
from civitai_pipeline.sandbox.wire import broken, head_of, reset_on_close
from civitai_pipeline_tests.collect.stage import VERSION, Stage, content_of

if TYPE_CHECKING:
    import socket
    import threading
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from civitai_pipeline.lake.ledger import Ledger
    from civitai_pipeline.lake.pages import LandedPage
    from civitai_pipeline.sandbox.replies import Reply
    from civitai_pipeline_tests.tables import Built

# The schedule's name, for those who must not load the definitions to know it.
AUDIT = "audit_collection"

Json = dict[str, Any]
Content = dict[str, list[Json]]


@lru_cache(maxsize=4)
def _items(count: int) -> list[Json]:
    """Items of the synthetic dataset that every walk shows, an eighth of them without a prompt."""
    # Some images are videos or of another maturity, so more are made than needed.
    made = World.synthetic(seed=3, images=count * 5 // 2 + 40)
    shown = set(made.image_ids(VERSION))
    found = [image.item() for image in made.gallery(VERSION) if image.id in shown]
    items = [item for item in found if isinstance(item, dict)][:count]
    assert len(items) == count
    return [{**item, "meta": None} if place % 8 == 5 else item for place, item in enumerate(items)]


def world(count: int) -> World:
    """A world of so many images, all of one version and all shown to every walk; the same at every call."""
    return World.from_items(_items(count), VERSION)


def world_of(counts: Mapping[int, int]) -> World:
    """A world of several versions, each with so many images of its own."""
    made = World()
    # Ids are as large as CivitAI's own, and those of two versions never meet.
    for number, (version, count) in enumerate(counts.items()):
        made.add_version(9001, version)
        for item in _items(count):
            own = {**item, "id": item["id"] + number * 10_000_000, "modelVersionIds": [version]}
            made.insert(own, version, available_at_once=True)
    return made


@dataclass(frozen=True)
class ResetAfterBody(Fault):
    """The connection is reset when the whole answer has been sent, so that the next request finds it dead."""

    name: str = "reset_mid_body"


def _broken(
    connection: socket.socket, fault: Fault, reply: Reply, extra: dict[str, str], stop: threading.Event
) -> None:
    if not isinstance(fault, ResetAfterBody):
        broken(connection, fault, reply, extra, stop)
        return
    connection.sendall(head_of(reply, extra, len(reply.body)) + reply.body)
    reset_on_close(connection)


class Script(FaultSchedule):
    """Faults chosen by a function of the request's kind, its number among those of its kind, and its cursor."""

    def __init__(self, choose: Callable[[str, int, str], Fault | None]) -> None:
        super().__init__()
        self._choose = choose
        self._seen: dict[str, int] = {}

    def next(self, endpoint: str, cursor: str = "") -> Fault | None:
        """The fault of the next request, or None."""
        with self._lock:
            self._seen[endpoint] = self._seen.get(endpoint, 0) + 1
            return self._choose(endpoint, self._seen[endpoint], cursor)


@contextmanager
def hurry() -> Iterator[None]:
    """The product's own waits cut to a fraction, and its warnings kept quiet."""
    logger = logging.getLogger("civitai_pipeline")
    with ExitStack() as stack:
        stack.callback(logger.setLevel, logger.level)
        logger.setLevel(logging.ERROR)
        stack.enter_context(patch.object(client, "FIRST_BACKOFF_S", 0.002))
        stack.enter_context(patch.object(collector, "EMPTY_END_PAUSE_S", 0.05))
        stack.enter_context(patch.object(sandbox_server, "broken", _broken))
        yield


def clean_content(of: World, page_size: int, options: SandboxOptions | None = None) -> Content:
    """What one run without any trouble makes of a world."""
    with TemporaryDirectory() as folder, Sandbox(of, options) as server:
        stage = Stage(server, Path(folder) / "lake")
        assert stage.collect(page_size=page_size).stop_reason == "at_end"
        return stage.content()


def landed_files(folder: Path) -> dict[str, bytes]:
    """The files of all landed pages, by path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted((folder / "pages").rglob("*.zst"))}


def ledger_pages(ledger: Ledger) -> list[LandedPage]:
    """All landed pages in order; fails if one is missing, damaged or out of sequence."""
    pages = list(ledger.pages())
    assert [page.sequence for page in pages] == list(range(1, len(pages) + 1)), "the ledger's sequence has gaps"
    return pages


def image_ids(content: Content) -> list[int]:
    """The images that the tables speak of, as often as they do."""
    return sorted(row["image_id"] for rows in content.values() for row in rows)


@dataclass(frozen=True)
class Comparison:
    """A lake held against a clean run: images lost, images counted twice, and whether the tables are equal."""

    lost: int
    duplicated: int
    equal: bool

    @property
    def ok(self) -> bool:
        """Whether nothing is amiss."""
        return self.equal and not self.lost and not self.duplicated


def compare(stage: Stage, built: Built, clean: Content) -> Comparison:
    """Holds a lake's tables against those of a clean run, in all columns but times and page labels."""
    content = content_of(built)
    ids = image_ids(content)
    expected = set(image_ids(clean)) | set(stage.world.image_ids(VERSION))
    return Comparison(len(expected - set(ids)), len(ids) - len(set(ids)), content == clean)


def check_complete(stage: Stage, clean: Content) -> None:
    """Checks that a lake holds every image once, like a clean run, and that no temporary file is left."""
    found = compare(stage, stage.build(), clean)
    assert found.ok, f"{found.lost} images lost, {found.duplicated} twice, tables equal: {found.equal}"
    left = [path.name for path in (stage.folder / ".tmp").iterdir()]
    assert not left, f"temporary files are left: {left}"


def print_table(title: str, columns: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
    """Prints a small table on standard output."""
    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column)
    for row in rows:
        table.add_row(*map(str, row))
    Console(width=150).print(table)

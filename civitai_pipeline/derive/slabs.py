"""Landed pages read into rows, a slab of pages at a time, by as many processes as help.

Belongs here: what can be said of a page by itself. What its items mean for what is held is decided in ``fold``.
"""

from __future__ import annotations

import gc
import logging
import os
import signal
from collections import deque
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import get_context, parent_process
from operator import itemgetter
from threading import Thread
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from civitai_pipeline import jsontext
from civitai_pipeline.derive.holdings import Sighting
from civitai_pipeline.lake import schemas
from civitai_pipeline.lake.ledger import Ledger
from civitai_pipeline.prompts.items import read_item
from civitai_pipeline.prompts.near_duplicates import SLOTS, signatures
from civitai_pipeline.prompts.resources import extract_resources, resources_json
from civitai_pipeline.prompts.scores import quality_score
from civitai_pipeline.prompts.text import hash_of_normal_form, normalise_prompt, prompt_counts

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from civitai_pipeline.lake.pages import LandedPage, PageId
    from civitai_pipeline.lake.paths import Lake
    from civitai_pipeline.prompts.items import Reading

log = logging.getLogger(__name__)

# Some 5,000 items: 8 MB of rows, half a second's work, and little enough for each process to hold one.
PAGES_PER_SLAB = 25
# Where pages are larger, a slab ends with the page that takes what is kept of its text beyond this; otherwise a hundred
# pages of 3.5 MB, which a few prompts of a megabyte each make, took 2.3 GB.
TEXT_PER_SLAB = 16_000_000
# A process takes half a second to start; for fewer pages than this they bring nothing.
LEAST_PAGES_FOR_PROCESSES = 100
# What the processes read passes through the one that folds, which keeps up with about this many.
_MOST_PROCESSES = 4

# Columns of prompts that an item alone decides: ours, and what it states.
_COMPUTED = (
    "image_id", "model_version_id", "prompt", "prompt_hash", "prompt_length", "tag_count", "word_count",
    "quality_score", "fingerprint", "resources",
)  # fmt: skip
_STATED = (
    "post_id", "username", "created_at", "negative_prompt", "base_model", "browsing_level", "nsfw_level", "width",
    "height", "url", "cry_count", "laugh_count", "like_count", "heart_count", "dislike_count", "comment_count",
    "reaction_count", "steps", "cfg_scale", "sampler", "scheduler", "seed", "clip_skip", "checkpoint_name", "generator",
)  # fmt: skip
_stated = itemgetter(*_STATED)
_SIGNATURE = "prompt_signature"
CONTENT_SCHEMA = pa.schema(
    [pa.field(name, schemas.PROMPTS.column(name).type) for name in (*_COMPUTED, *_STATED, _SIGNATURE)]
)


@dataclass(frozen=True)
class PageReading:
    """What one page says.

    Attributes:
        page: The page, without its items.
        sightings: What each item says that decides its outcome, in the page's order.
        rows: For each item, the number of its row in the slab's ``content``; None for one that cannot be accepted.
        refused: The JSON of each item that cannot be accepted, by its position.
    """

    page: LandedPage
    sightings: list[Sighting]
    rows: list[int | None]
    refused: dict[int, str]


@dataclass(frozen=True)
class Slab:
    """What some pages say, in the order in which they landed.

    Attributes:
        pages: One reading a page.
        content: The rows of the items that can be accepted; schema ``CONTENT_SCHEMA``.
    """

    pages: list[PageReading]
    content: pa.Table


def read_slabs(lake: Lake, version: int, order: Sequence[PageId]) -> Iterator[Slab]:
    """The pages at the places ``order``, a slab at a time and in that order.

    Raises:
        LakeError: The lake cannot be read, or a page is damaged.
    """
    waiting = deque(order[start : start + PAGES_PER_SLAB] for start in range(0, len(order), PAGES_PER_SLAB))
    processes = min(_cores(), _MOST_PROCESSES)
    if processes > 1 and len(order) >= LEAST_PAGES_FOR_PROCESSES:
        try:
            yield from _read_by_processes(lake, version, waiting, processes)
        except (BrokenProcessPool, OSError) as error:
            log.warning("reading pages in several processes failed (%s); going on in one", error)
    while waiting:
        places = waiting.popleft()
        slab = read_slab(lake, version, places, TEXT_PER_SLAB)
        if len(slab.pages) < len(places):
            waiting.appendleft(places[len(slab.pages) :])
        yield slab


def _cores() -> int:
    """The processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _read_by_processes(lake: Lake, version: int, waiting: deque[Sequence[PageId]], processes: int) -> Iterator[Slab]:
    """Reads slabs, each taken off ``waiting`` when it is handed out."""
    # Spawned, not forked: Dagster runs threads of its own beside ours.
    pool = ProcessPoolExecutor(processes, mp_context=get_context("spawn"), initializer=_serve_parent)
    running: deque[tuple[Sequence[PageId], Future[Slab]]] = deque()
    try:
        while waiting or running:
            # One more than there are processes, so that none waits while a slab is folded.
            while waiting and len(running) <= processes:
                running.append((waiting[0], pool.submit(_serve_slab, lake, version, waiting[0], TEXT_PER_SLAB)))
                waiting.popleft()
            slab = running[0][1].result()
            places, _ = running.popleft()
            if len(slab.pages) < len(places):
                rest = places[len(slab.pages) :]
                running.appendleft((rest, pool.submit(_serve_slab, lake, version, rest, TEXT_PER_SLAB)))
            yield slab
    finally:
        waiting.extendleft(reversed([places for places, _ in running]))
        pool.shutdown(cancel_futures=True)


def _serve_parent() -> None:
    """Makes this process end with the one that started it, however that ends, and leave Ctrl-C to it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.disable()

    def follow() -> None:
        parent = parent_process()
        if parent is not None:
            parent.join()
        os._exit(1)

    Thread(target=follow, daemon=True).start()


def _serve_slab(lake: Lake, version: int, places: Sequence[PageId], most_text: int) -> Slab:
    """:func:`read_slab` here; what Arrow keeps of an earlier slab's memory is given back before."""
    pa.default_memory_pool().release_unused()
    return read_slab(lake, version, places, most_text)


def read_slab(lake: Lake, version: int, places: Sequence[PageId], most_text: int = TEXT_PER_SLAB) -> Slab:
    """The pages at ``places``, or the first of them if they hold much text, read in this process.

    Args:
        lake: The lake.
        version: The model version.
        places: The pages.
        most_text: With the page that takes what is kept of their text beyond so many characters, it ends.

    Raises:
        LakeError: The lake cannot be read, or a page is damaged.
    """
    ledger = Ledger(lake, version)
    rows: list[tuple[Any, ...]] = []
    forms: list[str] = []
    pages: list[PageReading] = []
    text = 0
    with _without_collector():
        for place in places:
            before = len(rows)
            pages.append(_read_page(ledger, place, rows, forms))
            text += sum(map(len, pages[-1].refused.values()))
            text += sum(len(value) for row in rows[before:] for value in row if type(value) is str)
            if text > most_text:
                break
        fields = list(CONTENT_SCHEMA)[:-1]
        columns = zip(*rows, strict=True) if rows else ([] for _ in fields)
        arrays = [pa.array(values, field.type) for values, field in zip(columns, fields, strict=True)]
    signed = pa.FixedSizeBinaryArray.from_buffers(pa.binary(SLOTS), len(forms), [None, pa.py_buffer(signatures(forms))])
    return Slab(pages, pa.table([*arrays, signed], schema=CONTENT_SCHEMA))


def _read_page(ledger: Ledger, place: PageId, rows: list[tuple[Any, ...]], forms: list[str]) -> PageReading:
    page = ledger.read(place)
    reading = PageReading(replace(page, items=[]), [], [], {})
    for position, item in enumerate(ledger.items(page)):
        read = read_item(item)
        sighting = Sighting.of(read, ledger.version, page.options)
        reading.sightings.append(sighting)
        if sighting.is_acceptable:
            reading.rows.append(len(rows))
            forms.append(normalise_prompt(read.prompt or ""))
            rows.append(_row(read, ledger.version, forms[-1]))
        else:
            reading.rows.append(None)
            reading.refused[position] = jsontext.dumps(item).decode()
    return reading


def _row(reading: Reading, version: int, normal_form: str) -> tuple[Any, ...]:
    prompt = reading.prompt
    assert prompt is not None  # noqa: S101 - what acceptable means
    counts = prompt_counts(prompt)
    return (
        reading.image_id,
        version,
        prompt,
        hash_of_normal_form(normal_form),
        counts.length,
        counts.tags,
        counts.words,
        quality_score(prompt, reading.facts["reaction_count"], counts.words),
        reading.fingerprint,
        resources_json(extract_resources(reading.meta, prompt)),
        *_stated(reading.facts),
    )


@contextmanager
def _without_collector() -> Iterator[None]:
    """Keeps the garbage collector from walking a page's many objects, none of which form cycles: half the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()

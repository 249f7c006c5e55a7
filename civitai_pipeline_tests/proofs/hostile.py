"""Hostile items: 200,000 of them, spoilt in every way that JSON allows, read as landed pages and over HTTP.

Nothing may raise, hang or fill the memory; what becomes of the items must add up; prompts must be kept to the letter.
What everything downstream makes of a sample is in ``downstream``.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any

import orjson

from civitai_pipeline import jsontext
from civitai_pipeline.collect.summary import StopReason
from civitai_pipeline.derive.slabs import _row
from civitai_pipeline.lake import schemas
from civitai_pipeline.lake.ledger import Ledger
from civitai_pipeline.lake.paths import Lake
from civitai_pipeline.lake.tables import read_table
from civitai_pipeline.prompts.items import read_item
from civitai_pipeline.prompts.text import normalise_prompt
from civitai_pipeline_tests.bench.__main__ import Cost, measure
from civitai_pipeline_tests.bench.steps import STEPS
from civitai_pipeline_tests.collect.stage import VERSION, Stage
from civitai_pipeline_tests.lake.examples import page
from civitai_pipeline_tests.proofs.baits import draw_and_grow
from civitai_pipeline_tests.proofs.bodies import TWISTS, Twist, Wire
from civitai_pipeline_tests.proofs.downstream import prove_downstream
from civitai_pipeline_tests.proofs.grounds import hurry
from civitai_pipeline_tests.proofs.letters import Letters
from civitai_pipeline_tests.proofs.mutations import PAGE_ITEMS, Hostile, bases, body
from civitai_pipeline_tests.proofs.verdict import Verdict
from civitai_pipeline_tests.tables import built_tables

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

LANDED_ITEMS, WIRED_ITEMS, DRAWS = 160_000, 40_000, 400
# Of an item of up to so many bytes; longer ones may take as long for each.
MOST_SECONDS, FREE_BYTES = 0.5, 250_000
# What hostile items may take beyond as many bytes of ordinary ones: the allocator keeps what one large item needed.
MOST_MORE_MEMORY, MEMORY_SLACK_MB = 1.5, 150.0
MOST_MORE_TIME, TIME_SLACK_S = 4.0, 3.0
OUTCOMES = ("new", "updated", "duplicate", "no_prompt", "version_mismatch", "malformed")


@dataclass
class Found:
    """What the tables say, held against the pages.

    Attributes:
        items: Items on the pages.
        accepted: Rows of prompts.
        lost: Ids on the pages that no table speaks of, and malformed items that are not kept.
        duplicated: Ids that more than one row speaks of.
        problems: What else does not hold, with how often.
    """

    items: int = 0
    accepted: int = 0
    lost: int = 0
    duplicated: int = 0
    problems: Counter[str] = field(default_factory=Counter)

    @property
    def ok(self) -> bool:
        """Whether nothing is amiss."""
        return not (self.lost or self.duplicated or self.problems)

    def verdict(self, what: str, how_many: str, seconds: float) -> Verdict:
        """The same as a line of the table."""
        said = tuple(f"{count} x {problem}" for problem, count in self.problems.items())
        return Verdict(what, how_many, self.lost, self.duplicated, said, seconds)


def land(lake: Lake, pages: Iterable[list[bytes]], version: int = VERSION) -> int:
    """Lands pages as a walk would; returns the bytes of their bodies."""
    ledger, size = Ledger(lake, version), 0
    for number, items in enumerate(pages, start=1):
        raw = body(items, f"{number + 1}|x")
        size += len(raw)
        ledger.land(page(number=number, model_version_id=version), raw)
    return size


def check(lake: Lake) -> Found:
    """Holds the tables in a lake against its pages, which are read here without the product's help."""
    prompts, rejected, pages = (
        read_table(lake, table, VERSION) for table in (schemas.PROMPTS, schemas.REJECTED_IMAGES, schemas.LANDED_PAGES)
    )
    found, letters, malformed = Found(accepted=len(prompts)), Letters(), set()
    sums = {(row["walk"], row["page"]): sum(row[name] for name in OUTCOMES) for row in pages.to_pylist()}
    for path in sorted(lake.pages(VERSION).rglob("*.zst")):
        items = letters.read(path.read_bytes())
        found.items += len(items)
        place = int(path.parent.name), int(path.name.partition(".")[0])
        found.problems["a page whose outcomes do not add up"] += items != [] and sums.get(place) != len(items)
        malformed |= {jsontext.dumps(item) for item in items if letters.take(item) is None}
    accepted: list[int] = prompts.column("image_id").to_pylist()
    refused = Counter(rejected.column("image_id").to_pylist())
    without_id = refused.pop(None, 0)
    told = Counter(accepted) + refused
    found.lost = len(letters.ids - told.keys()) + len(malformed - _texts(rejected))
    found.duplicated = sum(count > 1 for count in told.values())
    found.problems["a row of an id that is on no page"] += len(told.keys() - letters.ids)
    found.problems["a malformed item kept that is on no page"] += without_id < len(malformed)
    found.problems["new items are not the rows of prompts"] += sum(pages.column("new").to_pylist()) != len(prompts)
    for image_id, prompt in zip(accepted, prompts.column("prompt").to_pylist(), strict=True):
        problem = letters.problem(image_id, prompt)
        found.problems[problem or ""] += problem is not None
    found.problems = +found.problems
    return found


def _texts(rejected: Any) -> set[bytes]:  # noqa: ANN401 - a table
    rows = zip(rejected.column("image_id").to_pylist(), rejected.column("item").to_pylist(), strict=True)
    return {text.encode() for image_id, text in rows if image_id is None}


def slow_items(items: Iterable[bytes]) -> list[str]:
    """The items that take longer to read than they may, described."""
    slow = []
    for raw in items:
        started = time.process_time()
        reading = read_item(jsontext.loads(raw))
        if reading.prompt is not None and reading.image_id is not None:
            _row(reading, VERSION, normalise_prompt(reading.prompt))
        took = time.process_time() - started
        if took > MOST_SECONDS * max(1.0, len(raw) / FREE_BYTES):
            slow.append(f"{took:.1f} s for {len(raw):,} bytes: {raw[:60]!r}")
    return slow


def prove_landed(seed: int, folder: Path, items: int) -> list[Verdict]:
    """Items as landed pages: a lake of them, its tables made by a process of its own, held against its pages."""
    started, source = time.monotonic(), Hostile(seed)
    lake = Lake.at(str(folder / "hostile"))
    slow: list[str] = []
    made: list[list[bytes]] = [source.page() for _ in range(items // PAGE_ITEMS)]
    size = land(lake, made)
    for one in made:
        slow += slow_items(one)
    costs = {step: measure(step, lake) for step in STEPS}
    found = check(lake)
    if slow:
        found.problems[f"an item that takes too long ({slow[0]})"] += len(slow)
    about = f"{found.items:,} items, {size / 1e6:,.0f} MB, {found.accepted:,} accepted"
    verdicts = [found.verdict("hostile items landed", about, time.monotonic() - started)]
    ordinary = Lake.at(str(folder / "ordinary"))
    land(ordinary, _ordinary(size))
    return [*verdicts, *(_compared(step, cost, measure(step, ordinary)) for step, cost in costs.items())]


def _compared(step: str, hostile: Cost, ordinary: Cost) -> Verdict:
    """What a step takes for hostile items, against ordinary ones of as many bytes."""
    peak, usual = hostile.peak_bytes / 2**20, ordinary.peak_bytes / 2**20
    problems = [f"it takes {peak:,.0f} MB"] if peak > usual * MOST_MORE_MEMORY + MEMORY_SLACK_MB else []
    if hostile.cpu_s > ordinary.cpu_s * MOST_MORE_TIME + TIME_SLACK_S:
        problems.append(f"it takes {hostile.cpu_s:,.0f} s")
    about = f"{peak:,.0f} MB and {hostile.cpu_s:,.0f} s, for ordinary items {usual:,.0f} MB and {ordinary.cpu_s:,.0f} s"
    return Verdict(f"step {step}", about, problems=tuple(problems), seconds=hostile.elapsed_s + ordinary.elapsed_s)


def _ordinary(size: int) -> Iterable[list[bytes]]:
    """Pages of ordinary items of so many bytes together."""
    given, last_id = 0, 0
    while given < size:
        items = []
        for raw in bases()[:PAGE_ITEMS]:
            last_id += 1
            items.append(orjson.dumps(orjson.loads(raw) | {"id": last_id}))
        given += sum(map(len, items))
        yield items


def prove_wired(seed: int, folder: Path, items: int, twists: Sequence[Twist] = TWISTS) -> list[Verdict]:
    """Items over HTTP: an odd answer for each of the first requests, then all pages, under cursors as odd."""
    started, source, random = time.monotonic(), Hostile(seed + 1), Random(seed)  # noqa: S311 - no secret
    problems: Counter[str] = Counter()
    with Wire([source.page() for _ in range(items // PAGE_ITEMS)], random) as server:
        stage = Stage(server, folder / "wired", {"timeout": 5.0, "max_body_bytes": 64 * 2**20})
        for twist in twists:
            server.twist = twist
            summary = stage.collector(page_size=PAGE_ITEMS, max_items=PAGE_ITEMS).run()
            _add_up(summary.as_dict(), problems)
            if str(summary.stop_reason) not in twist.stops:
                problems[f"{twist.name}: stopped with {summary.stop_reason}: {summary.error}"] += 1
            if server.twist is not None:
                problems[f"{twist.name} was never asked for"] += 1
        summary = stage.collect(page_size=PAGE_ITEMS)
        if summary.stop_reason != StopReason.AT_END:
            problems[f"the walk stopped with {summary.stop_reason}: {summary.error}"] += 1
        problems["a cursor that came back changed"] += server.strays
        built_tables(stage.lake, VERSION).put_in_place(stage.lake, VERSION)
        found = check(stage.lake)
    found.lost += max(0, len(server.pages) * PAGE_ITEMS - found.items)
    found.problems += +problems
    about = f"{found.items:,} items, {len(twists)} odd answers, {found.accepted:,} accepted"
    return [found.verdict("hostile items over HTTP", about, time.monotonic() - started)]


def _add_up(said: dict[str, Any], problems: Counter[str]) -> None:
    if said["attempted"] != sum(said[outcome] for outcome in OUTCOMES):
        problems["outcomes do not add up"] += 1
    if said["prompts_after"] - said["prompts_before"] != said["new"]:
        problems["new items are not the prompts added"] += 1
    json.dumps(said)


def prove_added(seed: int, folder: Path, items: int) -> list[Verdict]:
    """Tables that hostile pages were added to are those made of all of them at once."""
    started, source, lake = time.monotonic(), Hostile(seed + 2), Lake.at(str(folder / "added"))
    pages = [source.page(50) for _ in range(items // 50)]
    # The second half shows some of the first again, changed.
    for number in range(len(pages) // 2, len(pages)):
        pages[number][:20] = source.again(pages[number - len(pages) // 2][:20])
    ledger, problems = Ledger(lake, VERSION), []
    for number, one in enumerate(pages, start=1):
        ledger.land(page(number=number), body(one, f"{number + 1}|x"))
        if number == len(pages) // 2:
            built_tables(lake, VERSION).put_in_place(lake, VERSION)
    added = built_tables(lake, VERSION)
    if added.started_anew or not added.equals(built_tables(lake, VERSION, rebuild=True)):
        problems.append("tables added to differ from tables made anew")
    about = f"{len(pages) * 50:,} items in two halves"
    return [Verdict("hostile items added", about, problems=tuple(problems), seconds=time.monotonic() - started)]


def prove(seed: int, folder: Path) -> list[Verdict]:
    """The long form."""
    with hurry():
        verdicts = prove_landed(seed, folder, LANDED_ITEMS)
        verdicts += prove_wired(seed, folder, WIRED_ITEMS)
        verdicts += prove_added(seed, folder, 4000)
        verdicts += draw_and_grow(seed, DRAWS)
    return verdicts + prove_downstream(seed, folder / "downstream")

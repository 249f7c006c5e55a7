"""The soak: a long walk with a random fault on one request in five, run after run until it is at its end.

Faults are drawn from everything the stand-in can do, what a run survives and what stops it alike. In the end the
lake must hold what a run without any fault holds.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING

from civitai_pipeline.collect.summary import StopReason
from civitai_pipeline.sandbox import FAULT_NAMES, Fault, Sandbox
from civitai_pipeline_tests.collect.stage import Stage, same
from civitai_pipeline_tests.proofs.grounds import (
    Comparison,
    ResetAfterBody,
    Script,
    clean_content,
    compare,
    hurry,
    landed_files,
    ledger_pages,
    print_table,
    world,
)
from civitai_pipeline_tests.proofs.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

PAGE_SIZE = 3
FAULT_SHARE = 0.2
# A lost cursor sends a walk back to its start. Drawn like the others, it would keep a walk of 500 pages from ever
# ending, so one more comes only for every so many pages.
PAGES_PER_LOST_CURSOR = 200
_PARAMETERS: dict[str, dict[str, float]] = {
    "busy": {"retry_after": 0},
    "brownout": {"retry_after": 0},
    "slow": {"seconds": 0.2},
    "stall": {"seconds": 20},
    "oversized": {"size": 2**21},
}
VOCABULARY = (
    *(Fault.named(name, **_PARAMETERS.get(name, {})) for name in FAULT_NAMES),
    Fault("rate_limited", html=True),
    Fault("rate_limited", retry_after=0),
    Fault("slow", seconds=20),
    ResetAfterBody(),
)
_LOST = frozenset({"cursor_dead", "cursor_filters"})


class Dice(Script):
    """A random fault on a share of all requests, the same for a seed and an order of requests.

    Every fault of the vocabulary comes before one comes again.

    Args:
        seed: Makes the draws the same.
        most_lost_cursors: How many cursors are lost in all.
        share: The share of requests that meet a fault.
        deck: The faults to draw from, each as often as it is there.
    """

    def __init__(
        self,
        seed: int,
        most_lost_cursors: int,
        share: float = FAULT_SHARE,
        deck: Sequence[Fault] = VOCABULARY,
    ) -> None:
        super().__init__(self._roll)
        self._full_deck = deck
        self._most_lost_cursors = most_lost_cursors
        self._share = share
        self._deck: list[Fault] = []
        self._random = Random(seed)  # noqa: S311 - reproducible faults, no secret
        self.requests = 0
        self.faults: Counter[str] = Counter()

    def _roll(self, _endpoint: str, _number: int, _cursor: str) -> Fault | None:
        self.requests += 1
        if self._random.random() >= self._share:
            return None
        self._deck = self._deck or self._random.sample(self._full_deck, len(self._full_deck))
        fault = self._deck.pop()
        if fault.name in _LOST and sum(self.faults[name] for name in _LOST) >= self._most_lost_cursors:
            fault = Fault("server_error")
        self.faults[fault.name] += 1
        return fault


@dataclass
class Soak:
    """What a soak did.

    Attributes:
        pages: Pages of the walk.
        runs: Runs until the walk was at its end, by the reason they stopped.
        requests: Requests that the stand-in saw until then.
        faults: Faults they met, by name.
        landed: Pages landed.
        false_ends: Ends believed that were none.
        seconds: How long it took.
        comparison: The lake held against a clean run.
    """

    pages: int
    runs: Counter[str] = field(default_factory=Counter)
    requests: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    landed: int = 0
    false_ends: int = 0
    seconds: float = 0.0
    comparison: Comparison = field(default_factory=lambda: Comparison(0, 0, equal=False))


def soak(pages: int, seed: int, folder: Path) -> Soak:
    """Walks ``pages`` pages under fire until they are at their end.

    Raises:
        AssertionError: Something that must hold after every run did not, or the walk never ended.
    """
    started = time.monotonic()
    done, dice = Soak(pages), Dice(seed, 1 + pages // PAGES_PER_LOST_CURSOR)
    clean = clean_content(world(pages * PAGE_SIZE), PAGE_SIZE)
    with Sandbox(world(pages * PAGE_SIZE), faults=dice) as server:
        stage = Stage(server, folder / "lake", {"timeout": 0.3, "retry_budget": 0.004, "max_body_bytes": 2**20})
        landed: dict[str, bytes] = {}
        # With a fault on one request in five, of which every other stops a run, a run gets some ten pages far.
        for _ in range(20 + pages):
            summary = stage.collect(page_size=PAGE_SIZE)
            done.runs[str(summary.stop_reason)] += 1
            now = landed_files(stage.folder)
            assert landed.items() <= now.items(), "a landed page has changed or is gone"
            landed = now
            built = stage.build() if landed else None
            if summary.stop_reason == StopReason.AT_END and built is not None:
                done.comparison = compare(stage, built, clean)
                # An end that the stand-in itself told twice is a lie that only the next run can find out.
                if done.comparison.ok or server.requests[-1].fault != "empty_no_cursor":
                    break
                done.false_ends += 1
        else:
            raise AssertionError(f"not at its end after {done.runs.total()} runs: {dict(done.runs)}")
        done.requests, done.faults = dice.requests, dice.faults
        # The fire is over: the next run is the one that a schedule would start.
        server.faults = Script(lambda _endpoint, _number, _cursor: None)
        assert stage.collect(page_size=PAGE_SIZE).stop_reason == StopReason.AT_END
        done.landed = len(ledger_pages(stage.ledger))
        built = stage.build()
        if done.comparison.ok:
            done.comparison = compare(stage, built, clean)
        assert same(built, stage.build(rebuild=True, write=False)), "tables added to differ from tables made anew"
    done.seconds = time.monotonic() - started
    return done


def prove(seed: int, folder: Path) -> list[Verdict]:
    """The long form: 500 pages."""
    with hurry():
        done = soak(500, seed, folder)
    found, faults = done.comparison, done.faults.total()
    rows = [
        ("pages of the walk", done.pages),
        ("images", done.pages * PAGE_SIZE),
        ("runs", f"{done.runs.total()} ({', '.join(f'{n} {reason}' for reason, n in done.runs.most_common())})"),
        ("requests", done.requests),
        ("faults", f"{faults} of {len(done.faults)} kinds, {faults / done.requests:.0%} of the requests"),
        ("pages landed", done.landed),
        ("ends believed too soon, healed", done.false_ends),
        ("tables equal to a clean run's", found.equal),
    ]
    print_table(f"soak, seed {seed}", ["what", "how many"], rows)
    how_many = f"{done.pages} pages, {faults} faults, {done.runs.total()} runs"
    problems = () if found.equal else ("the tables differ from a clean run's",)
    return [Verdict("soak", how_many, found.lost, found.duplicated, problems, done.seconds)]

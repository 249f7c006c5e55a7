"""The fault matrix: every failure that collection must survive, passing and lasting, over HTTP.

Each row is one kind of trouble. The first run meets it and must stop in time, for the right reason, with a
summary that adds up and with what landed in place; the next run, without the trouble, must go on from there and
end like a run that never met any.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from civitai_pipeline.civitai.listing import Listing, Sort
from civitai_pipeline.lake import files
from civitai_pipeline.prompts.items import Outcome
from civitai_pipeline.sandbox import Sandbox
from civitai_pipeline_tests.collect.stage import VERSION, Stage
from civitai_pipeline_tests.proofs.grounds import (
    Content,
    Script,
    check_complete,
    clean_content,
    compare,
    hurry,
    landed_files,
    ledger_pages,
    print_table,
    world,
)
from civitai_pipeline_tests.proofs.troubles import (
    AT_END,
    PAGE_SIZE,
    PAGES,
    ROWS,
    Row,
    between_pages,
)
from civitai_pipeline_tests.proofs.verdict import Verdict

if TYPE_CHECKING:
    from pathlib import Path

    from civitai_pipeline.collect.summary import Summary
    from civitai_pipeline_tests.proofs.troubles import OnPage


@dataclass(frozen=True)
class Result:
    """What a row did.

    Attributes:
        row: The row.
        stop: Why its first run stopped.
        seconds: How long the longest of its runs took.
        problem: What did not hold; None if all did.
    """

    row: Row
    stop: str
    seconds: float
    problem: str | None

    def cells(self) -> list[object]:
        """The row's line in the printed table."""
        row = self.row
        verdict = "ok" if self.problem is None else f"FAILED: {self.problem}"
        return [row.failure, row.form, self.stop, f"{self.seconds:.2f} of {row.within_s:g}", row.next_run, verdict]

    def line(self) -> str:
        """The same on one line."""
        return " | ".join(map(str, self.cells()))


@lru_cache(maxsize=1)
def _clean() -> Content:
    return clean_content(world(PAGES * PAGE_SIZE), PAGE_SIZE)


class _Proof:
    """One row being run."""

    def __init__(self, row: Row, folder: Path, server: Sandbox) -> None:
        self.row = row
        settings = {"timeout": 2.0, "retry_budget": 5.0} | dict(row.client)
        self.stage = Stage(server, folder / "lake", settings)
        self.longest = 0.0
        self._landed: dict[str, bytes] = {}

    def collect(self, **options: Any) -> Summary:  # noqa: ANN401 - the options of a run
        """A run: in time, adding up, and changing nothing that has landed."""
        self.stage.server.forget_requests()
        started = time.monotonic()
        # What must hold after every run is checked here, unless the lake is such that nothing can be read from it.
        readable = self.stage.folder.is_dir() or not self.stage.folder.exists()
        options["page_size"] = PAGE_SIZE
        summary = self.stage.collect(**options) if readable else self.stage.collector(**options).run()
        took = time.monotonic() - started
        self.longest = max(self.longest, took)
        assert took <= self.row.within_s, f"took {took:.1f} s"
        landed = landed_files(self.stage.folder)
        assert self._landed.items() <= landed.items(), "a landed page has changed or is gone"
        assert len(landed) == len(self._landed) + summary.pages, "files and summary disagree"
        self._landed = landed
        return summary

    def first(self, on_page: OnPage) -> Summary:
        """The run that meets the trouble."""
        row = self.row
        summary = self.collect(on_page=on_page)
        assert summary.stop_reason == row.stop, f"stopped with {summary.stop_reason}: {summary.error}"
        assert bool(summary.error) == (not row.stop.is_success), f"the error is {summary.error!r}"
        if row.retries is not None:
            assert summary.retries == row.retries, f"asked again {summary.retries} times"
        assert summary.waited_s >= row.waits_s, f"waited {summary.waited_s:.2f} s"
        return summary

    def again(self) -> None:
        """A second run under trouble that lasts."""
        row = self.row
        summary = self.collect()
        assert summary.stop_reason == row.stop, f"the second run stopped with {summary.stop_reason}: {summary.error}"
        if row.idle_again:
            assert (summary.pages, summary.failed) == (0, True), f"the second run landed {summary.pages} pages"

    def rest(self) -> None:
        """The run after the trouble: it goes on where the walk stands, and ends complete."""
        stage, row = self.stage, self.row
        expected = self.expected()
        if self._landed:
            built = stage.build()
            if row.next_run == "is complete":
                assert compare(stage, built, expected).ok, "not complete after the first run"
        restart = row.next_run == "restart"
        state = stage.ledger.latest_walk(Listing(VERSION, Sort.OLDEST, 1).as_dict())
        stored = None if state is None or restart else (state.last.next_cursor or state.last.cursor)
        summary = self.collect(restart=restart)
        assert summary.stop_reason == AT_END, f"the next run stopped with {summary.stop_reason}: {summary.error}"
        asked = [cursor for _, cursor in stage.asked()]
        assert asked[0] == stored, f"the next run asked for {asked[0]!r}, but {stored!r} is stored"
        assert len(asked) == len(set(asked)), "the next run asked for a page twice"
        if row.next_run == "is complete":
            assert summary.tally.outcomes[Outcome.NEW] == 0
        assert len(stage.ledger.walk_numbers()) == row.walks, f"there are {stage.ledger.walk_numbers()} walks"
        check_complete(stage, expected)
        ledger_pages(stage.ledger)

    def expected(self) -> Content:
        """What a clean run holds in the end."""
        row = self.row
        changed = row.upset is not None and "images" in row.failure and "deleted behind" not in row.failure
        # Images deleted when they had been held stay held.
        return clean_content(self.stage.world, PAGE_SIZE) if changed else _clean()


def prove_row(row: Row, folder: Path) -> Result:
    """Runs a row in an empty folder."""
    with Sandbox(world(PAGES * PAGE_SIZE), row.options, faults=Script(row.choose)) as server:
        proof = _Proof(row, folder, server)
        stop = "?"
        try:
            with (row.upset or between_pages(lambda _stage: None))(proof.stage) as on_page:
                stop = str(proof.first(on_page).stop_reason)
                if row.form == "lasting":
                    proof.again()
            server.faults = Script(lambda _endpoint, _number, _cursor: None)
            proof.rest()
        except (AssertionError, files.LakeError) as problem:
            return Result(row, stop, proof.longest, str(problem).splitlines()[0] if str(problem) else repr(problem))
    return Result(row, stop, proof.longest, None)


def prove(_seed: int, folder: Path) -> list[Verdict]:
    """All rows; the table of the rows itself is printed too. Nothing of it is drawn."""
    started, results = time.monotonic(), []
    with hurry():
        for place, row in enumerate(ROWS):
            own = folder / str(place)
            own.mkdir()
            results.append(prove_row(row, own))
    columns = ["failure", "form", "first run stops with", "seconds", "next run", "verdict"]
    print_table("fault matrix", columns, [result.cells() for result in results])
    problems = tuple(f"{result.row.failure}: {result.problem}" for result in results if result.problem is not None)
    return [Verdict("fault matrix", f"{len(results)} failures", problems=problems, seconds=time.monotonic() - started)]

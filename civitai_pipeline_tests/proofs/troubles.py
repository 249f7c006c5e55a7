"""Every kind of trouble that collection must survive, and what must come of each: the rows of the fault matrix.

How a row is run and judged is in ``fault_matrix``.
"""

from __future__ import annotations

import errno
import os
import shutil
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from civitai_pipeline.collect.summary import StopReason
from civitai_pipeline.lake import files, paths
from civitai_pipeline.sandbox import Fault, SandboxOptions
from civitai_pipeline.sandbox.images import from_item
from civitai_pipeline_tests.collect.stage import VERSION, Stage, item
from civitai_pipeline_tests.proofs.grounds import (
    ResetAfterBody,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping
    from contextlib import AbstractContextManager

    from upath import UPath

    from civitai_pipeline.collect.summary import Summary

    OnPage = Callable[[Summary], None]
    Upset = Callable[[Stage], AbstractContextManager[OnPage]]

PAGES, PAGE_SIZE = 6, 4
# Trouble comes when two pages have landed.
LANDED_BEFORE = 2
THIRD = LANDED_BEFORE + 1
EVER = range(THIRD, 10**6)
# More than any row needs, so that a walk that would never end fails instead of hanging.
TRIES = 6

AT_END, LIMITED, UNAVAILABLE = StopReason.AT_END, StopReason.RATE_LIMITED, StopReason.API_UNAVAILABLE
REJECTED, CHANGED, STALLED = StopReason.REJECTED, StopReason.CONTRACT_CHANGED, StopReason.STALLED
NO_LAKE = StopReason.LAKE_UNAVAILABLE


@dataclass(frozen=True)
class Row:
    """One kind of trouble and what must come of it.

    Attributes:
        failure: What goes wrong, in the issue's words.
        form: ``passing`` or ``lasting``; lasting trouble is met by a second run too.
        stop: Why the first run must stop.
        fault: What the stand-in does to requests for pages.
        when: To which of them, counting from 1.
        with_cursor: Only to those that carry a cursor.
        upset: Trouble that is not the stand-in's answers: of the disk, or with the images.
        options: How the stand-in works otherwise.
        client: Bounds of the client that differ from the matrix's own.
        within_s: The most seconds that a run may take.
        retries: How often the first run must ask again; None where the machine's load may decide.
        waits_s: The least seconds it must wait to do so.
        next_run: How the walk becomes complete when the trouble is gone: ``goes on`` from the stored cursor,
            ``restart`` where only a new walk can know, or ``is complete`` already.
        idle_again: A second run under lasting trouble lands nothing and fails.
        walks: How many walks there are at the end.
    """

    failure: str
    form: str
    stop: StopReason
    fault: Fault | None = None
    when: Collection[int] = ()
    with_cursor: bool = False
    upset: Upset | None = None
    options: SandboxOptions = field(default_factory=SandboxOptions)
    client: Mapping[str, Any] = field(default_factory=dict)
    within_s: float = 3.0
    retries: int | None = 0
    waits_s: float = 0.0
    next_run: str = "goes on"
    idle_again: bool = True
    walks: int = 1

    @property
    def name(self) -> str:
        """The row's name in the tests."""
        return f"{self.failure}, {self.form}".replace(" ", "_")

    def choose(self, endpoint: str, number: int, cursor: str) -> Fault | None:
        """The stand-in's fault for a request."""
        hit = endpoint == "images" and number in self.when and (cursor or not self.with_cursor)
        return self.fault if hit else None


def retried(failure: str, fault: Fault, stop: StopReason = UNAVAILABLE, **more: Any) -> list[Row]:  # noqa: ANN401
    """Trouble that is asked again about: gone at the third try the run survives it, else the tries end."""
    passing = Row(failure, "passing", AT_END, fault, (THIRD, THIRD + 1), retries=2, next_run="is complete", **more)
    return [passing, Row(failure, "lasting", stop, fault, EVER, retries=TRIES - 1, **more)]


def refused(failure: str, fault: Fault, stop: StopReason = REJECTED, **more: Any) -> list[Row]:  # noqa: ANN401
    """Trouble that asking again cannot help: the run stops at once, without another request."""
    return [
        Row(failure, "passing", stop, fault, (THIRD,), **more),
        Row(failure, "lasting", stop, fault, EVER, **more),
    ]


# -- trouble that is not an answer of the API


def _ignore(_summary: Summary) -> None:
    """Does nothing when a page lands."""


def full_disk(*, lasting: bool) -> Upset:
    """A disk that has no room for the third page, or for anything from then on; half of the page is written."""

    @contextmanager
    def upset(_stage: Stage) -> Iterator[OnPage]:
        write, written = files.write_flushed, 0

        def write_if_room(path: UPath, data: bytes) -> None:
            nonlocal written
            written += 1
            if written == THIRD or (lasting and written > THIRD):
                write(path, data[: len(data) // 2])
                raise OSError(errno.ENOSPC, "No space left on device")
            write(path, data)

        def probe(path: UPath, data: bytes) -> None:
            if lasting and written >= THIRD:
                raise OSError(errno.ENOSPC, "No space left on device")
            write(path, data)

        with patch.object(files, "write_flushed", write_if_room), patch.object(paths, "write_flushed", probe):
            yield _ignore

    return upset


def full_folder(_stage: Stage) -> AbstractContextManager[OnPage]:
    """A disk that has room for the third page's bytes but not for its name."""

    @contextmanager
    def upset() -> Iterator[OnPage]:
        link, linked = os.link, 0

        def link_if_room(source: str, target: str) -> None:
            nonlocal linked
            linked += 1
            if linked == THIRD:
                raise OSError(errno.ENOSPC, "No space left on device")
            link(source, target)

        with patch.object(os, "link", link_if_room):
            yield _ignore

    return upset()


@contextmanager
def unwritable(stage: Stage) -> Iterator[OnPage]:
    """A lake in which nothing can be created any more: a file stands where the temporary folder was."""
    blocked = stage.folder / ".tmp"

    def block(summary: Summary) -> None:
        if summary.pages == LANDED_BEFORE:
            shutil.rmtree(blocked)
            blocked.write_text("")

    yield block
    blocked.unlink()


@contextmanager
def unwritable_at_first(stage: Stage) -> Iterator[OnPage]:
    """A lake that cannot even be made: a file stands where its folder should be."""
    stage.folder.write_text("")
    yield _ignore
    stage.folder.unlink()


def between_pages(
    change: Callable[[Stage], None],
) -> Upset:
    """A change of the version's images when two pages have landed."""

    @contextmanager
    def upset(stage: Stage) -> Iterator[OnPage]:
        def on_page(summary: Summary) -> None:
            if summary.pages == LANDED_BEFORE:
                change(stage)

        yield on_page

    return upset


def _append(stage: Stage) -> None:
    stage.world.add_images(VERSION, 5)


def _insert_before(stage: Stage) -> None:
    images = [
        from_item(item(image_id), position=image_id, versions=[VERSION], sort_ms=image_id, raw=True)
        for image_id in (101, 102)
    ]
    stage.world.place(images)


def _delete_ahead(stage: Stage) -> None:
    for image_id in stage.world.image_ids(VERSION)[-3:]:
        stage.world.delete_image(image_id)


def _delete_behind(stage: Stage) -> None:
    for image_id in stage.world.image_ids(VERSION)[1:3]:
        stage.world.delete_image(image_id)


KEYSET = SandboxOptions(feed_cursors="keyset")
SHORT_TIMEOUT = {"timeout": 0.1}

ROWS: list[Row] = [
    *retried("429 without Retry-After", Fault("rate_limited"), LIMITED),
    *retried("429 as HTML", Fault("rate_limited", html=True), LIMITED),
    Row("429, Retry-After in seconds", "passing", AT_END, Fault("rate_limited", retry_after=1), (THIRD,), retries=1,
        waits_s=1.0, next_run="is complete"),
    Row("429, Retry-After as a date", "passing", AT_END, Fault("rate_limited", retry_after=2, http_date=True), (THIRD,),
        retries=1, waits_s=0.5, within_s=5.0, next_run="is complete"),
    Row("429, Retry-After beyond the budget", "lasting", LIMITED, Fault("rate_limited", retry_after=3600), EVER),
    Row("429, Retry-After unreadable", "passing", AT_END, Fault("rate_limited", retry_after="soon"), (THIRD,),
        retries=1, next_run="is complete"),
    *refused("429 for too many pages", Fault("paging_cap")),
    *retried("500", Fault("server_error")),
    Row("503 server busy, its own Retry-After", "passing", AT_END, Fault("busy"), (THIRD,), retries=1, waits_s=2.0,
        within_s=5.0, next_run="is complete"),
    *retried("503 server busy", Fault("busy", retry_after=0)),
    *retried("503 search overloaded", Fault("brownout", retry_after=0)),
    *retried("502 HTML", Fault("bad_gateway_html")),
    *retried("524 HTML", Fault("timeout_html")),
    *retried("reset before the answer", Fault("reset_before")),
    *retried("reset in the headers", Fault("reset_headers")),
    *retried("reset in the body", Fault("reset_mid_body")),
    # The answer is whole, so the page counts; each next request may find its connection dead.
    Row("reset after the body", "passing", AT_END, ResetAfterBody(), (THIRD, THIRD + 1), retries=None,
        next_run="is complete"),
    Row("reset after the body", "lasting", AT_END, ResetAfterBody(), EVER, retries=None, next_run="is complete",
        idle_again=False),
    *retried("truncated body", Fault("truncated")),
    *retried("invalid JSON", Fault("invalid_json")),
    *retried("cut JSON", Fault("cut_json")),
    *retried("HTML with status 200", Fault("html_200")),
    *refused("top level a list", Fault("wrong_shape_top_level_list"), CHANGED),
    *refused("items missing", Fault("wrong_shape_items_missing"), CHANGED),
    *refused("items no list", Fault("wrong_shape_items_not_list"), CHANGED),
    *refused("metadata missing", Fault("wrong_shape_metadata_missing"), CHANGED),
    Row("slow answer", "passing", AT_END, Fault("slow", seconds=0.4), (THIRD,), next_run="is complete"),
    Row("slow answer", "lasting", UNAVAILABLE, Fault("slow", seconds=2), EVER, retries=None, within_s=6.0,
        client={"timeout": 0.15, "retry_budget": 0.004}),
    Row("stalled answer", "passing", AT_END, Fault("stall", seconds=20), (THIRD, THIRD + 1), client=SHORT_TIMEOUT,
        retries=None, next_run="is complete"),
    Row("stalled answer", "lasting", UNAVAILABLE, Fault("stall", seconds=20), EVER, client=SHORT_TIMEOUT, retries=None),
    *refused("oversized body", Fault("oversized", size=2**20), CHANGED, client={"max_body_bytes": 200_000}),
    *refused("redirect to elsewhere", Fault("redirect_elsewhere")),
    *(
        row
        for name, text in (("cursor_dead", "can no longer be continued"), ("cursor_filters", "not with these filters"))
        for row in (
            Row(f"400, cursor {text}", "passing", AT_END, Fault(name), (THIRD,), next_run="is complete", walks=2),
            # Two walks in each of the two runs; the last of them goes on.
            Row(f"400, cursor {text}", "lasting", REJECTED, Fault(name), EVER, with_cursor=True, idle_again=False,
                walks=3),
        )
    ),
    *refused("401", Fault("unauthorized")),
    *refused("403", Fault("forbidden")),
    *refused("404", Fault("not_found")),
    *refused("451", Fault("region_blocked")),
    *refused("the same cursor again", Fault("same_cursor"), STALLED),
    *refused("a cursor that restarts at page 1", Fault("restart_at_first_page"), STALLED),
    *refused("a page that repeats", Fault("repeat_previous_page"), STALLED),
    Row("an empty page without a cursor", "passing", AT_END, Fault("empty_no_cursor"), (THIRD,),
        next_run="is complete"),
    # Confirmed once, it is believed; the next run asks for the end again and finds that it is none.
    Row("an empty page without a cursor", "lasting", AT_END, Fault("empty_no_cursor"), EVER, idle_again=False),
    Row("images added at the end", "passing", AT_END, upset=between_pages(_append), next_run="is complete"),
    Row("images inserted behind the walk", "passing", AT_END, upset=between_pages(_insert_before), next_run="restart",
        walks=2),
    Row("images inserted behind the walk, keyset", "passing", AT_END, upset=between_pages(_insert_before),
        options=KEYSET, next_run="restart", walks=2),
    Row("images deleted ahead of the walk", "passing", AT_END, upset=between_pages(_delete_ahead),
        next_run="is complete"),
    Row("images deleted behind the walk", "passing", AT_END, upset=between_pages(_delete_behind), next_run="restart",
        walks=2),
    Row("images deleted behind the walk, keyset", "passing", AT_END, upset=between_pages(_delete_behind),
        options=KEYSET, next_run="is complete"),
    Row("disk full", "passing", NO_LAKE, upset=full_disk(lasting=False)),
    Row("disk full", "lasting", NO_LAKE, upset=full_disk(lasting=True)),
    Row("disk full, no room for a name", "passing", NO_LAKE, upset=full_folder),
    Row("lake no longer writable", "lasting", NO_LAKE, upset=unwritable),
    Row("lake not writable at first", "lasting", NO_LAKE, upset=unwritable_at_first),
]  # fmt: skip

"""Whether a version's landed pages are sound: each of them, their numbers, and the walks that they form. Only reads."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from civitai_pipeline.care.findings import Finding, Kind, repair
from civitai_pipeline.civitai.listing import Sort
from civitai_pipeline.collect.gaps import leads_to
from civitai_pipeline.lake.files import LakeError, explained
from civitai_pipeline.lake.ledger import Ledger
from civitai_pipeline.lake.pages import DamagedPageError, PageId, frame_fault

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from upath import UPath

    from civitai_pipeline.lake.pages import LandedPage
    from civitai_pipeline.lake.paths import Lake


@dataclass
class Pages:
    """What a look at a version's pages gave.

    Attributes:
        findings: What is wrong with them.
        count: Pages looked at.
        fetched_at: When each sound page was fetched, by its place.
    """

    findings: list[Finding] = field(default_factory=list)
    count: int = 0
    fetched_at: dict[PageId, datetime] = field(default_factory=dict)


@dataclass
class _Walk:
    """What matters of a walk once all its pages have been seen."""

    number: int
    first: LandedPage | None = None
    last: LandedPage | None = None
    gaps: dict[PageId, int] = field(default_factory=dict)
    breaks: list[tuple[PageId, int]] = field(default_factory=list)


def page_fault(ledger: Ledger, place: PageId) -> str | None:
    """What is wrong with the file of a landed page, in one sentence; None if nothing.

    Raises:
        LakeError: It cannot be read for another reason than damage.
    """
    try:
        return _read(ledger, place)[1]
    except DamagedPageError as error:
        return str(error)


def check_pages(lake: Lake, version: int, on_page: Callable[[int], None] = lambda _: None) -> Pages:
    """Looks at every page of a version.

    Pages that land meanwhile are not looked at.

    Args:
        lake: The lake.
        version: The model version.
        on_page: Called with the number of pages looked at so far.

    Raises:
        LakeError: The ledger cannot be listed.
    """
    return _Look(lake, version, on_page).look()


class _Look:
    """One look at a version's pages."""

    def __init__(self, lake: Lake, version: int, on_page: Callable[[int], None]) -> None:
        self._lake = lake
        self._ledger = Ledger(lake, version)
        self._version = version
        self._on_page = on_page
        self._found = Pages()
        self._sequences: dict[int, PageId] = {}
        self._confirmed: Counter[PageId] = Counter()
        self._damaged: set[UPath] = set()

    def look(self) -> Pages:
        walks = [self._walk(number) for number in self._ledger.walk_numbers()]
        for walk in walks:
            for place, following in walk.gaps.items():
                self._gap(walk, walks, place, following)
            for place, following in walk.breaks:
                self._break(walk, walks, place, following)
        self._look_at_confirmed(walks)
        self._look_for_lost_walks()
        return self._found

    def _walk(self, number: int) -> _Walk:
        walk, aside = _Walk(number), self._ledger.set_aside(number)
        there = self._ledger.page_numbers(number)
        before: LandedPage | None = None
        open_gaps: list[PageId] = []
        for place in (PageId(number, page) for page in range(1, max(there, default=0) + 1)):
            path = self._lake.page(self._version, number, place.page)
            is_there = place.page in there or path.exists()
            page = self._page(place) if is_there else None
            if not is_there and place.page in aside:
                open_gaps.append(place)
            elif not is_there:
                self._missing(place)
            if page is not None:
                walk.gaps.update((gap, page.sequence) for gap in open_gaps)
                open_gaps = []
                if before is not None and not page.is_imported:
                    self._chain(walk, before, page, was_again=before.id.page in aside or place.page in aside)
                walk.first, walk.last = walk.first or page, page
            before = page
        if walk.last is not None and walk.last.is_imported:
            # Nobody goes on with such a walk, so that its end would not be missed.
            open_gaps += [PageId(number, page) for page in aside if page > max(there, default=0)]
            walk.gaps.update((gap, walk.last.sequence) for gap in sorted(open_gaps))
        return walk

    def _page(self, place: PageId) -> LandedPage | None:
        """A page, if it is sound."""
        self._found.count += 1
        self._on_page(self._found.count)
        path, _ = self._ledger.file_of(place)
        try:
            page, fault = _read(self._ledger, place)
        except DamagedPageError as error:
            fault, page = _reason(error), None
        except LakeError as error:
            self._found.findings.append(
                Finding(Kind.UNREADABLE, path, _reason(error), "then check again", self._version, place)
            )
            return None
        if fault is not None or page is None:
            self._add(Kind.DAMAGED_PAGE, place, fault or "it cannot be read")
            return None
        self._found.fetched_at[place] = page.fetched_at
        if page.confirms is not None:
            self._confirmed[page.confirms] += 1
        # Pages of other makers know no sequence.
        other = self._sequences.setdefault(page.sequence, place) if page.sequence else place
        if other != place:
            self._add(
                Kind.BROKEN_WALK,
                place,
                f"it says that it landed as number {page.sequence}, as page {other} does",
                "bring both back from a backup; until then tables take them in the order of walk and page",
            )
        return page

    def _chain(self, walk: _Walk, before: LandedPage, page: LandedPage, *, was_again: bool) -> None:
        if not leads_to(before.next_cursor, before.cursor, before.items, page):
            walk.breaks.append((page.id, page.sequence))
        if page.sequence and page.sequence <= before.sequence and not was_again:
            self._add(
                Kind.BROKEN_WALK,
                page.id,
                f"it says that it landed before page {before.id}",
                "bring both back from a backup",
            )

    def _missing(self, place: PageId) -> None:
        self._add(Kind.MISSING_PAGE, place, "it is missing")

    def _gap(self, walk: _Walk, walks: list[_Walk], place: PageId, following: int) -> None:
        if _is_healed(walk, walks, following):
            return
        problem = "it was set aside and has not been fetched again"
        if self._confirmed[place]:
            problem += f", and what {self._confirmed[place]} confirmations of it showed is unknown"
        self._add(Kind.GAP, place, problem, self._collect(walk))

    def _break(self, walk: _Walk, walks: list[_Walk], place: PageId, following: int) -> None:
        if not _is_healed(walk, walks, following):
            before = PageId(place.walk, place.page - 1)
            problem = f"page {before} does not lead to it, so images in between may be missing"
            self._add(Kind.BROKEN_WALK, place, problem, self._collect(walk, anew=True))

    def _look_at_confirmed(self, walks: list[_Walk]) -> None:
        """Pages behind the end of their walk are missed only where a page of another walk repeats them."""
        ends = {walk.number: walk.last.id.page if walk.last is not None else 0 for walk in walks}
        for place in sorted(self._confirmed):
            if place.page > ends.get(place.walk, 0) and place not in self._found.fetched_at:
                path = self._lake.page(self._version, place.walk, place.page)
                if not path.exists() and not self._ledger.is_gap(place):
                    self._missing(place)

    def _look_for_lost_walks(self) -> None:
        for number in self._ledger.walk_folders():
            if self._ledger.set_aside(number) and not self._ledger.page_numbers(number):
                self._found.findings.append(
                    Finding(
                        Kind.GAP,
                        self._lake.walk(self._version, number),
                        "all pages of this walk were set aside and have not been fetched again",
                        "collect its listing with --restart, or import its file again, and then remove the folder",
                        self._version,
                    )
                )

    def _collect(self, walk: _Walk, *, anew: bool = False) -> str:
        listing: dict[str, Any] = walk.last.listing if walk.last is not None else {}
        if walk.last is not None and walk.last.is_imported:
            return f"civitai-pipeline import-legacy {listing.get('source')} brings it in again"
        options = f"--browsing-level {listing.get('browsing_level')}"
        if listing.get("sort") in list(Sort) and listing["sort"] != Sort.OLDEST:
            options = f"--sort {Sort(listing['sort']).flag} {options}"
        does = "walks the listing anew" if anew else "fetches it again"
        return f"civitai-pipeline collect {self._version} {options}{' --restart' if anew else ''} {does}"

    def _add(self, kind: Kind, place: PageId, problem: str, mend: str | None = None) -> None:
        path, _ = self._ledger.file_of(place)
        # A damaged bundle is one finding, and not one for each of its pages.
        if kind is Kind.DAMAGED_PAGE and any(
            (known.kind, known.path) == (kind, path) for known in self._found.findings
        ):
            return
        how = mend or f"{repair(self._version)} sets it aside, and the next collect fetches it again"
        self._found.findings.append(Finding(kind, path, problem, how, self._version, place))


def _read(ledger: Ledger, place: PageId) -> tuple[LandedPage, str | None]:
    page = ledger.read(place)
    path, file = ledger.file_of(place)
    if file.is_bundle:
        # Each of its pages was taken from the whole of it.
        return page, None
    with explained(path, "read", answers=()):
        return page, frame_fault(path.read_bytes())


def _reason(error: LakeError) -> str:
    """What is wrong, without the file and the remedy that the message names as well."""
    _, bracket, reason = str(error).partition(" is damaged (")
    return reason.partition("); civitai-pipeline")[0] if bracket else str(error)


def _is_healed(walk: _Walk, walks: list[_Walk], following: int) -> bool:
    """Whether a later walk has shown all of the listing, from its start to its end."""
    return any(
        later.first is not None
        and later.last is not None
        and walk.last is not None
        and later.number != walk.number
        and later.last.listing == walk.last.listing
        and (later.first.id.page, later.first.cursor, later.last.next_cursor) == (1, None, None)
        and later.first.sequence > following
        and not later.gaps
        and not later.breaks
        for later in walks
    )

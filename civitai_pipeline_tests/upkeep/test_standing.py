"""Where versions stand, read from a ledger that the collector wrote against the stand-in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from civitai_pipeline.civitai.client import CivitaiClient
from civitai_pipeline.civitai.listing import Listing, Sort
from civitai_pipeline.collect.collector import Collector
from civitai_pipeline.collect.options import CollectOptions
from civitai_pipeline.lake.paths import Lake
from civitai_pipeline.sandbox import DEMO_VERSIONS
from civitai_pipeline.upkeep.standing import VersionState, Walked, model_of, state_of
from civitai_pipeline.watchlist import Watchlist

if TYPE_CHECKING:
    from pathlib import Path

    from civitai_pipeline.sandbox import Sandbox

VERSION = DEMO_VERSIONS[0]


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake.at(str(tmp_path / "lake"))


def walk(stand_in: Sandbox, lake: Lake, **options: Any) -> None:  # noqa: ANN401 - any option
    client = CivitaiClient(stand_in.url, min_request_interval=0, timeout=5, retry_budget=0)
    Collector(client, lake, VERSION, CollectOptions(**options)).run()


def look(lake: Lake, watchlist: dict[str, Any] | None = None, model_id: int | None = None) -> VersionState:
    watched = Watchlist.model_validate(watchlist or {})
    return state_of(lake, VERSION, watched, model_id=model_id, default_level=1)


def seen(state: VersionState) -> list[tuple[str, int, Walked]]:
    return [(s.listing.sort.value, s.listing.browsing_level, s.walked) for s in state.standings]


def test_of_a_watched_version_the_watchlist_says_which_listings_are_wanted(stand_in: Sandbox, lake: Lake) -> None:
    walk(stand_in, lake, browsing_levels=(1,))
    walk(stand_in, lake, browsing_levels=(2,), max_items=1)
    walk(stand_in, lake, sort=Sort.NEWEST)
    state = look(lake, {"versions": [{"id": VERSION, "browsing_levels": [4, 2, 1]}]})
    assert seen(state) == [("Oldest", 4, Walked.NEVER), ("Oldest", 2, Walked.OPEN), ("Oldest", 1, Walked.AT_END)]
    assert state.watched
    assert [s.fetched_at is None for s in state.standings] == [True, False, False]


def test_the_models_options_hold_for_a_version_known_to_be_its(lake: Lake) -> None:
    watchlist = {"models": [{"id": 9001, "browsing_levels": [1, 2]}]}
    assert seen(look(lake, watchlist, model_id=9001)) == [("Oldest", 1, Walked.NEVER), ("Oldest", 2, Walked.NEVER)]
    assert seen(look(lake, watchlist)) == []


def test_without_levels_the_one_of_the_environment_is_wanted(lake: Lake) -> None:
    watched = Watchlist.model_validate({"versions": [{"id": VERSION}]})
    state = state_of(lake, VERSION, watched, model_id=None, default_level=3)
    assert [s.listing for s in state.standings] == [Listing(VERSION, browsing_level=3)]


def test_of_another_version_the_listings_that_somebody_began_are_wanted_as_they_were_begun(
    stand_in: Sandbox, lake: Lake
) -> None:
    walk(stand_in, lake, sort=Sort.NEWEST, max_items=1)
    walk(stand_in, lake, browsing_levels=(2,), max_items=1, append_only=True, strict_version_match=True)
    state = look(lake, {"defaults": {"page_size": 7}})
    assert seen(state) == [("Oldest", 2, Walked.OPEN), ("Newest", 1, Walked.OPEN)]
    assert not state.watched
    options = state.options
    assert (options.append_only, options.strict_version_match, options.page_size, options.max_items) == (
        True,
        True,
        7,
        None,
    )


def test_the_newest_walk_of_a_listing_counts(stand_in: Sandbox, lake: Lake) -> None:
    walk(stand_in, lake)
    assert seen(look(lake)) == [("Oldest", 1, Walked.AT_END)]
    walk(stand_in, lake, restart=True, max_items=1)
    assert seen(look(lake)) == [("Oldest", 1, Walked.OPEN)]


def test_a_version_without_pages_has_no_listings_and_no_known_model(lake: Lake) -> None:
    assert seen(look(lake)) == []
    assert model_of(lake, VERSION) is None

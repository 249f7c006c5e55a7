"""The watchlist: what it says, how it is merged, and how its mistakes are named."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from civitai_pipeline.civitai.listing import Sort
from civitai_pipeline.watchlist import Options, Watchlist, WatchlistError, load_watchlist

EXAMPLE = Path(__file__).parents[1] / "watchlist.example.yaml"

FULL = """
defaults:
  page_size: 50
  max_items: 1000
models:
  - id: 9001
    browsing_levels: [1, 2]
    max_minutes: 30
  - id: 9002
    discover: false
versions:
  - id: 910011
    sort: most-reactions
    browsing_levels: [31]
    max_items: null
    append_only: true
"""


def load(folder: Path, text: str) -> Watchlist:
    file = folder / "watchlist.yaml"
    file.write_text(text, encoding="utf-8")
    return load_watchlist(file)


def faults(folder: Path, text: str) -> list[str]:
    with pytest.raises(WatchlistError) as raised:
        load(folder, text)
    return [line.removeprefix(f"{folder}/") for line in str(raised.value).splitlines()]


@pytest.mark.parametrize("text", ["", "# nothing yet\n", "versions:\n", "defaults:\nmodels:\nversions:\n", "{}"])
def test_an_empty_file_watches_nothing(tmp_path: Path, text: str) -> None:
    assert load(tmp_path, text) == Watchlist()


def test_a_missing_file_watches_nothing(tmp_path: Path) -> None:
    watchlist = load_watchlist(tmp_path / "none.yaml")
    assert watchlist == Watchlist()
    assert not watchlist.watches(910011, 9001)
    assert watchlist.options_for(910011) == Options()


def test_the_versions_word_wins_over_the_models_and_that_over_the_defaults(tmp_path: Path) -> None:
    watchlist = load(tmp_path, FULL)
    assert watchlist.options_for(910011, 9001) == Options(
        sort=Sort.MOST_REACTIONS, browsing_levels=[31], append_only=True, page_size=50, max_items=None, max_minutes=30
    )
    assert watchlist.options_for(5, 9001) == Options(
        browsing_levels=[1, 2], page_size=50, max_items=1000, max_minutes=30
    )
    assert watchlist.options_for(5, None) == Options(page_size=50, max_items=1000)


def test_a_version_is_watched_itself_or_by_its_model(tmp_path: Path) -> None:
    watchlist = load(tmp_path, FULL)
    watched = [watchlist.watches(*pair) for pair in ((910011, None), (5, 9001), (5, 9002), (5, None), (5, 7))]
    assert watched == [True, True, True, False, False]
    assert [(model.id, model.discover) for model in watchlist.models] == [(9001, True), (9002, False)]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("versions: [{id: 1}, {id: 2, browsing_levels: [32]}]", "versions[1].browsing_levels[0]: Input should be less"),
        ("versions: [{id: 1, browsing_levels: 1}]", "versions[0].browsing_levels: must be a list, not 1"),
        ("versions: [{id: 1, browsing_levels: []}]", "versions[0].browsing_levels: must not be empty"),
        ("versions: [{id: 1, browsing_levels: [1, 1]}]", "versions[0].browsing_levels: 1 is listed twice"),
        ("versions: [{id: 1, sort: best}]", "versions[0].sort: no such order: 'best'; there are oldest"),
        ("versions: [{id: 1, page_size: 201}]", "versions[0].page_size: Input should be less than or equal to 200"),
        ("versions: [{id: 1, max_items: 0}]", "versions[0].max_items: Input should be greater than or equal to 1"),
        ("versions: [{id: 1, max_minutes: .inf}]", "versions[0].max_minutes: Input should be a finite number"),
        ("versions: [{id: 1, refresh: 1}]", "versions[0].refresh: Input should be a valid boolean, not 1"),
        ("versions: [{id: 1, refesh: true}]", "versions[0].refesh: there is no such option"),
        ("versions: [{id: 1, discover: true}]", "versions[0].discover: there is no such option"),
        ("versions: [{id: 0}]", "versions[0].id: Input should be greater than or equal to 1, not 0"),
        ("versions: [{id: '1'}]", "versions[0].id: Input should be a valid integer, not '1'"),
        ("versions: [{id: 4294967296}]", "versions[0].id: Input should be less than or equal to 2147483647"),
        ("versions: [{sort: oldest}]", "versions[0].id: is missing"),
        ("versions: [1]", "versions[0]: must be options such as"),
        ("versions: {id: 1}", "versions: must be a list"),
        ("versions: [{id: 1}, {id: 1}]", "versions: 1 is listed twice"),
        ("models: [{id: 7}, {id: 7}]", "models: 7 is listed twice"),
        ("defaults: {id: 1}", "defaults.id: there is no such option"),
        ("version: []", "version: there is no such option"),
        ("versions: [{id: 1}]\nversions: [{id: 2}]", "line 2, column 1: 'versions' is given twice"),
        ("versions: [{id: 1, id: 2}]", "line 1, column 20: 'id' is given twice"),
        ("versions: [", "line 1, column 12: "),
        ("- 1", "there must be 'defaults:', 'models:' and 'versions:', not a list"),
        ("!!python/object/apply:os.system ['true']", "line 1, column 1: could not determine a constructor"),
    ],
)
def test_a_mistake_is_named_by_file_and_place_in_one_line(tmp_path: Path, text: str, fault: str) -> None:
    said = faults(tmp_path, text)
    assert len(said) == 1
    assert said[0].startswith(f"watchlist.yaml: {fault}")


def test_every_mistake_gets_a_line(tmp_path: Path) -> None:
    assert len(faults(tmp_path, "versions: [{id: 0}, {id: 2, page_size: 0}]\nmodels: [{}]")) == 3


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(WatchlistError, match=r"cannot be read: Is a directory"):
        load_watchlist(tmp_path)
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(WatchlistError, match=r"bytes\.yaml: this is no text in UTF-8"):
        load_watchlist(tmp_path / "bytes.yaml")


def test_the_example_is_valid_names_every_option_and_shows_the_defaults() -> None:
    watchlist = load_watchlist(EXAMPLE)
    written = yaml.safe_load(EXAMPLE.read_text(encoding="utf-8"))["defaults"]
    assert set(written) == set(Options.model_fields)
    assert watchlist.defaults == Options(browsing_levels=[1])
    assert watchlist.models
    assert watchlist.versions

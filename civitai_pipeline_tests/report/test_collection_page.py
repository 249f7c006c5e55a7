"""The collection page and the overviews it is made from."""

from __future__ import annotations

from dataclasses import replace

import pytest

from civitai_pipeline.report import VersionOverview, VersionTables, collection_page, version_overview
from civitai_pipeline_tests.report.examples import make_tables
from civitai_pipeline_tests.report.reading import Page


@pytest.fixture(scope="module")
def tables() -> VersionTables:
    return make_tables(120, version=7)


@pytest.fixture(scope="module")
def overview(tables: VersionTables) -> VersionOverview:
    return version_overview(tables)


def test_the_overview_counts_what_the_tables_hold(tables: VersionTables, overview: VersionOverview) -> None:
    standing = [row for row in tables.prompts.to_pylist() if row["prompt_withdrawn_at"] is None]
    assert overview.model_version_id == 7
    assert overview.report_file == "7.html"
    assert overview.counts["prompts"] == len(standing)
    assert overview.counts["distinct_prompts"] == len({row["prompt_hash"] for row in standing})
    assert overview.counts["rejected"] == len(tables.rejected_images)
    assert overview.counts["no_prompt"] == tables.rejected_images["outcome"].to_pylist().count("no_prompt")
    assert overview.newest_created_at == max(row["created_at"] for row in standing)
    assert sum(overview.category_primary.values()) == len(standing)
    steps = next(capture for capture in overview.captures if capture.field == "steps")
    assert (steps.known, steps.total) == (sum(row["steps"] is not None for row in standing), len(standing))
    assert overview.browsing_levels == 3
    assert not overview.at_end


def test_an_empty_version_has_an_overview() -> None:
    empty = version_overview(make_tables(0))
    assert empty.counts["prompts"] == 0
    assert empty.oldest_created_at is None
    assert {capture.rate for capture in empty.captures} == {None}
    assert "not started" in collection_page([empty])


def test_versions_stand_side_by_side_the_largest_first(overview: VersionOverview) -> None:
    page = Page(collection_page([version_overview(make_tables(0)), overview]))
    rows = page.tables["All versions"][1:]
    assert [row[2] for row in rows] == [str(overview.counts["prompts"]), "0"]
    links = {attributes["href"] for tag, attributes in page.elements if tag == "a" and attributes["href"] is not None}
    assert {"7.html", "111222.html"} <= links
    assert page.facts["model versions"] == "2"


def test_nothing_collected_yet() -> None:
    assert "No model version has been collected yet." in collection_page([])


def test_versions_in_trouble_are_named(overview: VersionOverview) -> None:
    stuck = replace(overview, summary={"stop_reason": "stalled", "error": "<b>the same cursor twice</b>"})
    rows = Page(collection_page([stuck])).tables["Which versions need a look?"]
    assert "the same page or cursor" in rows[1][1]
    assert "<b>the same cursor twice</b>" in rows[1][1]
    assert "Which versions need a look?" not in Page(collection_page([overview])).tables


def test_labels_that_would_look_alike_get_the_id(overview: VersionOverview) -> None:
    twin = replace(overview, model_version_id=8, report_file="8.html")
    ticks = Page(collection_page([overview, twin])).figures["versions-4"]["layout"]["yaxis"]["ticktext"]
    assert len(set(ticks)) == 2


def test_many_versions_all_stand_in_the_table(overview: VersionOverview) -> None:
    many = [replace(overview, model_version_id=n, report_file=f"{n}.html") for n in range(1, 61)]
    page = Page(collection_page(many))
    assert len(page.tables["All versions"]) == 61
    assert len(page.figures["versions-4"]["data"][0]["x"]) == 40


def test_names_never_become_markup(overview: VersionOverview) -> None:
    page = Page(collection_page([overview, version_overview(make_tables(10))]))
    assert not {tag for tag, _ in page.elements} & {"b", "i", "img"}
    assert sum(tag == "script" and "type" not in attributes for tag, attributes in page.elements) == 1
    assert "<script>alert('model')</script>" in page.text


def test_equal_overviews_give_equal_pages(overview: VersionOverview) -> None:
    assert collection_page([overview]) == collection_page([overview])

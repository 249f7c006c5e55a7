"""The collection page and the overviews it is made from."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from civitai_pipeline.collect.summary import StopReason
from civitai_pipeline.lake.schemas import VERSION_OVERVIEWS
from civitai_pipeline.lake.tables import from_rows, schema_faults
from civitai_pipeline.report import VersionOverview, VersionTables, collection_page, overview_row
from civitai_pipeline.report.overview import MOST_LORAS, Used
from civitai_pipeline.report.words import STOP_REASONS, short_stop_reason
from civitai_pipeline_tests.report.examples import START, make_tables
from civitai_pipeline_tests.report.reading import Page
from civitai_pipeline_tests.report.rows import overview_of


@pytest.fixture(scope="module")
def tables() -> VersionTables:
    return make_tables(120, version=7)


@pytest.fixture(scope="module")
def overview(tables: VersionTables) -> VersionOverview:
    return overview_of(tables)


def version(number: int, like: VersionOverview, **changes: Any) -> VersionOverview:  # noqa: ANN401 - a field's
    """Another version like one, by number."""
    info = {"model_name": f"Model {number}", "version_name": "v1"}
    return replace(like, model_version_id=number, report_file=f"{number}.html", info=info, **changes)


def test_the_overview_counts_what_the_tables_hold(tables: VersionTables, overview: VersionOverview) -> None:
    standing = [row for row in tables.prompts.to_pylist() if row["prompt_withdrawn_at"] is None]
    assert overview.model_version_id == 7
    assert overview.report_file == "7.html"
    assert overview.prompts == len(standing)
    assert overview.distinct_prompts == len({row["prompt_hash"] for row in standing})
    assert sum(overview.rejected.values()) == len(tables.rejected_images)
    assert overview.rejected["no_prompt"] == tables.rejected_images["outcome"].to_pylist().count("no_prompt")
    assert overview.newest_created_at == max(row["created_at"] for row in standing)
    assert sum(overview.category_primary.values()) == len(standing)
    assert overview.known["steps"] == sum(row["steps"] is not None for row in standing)
    assert overview.told("steps") == overview.known["steps"] / len(standing)
    assert dict(overview.samplers)["Euler a"] == sum(row["sampler"] == "Euler a" for row in standing)
    assert overview.browsing_levels == 3
    assert not overview.at_end


def test_an_overview_is_a_row_that_fits_its_table(tables: VersionTables) -> None:
    row = overview_row(tables)
    assert schema_faults(VERSION_OVERVIEWS, from_rows(VERSION_OVERVIEWS, [row])) == []
    assert len(row["loras"]) == len(row["lora_keys"]) == len(row["lora_images"]) > 3
    assert row["withdrawn"] == sum(row["prompt_withdrawn_at"] is not None for row in tables.prompts.to_pylist())


def test_an_empty_version_has_an_overview() -> None:
    empty = overview_of(make_tables(0))
    assert empty.prompts == 0
    assert empty.oldest_created_at is None
    assert empty.told("steps") is None
    assert "not started" in collection_page([empty])


def test_versions_stand_side_by_side_the_largest_first(overview: VersionOverview) -> None:
    page = Page(collection_page([overview_of(make_tables(0)), overview]))
    rows = page.tables["All versions"][1:]
    assert [row[2] for row in rows] == [str(overview.prompts), "0"]
    links = {attributes["href"] for tag, attributes in page.elements if tag == "a" and attributes["href"] is not None}
    assert {"7.html", "111222.html"} <= links
    assert page.facts["model versions"] == "2"


def test_nothing_collected_yet() -> None:
    assert "No model version has been collected yet." in collection_page([])


def test_versions_without_an_overview_are_named(overview: VersionOverview) -> None:
    assert (
        "2 versions have landed pages but no overview yet, and so no place below: 5, 6."
        in Page(collection_page([overview], [5, 6])).text
    )
    assert "1 version has landed pages but no overview yet" in collection_page([], [5])


def test_versions_in_trouble_are_named(overview: VersionOverview) -> None:
    stuck = version(1, overview, summary={"stop_reason": "stalled", "error": "<b>the same cursor twice</b>"})
    failing = version(2, overview, failed_checks=["prompts.schema_matches"])
    sound = version(3, overview, failed_checks=[])
    page = Page(collection_page([stuck, failing, sound]))
    rows = page.tables["Which versions need a look?"]
    assert [row[0] for row in rows[1:]] == ["Model 1 · v1", "Model 2 · v1"]
    assert "the same page or cursor" in rows[1][1]
    assert "<b>the same cursor twice</b>" in rows[1][1]
    assert rows[2][1] == "Failed checks: prompts.schema_matches."
    health = {row[0]: row for row in page.tables["How whole, fresh and sound is each collection?"]}
    assert [health[f"Model {n} · v1"][7] for n in (1, 2, 3)] == ["—", "1", "0"]
    assert "No version needs a look" in Page(collection_page([overview])).text


def test_health_says_how_far_a_version_is_behind(overview: VersionOverview) -> None:
    def fetched(days: int) -> list[dict[str, Any]]:
        return [{"sort": "Oldest", "status": "at_end", "last_successful_fetch_at": START + timedelta(days=days)}]

    page = Page(collection_page([version(1, overview, listings=fetched(9)), version(2, overview, listings=fetched(2))]))
    rows = {row[0]: row for row in page.tables["How whole, fresh and sound is each collection?"]}
    assert rows["Model 1 · v1"][1:4] == ["to the end", "2026-01-14", "0"]
    assert rows["Model 2 · v1"][1:4] == ["to the end", "2026-01-07", "7"]
    assert rows["Model 2 · v1"][5] == "enough items"


@pytest.mark.parametrize("reason", StopReason)
def test_every_stop_reason_has_words(reason: StopReason) -> None:
    assert reason.value in STOP_REASONS
    assert short_stop_reason(reason.value) != reason.value


def test_shared_resources_stand_side_by_side_with_each_versions_share(overview: VersionOverview) -> None:
    many = [Used(f"name other {n}", f"other {n}", 1) for n in range(MOST_LORAS - 1)]
    one = version(1, overview, prompts=200, loras=[Used("version 9", "v1.0", 50), Used("name ink", "ink", 20)])
    two = version(2, overview, prompts=100, loras=[Used("version 9", "Ink Wash · v1.0", 60), *many])
    three = version(3, overview, prompts=50, loras=[Used("version 9", "v1.0", 5), Used("name ink", "Ink", 1)])
    rows = Page(collection_page([one, two, three])).tables["Which LoRAs do several versions share?"]
    assert rows[0] == ["LoRA", "versions", "images", "Model 1 · v1", "Model 2 · v1", "Model 3 · v1"]
    # Version 2 tells its hundred most used LoRAs, so it may use ink more rarely than these; the others tell all.
    assert rows[1:] == [
        ["Ink Wash · v1.0", "3", "115", "25.0 %", "60.0 %", "10.0 %"],
        ["ink", "2", "21", "10.0 %", "—", "2.0 %"],
    ]


def test_a_collected_version_is_named_where_others_use_it_as_their_checkpoint(overview: VersionOverview) -> None:
    one = version(1, overview, checkpoints=[Used("version 1", "Model 1 · v1", 5)])
    two = version(2, overview, checkpoints=[Used("version 1", "version 1", 90)])
    rows = Page(collection_page([one, two])).tables["Which checkpoints do several versions share?"]
    assert [row[:3] for row in rows[1:]] == [["Model 1 · v1", "2", "95"]]


def test_versions_that_share_nothing_say_so(overview: VersionOverview) -> None:
    one, two = (version(n, overview, loras=[Used(f"version {n}", "a", 3)]) for n in (1, 2))
    assert "None of the 2 LoRAs is named with more than one version." in Page(collection_page([one, two])).text


def test_settings_stand_beside_how_many_tell_them(overview: VersionOverview) -> None:
    page = Page(collection_page([overview]))
    (row,) = page.tables["Which settings are usual for each version?"][1:]
    told = f"{100 * overview.known['steps'] / overview.prompts:.1f} %"
    assert row[3:5] == [str(int(overview.medians["steps"] or 0)), told]
    assert "Which LoRAs do several versions share?" not in page.tables


def test_labels_that_would_look_alike_get_the_id(overview: VersionOverview) -> None:
    twin = replace(overview, model_version_id=8, report_file="8.html")
    ticks = Page(collection_page([overview, twin])).figures["versions-4"]["layout"]["yaxis"]["ticktext"]
    assert len(set(ticks)) == 2


def test_many_versions_all_stand_in_the_table_and_charts_draw_the_largest(overview: VersionOverview) -> None:
    page = Page(collection_page([version(n, overview) for n in range(1, 61)]))
    assert len(page.tables["All versions"]) == 61
    assert len(page.figures["versions-4"]["data"][0]["x"]) == 40
    assert len(page.tables["Which LoRAs do several versions share?"][0]) == 3 + 8


def test_thousands_of_versions_make_a_page_of_bounded_comparisons(overview: VersionOverview) -> None:
    html = collection_page([version(n, overview) for n in range(1, 2001)])
    page = Page(html)
    assert len(page.tables["All versions"]) == 2001
    assert len(page.tables["Which settings are usual for each version?"]) == 201
    assert "The 200 with the most prompts, of 2,000; the table version_overviews has all." in page.text
    assert len(html) < 4_000_000


def test_names_never_become_markup(overview: VersionOverview) -> None:
    page = Page(collection_page([overview, overview_of(make_tables(10))]))
    assert not {tag for tag, _ in page.elements} & {"b", "i", "img"}
    assert sum(tag == "script" and "type" not in attributes for tag, attributes in page.elements) == 1
    assert "<script>alert('model')</script>" in page.text


def test_equal_overviews_give_equal_pages(overview: VersionOverview) -> None:
    assert collection_page([overview]) == collection_page([overview])

"""The report and the index in Chromium, from a folder and without a network."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from civitai_pipeline.report import (
    INDEX_FILE,
    PLOTLY_FILE,
    collection_page,
    plotly_javascript,
    report_file_name,
    version_page,
)
from civitai_pipeline_tests.report.examples import VERSION, make_tables
from civitai_pipeline_tests.report.mischief import mischievous
from civitai_pipeline_tests.report.rows import analysed, overview_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Browser, Page


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the report of a version full of mischief, and the index."""
    folder = tmp_path_factory.mktemp("reports")
    tables = analysed(mischievous(make_tables(300)))
    (folder / PLOTLY_FILE).write_text(plotly_javascript(), encoding="utf-8")
    (folder / report_file_name(VERSION)).write_text(version_page(tables), encoding="utf-8")
    (folder / INDEX_FILE).write_text(collection_page([overview_of(tables)]), encoding="utf-8")
    return folder


@pytest.fixture(params=[(1280, "light"), (360, "dark")], ids=["desktop", "phone"])
def page(request: pytest.FixtureRequest, browser: Browser) -> Iterator[Page]:
    """A page without a network; it fails the test if anything complains."""
    width, scheme = request.param
    context = browser.new_context(offline=True, viewport={"width": width, "height": 800}, color_scheme=scheme)
    page = context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda message: complaints.append(message.text))
    yield page
    context.close()
    assert not complaints


@pytest.mark.parametrize("name", [report_file_name(VERSION), INDEX_FILE])
def test_every_chart_is_drawn_fits_and_nothing_of_others_runs(page: Page, reports: Path, name: str) -> None:
    page.goto((reports / name).as_uri())
    charts = page.locator(".chart")
    page.locator(f".chart >> nth={charts.count() - 1} >> .main-svg >> nth=0").wait_for()
    assert charts.count() == page.locator(".chart:has(.main-svg)").count() > 0
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.evaluate("globalThis.hurt === undefined")
    assert page.locator("img, main script:not([type])").count() == 0
    assert page.locator("#no-charts").is_hidden()


def test_charts_follow_the_colour_scheme(page: Page, reports: Path) -> None:
    page.goto((reports / INDEX_FILE).as_uri())
    ink = page.locator(".chart .xtick text").first
    ink.wait_for()
    before = ink.evaluate("tick => getComputedStyle(tick).fill")
    dark = page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    page.emulate_media(color_scheme="light" if dark else "dark")
    page.wait_for_timeout(300)
    assert page.locator(".chart .xtick text").first.evaluate("tick => getComputedStyle(tick).fill") != before


def test_a_script_in_the_markup_would_not_run(browser: Browser, reports: Path) -> None:
    context = browser.new_context(offline=True)
    page = context.new_page()
    html = (reports / INDEX_FILE).read_text(encoding="utf-8")
    (reports / "evil.js").write_text("globalThis.hurt = 7")
    slipped = (
        '<script>globalThis.hurt = 8</script><script src="evil.js"></script><img src=x onerror="globalThis.hurt = 9">'
    )
    (reports / "slipped.html").write_text(html.replace("<main", slipped + "<main"), encoding="utf-8")
    page.goto((reports / "slipped.html").as_uri())
    page.locator(".chart .main-svg").first.wait_for()
    assert page.evaluate("globalThis.hurt === undefined")
    context.close()


def test_without_plotly_the_numbers_are_in_open_tables(browser: Browser, reports: Path, tmp_path: Path) -> None:
    context = browser.new_context(offline=True)
    page = context.new_page()
    (tmp_path / INDEX_FILE).write_bytes((reports / INDEX_FILE).read_bytes())
    page.goto((tmp_path / INDEX_FILE).as_uri())
    page.locator("#no-charts").wait_for(state="visible")
    assert json.loads(page.evaluate("JSON.stringify([...document.querySelectorAll('details')].map(d => d.open))"))
    assert page.locator("details:not([open])").count() == 0
    context.close()


def test_a_long_table_is_sorted_by_a_heading_and_unfolded(page: Page, reports: Path) -> None:
    like = overview_of(make_tables(40))
    many = [
        replace(
            like, model_version_id=n, report_file=f"{n}.html", info={"model_name": f"Model {n}"}, prompts=40 + n % 7
        )
        for n in range(1, 31)
    ]
    (reports / "many.html").write_text(collection_page(many), encoding="utf-8")
    page.goto((reports / "many.html").as_uri())
    table = page.locator("table[aria-label='All versions']")
    rows = table.locator("tbody tr:visible")
    assert rows.count() == 25

    def firsts(count: int = 3) -> list[str | None]:
        return [rows.nth(n).locator("th").text_content() for n in range(count)]

    name, prompts = (table.get_by_role("button", name=heading, exact=True) for heading in ("version", "prompts"))
    name.click()
    assert firsts() == ["Model 1", "Model 2", "Model 3"]
    name.click()
    assert firsts() == ["Model 30", "Model 29", "Model 28"]
    prompts.click()
    # Of equal ones the order stays as it was.
    assert firsts(5) == ["Model 27", "Model 20", "Model 13", "Model 6", "Model 26"]
    assert table.locator("[aria-sort]").count() == 1
    table.locator("xpath=../following-sibling::button[1]").click()
    assert rows.count() == 30
    assert firsts(1) == ["Model 27"]


def test_the_section_being_read_is_marked_in_a_bar_that_stays(page: Page, reports: Path) -> None:
    page.goto((reports / report_file_name(VERSION)).as_uri())
    bar = page.get_by_role("navigation", name="Sections")
    assert bar.locator("[aria-current]").inner_text() == "Data"
    page.get_by_role("link", name="Engagement", exact=True).click()
    bar.locator("[aria-current]", has_text="Engagement").wait_for()
    here = bar.locator("[aria-current]").bounding_box()
    assert here
    assert 0 <= here["x"] < page.evaluate("innerWidth") - here["width"]
    assert 0 <= here["y"] < 40

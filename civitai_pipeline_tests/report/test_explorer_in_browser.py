"""The explorer driven in Chromium, from a folder and without a network, as a reader would."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from civitai_pipeline.report import explorer_page, explorer_script
from civitai_pipeline_tests.report.examples import make_tables
from civitai_pipeline_tests.report.mischief import MISCHIEF, mischievous

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from playwright.sync_api import Browser, BrowserContext, Page

    from civitai_pipeline.report import VersionTables


@dataclass
class Explorer:
    """An explorer in a folder, opened in a page."""

    page: Page
    rows: list[dict[str, Any]]
    url: str

    def count(self) -> int:
        """How many prompts answer, as the page says."""
        self.page.locator("#found[aria-busy=false]").wait_for(state="attached")
        found = re.match(r"(?:All )?([\d,]+)", self.page.text_content("#count") or "")
        assert found
        return int(found[1].replace(",", ""))

    def first(self, images: int) -> list[int]:
        """The ids of the first shown images, read by opening one after the other."""
        ids = []
        for n in range(images):
            self.page.locator("#found > li").nth(n).get_by_role("button", name="Open").click()
            ids.append(int((self.page.text_content("#opened-title") or "").split()[-1]))
            self.page.keyboard.press("Escape")
        return ids

    def matching(self, test: Callable[[dict[str, Any]], bool]) -> int:
        """How many prompts of the table pass a test."""
        return sum(map(test, self.rows))


@pytest.fixture(scope="module")
def tables() -> VersionTables:
    return make_tables(300)


@pytest.fixture(scope="module")
def context(browser: Browser) -> Iterator[BrowserContext]:
    context = browser.new_context(offline=True, viewport={"width": 1280, "height": 900})
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    yield context
    context.close()


def opened(context: BrowserContext, folder: Path, tables: VersionTables, hash_: str = "") -> Explorer:
    (folder / "prompts.js").write_bytes(b"".join(explorer_script(tables, slab_rows=64)))
    (folder / "explorer.html").write_text(explorer_page(tables, "prompts.js"), encoding="utf-8")
    page = context.new_page()
    url = (folder / "explorer.html").as_uri()
    page.goto(url + hash_)
    rows = [row for row in tables.prompts.to_pylist() if row["prompt_withdrawn_at"] is None]
    return Explorer(page, rows, url)


@pytest.fixture
def explorer(context: BrowserContext, tables: VersionTables, tmp_path: Path) -> Iterator[Explorer]:
    """An explorer of 300 prompts; a page that complains or asks for anything but its two files fails the test."""
    complaints: list[str] = []
    explorer = opened(context, tmp_path, tables)
    explorer.page.on("pageerror", lambda error: complaints.append(str(error)))
    explorer.page.on("console", lambda message: complaints.append(message.text))
    yield explorer
    explorer.page.close()
    assert not complaints


def test_it_begins_with_all_prompts_the_newest_first(explorer: Explorer) -> None:
    assert explorer.count() == len(explorer.rows)
    assert explorer.page.locator("#found > li").count() == 25
    newest = sorted(explorer.rows, key=lambda row: (row["created_at"], row["image_id"]), reverse=True)
    assert explorer.first(3) == [row["image_id"] for row in newest[:3]]


def words_in(text: str) -> list[str]:
    return re.findall(r"[a-z0-9]+", text.lower())


def test_words_are_looked_for_at_the_beginning_of_words_and_all_must_occur(explorer: Explorer) -> None:
    search = explorer.page.get_by_label("Words", exact=True)
    for query, test in (
        ("light", lambda text: any(word.startswith("light") for word in words_in(text))),
        ("LIGHT gull", lambda text: {"lighthouse", "gulls"} <= set(words_in(text))),
        ("soft -light", lambda text: "soft" in words_in(text) and not re.search(r"\blight", text)),
        ('"soft light"', lambda _: False),
        ('"soft lighting"', lambda text: "soft lighting" in text),
        ("detail slider", lambda text: "detail_slider" in text),
        ("ネオン", lambda text: "ネオン" in text),
        ("庭 夜", lambda text: "庭" in text and "夜" in text),
        ("قطة", lambda text: "قطة" in text),
        ("🦊", lambda text: "🦊" in text),
        ("<script>", lambda text: "<script>" in text),
        ("no such words at all", lambda _: False),
    ):
        search.fill(query)
        assert explorer.count() == explorer.matching(lambda row, test=test: test(row["prompt"])), query  # type: ignore[misc]
    assert explorer.page.locator("#found > li").count() == 0
    assert "Take a word or a filter away" in (explorer.page.text_content("#count") or "")


def test_negative_prompts_are_searched_when_asked_for(explorer: Explorer) -> None:
    explorer.page.get_by_label("Words", exact=True).fill("watermark")
    assert explorer.count() == 0
    explorer.page.get_by_label("Where to look").select_option("negative")
    assert explorer.count() == explorer.matching(lambda row: "watermark" in (row["negative_prompt"] or ""))
    assert explorer.page.locator("#found mark").first.text_content() == "watermark"


def test_each_filter_leaves_what_the_tables_say(explorer: Explorer, tables: VersionTables) -> None:
    page = explorer.page
    labels = tables.prompt_categories.to_pylist()
    touched = {row["image_id"] for row in labels if row["category"] == "mood"}
    main = {row["image_id"] for row in labels if row["category"] == "style" and row["is_primary"]}
    inked = {row["image_id"] for row in tables.prompt_resources.to_pylist() if row["resource_name"] == "Ink Wash Study"}

    def asking(act: Callable[[], object]) -> int:
        act()
        count = explorer.count()
        page.get_by_role("button", name="Start over").click()
        assert explorer.count() == len(explorer.rows)
        return count

    category, sampler = page.get_by_label("Category"), page.get_by_label("Sampler")
    assert asking(lambda: category.select_option("mood")) == explorer.matching(lambda row: row["image_id"] in touched)
    assert asking(lambda: category.select_option("mainly:style")) == explorer.matching(
        lambda row: row["image_id"] in main
    )
    assert asking(lambda: page.get_by_label("Resource").fill("ink wash")) == explorer.matching(
        lambda row: row["image_id"] in inked
    )
    assert asking(lambda: sampler.select_option("Euler a")) == explorer.matching(
        lambda row: row["sampler"] == "Euler a"
    )
    assert asking(lambda: sampler.select_option("(not told)")) == explorer.matching(lambda row: row["sampler"] is None)
    assert asking(lambda: page.get_by_label("Author").fill("maker_0")) == explorer.matching(
        lambda row: row["username"] == "maker_0"
    )
    assert asking(lambda: page.get_by_label("PG-13").uncheck()) == explorer.matching(
        lambda row: row["browsing_level"] == 1
    )
    assert asking(lambda: page.locator("[name=minreactions]").fill("3")) == explorer.matching(
        lambda row: row["reaction_count"] >= 3
    )

    def lengths() -> None:
        page.locator("[name=minlength]").fill("80")
        page.locator("[name=maxlength]").fill("120")

    assert asking(lengths) == explorer.matching(lambda row: 80 <= row["prompt_length"] <= 120)
    once = page.get_by_label("equal prompts once")
    assert asking(once.check) == len({row["prompt_hash"] for row in explorer.rows})


def test_filters_hold_together_and_each_can_be_taken_away(explorer: Explorer) -> None:
    page = explorer.page
    page.get_by_label("Sampler").select_option("Euler a")
    page.get_by_label("Words", exact=True).fill("light")
    both = explorer.count()
    assert 0 < both < explorer.matching(lambda row: row["sampler"] == "Euler a")
    page.get_by_role("button", name="Take away: sampler Euler a").click()
    assert explorer.count() == explorer.matching(lambda row: bool(re.search(r"\blight", row["prompt"])))


def test_the_order_can_be_chosen(explorer: Explorer) -> None:
    page = explorer.page
    keys: dict[str, Callable[[dict[str, Any]], Any]] = {
        "most reactions": lambda row: -row["reaction_count"],
        "longest first": lambda row: -row["prompt_length"],
        "oldest first": lambda row: row["created_at"],
    }
    for order, key in keys.items():
        page.get_by_label("Order").select_option(label=order)
        explorer.count()
        place = {row["image_id"]: key(row) for row in explorer.rows}
        assert [place[image] for image in explorer.first(5)] == sorted(place.values())[:5], order


def test_the_address_keeps_what_is_asked_for_and_back_takes_a_page_back(explorer: Explorer) -> None:
    page = explorer.page
    page.get_by_label("Words", exact=True).fill("a")
    explorer.count()
    page.get_by_role("button", name="Next").click()
    explorer.count()
    assert "These are 26 to 50" in (page.text_content("#count") or "")
    told, address = page.text_content("#count"), page.url
    assert "#words=a&page=2" in address
    page.reload()
    explorer.count()
    assert page.text_content("#count") == told
    assert page.get_by_label("Words", exact=True).input_value() == "a"
    page.go_back()
    explorer.count()
    assert "These are 1 to 25" in (page.text_content("#count") or "")


def test_an_address_that_makes_no_sense_asks_for_nothing(
    context: BrowserContext, tables: VersionTables, tmp_path: Path
) -> None:
    explorer = opened(
        context, tmp_path, tables, "#sort=__proto__&toString=1&page=-3&per=7&levels=x&minlength=abc&image=zz"
    )
    assert explorer.count() == len(explorer.rows)
    explorer.page.close()


def test_a_prompt_is_opened_with_the_keyboard_and_closed_again(explorer: Explorer, tables: VersionTables) -> None:
    page = explorer.page
    explorer.count()
    newest = max(explorer.rows, key=lambda row: (row["created_at"], row["image_id"]))
    first = page.get_by_role("button", name="Open").first
    first.focus()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    assert dialog.locator("p.text").first.text_content() == newest["prompt"]
    assert f"image={newest['image_id']}" in page.url
    told = dialog.inner_text()
    assert (newest["negative_prompt"] or "not told") in told
    assert str(newest["steps"] or "not told") in told
    assert f"{newest['width']} × {newest['height']}" in told  # noqa: RUF001 - the sign for times
    names = [
        row["resource_name"] for row in tables.prompt_resources.to_pylist() if row["image_id"] == newest["image_id"]
    ]
    assert names
    assert all(name in told for name in names)
    link = dialog.get_by_role("link", name="The image's page")
    assert link.get_attribute("href") == f"https://civitai.com/images/{newest['image_id']}"
    assert "noreferrer" in (link.get_attribute("rel") or "")
    page.keyboard.press("ArrowRight")
    assert "2 of " in dialog.inner_text()
    page.keyboard.press("Escape")
    assert not dialog.is_visible()
    page.wait_for_url(lambda url: "image=" not in url)
    assert first.evaluate("button => document.activeElement === button")


def test_a_prompt_just_closed_stays_closed_when_something_else_is_asked_for(explorer: Explorer) -> None:
    page = explorer.page
    explorer.count()
    page.get_by_role("button", name="Open").first.click()
    # In one go, so that the event of the closing comes after the change, as it does on a busy machine.
    page.evaluate(
        """() => {
            document.getElementById("opened").close();
            const order = document.getElementById("sort");
            order.value = "longest";
            order.dispatchEvent(new Event("input", { bubbles: true }));
        }"""
    )
    explorer.count()
    page.wait_for_url(lambda url: "image=" not in url)
    assert not page.get_by_role("dialog").is_visible()
    assert "sort=longest" in page.url


def test_an_address_can_name_a_prompt_to_open(context: BrowserContext, tables: VersionTables, tmp_path: Path) -> None:
    explorer = opened(context, tmp_path, tables, "#image=1007")
    assert explorer.count() == len(explorer.rows)
    assert explorer.page.text_content("#opened-title") == "Image 1007"
    explorer.page.keyboard.press("Escape")
    explorer.page.wait_for_url(lambda url: "image=" not in url)
    explorer.page.close()


def test_what_an_opened_prompt_names_leads_to_others_like_it(explorer: Explorer) -> None:
    page = explorer.page
    explorer.count()
    page.get_by_label("Author").fill("maker_0")
    explorer.count()
    page.get_by_role("button", name="Open").first.click()
    sampler = page.get_by_role("dialog").get_by_role("button", name=re.compile("Euler|DPM|UniPC|custom")).first
    name = sampler.inner_text()
    sampler.click()
    assert explorer.count() == explorer.matching(lambda row: row["username"] == "maker_0" and row["sampler"] == name)


def test_a_prompt_is_copied_to_the_letter(explorer: Explorer) -> None:
    page = explorer.page
    page.get_by_label("Words", exact=True).fill("桜並木")
    explorer.count()
    prompts = {row["prompt"]: row for row in explorer.rows}
    page.get_by_role("button", name="Copy prompt").first.click()
    page.get_by_text("Copied.").wait_for(state="attached")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied in prompts
    page.get_by_role("button", name="Open").first.click()
    page.get_by_role("button", name="Copy with settings").click()
    page.get_by_role("dialog").get_by_role("button", name="Copied").wait_for()
    whole = page.evaluate("navigator.clipboard.readText()")
    assert whole.startswith(copied)
    assert "Size: " in whole


def test_mischief_stays_text(context: BrowserContext, tables: VersionTables, tmp_path: Path) -> None:
    explorer = opened(context, tmp_path, mischievous(tables))
    page = explorer.page
    explorer.count()
    cards = page.locator("#found > li")
    assert [cards.nth(n).locator("p.text").text_content() for n in range(len(MISCHIEF))] == list(MISCHIEF)
    for n, text in enumerate(MISCHIEF):
        cards.nth(n).get_by_role("button", name="Open").click()
        assert page.get_by_role("dialog").locator("p.text").first.text_content() == text
        page.keyboard.press("Escape")
    page.get_by_label("Words", exact=True).fill("<img hurt")
    assert explorer.count() == 1
    page.get_by_label("Author").fill("onload")
    page.get_by_label("Words", exact=True).fill("")
    page.get_by_label("Sampler").select_option("<svg onload=globalThis.hurt=6>")
    assert explorer.count() == 1
    assert page.evaluate("globalThis.hurt === undefined")
    assert page.locator("img, svg, body script:not([type]):not(:last-child)").count() == 0
    page.close()


def test_markup_cannot_be_written_by_mistake(context: BrowserContext, tables: VersionTables, tmp_path: Path) -> None:
    page = opened(context, tmp_path, tables).page
    refused = page.evaluate(
        "() => { try { document.createElement('p').innerHTML = '<b>x</b>'; return false } catch { return true } }"
    )
    assert refused
    page.close()


def test_a_missing_file_of_prompts_is_told(context: BrowserContext, tables: VersionTables, tmp_path: Path) -> None:
    page = context.new_page()
    (tmp_path / "explorer.html").write_text(explorer_page(tables, "111222-prompts-gone.js"), encoding="utf-8")
    page.goto((tmp_path / "explorer.html").as_uri())
    page.get_by_role("alert").filter(has_text="111222-prompts-gone.js is not beside this page").wait_for()
    page.close()


def test_nothing_but_the_two_files_is_asked_for(context: BrowserContext, tables: VersionTables, tmp_path: Path) -> None:
    asked: list[str] = []
    context.on("request", lambda request: asked.append(request.url))
    explorer = opened(context, tmp_path, tables)
    explorer.page.get_by_role("button", name="Open").first.click()
    explorer.count()
    assert asked == [explorer.url, (tmp_path / "prompts.js").as_uri()]
    explorer.page.close()


def test_a_phone_has_no_sideways_scrolling(browser: Browser, tables: VersionTables, tmp_path: Path) -> None:
    phone = browser.new_context(offline=True, viewport={"width": 360, "height": 780})
    explorer = opened(phone, tmp_path, tables)
    page = explorer.page
    explorer.count()
    assert not page.locator("#filters").evaluate("filters => filters.open")
    page.get_by_text("Filters").click()
    for _ in range(2):
        assert page.evaluate("document.documentElement.scrollWidth") == 360
        page.get_by_role("button", name="Open").first.click()
        assert page.locator("#opened").evaluate("dialog => dialog.scrollWidth <= dialog.clientWidth")
        page.keyboard.press("Escape")
        page.set_viewport_size({"width": 360, "height": 500})
    phone.close()

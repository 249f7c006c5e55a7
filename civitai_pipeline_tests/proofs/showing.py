"""The pages made of hostile items, opened in Chromium from their folder and used as a reader uses them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from civitai_pipeline_tests.collect.stage import VERSION
from civitai_pipeline_tests.proofs.fragments import FRAGMENTS, MARK, MARKUP
from civitai_pipeline_tests.report.browser import NO_CHROMIUM, chromium

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Dialog, Page

    from civitai_pipeline_tests.proofs.downstream import Scene

_PATIENCE_MS = 20_000
_OPENED = 25
_SEARCHED = (*MARKUP[:6], *FRAGMENTS[30:60:5], "\u202e", "\u0301" * 30)


# Our pages have none of these.
_MARKUP_OF_OTHERS = (
    "main script:not([type]), img, iframe, object, embed, form[action], base, link, meta[http-equiv=refresh], math, "
    'a[href^="javascript:" i]'
)
_STRANGE = """markup => [...document.querySelectorAll("*")]
    .filter(one => one.matches(markup) || [...one.attributes].some(attribute => attribute.name.startsWith("on")))
    .map(one => one.outerHTML.slice(0, 80))"""


def show_pages(scene: Scene) -> int:
    """Opens every page, scrolls, searches, filters and opens prompts; returns how many pages there are."""
    path = chromium()
    if path is None:
        scene.trouble[NO_CHROMIUM] += 1
        return 0
    from playwright.sync_api import sync_playwright  # noqa: PLC0415 - not needed where there is no Chromium

    names = ("index.html", f"{VERSION}.html", f"{VERSION}-explorer.html")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--disable-gpu", "--disable-quic"])
        context = browser.new_context(viewport={"width": 1280, "height": 900})
        context.set_default_timeout(_PATIENCE_MS)
        _watch(context, scene)
        for name in names:
            page = context.new_page()
            page.goto((scene.folder / "lake" / "reports" / name).as_uri())
            if name.endswith("explorer.html"):
                _explore(page)
            else:
                page.locator(".chart .main-svg").first.wait_for()
                page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true })")
                _hover(page)
            _look(page, name, scene)
            page.close()
        browser.close()
    return len(names)


def _watch(context: BrowserContext, scene: Scene) -> None:
    """Notes whatever a page does that no page of ours should do."""

    def note(what: str) -> None:
        scene.trouble[what[:200]] += 1

    def on_dialog(dialog: Dialog) -> None:
        note(f"a dialog: {dialog.message}")
        dialog.dismiss()

    def on_page(page: Page) -> None:
        page.on("dialog", on_dialog)
        page.on("pageerror", lambda error: note(f"a script fails: {error}"))
        page.on(
            "console", lambda message: note(f"the console says {message.text}") if message.type == "error" else None
        )
        page.on("popup", lambda popup: note(f"a window opens: {popup.url}"))
        page.on(
            "framenavigated", lambda frame: None if frame.url.startswith("file:") else note(f"it leads to {frame.url}")
        )

    context.on("page", on_page)
    allowed = ("file:", "data:image/", "blob:", "about:blank")
    context.on("request", lambda asked: None if asked.url.startswith(allowed) else note(f"a request for {asked.url}"))


def _hover(page: Page) -> None:
    """What charts show of a bar under the pointer is text of others, too."""
    for chart in page.locator(".chart").all()[:12]:
        chart.scroll_into_view_if_needed()
        box = chart.bounding_box()
        if box is not None:
            for share in (0.3, 0.5, 0.7):
                page.mouse.move(box["x"] + box["width"] * share, box["y"] + box["height"] * 0.5)
                page.wait_for_timeout(30)


def _explore(page: Page) -> None:
    found = page.locator("#found[aria-busy=false]")
    found.wait_for(state="attached")
    for place in range(min(_OPENED, page.locator("#found > li").count())):
        page.locator("#found > li").nth(place).get_by_role("button", name="Open").click()
        page.keyboard.press("Escape")
    search = page.get_by_label("Words", exact=True)
    for text in _SEARCHED:
        search.fill(text.replace("\n", " "))
        found.wait_for(state="attached")
    search.fill("")
    # Lists of names to filter by.
    for select in page.locator("select").all():
        values = select.evaluate("list => [...list.options].slice(0, 6).map(one => one.value)")
        for value in values:
            select.select_option(value=value)
            found.wait_for(state="attached")
        select.select_option(index=0)
    # A link that others made.
    page.goto(
        page.url.partition("#")[0] + "#words=%3Cscript%3Ewindow." + MARK + "%3D1%3C/script%3E&sampler=" + "%3Cb%3E"
    )
    page.reload()
    found.wait_for(state="attached")


def _look(page: Page, name: str, scene: Scene) -> None:
    page.wait_for_timeout(300)
    for frame in page.frames:
        if frame.evaluate(f"typeof window.{MARK} !== 'undefined'"):
            scene.trouble[f"{name}: an attack has run"] += 1
    if len(page.frames) > 1:
        scene.trouble[f"{name}: there is a frame"] += 1
    strange = page.evaluate(_STRANGE, _MARKUP_OF_OTHERS)
    for markup in strange:
        scene.trouble[f"{name}: markup of others: {markup}"] += 1

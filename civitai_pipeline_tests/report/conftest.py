"""Fixtures for pages in a browser."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from civitai_pipeline_tests.report.browser import chromium

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Chromium without a window; the test is skipped where the machine has none."""
    path = chromium()
    if path is None:
        pytest.skip("needs Chromium: install it (apt-get install chromium), or name it in CHROMIUM")
    from playwright.sync_api import sync_playwright  # noqa: PLC0415 - not needed where there is no Chromium

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--disable-gpu", "--disable-quic"])
        yield browser
        browser.close()

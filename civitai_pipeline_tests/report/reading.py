"""Reads a page as a browser would, for tests to ask it questions."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from typing import Any

VOID = {"meta", "link", "br", "img", "input", "hr"}


class Page(HTMLParser):
    """Elements, attributes, tables by name, definitions, figures and text of a page."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.facts: dict[str, str] = {}
        self.figures: dict[str, Any] = {}
        self.scripts: list[str] = []
        self.text = ""
        self._open: list[tuple[str, dict[str, str | None]]] = []
        self._table = ""
        self._term = ""
        self.feed(html)
        self.close()
        assert not self._open, "every element is closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self.elements.append((tag, attributes))
        if tag in VOID:
            return
        self._open.append((tag, attributes))
        if tag == "table":
            self._table = attributes["aria-label"] or ""
            self.tables[self._table] = []
        elif tag == "tr":
            self.tables[self._table].append([])
        elif tag in {"td", "th"}:
            self.tables[self._table][-1].append("")
        elif tag == "dt":
            self._term = ""
        elif tag == "dd":
            self.facts[self._term] = ""

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop()[0] == tag, f"</{tag}> closes what was opened last"

    def handle_data(self, data: str) -> None:
        # Spaces that no line breaks at look like others.
        data = data.replace("\u00a0", " ")
        inside = [tag for tag, _ in self._open]
        if inside and inside[-1] == "script":
            attributes = self._open[-1][1]
            if "data-figure" in attributes:
                self.figures[str(attributes["data-figure"])] = json.loads(data)
            elif attributes.get("type") != "application/json":
                self.scripts.append(data)
        elif inside and inside[-1] != "style":
            self.text += data
            if "td" in inside or "th" in inside:
                self.tables[self._table][-1][-1] += data.strip()
            elif "dt" in inside:
                self._term += data
            elif "dd" in inside:
                self.facts[self._term] += data

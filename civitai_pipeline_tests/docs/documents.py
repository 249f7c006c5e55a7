"""The project's documents, read once: their text, the code in them, and where they lie."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])

_CODE = re.compile(r"```[\s\S]*?```|`[^`\n]+`|^(?: {4,}|\t).*$", re.MULTILINE)
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)|<(https?://[^>]+)>")
_HEADING = re.compile(r"^(#+) (.+)$", re.MULTILINE)
# Where a service or a line of cron names a program by its place, up to where a shell would send what it prints.
_IN_PLACE = re.compile(r"\.venv/bin/([\w-]+ [^>`\n]*)")


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def pieces_of_code(document: Path) -> list[str]:
    """What stands in a document as code: fenced, indented or between backticks."""
    return _CODE.findall(document.read_text(encoding="utf-8"))


def shell_lines(document: Path, program: str) -> Iterator[str]:
    """The command lines of ``program`` in a document, without what a shell would take as a comment."""
    for piece in pieces_of_code(document):
        for line in piece.strip("`").splitlines():
            for command in (line.strip(), *_IN_PLACE.findall(line)):
                if command.startswith(f"{program} "):
                    yield command.partition("#")[0].strip()


def links_of(document: Path) -> list[str]:
    return [inner or outer for inner, outer in _LINK.findall(document.read_text(encoding="utf-8"))]


def anchors_of(document: Path) -> set[str]:
    """The anchors that a document's headings get: lower case, without marks, hyphens for spaces."""
    headings = _HEADING.findall(_without_blocks(document))
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for _, heading in headings}


def blocks_of(document: Path) -> list[tuple[str, str]]:
    """The language and text of each fenced piece of code."""
    return re.findall(r"^```(\w*)\n([\s\S]*?)^```$", document.read_text(encoding="utf-8"), re.MULTILINE)


def depths_of(document: Path) -> list[int]:
    """How deep each heading of a document is, in order."""
    return [len(marks) for marks, _ in _HEADING.findall(_without_blocks(document))]


def tables_of(document: Path) -> list[list[list[str]]]:
    """The cells of every table of a document, its headings among them."""
    tables = re.findall(r"(?:^\|.*\n)+", document.read_text(encoding="utf-8"), re.MULTILINE)
    return [[[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()] for table in tables]


def _without_blocks(document: Path) -> str:
    return re.sub(r"^```[\s\S]*?^```$", "", document.read_text(encoding="utf-8"), flags=re.MULTILINE)


def rows_after(text: str, heading: str) -> list[list[str]]:
    """The cells of the first table below a heading, without its first two lines."""
    lines = text.split(f"{heading}\n", 1)[1].splitlines()
    start = next(n for n, line in enumerate(lines) if line.startswith("|"))
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def names_in(cells: list[str]) -> set[str]:
    """The names between backticks in some cells."""
    return {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}

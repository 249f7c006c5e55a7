"""Texts and files as DuckDB's SQL spells them. What queries ask belongs beside those who ask."""

from __future__ import annotations

import re


def text_literal(text: str) -> str:
    """A text in quotes."""
    return "'" + text.replace("'", "''") + "'"


def file_literal(path: str, within: str = "") -> str:
    """A path in quotes, with what DuckDB would take for a pattern in it escaped.

    Args:
        path: A file, or a folder.
        within: A pattern for files in the folder, such as ``/*.parquet``.
    """
    return text_literal(re.sub(r"([\[\]*?])", r"[\1]", path) + within)

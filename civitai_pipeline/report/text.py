"""Untrusted text made safe to show: in HTML, in JSON inside a script element, in SVG and in Plotly.

Prompts, tags and names may hold anything: markup, control characters, direction overrides, lone
surrogates. Every way such text leaves this package passes through here or through Jinja's autoescape.
Wording of our own belongs in ``words``.
"""

from __future__ import annotations

import json
import re
import unicodedata

# C0 and C1 controls but tab and newlines, surrogates and non-characters: XML forbids most of them and no
# font draws any.
_UNDRAWABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
# Marks, embeddings, overrides and isolates. An override left open in one chart label would turn its neighbours
# around; in HTML the bdi element contains them, in SVG and Plotly nothing does.
_DIRECTION_CONTROLS = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
# What could end a script element, or a line of JavaScript in older browsers, or cannot be written as UTF-8.
_SCRIPT_BREAKER = re.compile("[<>&\x7f-\x9f\u2028\u2029\ud800-\udfff\ufffe\uffff]")

LABEL_COLUMNS = 28


def drawable(text: str) -> str:
    """The text with everything that no page may hold replaced by U+FFFD."""
    return _UNDRAWABLE.sub("\ufffd", text)


def json_for_script(value: object) -> str:
    """JSON that cannot end the script element it stands in, with keys in a fixed order.

    Raises:
        ValueError: The value holds NaN or infinity, which JSON has no word for.
    """
    text = json.dumps(value, ensure_ascii=False, sort_keys=True, allow_nan=False, separators=(",", ":"))
    return _SCRIPT_BREAKER.sub(lambda found: f"\\u{ord(found.group()):04x}", text)


def plotly_literal(text: str) -> str:
    """Text that Plotly shows to the letter: it reads a subset of HTML in labels and hover text."""
    one_line = " ".join(_DIRECTION_CONTROLS.sub("", drawable(text)).split())
    return one_line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def shortened(text: str, columns: int = LABEL_COLUMNS) -> str:
    """One line of at most ``columns`` terminal-style columns; East Asian wide characters take two."""
    one_line = " ".join(_DIRECTION_CONTROLS.sub("", drawable(text)).split())
    used = 0
    for position, character in enumerate(one_line):
        used += 2 if unicodedata.east_asian_width(character) in "WF" else 1
        if used > columns:
            return one_line[: max(position - 1, 1)].rstrip() + "…"
    return one_line


def quoted(name: object) -> str:
    """A name within a sentence of ours: in quotes, one line, and unable to turn the sentence around."""
    return f"“\u2068{shortened(str(name), 60)}\u2069”"


def excerpt(text: str, characters: int = 280) -> str:
    """The beginning of a prompt, as a table shows it."""
    clean = drawable(text).strip()
    return clean if len(clean) <= characters else clean[: characters - 1].rstrip() + "…"

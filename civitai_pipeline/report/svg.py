"""Small bar charts as hand-written SVG text, for places that show a picture but run no script.

Dagster's UI shows them in metadata, on a light or a dark ground, so the colours are ones that read on both.
Full-size figures are in ``figures``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

from civitai_pipeline.report import words
from civitai_pipeline.report.text import shortened

if TYPE_CHECKING:
    from collections.abc import Sequence

# With labels cut to their place, 24 rows of four-byte characters stay under 20 kB.
MAX_ROWS = 24

_WIDTH = 480
_LABELS = 168
_NUMBERS = 64
_ROW = 20
_TOP = 30
_INK = "#7a8290"
_BAR = "#3d8fd1"


def bar_svg(title: str, rows: Sequence[tuple[str, float]], *, max_rows: int = MAX_ROWS) -> str:
    """A horizontal bar chart as an SVG document.

    Args:
        title: What the chart shows; also its accessible name.
        rows: Label and value, drawn in this order. Labels may be any text.
        max_rows: Rows beyond this many are left out, and a last line says how many.
    """
    limit = min(max_rows, MAX_ROWS)
    shown = rows[:limit]
    left_out = len(rows) - len(shown)
    lines = max(len(shown), 1) + (1 if left_out else 0)
    height = _TOP + lines * _ROW + 6
    name = escape(shortened(title, 64))
    largest = max((value for _, value in shown), default=0) or 1
    room = _WIDTH - _LABELS - _NUMBERS
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" '
            f'height="{height}" role="img" font-family="system-ui, sans-serif" font-size="12" fill="{_INK}">'
        ),
        f"<title>{name}</title>",
        f'<text x="0" y="16" font-size="13" font-weight="600">{name}</text>',
    ]
    for position, (label, value) in enumerate(shown):
        top = _TOP + position * _ROW
        length = max(round(room * value / largest, 1), 0)
        parts += [
            f'<text x="{_LABELS - 8}" y="{top + 13}" text-anchor="end">{escape(shortened(label, 24))}</text>',
            f'<rect x="{_LABELS}" y="{top + 2}" width="{length:g}" height="{_ROW - 6}" rx="2" fill="{_BAR}"/>',
            f'<text x="{_LABELS + length + 6:g}" y="{top + 13}">{words.number(value)}</text>',
        ]
    if not shown:
        parts.append(f'<text x="0" y="{_TOP + 13}">Nothing to show yet.</text>')
    if left_out:
        parts.append(f'<text x="{_LABELS}" y="{_TOP + len(shown) * _ROW + 13}">and {left_out:,} more</text>')
    parts.append("</svg>")
    return "".join(parts)

"""What all figures have in common: the light and dark templates they are drawn with, their frame and their axes.

A figure carries no colour of its own: the page applies :data:`TEMPLATES` by the reader's colour scheme and
changes it when the scheme changes. Labels are positions with tick text, never categories, so that Plotly
neither guesses at dates and numbers nor merges two labels that were cut to the same text. The figures
themselves are in ``figures``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import plotly.graph_objects as go

from civitai_pipeline.report.text import plotly_literal, shortened

if TYPE_CHECKING:
    from collections.abc import Sequence

FONT_STACK = (
    'system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "Hiragino Sans", "Yu Gothic UI", "Noto Sans CJK JP", '
    '"PingFang SC", "Microsoft YaHei", "Noto Sans CJK SC", "Apple SD Gothic Neo", "Malgun Gothic", "Noto Sans CJK KR", '
    '"Noto Sans Arabic", "Noto Sans Hebrew", "Noto Sans Devanagari", "Noto Sans Thai", '
    '"Apple Color Emoji", "Segoe UI Emoji", "Noto Color Emoji", sans-serif'
)
# Okabe and Ito's colours, told apart with any kind of colour sight; the last one is for what matched nothing.
_LIGHT = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#b8a300", "#8c8c8c")
_DARK = ("#58a6e0", "#f0b429", "#2fbf92", "#dd93bb", "#8accf0", "#f0803c", "#e3d44a", "#9a9a9a")

_NTICKS = 5

ROW = 25
FRAME = 62


def _template(colours: Sequence[str], ink: str, grid: str, paper: str) -> dict[str, Any]:
    axis = {
        "gridcolor": grid,
        "linecolor": grid,
        "zerolinecolor": grid,
        "tickcolor": grid,
        "fixedrange": True,
        "automargin": True,
        "title": {"font": {"size": 12}, "standoff": 8},
        "separatethousands": True,
        "exponentformat": "none",
    }
    return {
        "layout": {
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "colorway": list(colours),
            "piecolorway": list(colours),
            "font": {"family": FONT_STACK, "color": ink, "size": 12},
            "xaxis": axis,
            "yaxis": axis,
            "hoverlabel": {
                "bgcolor": paper,
                "bordercolor": grid,
                "font": {"color": ink, "family": FONT_STACK, "size": 12},
                "align": "left",
            },
            "legend": {"font": {"size": 12}},
            "shapedefaults": {"line": {"color": ink}},
        },
        # A bar's text inside is drawn in the paper's colour against the bar; outside in ink.
        "data": {"pie": [{"marker": {"line": {"color": paper, "width": 1}}}]},
    }


TEMPLATES: dict[str, dict[str, Any]] = {
    "light": _template(_LIGHT, "#1f2328", "#d5d9df", "#ffffff"),
    "dark": _template(_DARK, "#e6e8eb", "#3a414b", "#16191d"),
}


def framed(traces: Sequence[Any], height: int, **layout: object) -> go.Figure:
    """The traces in the frame that all figures have; ``layout`` goes before what is usual."""
    figure = go.Figure(data=list(traces))
    figure.update_layout(
        template=go.layout.Template(),
        height=height,
        margin={"l": 8, "r": 16, "t": 10, "b": 40},
        dragmode=False,
        showlegend=False,
    )
    figure.update_layout(**layout)
    return figure


def label_axis(labels: Sequence[str]) -> dict[str, Any]:
    """An axis with a label at each whole number from 0, the first on top."""
    return {
        "tickmode": "array",
        "tickvals": list(range(len(labels))),
        "ticktext": [plotly_literal(shortened(label)) for label in labels],
        "range": [len(labels) - 0.4, -0.6],
        "showgrid": False,
        "zeroline": False,
        # Invisible ticks keep the labels off the bars.
        "ticks": "outside",
        "ticklen": 5,
        "tickcolor": "rgba(0,0,0,0)",
    }


def hover(lines: Sequence[str]) -> str:
    """Hover text of several lines, each shown to the letter."""
    return "<br>".join(plotly_literal(shortened(line, 90)) for line in lines)


def count_axis(most: float) -> dict[str, Any]:
    """Where an axis of counts up to ``most`` has its marks."""
    # Left to itself Plotly marks halves of an image where the most are a few.
    return {"dtick": 1} if most < _NTICKS else {"nticks": _NTICKS}

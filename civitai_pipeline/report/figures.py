"""Plotly figures from plain numbers, and the light and dark templates they are drawn with.

A figure carries no colour of its own: the page applies :data:`TEMPLATES` by the reader's colour scheme and
changes it when the scheme changes. Labels are positions with tick text, never categories, so that Plotly
neither guesses at dates and numbers nor merges two labels that were cut to the same text. Which figure
answers which question is for ``sections`` to say.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import plotly.graph_objects as go

from civitai_pipeline.report import words
from civitai_pipeline.report.binning import nice_width
from civitai_pipeline.report.text import plotly_literal, shortened

if TYPE_CHECKING:
    from collections.abc import Sequence

    from civitai_pipeline.report.binning import Bin

FONT_STACK = (
    'system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "Hiragino Sans", "Yu Gothic UI", "Noto Sans CJK JP", '
    '"PingFang SC", "Microsoft YaHei", "Noto Sans CJK SC", "Apple SD Gothic Neo", "Malgun Gothic", "Noto Sans CJK KR", '
    '"Noto Sans Arabic", "Noto Sans Hebrew", "Noto Sans Devanagari", "Noto Sans Thai", '
    '"Apple Color Emoji", "Segoe UI Emoji", "Noto Color Emoji", sans-serif'
)
# Okabe and Ito's colours, told apart with any kind of colour sight; the last one is for what matched nothing.
_LIGHT = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#b8a300", "#8c8c8c")
_DARK = ("#58a6e0", "#f0b429", "#2fbf92", "#dd93bb", "#8accf0", "#f0803c", "#e3d44a", "#9a9a9a")

# Where an axis of ratios may have its marks: near 1 closely, further out in steps that double or so.
_RATIOS = (0.1, 0.2, 0.33, 0.5, 0.67, 0.8, 0.9, 1, 1.1, 1.25, 1.5, 2, 3, 5, 10)

# So few dates are marked themselves; of more, the months among them are.
_NAMED_DAYS = 18

_ROW = 25
_FRAME = 62


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


def _figure(traces: Sequence[Any], height: int, **layout: object) -> go.Figure:
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


def _label_axis(labels: Sequence[str]) -> dict[str, Any]:
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


def _hover(lines: Sequence[str]) -> str:
    return "<br>".join(plotly_literal(shortened(line, 90)) for line in lines)


def bars(rows: Sequence[tuple[str, float]], *, unit: str, whole: float | None = None) -> go.Figure:
    """Horizontal bars, the first row on top, each with its number written beside it.

    Args:
        rows: Label and value.
        unit: What the values count, for the axis and the hover text.
        whole: What a value is a share of; the bars then also say the percentage.
    """

    def written(value: float) -> str:
        return words.number(value) if whole is None else words.share(value, whole)

    values = [value for _, value in rows]
    trace = go.Bar(
        orientation="h",
        x=values,
        y=list(range(len(rows))),
        text=[written(value) for value in values],
        textposition="outside",
        cliponaxis=False,
        hovertext=[_hover([label, f"{words.number(value)} {unit} ({written(value)})"]) for label, value in rows],
        hoverinfo="text",
    )
    return _figure(
        [trace],
        _FRAME + _ROW * len(rows),
        yaxis=_label_axis([label for label, _ in rows]),
        xaxis={"title": {"text": unit}, "range": [0, max([*values, 1e-9])], "nticks": 4, "tickangle": 0},
        bargap=0.3,
        # Room for the number beside the longest bar, on a phone as on a wide screen.
        margin={"r": 64},
    )


def histogram(bins: Sequence[Bin], *, axis: str, unit: str, whole: bool) -> go.Figure:
    """Touching bars for the bins; an open last bin is drawn apart and labelled as such."""
    closed = [bin_ for bin_ in bins if bin_.high is not None]
    width = (closed[0].high or 0) - closed[0].low
    # The bar of a whole number stands over that number when each has a bin of its own.
    shift = -0.5 if whole and width == 1 else 0.0
    places = [bin_.low + width / 2 + shift for bin_ in closed]
    ticks: dict[str, Any] = {"nticks": 8}
    if len(bins) > len(closed):
        open_ = bins[-1]
        places.append(open_.low + width * 1.5 + shift)
        step = nice_width(open_.low - closed[0].low, 5, whole=whole)
        # A label closer to the open bin than half a step would touch the label there.
        last = math.floor((open_.low - step / 2) / step)
        shown = [number * step for number in range(math.ceil(closed[0].low / step), last + 1)]
        ticks = {
            "tickmode": "array",
            "tickvals": [*shown, places[-1]],
            "ticktext": [*(words.number(value) for value in shown), f"≥{words.number(open_.low)}"],
        }
    trace = go.Bar(
        x=places,
        y=[bin_.count for bin_ in bins],
        width=[width] * len(bins),
        hovertext=[_hover([f"{axis}: {bin_.label(whole=whole)}", f"{bin_.count:,} {unit}"]) for bin_ in bins],
        hoverinfo="text",
    )
    return _figure(
        [trace],
        280,
        xaxis={"title": {"text": axis}, "showgrid": False, **ticks},
        yaxis={"title": {"text": unit}, "rangemode": "tozero", "nticks": 5},
        bargap=0,
    )


def donut(rows: Sequence[tuple[str, float]], *, unit: str) -> go.Figure:
    """Shares of a whole, in the order given, so that a class keeps its colour on every page."""
    whole = sum(value for _, value in rows)
    trace = go.Pie(
        labels=[plotly_literal(label) for label, _ in rows],
        values=[value for _, value in rows],
        hole=0.5,
        sort=False,
        direction="clockwise",
        # A label on a sliver covers its neighbours; the table has every number.
        text=[words.share(value, whole) if value >= 0.04 * whole else "" for _, value in rows],
        textinfo="text",
        textposition="inside",
        insidetextorientation="horizontal",
        hovertext=[
            _hover([label, f"{words.number(value)} {unit} ({words.share(value, whole)})"]) for label, value in rows
        ],
        hoverinfo="text",
    )
    return _figure(
        [trace],
        340,
        showlegend=True,
        legend={"orientation": "h", "y": -0.05, "x": 0.5, "xanchor": "center", "yanchor": "top"},
        margin={"l": 8, "r": 8, "t": 10, "b": 10},
    )


def boxes(rows: Sequence[tuple[str, tuple[float, float, float, float, float], str]], *, axis: str) -> go.Figure:
    """Horizontal boxes from ready numbers.

    Args:
        rows: Label; 5 %, 25 %, 50 %, 75 % and 95 % points; hover text.
        axis: The name of the measure.
    """
    points = [row[1] for row in rows]
    low, high = min(p[0] for p in points), max(p[4] for p in points)
    margin = max((high - low) * 0.06, 0.05)
    trace = go.Box(
        orientation="h",
        y=list(range(len(rows))),
        lowerfence=[p[0] for p in points],
        q1=[p[1] for p in points],
        median=[p[2] for p in points],
        q3=[p[3] for p in points],
        upperfence=[p[4] for p in points],
        line={"width": 1.5},
        whiskerwidth=0.6,
        hoverinfo="skip",
    )
    # Precomputed boxes have no hover text of their own; an invisible marker on the median carries it.
    hover = go.Scatter(
        x=[p[2] for p in points],
        y=list(range(len(rows))),
        mode="markers",
        marker={"opacity": 0, "size": 18},
        hovertext=[_hover([label, text]) for label, _, text in rows],
        hoverinfo="text",
    )
    return _figure(
        [trace, hover],
        _FRAME + (_ROW + 3) * len(rows),
        yaxis=_label_axis([row[0] for row in rows]),
        xaxis={"title": {"text": axis}, "range": [low - margin, high + margin], "nticks": 7},
        boxgap=0.35,
    )


def _date_axis(days: Sequence[str], step: str) -> dict[str, Any]:
    axis: dict[str, Any] = {"type": "date", "showgrid": False, "title": {"text": f"{step} beginning"}}
    if len(days) <= _NAMED_DAYS:
        # Left to itself Plotly marks Sundays where the weeks begin on Mondays.
        return axis | {"tickmode": "array", "tickvals": list(days[:: math.ceil(len(days) / 6)])}
    return axis | {"nticks": 7}


def timeline(days: Sequence[str], counts: Sequence[int], *, step: str, unit: str) -> go.Figure:
    """Bars over dates, one for each period that begins on the day given."""
    trace = go.Bar(
        x=list(days),
        y=list(counts),
        hovertext=[_hover([f"{step} of {day}", f"{count:,} {unit}"]) for day, count in zip(days, counts, strict=True)],
        hoverinfo="text",
    )
    return _figure(
        [trace],
        280,
        xaxis=_date_axis(days, step),
        yaxis={"title": {"text": unit}, "rangemode": "tozero", "nticks": 5},
        bargap=0.1,
    )


def intervals(rows: Sequence[tuple[str, tuple[float, float, float], str]], *, axis: str) -> go.Figure:
    """A point with its interval for each row, on a scale of ratios around 1.

    Args:
        rows: Label; low end, point, high end, all above 0; hover text.
        axis: The name of the ratio.
    """
    points = [row[1] for row in rows]
    trace = go.Scatter(
        x=[point for _, point, _ in points],
        y=list(range(len(rows))),
        mode="markers",
        marker={"size": 9},
        error_x={
            "type": "data",
            "symmetric": False,
            "array": [high - point for _, point, high in points],
            "arrayminus": [point - low for low, point, _ in points],
            "thickness": 1.5,
            "width": 4,
        },
        hovertext=[_hover([label, text]) for label, _, text in rows],
        hoverinfo="text",
    )
    ends = [1.0, *(low for low, _, _ in points), *(high for _, _, high in points)]
    low, high = math.log10(min(ends)), math.log10(max(ends))
    margin = max((high - low) * 0.06, 0.01)
    ticks = [tick for tick in _RATIOS if low - margin <= math.log10(tick) <= high + margin]
    return _figure(
        [trace],
        _FRAME + (_ROW + 3) * len(rows),
        yaxis=_label_axis([row[0] for row in rows]),
        xaxis={
            "type": "log",
            "title": {"text": axis},
            "range": [low - margin, high + margin],
            "tickmode": "array",
            "tickvals": ticks,
            "ticktext": [words.number(tick) for tick in ticks],
        },
        shapes=[
            {"type": "line", "x0": 1, "x1": 1, "yref": "paper", "y0": 0, "y1": 1, "line": {"dash": "dot", "width": 1.5}}
        ],
    )


def lines(
    days: Sequence[str], courses: Sequence[tuple[str, Sequence[float | None]]], *, step: str, axis: str
) -> go.Figure:
    """A line over dates for each course; a gap where a value is missing. Its legend is the page's to write."""
    traces = [
        go.Scatter(
            x=list(days),
            y=list(values),
            name=plotly_literal(shortened(name)),
            mode="lines+markers",
            marker={"size": 5},
            hovertext=[
                _hover([name, f"{step} of {day}: {words.number(value, 1)} %"])
                for day, value in zip(days, values, strict=True)
            ],
            hoverinfo="text",
        )
        for name, values in courses
    ]
    return _figure(
        traces,
        300,
        xaxis=_date_axis(days, step),
        yaxis={"title": {"text": axis}, "rangemode": "tozero", "nticks": 5},
    )


def stacked_shares(rows: Sequence[tuple[str, Sequence[float]]], parts: Sequence[str], *, unit: str) -> go.Figure:
    """One full-width bar per row, cut into the shares of the named parts.

    Its legend is the page's to write: beside long labels Plotly leaves a legend no room on a phone.
    """
    traces = []
    for position, part in enumerate(parts):
        shares = [100 * row[1][position] for row in rows]
        traces.append(
            go.Bar(
                orientation="h",
                name=plotly_literal(part),
                x=shares,
                y=list(range(len(rows))),
                hovertext=[
                    _hover([row[0], f"{part}: {value:.1f} % of {unit}"])
                    for row, value in zip(rows, shares, strict=True)
                ],
                hoverinfo="text",
            )
        )
    return _figure(
        traces,
        _FRAME + (_ROW + 6) * len(rows),
        barmode="stack",
        yaxis=_label_axis([row[0] for row in rows]),
        xaxis={"title": {"text": f"% of {unit}"}, "range": [0, 100], "nticks": 6},
        bargap=0.3,
    )

"""Plotly figures from plain numbers.

What they have in common is in ``figure_frame``; which figure answers which question is for ``sections`` to say.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import plotly.graph_objects as go

from civitai_pipeline.report import words
from civitai_pipeline.report.binning import nice_width
from civitai_pipeline.report.figure_frame import FRAME, ROW, count_axis, framed, hover, label_axis
from civitai_pipeline.report.text import plotly_literal, shortened

if TYPE_CHECKING:
    from collections.abc import Sequence

    from civitai_pipeline.report.binning import Bin

# Where an axis of ratios may have its marks: near 1 closely, further out in steps that double or so.
_RATIOS = (0.1, 0.2, 0.33, 0.5, 0.67, 0.8, 0.9, 1, 1.1, 1.25, 1.5, 2, 3, 5, 10)

# Ratios further from 1 than this have the same colour.
_FURTHEST = 5

# So few dates are marked themselves; of more, the months among them are.
_NAMED_DAYS = 18


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
        hovertext=[hover([label, f"{words.number(value)} {unit} ({written(value)})"]) for label, value in rows],
        hoverinfo="text",
    )
    return framed(
        [trace],
        FRAME + ROW * len(rows),
        yaxis=label_axis([label for label, _ in rows]),
        xaxis={
            "title": {"text": unit},
            "range": [0, max([*values, 1e-9])],
            "tickangle": 0,
            **count_axis(max([*values, 0])),
        },
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
        hovertext=[hover([f"{axis}: {bin_.label(whole=whole)}", f"{bin_.count:,} {unit}"]) for bin_ in bins],
        hoverinfo="text",
    )
    return framed(
        [trace],
        280,
        xaxis={"title": {"text": axis}, "showgrid": False, **ticks},
        yaxis={"title": {"text": unit}, "rangemode": "tozero", **count_axis(max(bin_.count for bin_ in bins))},
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
            hover([label, f"{words.number(value)} {unit} ({words.share(value, whole)})"]) for label, value in rows
        ],
        hoverinfo="text",
    )
    return framed(
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
    medians = go.Scatter(
        x=[p[2] for p in points],
        y=list(range(len(rows))),
        mode="markers",
        marker={"opacity": 0, "size": 18},
        hovertext=[hover([label, text]) for label, _, text in rows],
        hoverinfo="text",
    )
    return framed(
        [trace, medians],
        FRAME + (ROW + 3) * len(rows),
        yaxis=label_axis([row[0] for row in rows]),
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
        hovertext=[hover([f"{step} of {day}", f"{count:,} {unit}"]) for day, count in zip(days, counts, strict=True)],
        hoverinfo="text",
    )
    return framed(
        [trace],
        280,
        xaxis=_date_axis(days, step),
        yaxis={"title": {"text": unit}, "rangemode": "tozero", **count_axis(max(counts))},
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
        hovertext=[hover([label, text]) for label, _, text in rows],
        hoverinfo="text",
    )
    ends = [1.0, *(low for low, _, _ in points), *(high for _, _, high in points)]
    low, high = math.log10(min(ends)), math.log10(max(ends))
    margin = max((high - low) * 0.06, 0.01)
    ticks = [tick for tick in _RATIOS if low - margin <= math.log10(tick) <= high + margin]
    return framed(
        [trace],
        FRAME + (ROW + 3) * len(rows),
        yaxis=label_axis([row[0] for row in rows]),
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
                hover([name, f"{step} of {day}: {words.number(value, 1)} %"])
                for day, value in zip(days, values, strict=True)
            ],
            hoverinfo="text",
        )
        for name, values in courses
    ]
    return framed(
        traces,
        300,
        xaxis=_date_axis(days, step),
        yaxis={"title": {"text": axis}, "rangemode": "tozero", "nticks": 5},
    )


def heat_map(
    labels: Sequence[str], ratios: Sequence[Sequence[float | None]], said: Sequence[Sequence[str]]
) -> go.Figure:
    """A square of ratios around 1, from a fifth to five times and beyond; a blank where a ratio is missing.

    Args:
        labels: The names of rows and of columns.
        ratios: Above 0 or None, by row.
        said: What is said of each.
    """
    ends = math.log2(_FURTHEST)
    places = list(range(len(labels)))
    trace = go.Heatmap(
        x=places,
        y=places,
        z=[[None if ratio is None else max(-ends, min(ends, math.log2(ratio))) for ratio in row] for row in ratios],
        zmin=-ends,
        zmax=ends,
        # The middle is the page's ground, light or dark.
        colorscale=[[0, "rgb(213,94,0)"], [0.5, "rgba(128,128,128,0.06)"], [1, "rgb(0,114,178)"]],
        xgap=1,
        ygap=1,
        hoverongaps=False,
        hovertext=[[plotly_literal(text) for text in row] for row in said],
        hoverinfo="text",
        colorbar={
            "orientation": "h",
            "thickness": 10,
            "lenmode": "pixels",
            "len": 200,
            "x": 1,
            "xanchor": "right",
            "y": 1,
            "yanchor": "bottom",
            "tickvals": [-ends, -1, 0, 1, ends],
            "ticktext": [f"≤ 1/{_FURTHEST}", "1/2", "1", "2", f"≥ {_FURTHEST}"],
            "tickfont": {"size": 11},
            "outlinewidth": 0,
        },
    )
    axis = label_axis(labels)
    return framed(
        [trace],
        150 + 22 * len(labels),
        yaxis=axis,
        xaxis={**axis, "range": [-0.5, len(labels) - 0.5], "tickangle": -90},
        margin={"t": 44},
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
                    hover([row[0], f"{part}: {value:.1f} % of {unit}"]) for row, value in zip(rows, shares, strict=True)
                ],
                hoverinfo="text",
            )
        )
    return framed(
        traces,
        FRAME + (ROW + 6) * len(rows),
        barmode="stack",
        yaxis=label_axis([row[0] for row in rows]),
        xaxis={"title": {"text": f"% of {unit}"}, "range": [0, 100], "nticks": 6},
        bargap=0.3,
    )

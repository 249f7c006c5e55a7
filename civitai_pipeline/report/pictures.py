"""Charts so small that Dagster's UI shows them in place: SVG of a few hundred bytes, counted from the tables.

The UI draws Markdown metadata in place only below a thousand characters, and puts longer text behind a link. So
every chart here is as terse as SVG goes, and :func:`in_markdown` says what it becomes. Full-size bars are in
``svg``, the figures of the pages in ``figures``. Nothing here knows Dagster.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape

import duckdb

from civitai_pipeline.report import words
from civitai_pipeline.report.text import shortened

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pyarrow as pa

# The UI's own limit, in characters of the Markdown.
IN_PLACE = 1000
MOST_ROWS = 10
CONFIDENCE_BINS = 10

_ROW, _BAR_FROM, _BAR_ROOM = 16, 180, 120
_WIDTH, _HEIGHT = 300, 60
# These read on a light and on a dark ground.
_INK, _BAR = "#7a8290", "#3d8fd1"


def in_markdown(svg: str) -> str:
    """A picture as Markdown that needs no other file."""
    return f"![](data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()})"


def rows_svg(rows: Sequence[tuple[str, float]]) -> str:
    """Horizontal bars with their labels and numbers, cut to the rows that fit in place.

    Args:
        rows: Label and value, drawn in this order. Labels may be any text.
    """
    for shown in range(min(len(rows), MOST_ROWS), 0, -1):
        svg = _rows(rows[:shown], len(rows) - shown)
        if len(in_markdown(svg)) < IN_PLACE:
            return svg
    return _rows([], len(rows))


def _rows(rows: Sequence[tuple[str, float]], left_out: int) -> str:
    largest = max((value for _, value in rows), default=0) or 1
    texts, bars = [], []
    for position, (label, value) in enumerate(rows):
        middle = position * _ROW + 8
        texts.append(f'<text y="{middle + 4}">{escape(shortened(label, 18))} {words.number(value)}</text>')
        bars.append(f"M{_BAR_FROM} {middle}h{max(round(_BAR_ROOM * value / largest), 0)}")
    if left_out or not rows:
        said = f"and {left_out:,} more" if left_out else "Nothing yet."
        texts.append(f'<text y="{len(rows) * _ROW + 12}">{said}</text>')
    return _svg(_BAR_FROM + _BAR_ROOM, len(texts) * _ROW, f'<path stroke-width="9" d="{"".join(bars)}"/>', texts)


def columns_svg(first: str, last: str, values: Sequence[float]) -> str:
    """Upright bars side by side, with the largest value and the names of the first and the last bar.

    Args:
        first: What the first bar is of.
        last: What the last bar is of.
        values: One value for each bar. Where they are too many to fit in place, neighbours are added up.
    """
    together = 1
    while True:
        heights = [sum(values[start : start + together]) for start in range(0, len(values), together)]
        svg = _columns(first, last, heights) if heights else _rows([], 0)
        if len(in_markdown(svg)) < IN_PLACE:
            return svg
        together += 1


def _columns(first: str, last: str, heights: Sequence[float]) -> str:
    largest = max(heights) or 1
    step = max(_WIDTH // len(heights), 3)
    bars = "".join(
        f"M{position * step + step // 2} {_HEIGHT}v-{max(round((_HEIGHT - 16) * value / largest), 1)}"
        for position, value in enumerate(heights)
        if value
    )
    texts = [
        f'<text y="11">at most {words.number(largest)}</text>',
        f'<text y="{_HEIGHT + 14}">{escape(shortened(f"{first} to {last}", 40))}</text>',
    ]
    return _svg(_WIDTH, _HEIGHT + 18, f'<path stroke-width="{max(min(step - 2, 24), 2)}" d="{bars}"/>', texts)


def _svg(width: int, height: int, bars: str, texts: Sequence[str]) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}"><g stroke="{_BAR}">{bars}</g>'
        f'<g font-family="sans-serif" font-size="11" fill="{_INK}">{"".join(texts)}</g></svg>'
    )


def outcomes_svg(summary: Mapping[str, Any]) -> str:
    """What became of the items that a run fetched, from its summary."""
    return rows_svg([(outcome.replace("_", " "), summary[outcome]) for outcome in words.OUTCOMES])


def months_svg(prompts: pa.Table) -> str:
    """Images by month of ``created_at``, in UTC, from the columns ``created_at`` and ``prompt_withdrawn_at``."""
    rows = _rows_of(_MONTHS, prompts=prompts.select(["created_at", "prompt_withdrawn_at"]))
    return columns_svg(rows[0][0], rows[-1][0], [images for _, images in rows]) if rows else rows_svg([])


def resource_counts(prompts: pa.Table, prompt_resources: pa.Table, resource_type: str) -> list[tuple[str, int]]:
    """The resources of a type by the images that name them, most first.

    A resource is told by its version id, else by the id that its name has elsewhere if that is a single one, else
    by its name in lower case, else by its hash. Where several go by one name, the version id stands before it.
    """
    return _rows_of(
        _RESOURCES,
        [resource_type],
        prompts=prompts.select(["image_id", "prompt_withdrawn_at"]),
        prompt_resources=prompt_resources,
    )


def category_counts(prompt_categories: pa.Table) -> list[tuple[str, int, int, float]]:
    """Each category's name, images, images it is the primary one of, and mean confidence; most images first."""
    return _rows_of(_CATEGORIES, prompt_categories=prompt_categories)


def confidence_svg(prompt_categories: pa.Table) -> str:
    """How confident the primary categories are: a column for each tenth; ``uncategorized`` is not among them."""
    counts = dict(_rows_of(_CONFIDENCE, [CONFIDENCE_BINS], prompt_categories=prompt_categories))
    return columns_svg("confidence 0", "1", [counts.get(slot, 0) for slot in range(CONFIDENCE_BINS)])


_MONTHS = """
WITH counted AS (
    SELECT date_trunc('month', created_at AT TIME ZONE 'UTC') AS month, count(*) AS images
    FROM prompts WHERE created_at IS NOT NULL AND prompt_withdrawn_at IS NULL GROUP BY month
)
SELECT strftime(every.month, '%Y-%m'), coalesce(images, 0)
FROM (SELECT unnest(generate_series(min(month), max(month), INTERVAL 1 MONTH)) AS month FROM counted) every
LEFT JOIN counted USING (month) ORDER BY every.month
"""
_RESOURCES = """
WITH standing AS (
    SELECT image_id, resource_version_id AS id, resource_name AS name, lower(resource_name) AS folded,
           resource_hash AS hash
    FROM prompt_resources SEMI JOIN (FROM prompts WHERE prompt_withdrawn_at IS NULL) USING (image_id)
    WHERE resource_type = $1
), known AS (
    SELECT folded, any_value(id) AS known_id FROM standing GROUP BY folded HAVING count(DISTINCT id) = 1
), keyed AS (
    SELECT image_id, name, coalesce(id, known_id) AS found,
           coalesce('version ' || coalesce(id, known_id), folded, hash) AS key
    FROM standing LEFT JOIN known USING (folded)
), counted AS (
    SELECT key, any_value(found) AS id, coalesce(mode(name), key) AS label, count(DISTINCT image_id) AS images
    FROM keyed WHERE key IS NOT NULL GROUP BY key
)
-- Many go by a name such as "v1.0".
SELECT CASE WHEN count(*) OVER (PARTITION BY label) > 1 THEN coalesce(id || ' ', '') || label ELSE label END, images
FROM counted ORDER BY images DESC, key
"""
_CATEGORIES = """
SELECT category, count(*) AS images, count(*) FILTER (is_primary), avg(confidence)
FROM prompt_categories GROUP BY category ORDER BY images DESC, category
"""
_CONFIDENCE = """
SELECT least(floor(confidence * $1), $1 - 1)::INTEGER AS slot, count(*)
FROM prompt_categories WHERE is_primary AND category <> 'uncategorized' GROUP BY slot
"""


def _rows_of(sql: str, parameters: Sequence[object] = (), **tables: pa.Table) -> list[Any]:
    # Nothing may reach outside, whatever a prompt or a name says.
    with duckdb.connect(":memory:", config={"enable_external_access": "false"}) as connection:
        for name, table in tables.items():
            connection.register(name, table)
        return connection.execute(sql, list(parameters)).fetchall()

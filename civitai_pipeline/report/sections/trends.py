"""How the use of tags and LoRAs changes over time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from civitai_pipeline.report import figures, words
from civitai_pipeline.report.blocks import Block, Chart, Column, Table
from civitai_pipeline.report.text import quoted

if TYPE_CHECKING:
    from civitai_pipeline.report.workbench import Workbench

_QUESTION = "Which tags and LoRAs are coming, and which are going?"
_SHOWN_EACH_WAY = 10
_DRAWN = 6
# A period is set against the ones before it: as many as make the comparison steady, and few enough to be recent.
_PERIODS_BEFORE = 4

# By week, or by month where most weeks have too few authors. An author counts once a week; a period's share is the mean
# over its authors and weeks. Periods that the images do not reach the end of are left out.
_COURSES = """
CREATE OR REPLACE TEMP TABLE courses AS
WITH weeks AS (
    SELECT DISTINCT kind, week_start, authors_total FROM weekly_trends WHERE kind IN ('tag', 'lora')
), terms AS (
    SELECT kind, term_key, any_value(term) AS term FROM weekly_trends GROUP BY kind, term_key
), told AS (
    -- The table begins with the week of a term's first use; before that nobody used it.
    SELECT kind, term_key, any_value(terms.term) AS term, date_trunc($1, week_start AT TIME ZONE 'UTC') AS period,
           sum(weeks.authors_total)::BIGINT AS authors_total, coalesce(sum(authors), 0)::BIGINT AS authors,
           coalesce(sum(images), 0)::BIGINT AS images,
           coalesce(sum(author_share * weeks.authors_total), 0) / greatest(sum(weeks.authors_total), 1) AS share
    FROM terms JOIN weeks USING (kind) LEFT JOIN weekly_trends t USING (kind, term_key, week_start)
    GROUP BY kind, term_key, period
)
SELECT told.*, label,
       avg(CASE WHEN authors_total >= $2 THEN share END) OVER before AS share_before,
       count(CASE WHEN authors_total >= $2 THEN 1 END) OVER before AS periods_before
FROM told LEFT JOIN resource_labels l ON l.type = kind AND l.key = term_key
WHERE period + to_months(CASE $1 WHEN 'month' THEN 1 ELSE 0 END) + to_days(CASE $1 WHEN 'week' THEN 7 ELSE 0 END)
      <= (SELECT max(created) FROM prompts)
WINDOW before AS (PARTITION BY kind, term_key ORDER BY period ROWS BETWEEN 4 PRECEDING AND 1 PRECEDING)
"""
_CHANGED = """
WITH changed AS (
    SELECT *, share - share_before AS change FROM courses
    WHERE authors_total >= $1 AND periods_before > 0
          AND period = (SELECT max(period) FROM courses WHERE authors_total >= $1 AND periods_before > 0)
), ranked AS (
    SELECT *, row_number() OVER (PARTITION BY change > 0 ORDER BY abs(change) DESC, kind, term_key) AS place
    FROM changed WHERE change <> 0
)
SELECT coalesce(label, term, term_key), kind, term_key, share_before, share, change, authors, images, authors_total,
       strftime(period, '%Y-%m-%d')
FROM ranked WHERE place <= $2 ORDER BY change DESC, kind, term_key
"""


def trends(bench: Workbench) -> list[Block]:
    """The terms whose share of authors rose and fell most in the latest whole period, and their course."""
    if not bench.has("weekly_trends"):
        return []
    (typical,) = bench.row(
        """
        SELECT median(authors_total) FROM (
            SELECT DISTINCT week_start, authors_total FROM weekly_trends WHERE kind = 'tag'
        )
        """
    )
    step = "week" if (typical or 0) >= words.THIN else "month"
    bench.execute(_COURSES, step, words.THIN)
    rows = bench.rows(_CHANGED, words.THIN, _SHOWN_EACH_WAY)
    if not rows:
        return [
            Chart(
                _QUESTION,
                f"Nothing to draw: it takes two whole months of {words.THIN} authors each, an author counted once a "
                "week. The table weekly_trends has what there is.",
                None,
            )
        ]
    return [_chart(bench, rows, step)]


def period_name(first_day: str, step: str) -> str:
    """A week or month in a sentence: a week by its Monday, a month as ``2026-09``."""
    return first_day[:7] if step == "month" else first_day


def _chart(bench: Workbench, rows: list[tuple[Any, ...]], step: str) -> Chart:
    authors, first_day = rows[0][8:10]
    period = period_name(first_day, step)
    drawn = sorted(rows, key=lambda row: -abs(row[5]))[:_DRAWN]
    first = drawn[0]
    counted = "" if step == "week" else ", each counted once a week"
    return Chart(
        _QUESTION,
        f"n = {words.plural(authors, 'author')}{counted}, in the {step} of {period}. {quoted(first[0])} changed most: "
        f"from {words.share(first[3], 1)} of an author's images in up to {_PERIODS_BEFORE} {step}s before to "
        f"{words.share(first[4], 1)}.",
        figures.lines(*_courses(bench, drawn), step=step, axis="% of an author's images"),
        Table(
            f"Change in the {step} of {period} against up to {_PERIODS_BEFORE} {step}s before",
            [
                Column("term"),
                Column("kind"),
                Column("before", "share"),
                Column(f"in the {step}", "share"),
                Column("points", "number"),
                Column("authors", "count"),
                Column("images", "count"),
            ],
            [
                (name, kind, before, now, 100 * change, *counts)
                for name, kind, _, before, now, change, *counts, _, _ in rows
            ],
        ),
        "The share is the mean over authors of the share of their images with the term, so that one prolific author "
        f"makes no trend. Among the most used terms; a {step} with fewer than {words.THIN} authors is left out. A "
        "share also moves by chance: among hundreds of terms some will have moved far.",
        legend=[row[0] for row in drawn],
    )


def _courses(bench: Workbench, drawn: list[tuple[Any, ...]]) -> tuple[list[str], list[tuple[str, list[float | None]]]]:
    """The first day of each period, and for each term its percentage in each; None where authors are too few."""
    found: dict[tuple[str, str], dict[str, float | None]] = {}
    for kind, key, day, share in bench.rows(
        """
        SELECT kind, term_key, strftime(period, '%Y-%m-%d'), CASE WHEN authors_total >= $1 THEN 100 * share END
        FROM courses ORDER BY period
        """,
        words.THIN,
    ):
        found.setdefault((kind, key), {})[day] = share
    every = sorted({day for course in found.values() for day in course})
    # Before the first and after the last period with enough authors there is nothing to draw.
    told = [n for n, day in enumerate(every) if any(course.get(day) is not None for course in found.values())]
    days = every[told[0] : told[-1] + 1] if told else []
    return days, [(name, [found[kind, key].get(day) for day in days]) for name, kind, key, *_ in drawn]

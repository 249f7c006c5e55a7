"""Images over time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from civitai_pipeline.report import figures, words
from civitai_pipeline.report.blocks import Chart, Column, Section, Table
from civitai_pipeline.report.sections.phrases import n_of, nothing
from civitai_pipeline.report.sections.trends import period_name, trends

if TYPE_CHECKING:
    from civitai_pipeline.report.workbench import Workbench

# Five years of weeks: more bars than that are thinner than a phone's pixel.
_MOST_WEEKS = 260

_WEEKS = """
WITH counted AS (
    SELECT date_trunc('week', created) AS start, count(*) AS images, count(DISTINCT author) AS authors
    FROM prompts WHERE created IS NOT NULL GROUP BY start
)
SELECT strftime(every.start, '%Y-%m-%d'), coalesce(images, 0), coalesce(authors, 0)
FROM (SELECT unnest(generate_series(min(start), max(start), INTERVAL 7 DAY)) AS start FROM counted) every
LEFT JOIN counted ON counted.start = every.start
ORDER BY every.start
"""
_MONTHS = """
WITH counted AS (
    SELECT date_trunc('month', created) AS start, count(*) AS images, count(DISTINCT author) AS authors
    FROM prompts WHERE created IS NOT NULL GROUP BY start
)
SELECT strftime(every.start, '%Y-%m-%d'), coalesce(images, 0), coalesce(authors, 0)
FROM (SELECT unnest(generate_series(min(start), max(start), INTERVAL 1 MONTH)) AS start FROM counted) every
LEFT JOIN counted ON counted.start = every.start
ORDER BY every.start
"""


def timeline(bench: Workbench) -> Section:
    """Images per week, or per month where there are many weeks."""
    question = "When were the images made public?"
    dated, weeks = bench.row(
        "SELECT count(created), coalesce(date_diff('week', min(created), max(created)), 0) FROM prompts"
    )
    if not dated:
        return Section("time", "Over time", [nothing(question, "has a date", bench)])
    step = "week" if weeks <= _MOST_WEEKS else "month"
    rows = bench.rows(_WEEKS if step == "week" else _MONTHS)
    fullest = max(rows, key=lambda row: row[1])
    empty = sum(1 for row in rows if not row[1])
    chart = Chart(
        question,
        f"{n_of(dated, bench)}, over {words.plural(len(rows), step)}. The most came in the {step} of "
        f"{period_name(fullest[0], step)}: {words.plural(fullest[1], 'image')} by {words.plural(fullest[2], 'author')}."
        + (f" {words.plural(empty, step)} had none." if empty else ""),
        figures.timeline([row[0] for row in rows], [row[1] for row in rows], step=step, unit="images"),
        Table(
            f"Images per {step}, the latest first",
            [Column(f"{step} beginning", "date"), Column("images", "count"), Column("authors", "count")],
            rows[::-1][:60],
            f"The latest 60 of {words.plural(len(rows), step)}." if len(rows) > 60 else "",  # noqa: PLR2004 - as above
        ),
        "By the time the API sorts by, in UTC; weeks begin on Monday. The first and last bars may be cut by where "
        "collection began and stopped, and a walk that is not at its end lacks one side altogether.",
        dated < words.THIN,
    )
    return Section("time", "Over time", [chart, *trends(bench)])

"""Which words, LoRAs and settings go with more engagement, and how sure that is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from civitai_pipeline.report import figures, words
from civitai_pipeline.report.blocks import Block, Chart, Column, Table
from civitai_pipeline.report.text import quoted

if TYPE_CHECKING:
    from civitai_pipeline.report.workbench import Workbench

_QUESTION = "What goes with more engagement, or less, when each author is compared with themselves?"
# One in twenty of what is shown may be chance.
_FALSE_SHARE = 0.05
_SHOWN_EACH_WAY = 10


def lift(bench: Workbench) -> list[Block]:
    """The terms whose images draw most and least engagement, against the same authors' images without them."""
    if not bench.has("term_lift"):
        return []
    compared, found, authors = bench.row(
        """
        SELECT count(*), count(*) FILTER (WHERE q_value <= $1), max(authors_with)
        FROM term_lift WHERE comparison = 'within_authors'
        """,
        _FALSE_SHARE,
    )
    if not compared:
        return [
            Chart(_QUESTION, "Too few authors have images both with and without any term to compare them.", None),
        ]
    rows = bench.rows(
        """
        WITH told AS (
            SELECT * FROM term_lift WHERE comparison = 'within_authors' AND q_value <= $1 AND ratio_low IS NOT NULL
        ), ranked AS (
            SELECT *, row_number() OVER (PARTITION BY ratio > 1 ORDER BY abs(ln(ratio)) DESC, kind, term_key) AS place
            FROM told
        )
        SELECT coalesce(label, term, term_key), kind, ratio, ratio_low, ratio_high, images_with, authors_with, q_value
        FROM ranked LEFT JOIN resource_labels l ON l.type = kind AND l.key = term_key
        WHERE place <= $2 ORDER BY ratio DESC, kind, term_key
        """,
        _FALSE_SHARE,
        _SHOWN_EACH_WAY,
    )
    tested = f"n = {words.plural(compared, 'term')} compared, with up to {words.plural(authors or 0, 'author')} each. "
    if not rows:
        return [Chart(_QUESTION, f"{tested}None can be told from chance.", None)]
    chart = Chart(
        _QUESTION,
        f"{tested}{words.plural(found, 'term')} can be told from chance; images with {quoted(rows[0][0])} have "
        f"{words.number(rows[0][2])} times the engagement of the same authors' images without.",
        figures.intervals(
            [
                (
                    name,
                    (low, ratio, high),
                    (
                        f"{kind}: {words.number(ratio)} times, 95 % interval {words.number(low)} to "
                        f"{words.number(high)}; {words.plural(authors_with, 'author')}"
                    ),
                )
                for name, kind, ratio, low, high, _, authors_with, _ in rows
            ],
            axis="times the engagement",
        ),
        Table(
            "Engagement with a term against without it",
            [
                Column("term"),
                Column("kind"),
                Column("times", "number"),
                Column("95 % from", "number"),
                Column("to", "number"),
                Column("images", "count"),
                Column("authors", "count"),
                Column("q", "number"),
            ],
            [
                (
                    name,
                    kind,
                    ratio,
                    low,
                    high,
                    images,
                    authors_with,
                    round(q, 3),
                )
                for name, kind, ratio, low, high, images, authors_with, q in rows
            ],
        ),
        f"Of each author's images those with the term against those without; the {_SHOWN_EACH_WAY} furthest from 1 on "
        f"either side, of those that remain after correction for all comparisons (q at most {_FALSE_SHARE}). A term "
        "can stand for a subject, a time or a mood; that it goes with engagement does not mean that it brings any.",
    )
    return [chart]

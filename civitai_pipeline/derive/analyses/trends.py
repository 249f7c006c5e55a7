"""How the use of terms changes from week to week, an author weighing no more than another: weekly_trends."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

    from civitai_pipeline.derive.analyses.basis import Basis

# The most used terms of each kind; times the weeks, they bound the table.
MOST_TERMS = {"tag": 200, "lora": 100, "checkpoint": 30, "sampler": 20, "category": 20}
WEEKS_BEFORE = 4
# Below, one author's week is a fifth of the share and more.
LEAST_AUTHORS = 5


def weekly_trends(basis: Basis) -> pa.Table:
    """Share of each term in each week.

    A term's rows begin with the week it first appears in, and leave out weeks without images of its kind.
    """
    most = " ".join(f"WHEN '{kind}' THEN {number}" for kind, number in MOST_TERMS.items())
    return basis.table(_TRENDS.format(most=f"CASE kind {most} END", weeks=WEEKS_BEFORE, least=LEAST_AUTHORS))


# An author's share of a week's images is counted in billionths, as sums of integers do not depend on their order.
_TRENDS = """
WITH followed AS (SELECT kind, term, term_key, label FROM terms WHERE rank <= {most}),
authors AS (
    SELECT kind, week, author, count(*) AS images FROM kind_images WHERE week IS NOT NULL GROUP BY kind, week, author
),
weeks AS (
    SELECT kind, week, sum(images)::BIGINT AS images_total, count(author) AS authors_total
    FROM authors GROUP BY kind, week
),
used AS (
    SELECT term, week, author, count(*) AS images
    FROM term_images SEMI JOIN followed USING (term) WHERE week IS NOT NULL GROUP BY term, week, author
),
counted AS (
    SELECT term, week, sum(used.images)::BIGINT AS images, count(author) AS authors,
           sum(round(used.images / authors.images * 1e9)::BIGINT) AS billionths
    FROM used JOIN followed USING (term) LEFT JOIN authors USING (kind, week, author) GROUP BY term, week
),
every AS (
    SELECT kind, term, term_key, label, week, images_total, authors_total, coalesce(images, 0) AS images,
           coalesce(authors, 0) AS authors,
           CASE WHEN authors_total > 0
               THEN round(coalesce(billionths, 0) / authors_total)::BIGINT END AS share_billionths
    FROM followed JOIN weeks USING (kind) LEFT JOIN counted USING (term, week)
),
compared AS (
    SELECT *, count(*) FILTER (authors_total >= {least}) OVER before AS weeks_before,
           sum(share_billionths) OVER before AS sum_before,
           min(week) FILTER (images > 0) OVER (PARTITION BY term) AS since
    FROM every
    WINDOW before AS (
        PARTITION BY term ORDER BY week
        RANGE BETWEEN INTERVAL ({weeks} * 7) DAY PRECEDING AND INTERVAL 7 DAY PRECEDING
    )
)
SELECT kind, term_key, label AS term, strftime(week, '%G-W%V') AS week,
       week::TIMESTAMP AT TIME ZONE 'UTC' AS week_start, images, authors, images_total, authors_total,
       images / images_total AS share, share_billionths / 1e9 AS author_share,
       CASE WHEN weeks_before = {weeks} THEN sum_before::DOUBLE / {weeks} / 1e9 END AS author_share_before,
       CASE WHEN weeks_before = {weeks} AND authors_total >= {least}
           THEN (share_billionths - sum_before::DOUBLE / {weeks}) / 1e9 END AS change
FROM compared WHERE week >= since ORDER BY kind, term_key, week_start
"""

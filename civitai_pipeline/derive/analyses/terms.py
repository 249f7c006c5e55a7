"""Which tags are used, and which together: tag_frequencies, tag_pairs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from civitai_pipeline.derive.analyses.cooccurrence import count_together

if TYPE_CHECKING:
    from civitai_pipeline.derive.analyses.basis import Basis

# A tag of a single image is a name or a slip; beyond the most used ones each stands in a handful of images.
LEAST_IMAGES = 2
MOST_TAGS = 5_000

# Pairs grow with the square of the tags. One author's template would fill the list, so several must use a pair.
PAIRED_TAGS = 200
PAIR_LEAST_PROMPTS, PAIR_LEAST_AUTHORS = 5, 3

# In the order of the tables.
_SIDES = ("negative", "prompt")


def prepare(basis: Basis) -> None:
    """Makes ``prompt_ranks`` and ``negative_ranks``: each tag with its images, prompts, mean position and rank."""
    for side in _SIDES:
        basis.execute(_RANKED.format(side=side))


def tag_frequencies(basis: Basis) -> pa.Table:
    """The most used tags of each side."""
    return pa.concat_tables([basis.table(_FREQUENCIES.format(side=side), most=MOST_TAGS) for side in _SIDES])


_RANKED = f"""
CREATE TABLE {{side}}_ranks AS
WITH texts AS (SELECT {{side}} AS text, count(*) AS images FROM images WHERE {{side}} IS NOT NULL GROUP BY text),
counted AS (
    SELECT tag, sum(images)::BIGINT AS images, count(*) AS prompts,
           sum(position * images)::DOUBLE / sum(images) AS mean_position
    FROM {{side}}_tags JOIN texts USING (text) GROUP BY tag HAVING sum(images) >= {LEAST_IMAGES}
)
SELECT counted.*, name, row_number() OVER (ORDER BY images DESC, name)::INTEGER AS rank
FROM counted JOIN tags USING (tag)
"""  # noqa: S608 - our own number

_FREQUENCIES = """
WITH listed AS (SELECT * FROM {side}_ranks WHERE rank <= $most),
writers AS (SELECT DISTINCT {side} AS text, author FROM images WHERE author IS NOT NULL),
by_authors AS (
    SELECT tag, count(DISTINCT author) AS authors
    FROM {side}_tags JOIN (SELECT tag FROM listed) USING (tag) JOIN writers USING (text) GROUP BY tag
),
tagged AS (
    SELECT count(*) AS images_total FROM images SEMI JOIN {side}_tags ON {side}_tags.text = images.{side}
)
SELECT '{side}' AS side, rank, name AS tag, images, prompts, coalesce(authors, 0) AS authors, images_total,
       images / images_total AS share, mean_position
FROM listed LEFT JOIN by_authors USING (tag) CROSS JOIN tagged
ORDER BY rank
"""


def tag_pairs(basis: Basis) -> pa.Table:
    """Co-occurrence of the most used tags of prompts."""
    basis.execute(_PAIRED.format(most=PAIRED_TAGS))
    rows = basis.columns("SELECT first, author FROM pair_rows ORDER BY row")
    uses = basis.columns("SELECT row, term FROM prompt_tags JOIN paired USING (tag) JOIN pair_rows USING (text)")
    terms = len(basis.columns("SELECT term FROM paired")["term"])
    together = count_together(uses["row"], uses["term"], terms=terms, **rows)
    one, other = np.triu_indices(terms, k=1)
    kept = (together.prompts[one, other] >= PAIR_LEAST_PROMPTS) & (together.authors[one, other] >= PAIR_LEAST_AUTHORS)
    one, other = one[kept], other[kept]
    basis.register(
        "together",
        pa.table(
            {
                "one": one,
                "other": other,
                "images": together.images[one, other],
                "prompts": together.prompts[one, other],
                "authors": together.authors[one, other],
            }
        ),
    )
    return basis.table(_PAIRS)


_PAIRED = """
CREATE TEMP TABLE paired AS
SELECT tag, name, prompts, (row_number() OVER (ORDER BY name) - 1)::INTEGER AS term
FROM prompt_ranks WHERE rank <= {most};
CREATE TEMP TABLE pair_rows AS
SELECT prompt AS text, coalesce(author, -1) AS author, first,
       (row_number() OVER (ORDER BY coalesce(author, -1)) - 1)::INTEGER AS row
FROM images
"""

_PAIRS = """
WITH tagged AS (SELECT count(DISTINCT text) AS prompts_total FROM prompt_tags)
SELECT a.name AS tag, b.name AS other_tag, t.images, t.prompts, t.authors, a.prompts AS prompts_tag,
       b.prompts AS prompts_other, prompts_total,
       t.prompts * prompts_total / (a.prompts * b.prompts) AS lift
FROM together t JOIN paired a ON a.term = t.one JOIN paired b ON b.term = t.other CROSS JOIN tagged
ORDER BY tag, other_tag
"""

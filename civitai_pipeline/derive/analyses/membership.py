"""Which images have which term, for the analyses that look at several kinds of terms: term_lift, weekly_trends.

Kinds are ``tag``, ``lora``, ``checkpoint``, ``sampler`` and ``category``. Each has its images of reference, among
which a term is present or absent: those with a tag, those that name any resource (for LoRAs and checkpoints), those
whose sampler is known, and all. An image of which the kind is not known is not taken for one without the term.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from civitai_pipeline.derive.analyses.basis import Basis

# The most used terms of each kind. More comparisons would make each of them weaker.
MOST_TERMS = {"tag": 500, "lora": 200, "checkpoint": 50, "sampler": 30, "category": 20}


def prepare(basis: Basis) -> None:
    """Makes ``terms``, ``term_images`` and ``kind_images``.

    Looks at what ``resources`` and ``terms`` have prepared. ``terms`` has ``kind``, ``term`` (a number), ``term_key``,
    ``label`` and ``rank`` by images; ``term_images`` a row per term and image, and ``kind_images`` one per kind and
    image of reference, each with the image's ``author``, ``week`` and ``log_engagement``.
    """
    most = " ".join(f"WHEN '{kind}' THEN {number}" for kind, number in MOST_TERMS.items())
    basis.execute(_TERMS.format(most=f"CASE kind {most} END"))


_TERMS = """
CREATE TEMP TABLE named_terms AS
SELECT type AS kind, key AS term_key, image_id FROM used_resources WHERE type IN ('lora', 'checkpoint')
UNION ALL SELECT 'sampler', sampler, image_id FROM images WHERE sampler IS NOT NULL
UNION ALL SELECT 'category', category, image_id FROM categories;

CREATE TABLE terms AS
WITH counted AS (
    SELECT kind, term_key, label, count(*) AS images
    FROM named_terms LEFT JOIN resource_names ON type = kind AND key = term_key GROUP BY kind, term_key, label
    UNION ALL SELECT 'tag', name, name, images FROM prompt_ranks
),
ranked AS (
    SELECT *, row_number() OVER (PARTITION BY kind ORDER BY images DESC, term_key) AS rank FROM counted
)
SELECT kind, term_key, CASE WHEN kind IN ('lora', 'checkpoint') THEN label ELSE term_key END AS label, rank,
       row_number() OVER (ORDER BY kind, term_key)::INTEGER AS term
FROM ranked WHERE rank <= {most};

CREATE TABLE term_images AS
SELECT term, author, week, log_engagement
FROM terms JOIN tags ON kind = 'tag' AND name = term_key JOIN prompt_tags USING (tag)
JOIN images ON images.prompt = prompt_tags.text
UNION ALL
SELECT term, author, week, log_engagement
FROM terms JOIN named_terms USING (kind, term_key) JOIN images USING (image_id);

CREATE TABLE kind_images AS
WITH naming AS (SELECT DISTINCT image_id FROM used_resources)
SELECT 'tag' AS kind, author, week, log_engagement FROM images SEMI JOIN prompt_tags ON prompt_tags.text = images.prompt
UNION ALL
SELECT kind, author, week, log_engagement FROM images SEMI JOIN naming USING (image_id)
    CROSS JOIN (VALUES ('lora'), ('checkpoint')) AS kinds (kind)
UNION ALL SELECT 'sampler', author, week, log_engagement FROM images WHERE sampler IS NOT NULL
UNION ALL SELECT 'category', author, week, log_engagement FROM images;
"""

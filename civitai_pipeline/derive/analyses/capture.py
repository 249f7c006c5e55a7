"""How much is known of what the analyses rest on: capture_rates."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

    from civitai_pipeline.derive.analyses.basis import Basis

# What tells each fact of an image: an expression that is null where it is not known.
_FACTS = {
    "author": "author",
    "created_at": "week",
    "engagement": "log_engagement",
    "prompt": "prompt",
    "negative_prompt": "negative",
    "sampler": "sampler",
    "scheduler": "scheduler",
    "steps": "steps",
    "cfg_scale": "cfg_scale",
    "size": "width || 'x' || height",
    "seed": "seed",
    "clip_skip": "clip_skip",
    "checkpoint_name": "checkpoint_name",
    "generator": "nullif(generator, 'unknown')",
    "base_model": "base_model",
}


def capture_rates(basis: Basis) -> pa.Table:
    """For each fact, n of N; no rows where nothing is held."""
    facts = " UNION ALL ".join(
        f"SELECT '{fact}' AS fact, 'images' AS counted, count({told}) AS known, count(*) AS total, "  # noqa: S608 - our own
        f"count(DISTINCT {told}) AS different, (SELECT count(*) FROM knowing WHERE knows_{fact}) AS authors FROM images"
        for fact, told in _FACTS.items()
    )
    knows = ", ".join(f"count({told}) > 0 AS knows_{fact}" for fact, told in _FACTS.items())
    return basis.table(_CAPTURE.format(facts=facts, knows=knows, held=basis.held))


_CAPTURE = """
WITH named AS (SELECT image_id, type, key, weight, author FROM used_resources JOIN images USING (image_id)),
knowing AS (SELECT {knows} FROM images WHERE author IS NOT NULL GROUP BY author),
facts AS (
    {facts}
    UNION ALL
    SELECT 'standing', 'images', count(*), {held}, count(DISTINCT prompt), count(DISTINCT author) FROM images
    UNION ALL
    SELECT 'tag', 'images', count(*), (SELECT count(*) FROM images), (SELECT count(DISTINCT tag) FROM prompt_tags),
           count(DISTINCT author)
    FROM images SEMI JOIN prompt_tags ON prompt_tags.text = images.prompt
    UNION ALL
    SELECT 'resource', 'images', count(DISTINCT image_id), (SELECT count(*) FROM images),
           count(DISTINCT type || ' ' || key), count(DISTINCT author) FROM named
    UNION ALL
    SELECT 'checkpoint', 'images', count(DISTINCT image_id), (SELECT count(*) FROM images), count(DISTINCT key),
           count(DISTINCT author) FROM named WHERE type = 'checkpoint'
    UNION ALL
    SELECT 'lora', 'images', count(DISTINCT image_id), (SELECT count(*) FROM images), count(DISTINCT key),
           count(DISTINCT author) FROM named WHERE type = 'lora'
    UNION ALL
    SELECT 'lora_weight', 'LoRA uses', count(weight), count(*), count(DISTINCT weight),
           count(DISTINCT author) FILTER (weight IS NOT NULL) FROM named WHERE type = 'lora'
    UNION ALL
    SELECT 'category', 'images', count(DISTINCT image_id), (SELECT count(*) FROM images), count(DISTINCT category),
           count(DISTINCT author)
    FROM categories JOIN images USING (image_id) WHERE category <> 'uncategorized'
)
SELECT fact, counted, known, total, CASE WHEN total > 0 THEN known / total END AS capture_rate, different, authors
FROM facts WHERE {held} > 0 ORDER BY fact
"""

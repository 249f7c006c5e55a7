"""Which settings are used: setting_values, setting_recipes.

A setting that is not known is left out of the shares, and how often it is known stands beside each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

    from civitai_pipeline.derive.analyses.basis import Basis

# Sizes and names are free text and numbers: what comes after this many is one row, taken together.
MOST_VALUES = 200
MOST_RECIPES, RECIPE_LEAST_IMAGES = 200, 2
# 20 and 24 steps make the same picture; so do a CFG scale of 7 and 7.5, as far as anybody can see.
STEPS_PER_BIN, CFG_PER_BIN = 5, 1

# The value as text, and as a number where it is one.
_VALUES = {
    "sampler": ("sampler", "NULL"),
    "scheduler": ("scheduler", "NULL"),
    "steps": ("steps::VARCHAR", "steps"),
    "cfg_scale": (r"regexp_replace(cfg_scale::VARCHAR, '\.0$', '')", "cfg_scale"),
    "size": ("width || 'x' || height", "NULL"),
    "orientation": ("['portrait', 'square', 'landscape'][sign(width::BIGINT - height) + 2]", "NULL"),
    "clip_skip": ("clip_skip::VARCHAR", "clip_skip"),
    "checkpoint": ("checkpoint_name", "NULL"),
    "generator": ("nullif(generator, 'unknown')", "NULL"),
    "base_model": ("base_model", "NULL"),
}


def setting_values(basis: Basis) -> pa.Table:
    """How many images have each value of each setting, of those of which it is known."""
    told = " UNION ALL ".join(
        f"SELECT '{setting}' AS setting, {value} AS value, {number}::DOUBLE AS number, prompt, author "  # noqa: S608 - our own
        f"FROM images WHERE {value} IS NOT NULL"
        for setting, (value, number) in _VALUES.items()
    )
    return basis.table(_SETTING_VALUES.format(told=told, most=MOST_VALUES))


_SETTING_VALUES = """
WITH told AS ({told}),
ranked AS (
    SELECT setting, value, number, count(*) AS images,
           row_number() OVER (PARTITION BY setting ORDER BY images DESC, value, number)::INTEGER AS rank
    FROM told GROUP BY setting, value, number
),
listed AS (
    SELECT setting, least(rank, {most} + 1)::INTEGER AS rank, value AS written, number AS numeric FROM ranked
)
SELECT setting, rank,
       CASE WHEN rank <= {most} THEN any_value(value) END AS value,
       CASE WHEN rank <= {most} THEN any_value(number) END AS number,
       count(*) AS images, count(DISTINCT prompt) AS prompts, count(DISTINCT author) AS authors,
       (sum(count(*)) OVER (PARTITION BY setting))::BIGINT AS known, images / known AS share,
       images_total, known / images_total AS capture_rate
FROM told JOIN listed USING (setting) CROSS JOIN (SELECT count(*) AS images_total FROM images)
WHERE value = written AND number IS NOT DISTINCT FROM numeric
GROUP BY setting, rank, images_total ORDER BY setting, rank
"""


def setting_recipes(basis: Basis) -> pa.Table:
    """The most used combinations of sampler, steps, CFG scale and size."""
    return basis.table(
        _RECIPES.format(steps=STEPS_PER_BIN, cfg=CFG_PER_BIN, most=MOST_RECIPES, least=RECIPE_LEAST_IMAGES)
    )


_RECIPES = """
WITH told AS (
    SELECT prompt, author, engagement, sampler, width, height,
           (steps - 1) // {steps} * {steps} + 1 AS steps_from, floor(cfg_scale / {cfg}) * {cfg} AS cfg_from
    FROM images
    WHERE sampler IS NOT NULL AND steps > 0 AND cfg_scale >= 0 AND isfinite(cfg_scale)
          AND width IS NOT NULL AND height IS NOT NULL
),
counted AS (
    SELECT sampler, steps_from, cfg_from, width, height, count(*) AS images, count(DISTINCT prompt) AS prompts,
           count(DISTINCT author) AS authors, count(engagement) AS engagement_n,
           quantile_cont(engagement, 0.5) AS engagement_median
    FROM told GROUP BY sampler, steps_from, cfg_from, width, height
),
ranked AS (
    SELECT *, row_number() OVER (ORDER BY images DESC, sampler, steps_from, cfg_from, width, height) AS rank
    FROM counted
)
SELECT rank::INTEGER AS rank, sampler, steps_from, least(steps_from::BIGINT + {steps} - 1, 2147483647) AS steps_to,
       cfg_from, cfg_from + {cfg} AS cfg_below, width, height, images, prompts, authors, known, images / known AS share,
       images_total, known / images_total AS capture_rate, engagement_n, engagement_median
FROM ranked CROSS JOIN (SELECT count(*) AS known FROM told) CROSS JOIN (SELECT count(*) AS images_total FROM images)
WHERE rank <= {most} AND images >= {least} ORDER BY rank
"""

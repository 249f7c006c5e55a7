"""Which resources are used with which checkpoint, at what weight, and which together: resource_usage, resource_pairs.

An image names a resource by version id, by name or by file hash. Its key is the version id where there is one; else
the id that its name, or its hash, leads to in other images, if it leads to one id only; else the name, in lower case
without folders and the extension of a model file; else the hash. LyCORIS and DoRA files count as LoRAs, as prompts
call them by the same tags.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from civitai_pipeline.derive.analyses.cooccurrence import count_together

if TYPE_CHECKING:
    from civitai_pipeline.derive.analyses.basis import Basis

# Beyond these stand resources of a handful of images. With a single checkpoint one image is not a distribution.
MOST_RESOURCES, MOST_CHECKPOINTS, WITH_CHECKPOINT_LEAST_IMAGES = 2_000, 50, 2

# Four times as many together take more than DuckDB is let have.
_IMAGES_A_PART = 250_000

PAIRED_LORAS, PAIRED_CHECKPOINTS = 100, 30
PAIR_LEAST_IMAGES, PAIR_LEAST_AUTHORS = 5, 3


def prepare(basis: Basis) -> None:
    """Makes ``used_resources`` (a row per image and resource), ``resource_names`` and ``image_checkpoints``."""
    basis.execute(USED_RESOURCES.format(version=basis.model_version_id or 0))


# Needs the relation ``resources`` and the number of the version; reports tell resources apart by it as well.
#
# The checkpoint of an image that names several (a refiner, one for an enlargement) is the version collected, if it is
# among them, else the one named first.
USED_RESOURCES = r"""
CREATE TABLE used_resources AS
WITH named AS (
    SELECT image_id, position, weight, resource_name AS name, resource_version_id AS version_id,
           CASE WHEN resource_type IN ('lycoris', 'dora') THEN 'lora' ELSE resource_type END AS type,
           nullif(regexp_replace(regexp_replace(lower(trim(resource_name)), '^.*[/\\]', ''),
               '\.(?:safetensors|ckpt|pt|pth|bin|gguf|sft|onnx)$', ''), '') AS plain,
           nullif(left(resource_hash, 10), '') AS hash
    FROM resources
),
by_name AS (
    SELECT type, plain, min(version_id) AS version_id FROM named
    WHERE plain IS NOT NULL AND version_id IS NOT NULL GROUP BY type, plain HAVING min(version_id) = max(version_id)
),
by_hash AS (
    SELECT hash, min(version_id) AS version_id FROM named
    WHERE hash IS NOT NULL AND version_id IS NOT NULL GROUP BY hash HAVING min(version_id) = max(version_id)
),
keyed AS (
    SELECT n.*, coalesce(n.version_id, h.version_id, p.version_id) AS known_version
    FROM named n LEFT JOIN by_hash h USING (hash) LEFT JOIN by_name p ON p.type = n.type AND p.plain = n.plain
)
SELECT image_id, type,
       coalesce('version ' || known_version, 'name ' || plain, 'hash ' || hash, 'unnamed') AS key,
       any_value(known_version) AS version_id, min(position) AS position,
       arg_min(name, position) AS name, arg_min(weight, position) AS weight
FROM keyed GROUP BY image_id, type, key;

CREATE TABLE resource_names AS
SELECT type, key, name AS label FROM used_resources WHERE name IS NOT NULL GROUP BY type, key, name
QUALIFY row_number() OVER (PARTITION BY type, key ORDER BY count(*) DESC, name) = 1;

CREATE TABLE image_checkpoints AS
SELECT image_id, arg_min(key, CASE WHEN version_id = {version} THEN -1 ELSE position END) AS checkpoint
FROM used_resources WHERE type = 'checkpoint' GROUP BY image_id;
"""


def resource_usage(basis: Basis) -> pa.Table:
    """Use and weights of each resource: over all images, and for each checkpoint."""
    # Quantiles and counts of different values keep what they have seen in memory, so some resources at a time.
    parts = basis.held // _IMAGES_A_PART + 1
    basis.execute(_LISTED.format(most=MOST_RESOURCES, checkpoints=MOST_CHECKPOINTS, parts=parts))
    for part in range(parts):
        made = "INSERT INTO counted" if part else "CREATE TEMP TABLE counted AS"
        basis.execute(made + _COUNTED.format(part=part, least=WITH_CHECKPOINT_LEAST_IMAGES))
    return basis.table(_USAGE)


_LISTED = """
CREATE TEMP TABLE placed AS
SELECT image_id, prompt, author, engagement, engagement_millionths, coalesce(checkpoint, 'none') AS checkpoint
FROM images LEFT JOIN image_checkpoints USING (image_id);
CREATE TEMP TABLE checkpoints AS
SELECT checkpoint, count(*) AS images_total FROM placed GROUP BY checkpoint
QUALIFY checkpoint = 'none' OR row_number() OVER (ORDER BY checkpoint = 'none', images_total DESC, checkpoint)
    <= {checkpoints}
UNION ALL SELECT 'all', count(*) FROM placed;
CREATE TEMP TABLE listed AS
SELECT type, key, row_number() OVER (ORDER BY count(*) DESC, type, key) AS rank, rank % {parts} AS part
FROM used_resources GROUP BY type, key QUALIFY rank <= {most};
"""

_COUNTED = """
WITH used AS (
    SELECT placed.*, type, key, version_id, weight
    FROM used_resources SEMI JOIN (SELECT type, key FROM listed WHERE part = {part}) USING (type, key)
    JOIN placed USING (image_id)
),
grouped AS (
    SELECT * FROM used WHERE type <> 'checkpoint'
    UNION ALL SELECT * REPLACE ('all' AS checkpoint) FROM used
),
by_author AS (
    SELECT checkpoint, type, key, author, quantile_cont(weight, 0.5) AS weight
    FROM grouped WHERE weight IS NOT NULL AND author IS NOT NULL GROUP BY checkpoint, type, key, author
),
of_authors AS (
    SELECT checkpoint, type, key, count(*) AS weight_authors, quantile_cont(weight, 0.5) AS weight_author_median
    FROM by_author GROUP BY checkpoint, type, key
),
counted AS (
    SELECT checkpoint, type, key, any_value(version_id) AS version_id, count(*) AS images,
           count(DISTINCT prompt) AS prompts, count(DISTINCT author) AS authors, count(weight) AS weights,
           min(weight) AS weight_minimum, quantile_cont(weight, [0.25, 0.5, 0.75]) AS weight_quartiles,
           max(weight) AS weight_maximum, count(engagement) AS engagement_n,
           sum(engagement_millionths) / 1e6 / count(engagement) AS engagement_mean,
           quantile_cont(engagement, 0.5) AS engagement_median
    FROM grouped SEMI JOIN checkpoints USING (checkpoint) GROUP BY checkpoint, type, key
    HAVING count(*) >= {least} OR checkpoint = 'all'
)
SELECT * FROM counted LEFT JOIN of_authors USING (checkpoint, type, key)
"""

_USAGE = """
SELECT checkpoint AS checkpoint_key, c.label AS checkpoint, type AS resource_type, key AS resource_key,
       r.label AS resource, version_id AS resource_version_id, images, prompts, authors, images_total,
       images / images_total AS share, weights, (images - weights) / images AS weight_unknown_share,
       coalesce(weight_authors, 0) AS weight_authors, weight_minimum,
       weight_quartiles[1] AS weight_q1, weight_quartiles[2] AS weight_median, weight_quartiles[3] AS weight_q3,
       weight_maximum, weight_author_median, engagement_n,
       CASE WHEN engagement_n > 0 THEN engagement_mean END AS engagement_mean, engagement_median
FROM counted JOIN checkpoints USING (checkpoint)
LEFT JOIN resource_names r USING (type, key)
LEFT JOIN resource_names c ON c.type = 'checkpoint' AND c.key = checkpoint
ORDER BY checkpoint_key, resource_type, resource_key
"""


def resource_pairs(basis: Basis) -> pa.Table:
    """Pairs of LoRAs, and of a checkpoint and a LoRA.

    Chance is reckoned among images that name a LoRA (and, for a pair with a checkpoint, a checkpoint): where none is
    named, it is not known that none was used.
    """
    pairs = []
    for kind in ("checkpoint", "lora"):
        basis.execute(_PAIRED.format(kind=kind, loras=PAIRED_LORAS, checkpoints=PAIRED_CHECKPOINTS))
        rows = basis.columns("SELECT author, first FROM pair_images ORDER BY row")
        uses = basis.columns("SELECT row, term FROM pair_uses")
        types = basis.columns("SELECT type FROM paired ORDER BY term")["type"]
        together = count_together(uses["row"], uses["term"], terms=len(types), **rows)
        one, other = np.triu_indices(len(types), k=1)
        wanted = (types[one] == kind) & (types[other] == "lora")
        one, other = one[wanted], other[wanted]
        images, authors = together.images[one, other], together.authors[one, other]
        kept = (images >= PAIR_LEAST_IMAGES) & (authors >= PAIR_LEAST_AUTHORS)
        alone = np.diag(together.images)
        found = {
            "one": one, "other": other, "images": images, "authors": authors, "images_resource": alone[one],
            "images_lora": alone[other],
        }  # fmt: skip
        basis.register("together", pa.table({name: values[kept] for name, values in found.items()}))
        pairs.append(basis.table(_PAIRS))
    return pa.concat_tables(pairs)


_PAIRED = """
CREATE OR REPLACE TEMP TABLE pair_images AS
SELECT image_id, coalesce(author, -1) AS author, first,
       (row_number() OVER (ORDER BY coalesce(author, -1)) - 1)::INTEGER AS row
FROM images
WHERE image_id IN (SELECT image_id FROM used_resources WHERE type = 'lora')
      AND image_id IN (SELECT image_id FROM used_resources WHERE type = '{kind}');
CREATE OR REPLACE TEMP TABLE paired AS
WITH counted AS (
    SELECT type, key, row_number() OVER (PARTITION BY type ORDER BY count(*) DESC, key) AS rank
    FROM used_resources SEMI JOIN pair_images USING (image_id) WHERE type IN ('lora', '{kind}') GROUP BY type, key
)
SELECT type, key, (row_number() OVER (ORDER BY type, key) - 1)::INTEGER AS term
FROM counted WHERE rank <= CASE type WHEN 'lora' THEN {loras} ELSE {checkpoints} END;
CREATE OR REPLACE TEMP TABLE pair_uses AS
SELECT row, term FROM used_resources JOIN paired USING (type, key) JOIN pair_images USING (image_id);
"""

_PAIRS = """
SELECT a.type AS resource_type, a.key AS resource_key, an.label AS resource, b.key AS lora_key, bn.label AS lora,
       images, authors, images_resource, images_lora, images_total,
       images * images_total / (images_resource * images_lora) AS lift
FROM together t JOIN paired a ON a.term = t.one JOIN paired b ON b.term = t.other
CROSS JOIN (SELECT count(*) AS images_total FROM pair_images)
LEFT JOIN resource_names an ON an.type = a.type AND an.key = a.key
LEFT JOIN resource_names bn ON bn.type = b.type AND bn.key = b.key
ORDER BY resource_type, resource_key, lora_key
"""

r"""One version's tables in an in-memory DuckDB, with what several sections need derived once.

Relations that :class:`Workbench` offers:

* ``everything``: all rows of ``prompts``
* ``prompts``: those whose prompt still stands, with ``author`` (null when unnamed) and ``created`` in UTC, and
  ``repeats_exactly`` and ``repeats_nearly``: whether an earlier one says the same
* ``tags``, ``negative_tags``: one row per image and distinct comma-separated part of its prompt, once
  :meth:`Workbench.read_tags` has been called
* ``resources``: one row per image and distinct resource, with ``key``, ``label`` and ``weight``
* ``categories``: the categories of standing prompts
* ``rejected``: all rejected images

Questions put to these relations belong in ``sections``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import duckdb

if TYPE_CHECKING:
    from collections.abc import Iterator

    from civitai_pipeline.report.tables import VersionTables

    Parameter = float | str | list[str]

# A longer part is a sentence, not a tag: Danbooru's longest tags have about 60 characters.
TAG_LENGTH = 60

_PROMPTS = """
CREATE VIEW everything AS
SELECT
    image_id, prompt, negative_prompt, prompt_hash, near_duplicate_group, base_model,
    width, height, browsing_level, reaction_count, comment_count, steps, cfg_scale, sampler, scheduler, seed,
    clip_skip, checkpoint_name, generator, prompt_length, tag_count, word_count, engagement,
    prompt_withdrawn_at IS NOT NULL AS withdrawn,
    -- The API writes "unknown" for accounts that are gone.
    nullif(nullif(trim(username), ''), 'unknown') AS author,
    created_at AT TIME ZONE 'UTC' AS created
FROM prompts_in;
-- Not by duplicate_of: the first of equal prompts may be among the withdrawn.
CREATE TABLE prompts AS
SELECT *,
       image_id <> min(image_id) OVER (PARTITION BY prompt_hash) AS repeats_exactly,
       near_duplicate_group IS NOT NULL
           AND image_id <> min(image_id) OVER (PARTITION BY near_duplicate_group) AS repeats_nearly
FROM everything WHERE NOT withdrawn;
CREATE VIEW rejected AS SELECT * FROM rejected_in;
CREATE TABLE categories AS
SELECT c.image_id, c.category, c.confidence, c.is_primary, c.matched_keywords, c.taxonomy_version
FROM categories_in c SEMI JOIN prompts USING (image_id);
"""

# Escaped brackets belong to a tag (`mario \\(nintendo\\)`), plain ones are emphasis; the two private-use
# characters keep them apart while the emphasis goes.
_TAGS = r"""
CREATE MACRO tags_of(text) AS list_distinct(list_filter(list_transform(
    regexp_split_to_array(
        regexp_replace(
            regexp_replace(
                regexp_replace(
                    replace(replace(
                        lower(regexp_replace(text, '\bBREAK\b', ',', 'g')),
                    '\(', chr(57344)), '\)', chr(57345)),
                '<[a-z]+:[^<>]*>', ',', 'g'),
            ':\s*-?[0-9.]+\s*([)\]}])', '\1', 'g'),
        '[()\[\]{}]', '', 'g'),
    '[,\x{FF0C}\x{3001}\r\n]+'),
    lambda part: trim(regexp_replace(replace(replace(part, chr(57344), '('), chr(57345), ')'), '\s+', ' ', 'g'))),
    lambda part: part <> '' AND length(part) <= getvariable('tag_length')));
CREATE TABLE tags AS SELECT image_id, unnest(tags_of(prompt)) AS tag FROM prompts;
CREATE TABLE negative_tags AS
SELECT image_id, unnest(tags_of(negative_prompt)) AS tag FROM prompts WHERE negative_prompt IS NOT NULL;
"""

# A resource is the same when its version id is the same. Where one image names it by id and another only by
# file name, the name leads to the id if it leads to one id only.
_RESOURCES = """
CREATE TABLE resources AS
WITH standing AS (
    SELECT r.image_id, r.resource_type AS type, r.resource_name AS name, r.resource_version_id AS version_id,
           r.resource_hash AS hash, r.weight
    FROM resources_in r SEMI JOIN prompts USING (image_id)
),
known AS (
    SELECT type, lower(name) AS lower_name, min(version_id) AS version_id
    FROM standing WHERE name IS NOT NULL AND version_id IS NOT NULL
    GROUP BY ALL HAVING count(DISTINCT version_id) = 1
),
keyed AS (
    SELECT s.image_id, s.type, s.name, s.weight,
           CASE
               WHEN coalesce(s.version_id, k.version_id) IS NOT NULL
                   THEN 'version ' || coalesce(s.version_id, k.version_id)
               WHEN s.name IS NOT NULL THEN 'name ' || lower(s.name)
               ELSE coalesce('hash ' || s.hash, 'unnamed')
           END AS key
    FROM standing s
    LEFT JOIN known k ON s.type = k.type AND lower(s.name) = k.lower_name
),
labels AS (
    SELECT type, key, name FROM keyed WHERE name IS NOT NULL GROUP BY type, key, name
    QUALIFY row_number() OVER (PARTITION BY type, key ORDER BY count(*) DESC, name) = 1
)
SELECT k.image_id, k.type, k.key, coalesce(any_value(l.name), k.key) AS label, max(k.weight) AS weight
FROM keyed k LEFT JOIN labels l USING (type, key)
GROUP BY k.image_id, k.type, k.key;
"""


class Workbench:
    """The relations named above, open for queries; a context manager.

    Args:
        tables: What to load.
    """

    def __init__(self, tables: VersionTables) -> None:
        # Nothing may reach for the network, whatever a prompt says.
        self._connection = duckdb.connect(
            ":memory:",
            config={
                "autoinstall_known_extensions": "false",
                "autoload_known_extensions": "false",
                "enable_external_access": "false",
            },
        )
        self._connection.execute("SET TimeZone = 'UTC'")
        self._connection.execute(f"SET VARIABLE tag_length = {TAG_LENGTH}")
        self._connection.register("prompts_in", tables.prompts)
        self._connection.register("rejected_in", tables.rejected_images)
        self._connection.register("resources_in", tables.prompt_resources)
        self._connection.register("categories_in", tables.prompt_categories)
        for script in (_PROMPTS, _RESOURCES):
            self._connection.execute(script)
        self._tags_read = False
        self.tables = tables
        self.standing = self.count("SELECT count(*) FROM prompts")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def image_page(self, image_id: int) -> tuple[str, str]:
        """The address of an image's page on the site, and the text that leads there."""
        return f"{self.tables.site}/images/{image_id}", str(image_id)

    def read_tags(self) -> None:
        """Makes the relations of tags, which take longest and which not every reader needs."""
        if not self._tags_read:
            self._connection.execute(_TAGS)
            self._tags_read = True

    def execute(self, sql: str, *parameters: Parameter) -> None:
        """Makes a relation of one's own."""
        self._connection.execute(sql, list(parameters))

    def slabs(self, sql: str, rows: int, *parameters: Parameter) -> Iterator[dict[str, list[Any]]]:
        """What a query gives, column by column, so many rows at a time."""
        reader = self._connection.sql(sql, params=list(parameters)).to_arrow_reader(rows)
        for batch in reader:
            yield batch.to_pydict()

    def rows(self, sql: str, *parameters: Parameter) -> list[tuple[Any, ...]]:
        """The rows a query gives; queries whose order matters say ORDER BY down to a unique column."""
        return self._connection.execute(sql, list(parameters)).fetchall()

    def row(self, sql: str, *parameters: Parameter) -> tuple[Any, ...]:
        """The single row of an aggregate query."""
        (only,) = self.rows(sql, *parameters)
        return only

    def count(self, sql: str, *parameters: Parameter) -> int:
        """The single number of a counting query."""
        return int(self.row(sql, *parameters)[0])

r"""One version's tables in an in-memory DuckDB, with what several sections need derived once.

Relations that :class:`Workbench` offers:

* ``everything``: all rows of ``prompts``
* ``prompts``: those whose prompt still stands, with ``author`` (null when unnamed) and ``created`` in UTC, and
  ``repeats_exactly`` and ``repeats_nearly``: whether an earlier one says the same
* ``tags``, ``negative_tags``: one row per image and distinct comma-separated part of its prompt, once
  :meth:`Workbench.read_tags` has been called
* ``resources``: one row per image and distinct resource, with ``key``, ``label`` and ``weight``
* ``resource_labels``: the label of each ``type`` and ``key``
* ``categories``: the categories of standing prompts
* ``rejected``: all rejected images
* each table of ``VersionTables.analyses``, under its name

Questions put to these relations belong in ``sections``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlencode

import duckdb

from civitai_pipeline.derive.analyses.resources import USED_RESOURCES
from civitai_pipeline.derive.bounded import most_memory
from civitai_pipeline.lake.files import working_folder
from civitai_pipeline.report import words
from civitai_pipeline.report.names import explorer_file_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from civitai_pipeline.report.tables import VersionTables

    Parameter = float | str | list[str]

# A longer part is a sentence, not a tag: Danbooru's longest tags have about 60 characters.
TAG_LENGTH = 60

_PROMPTS = """
CREATE VIEW everything AS
SELECT
    image_id, prompt, prompt_hash, near_duplicate_group, base_model,
    width, height, browsing_level, reaction_count, comment_count, steps, cfg_scale, sampler, scheduler, seed,
    clip_skip, checkpoint_name, generator, prompt_length, tag_count, word_count, engagement,
    prompt_withdrawn_at IS NOT NULL AS withdrawn,
    -- Tools write an empty one where nothing was asked to be avoided.
    CASE WHEN trim(negative_prompt) <> '' THEN negative_prompt END AS negative_prompt,
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

# Resources are told apart as in the analyses, in a schema of their own: the relation they are read from is called
# ``resources`` there. What the API said when asked goes before what the metadata calls them: model and version. A name
# that several bear ("v1.0", where the metadata names the version only) gets its key besides.
_RESOURCES = """
CREATE SCHEMA told_apart;
CREATE VIEW told_apart.resources AS SELECT r.* FROM resources_in r SEMI JOIN main.prompts USING (image_id);
USE told_apart;
USED_RESOURCES
USE main;
CREATE TABLE resource_labels AS
WITH looked_up AS (
    SELECT type, key, resolved_name || ' · ' || resolved_version_name AS label
    FROM told_apart.used_resources JOIN told_apart.resources USING (image_id, position)
    WHERE resolved_name <> '' AND resolved_version_name <> '' GROUP BY type, key, label
    QUALIFY row_number() OVER (PARTITION BY type, key ORDER BY count(*) DESC, label) = 1
), named AS (
    SELECT type, key,
           coalesce(any_value(l.label), getvariable('own_names')[key], any_value(n.label), key) AS name
    FROM told_apart.used_resources LEFT JOIN told_apart.resource_names n USING (type, key)
    LEFT JOIN looked_up l USING (type, key) GROUP BY type, key
)
SELECT type, key, CASE WHEN count(*) OVER (PARTITION BY type, name) > 1 THEN name || ' (' || key || ')' ELSE name END
    AS label
FROM named;
CREATE TABLE resources AS
SELECT image_id, type, key, label, weight FROM told_apart.used_resources JOIN resource_labels USING (type, key);
""".replace("USED_RESOURCES", USED_RESOURCES)


class Workbench:
    """The relations named above, open for queries; a context manager.

    Args:
        tables: What to load.
    """

    def __init__(self, tables: VersionTables) -> None:
        # What does not fit lies in files meanwhile.
        self._folder = working_folder()
        # Nothing may reach for the network, whatever a prompt says.
        self._connection = duckdb.connect(
            ":memory:",
            config={
                "autoinstall_known_extensions": "false",
                "autoload_known_extensions": "false",
                "enable_external_access": "false",
                "memory_limit": f"{most_memory(len(tables.prompts))}B",
                "temp_directory": self._folder.name,
                "preserve_insertion_order": "false",
            },
        )
        self._connection.execute("SET TimeZone = 'UTC'")
        self._connection.execute(f"SET VARIABLE tag_length = {TAG_LENGTH}")
        self._connection.register("prompts_in", tables.prompts)
        self._connection.register("rejected_in", tables.rejected_images)
        self._connection.register("resources_in", tables.prompt_resources)
        self._connection.register("categories_in", tables.prompt_categories)
        for name, table in tables.analyses.items():
            self._connection.register(name, table)
        version_id = tables.info["model_version_id"]
        own_name = words.version_title(tables.info, version_id) if tables.info.get("model_name") else None
        self._connection.execute("SET VARIABLE own_names = MAP([$1], [$2])", [f"version {version_id}", own_name])
        self._connection.execute(_PROMPTS)
        self._connection.execute(_RESOURCES.format(version=int(version_id)))
        self._tags_read = False
        self.tables = tables
        self.standing = self.count("SELECT count(*) FROM prompts")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()
        self._folder.cleanup()

    def has(self, analysis: str) -> bool:
        """Whether an analysis is known."""
        return analysis in self.tables.analyses

    def explored(self, text: str, **asked: str) -> tuple[str, str]:
        """The address of the explorer with something asked for, and the text that leads there."""
        query = urlencode(asked)
        return f"{explorer_file_name(self.tables.info['model_version_id'])}#{query}", text

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

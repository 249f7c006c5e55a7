"""Wildcards: a text file for each category, one term a line, the most used first.

The terms are the evidence that the categories rest on: phrases of the taxonomy as the prompts word them. What a
wildcard extension would read as its own syntax or as a comment is left out.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from civitai_pipeline.lake.database import duckdb_explained

if TYPE_CHECKING:
    from pathlib import Path

    import duckdb

    from civitai_pipeline.export.options import ExportOptions
    from civitai_pipeline.lake.paths import Lake

# CivitAI counts R and above as not safe for work.
_NSFW_FROM_LEVEL = 4
_NSFW = "NSFW"
# Variants, weights, separators, other wildcards and comments of the dynamic-prompt extensions; tags and emphasis
# of the tools that read what they make; the end of a line.
_SYNTAX = re.compile(r"[{}|$#<>()\[\]:\\\r\n]|__")
# A category's name becomes a file's name.
_FILE_NAME = re.compile(r"[\w-]{1,50}", re.ASCII)


def write_wildcards(
    connection: duckdb.DuckDBPyConnection, lake: Lake, options: ExportOptions, level: int, folder: Path
) -> dict[str, int]:
    """Writes a file for each category that has a term; ``NSFW.txt`` only where R or more is asked for.

    Args:
        connection: Has the selection.
        lake: Where the tables are, for errors.
        options: How often a term must be used, and how many there may be.
        level: The maturity asked for.
        folder: The folder to write in.

    Returns:
        The number of terms by category.

    Raises:
        LakeError: A table cannot be read.
        OSError: A file cannot be written.
    """
    with duckdb_explained("read the tables in", str(lake.root)):
        # An image of several versions counts once, and images of unknown authors as one author's.
        rows = connection.execute(
            """
            SELECT category, term, count(DISTINCT image_id) AS images,
                   count(DISTINCT username) + (count(*) > count(username))::INTEGER AS authors
            FROM (
                SELECT c.category, unnest(c.matched_keywords) AS term, selection.image_id, selection.username
                FROM prompt_categories AS c JOIN selection USING (model_version_id, image_id)
            )
            GROUP BY category, term
            HAVING images >= $min_images AND authors >= $min_authors
            ORDER BY category, images DESC, authors DESC, term
            """,
            {"min_images": options.min_images, "min_authors": options.min_authors},
        ).fetchall()
    terms: dict[str, list[str]] = {}
    for category, term, _, _ in rows:
        shown = _FILE_NAME.fullmatch(category) and (category != _NSFW or level >= _NSFW_FROM_LEVEL)
        if shown and term.strip() and not _SYNTAX.search(term):
            terms.setdefault(category, []).append(term.strip())
    written = {category: found[: options.max_terms] for category, found in terms.items()}
    folder.mkdir()
    for category, found in written.items():
        (folder / f"{category}.txt").write_text("".join(f"{term}\n" for term in found), encoding="utf-8", newline="\n")
    return {category: len(found) for category, found in written.items()}

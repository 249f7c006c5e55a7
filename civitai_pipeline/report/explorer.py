"""The prompts as the explorer page reads them: one script file, written a slab of rows at a time.

A page opened from a folder may not fetch files, but it may load a script. So the file is a script of one call
after the other, each handing over a piece of JSON, packed with gzip and written in base64: whatever a prompt
holds, the file itself is plain ASCII and can neither end a script element nor hold code of others. Values that
recur are numbers that point into lists. What the page does with it is in ``templates``.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
from typing import TYPE_CHECKING, Any

import orjson

from civitai_pipeline.report import words
from civitai_pipeline.report.sections.categories import CATEGORIES
from civitai_pipeline.report.workbench import Workbench

if TYPE_CHECKING:
    from collections.abc import Iterator

    from civitai_pipeline.report.tables import VersionTables

# What a browser holds at ease: with 600 characters each, some 150 MB of its memory.
MOST_PROMPTS = 100_000

# A piece is unpacked at one go, so it must be small enough that the page answers meanwhile.
SLAB_ROWS = 4_000

# Columns whose values recur, with the SQL that gives them.
_LISTED = {
    "author": "author",
    "sampler": "sampler",
    "scheduler": "scheduler",
    "checkpoint": "checkpoint_name",
    "generator": "generator",
    "base_model": "base_model",
    "size": "CASE WHEN width IS NOT NULL AND height IS NOT NULL THEN width || ' × ' || height END",  # noqa: RUF001
}
_COUNTED = ("browsing_level", "reaction_count", "comment_count", "prompt_length", "steps", "clip_skip")

# JavaScript's numbers are exact up to here.
_LARGEST_EXACT = 2**53

# The newest half and, of the others, those with the most reactions: whoever looks for what is new finds it, and
# so does who looks for what was liked.
_HELD = """
CREATE TEMP TABLE held AS
WITH placed AS (
    SELECT image_id, prompt_hash, row_number() OVER (ORDER BY created DESC NULLS LAST, image_id DESC) AS place,
           coalesce(reaction_count, -1) AS reactions
    FROM prompts
), chosen AS (
    SELECT image_id, prompt_hash, place,
           row_number() OVER (ORDER BY place > $1 // 2, CASE WHEN place > $1 // 2 THEN -reactions END, place) AS choice
    FROM placed
)
SELECT image_id, prompt_hash, row_number() OVER (ORDER BY place) - 1 AS place FROM chosen WHERE choice <= $1
"""
_USED = """
CREATE TEMP TABLE used AS
SELECT r.image_id, r.weight, r.type, r.key, r.label,
       dense_rank() OVER (ORDER BY u.images DESC, r.type, r.key) - 1 AS number
FROM resources r
JOIN (SELECT type, key, count(*) AS images FROM resources SEMI JOIN held USING (image_id) GROUP BY type, key) u
    USING (type, key)
SEMI JOIN held USING (image_id)
"""
_ROWS = f"""
SELECT p.image_id, p.prompt, p.negative_prompt, p.seed,
       nullif(min(h.place) OVER (PARTITION BY h.prompt_hash), h.place) AS same_as,
       epoch_us(p.created) // 60000000 AS minute,
       CASE WHEN isfinite(p.cfg_scale) THEN p.cfg_scale END AS cfg_scale, round(p.engagement, 2) AS engagement,
       {", ".join(f"{sql} AS {name}" for name, sql in _LISTED.items())},
       {", ".join(f"p.{name}" for name in _COUNTED)},
       coalesce(c.touched, 0) AS touched, c.mainly, u.numbers, u.weights
FROM prompts p
JOIN held h USING (image_id)
LEFT JOIN (
    SELECT image_id, bit_or(1 << (list_position($1::VARCHAR[], category) - 1)) AS touched,
           max(list_position($1::VARCHAR[], category) - 1) FILTER (WHERE is_primary) AS mainly
    FROM categories GROUP BY image_id
) c USING (image_id)
LEFT JOIN (
    SELECT image_id, list(number ORDER BY number) AS numbers, list(weight ORDER BY number) AS weights
    FROM used GROUP BY image_id
) u USING (image_id)
ORDER BY h.place
"""  # noqa: S608 - made of our own words


def holding_in_words(standing: int, *, most: int = MOST_PROMPTS) -> str:
    """What the explorer holds and what it leaves out, in sentences."""
    if standing <= most:
        holds = (
            f"All {words.plural(standing, 'prompt')} that stand are here, of every browsing level that was collected, "
            "repeats included."
        )
    else:
        holds = (
            f"Of {words.plural(standing, 'prompt')} that stand, {most:,} are here, which is what a browser holds at "
            f"ease: the {most // 2:,} newest and, of the others, the {most - most // 2:,} with the most reactions. "
            "Exports and the database hold all."
        )
    return f"{holds} Nothing is left out until you ask for it, and nothing you type leaves this page."


def explorer_script(tables: VersionTables, *, most: int = MOST_PROMPTS, slab_rows: int = SLAB_ROWS) -> Iterator[bytes]:
    """The file that the explorer page loads, in pieces to be written one after the other.

    The first piece holds the lists, each further one the rows of a slab, the newest images first. Equal tables
    give equal files.

    Args:
        tables: The version's tables.
        most: The most prompts to hold.
        slab_rows: Rows in a piece.
    """
    with Workbench(tables) as bench:
        bench.execute(_HELD, most)
        bench.execute(_USED)
        lists = {name: _listed(bench, sql) for name, sql in _LISTED.items()}
        categories = _categories(bench)
        held = bench.count("SELECT count(*) FROM held")
        yield _call(
            {
                "rows": held,
                "slabs": -(-held // slab_rows),
                "lists": lists,
                "categories": categories,
                "resources": [
                    {"kind": kind, "name": label, "version": _version(key), "images": images}
                    for kind, key, label, images in bench.rows(
                        """
                        SELECT type, key, any_value(label), count(*) FROM used
                        GROUP BY number, type, key ORDER BY number
                        """
                    )
                ],
            }
        )
        codes = {name: {value: code for code, value in enumerate(values)} for name, values in lists.items()}
        texts: dict[bytes, int] = {}
        for rows in bench.slabs(_ROWS, slab_rows, categories):
            yield _call(_slab(rows, codes, texts))


def _listed(bench: Workbench, sql: str) -> list[str]:
    found = bench.rows(
        f"""
        SELECT {sql} AS value FROM prompts SEMI JOIN held USING (image_id)
        WHERE value IS NOT NULL GROUP BY value ORDER BY count(*) DESC, value
        """  # noqa: S608 - made of our own words
    )
    return [str(value) for (value,) in found]


def _categories(bench: Workbench) -> list[str]:
    found = {str(name) for (name,) in bench.rows("SELECT DISTINCT category FROM categories")}
    return [*CATEGORIES, *sorted(found - set(CATEGORIES))]


def _version(key: str) -> int | None:
    kind, _, number = key.partition(" ")
    return int(number) if kind == "version" else None


def _slab(rows: dict[str, list[Any]], codes: dict[str, dict[str, int]], texts: dict[bytes, int]) -> dict[str, Any]:
    """One slab's columns; ``texts`` knows the texts that earlier slabs brought, and learns the new ones."""
    brought: list[str] = []

    def number(text: str | None) -> int | None:
        if text is None:
            return None
        # The digest stands for the text, so that the texts themselves need not be kept.
        digest = hashlib.blake2b(text.encode(), digest_size=16).digest()
        known = texts.get(digest)
        if known is None:
            known = texts[digest] = len(texts)
            brought.append(text)
        return known

    slab: dict[str, Any] = {name: rows[name] for name in _COUNTED}
    slab["prompt"] = [number(text) for text in rows["prompt"]]
    slab["negative"] = [number(text) for text in rows["negative_prompt"]]
    for name, known in codes.items():
        slab[name] = [None if value is None else known[value] for value in rows[name]]
    for name in ("image_id", "minute", "cfg_scale", "engagement", "touched", "mainly", "same_as"):
        slab[name] = rows[name]
    slab["seed"] = [str(seed) if seed is not None and abs(seed) > _LARGEST_EXACT else seed for seed in rows["seed"]]
    slab["uses"] = [len(numbers or ()) for numbers in rows["numbers"]]
    slab["used"] = [number for numbers in rows["numbers"] for number in numbers or ()]
    slab["weights"] = [weight for weights in rows["weights"] for weight in weights or ()]
    slab["texts"] = brought
    return slab


def _call(piece: dict[str, Any]) -> bytes:
    packed = gzip.compress(orjson.dumps(piece), compresslevel=6, mtime=0)
    return b'promptData("' + base64.b64encode(packed) + b'");\n'

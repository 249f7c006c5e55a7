"""The tables of one version as the analyses need them: in an in-memory DuckDB, each thing derived once.

Relations that :class:`Basis` offers, all over the prompts that still stand (``prompt_withdrawn_at`` is null):

* ``images``: one row per image: ``image_id``, ``row`` (its place in the prompts table), ``prompt`` and ``negative``
  (the row of the image with the smallest id that has the same normalised prompt, or the same negative prompt to the
  letter; null where there is none), ``author`` (a number that means nothing but sameness), ``first`` (whether
  ``prompt`` is its own row), ``week`` (its Monday in UTC), ``engagement``, that and its logarithm in millionths,
  lengths, and the settings
* ``prompt_tags``, ``negative_tags``: one row per distinct prompt or negative prompt and distinct tag: ``text`` (the
  ``prompt`` or ``negative``), ``tag``, ``position`` of the first time; equal prompts have the tags of the first
* ``tags``: ``tag`` and its ``name``
* ``resources``, ``categories``: the tables of those names, of standing prompts

Texts are no relation: they are most of a version's bytes, and pass by some thousands at a time (``texts``). What the
relations take beyond a bound lies in temporary files.

Sums are taken over integers only (millionths, where a number has a fraction): a sum of floats depends on the
order in which threads add, and equal input must give equal tables.
"""

from __future__ import annotations

from contextlib import ExitStack
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from civitai_pipeline.derive.analyses.splitting import FOUND, Vocabulary, split_texts
from civitai_pipeline.derive.bounded import bounded_database, collect
from civitai_pipeline.lake import schemas

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import TracebackType

    from numpy.typing import NDArray

    from civitai_pipeline.lake.rows import Rows

SETTINGS = (
    "sampler", "scheduler", "steps", "cfg_scale", "width", "height", "seed", "clip_skip", "checkpoint_name",
    "generator", "base_model",
)  # fmt: skip
RESOURCE_COLUMNS = (
    "image_id", "position", "resource_type", "resource_name", "resource_version_id", "resource_hash", "weight",
)  # fmt: skip
CATEGORY_COLUMNS = ("image_id", "category")
# Of the prompts: what numbers are made of, and what goes into ``images``; the texts are read by themselves.
_NUMBERED = ("image_id", "prompt_hash", "username", "negative_prompt", "prompt_withdrawn_at")
_KEPT = ("image_id", "created_at", "prompt_length", "tag_count", "word_count", "engagement", *SETTINGS)
# All that is looked at. quality_score is not among them, on purpose: it counts words, and no word may be judged by it.
PROMPT_COLUMNS = tuple(sorted({"model_version_id", "prompt", *_NUMBERED, *_KEPT}))
_TEXTS = {"prompt": "prompt", "negative": "negative_prompt"}

_DIGEST = pa.binary(16)
TEXT = pa.schema([pa.field("text", pa.int32()), pa.field("content", pa.string())])


class Basis:
    """The relations named above, open for queries; a context manager.

    Args:
        prompts: The ``prompts`` table.
        prompt_resources: The ``prompt_resources`` table.
        prompt_categories: The ``prompt_categories`` table.

    Attributes:
        held: Images with a prompt, the withdrawn among them.
    """

    def __init__(self, prompts: Rows, prompt_resources: Rows, prompt_categories: Rows) -> None:
        self.held = len(prompts)
        self.model_version_id = _version(prompts)
        self._prompts = prompts
        with ExitStack() as stack:
            self._connection = stack.enter_context(bounded_database(self.held))
            self._load_images()
            self._load_tags()
            self.collect(
                "resources",
                _of(schemas.PROMPT_RESOURCES, RESOURCE_COLUMNS),
                self._standing(prompt_resources, RESOURCE_COLUMNS),
            )
            self.collect(
                "categories",
                _of(schemas.PROMPT_CATEGORIES, CATEGORY_COLUMNS),
                self._standing(prompt_categories, CATEGORY_COLUMNS),
            )
            self._open = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._open.close()

    def execute(self, sql: str) -> None:
        """Runs statements that make relations; what they make is for one family alone."""
        self._connection.execute(sql)

    def table(self, sql: str, **parameters: float | str | None) -> pa.Table:
        """What a query gives, with ``model_version_id`` before it; parameters are ``$name`` in the query."""
        data = self._connection.sql(sql, params=parameters or None).to_arrow_table()
        version = pa.array(np.full(len(data), self.model_version_id or 0, dtype=np.int64))
        return data.add_column(0, "model_version_id", version)

    def columns(self, sql: str) -> dict[str, NDArray[Any]]:
        """What a query gives, as arrays; no nulls."""
        arrays: dict[str, NDArray[Any]] = self._connection.sql(sql).fetchnumpy()
        return arrays

    def register(self, name: str, data: pa.Table) -> None:
        """Makes a table known to queries."""
        self._connection.register(name, data)

    def collect(self, relation: str, empty: pa.Table, parts: Iterable[pa.Table], select: str = "*") -> None:
        """Makes a relation from a stream of tables, as :func:`bounded.collect` does."""
        collect(self._connection, relation, empty, parts, select)

    def texts(self, side: str, *, distinct: bool) -> Iterator[pa.Table]:
        """The prompts (``side`` is ``prompt``) or negative prompts (``negative``), some thousands at a time.

        Args:
            side: Which texts.
            distinct: Whether of equal ones only the first is wanted.

        Yields:
            Tables of the schema :data:`TEXT`: ``text`` is the row of an image, ``content`` the text.
        """
        numbers = self._number_of[side]
        rows = numbers[numbers == self._rows] if distinct else self._rows[numbers >= 0]
        done = 0
        for part in self._prompts.at(rows, [_TEXTS[side]]):
            yield pa.table([rows[done : done + len(part)], part.column(0)], schema=TEXT)
            done += len(part)

    def _load_images(self) -> None:
        self._number()
        done, columns = 0, list(_KEPT)
        names = ("row", "prompt", "negative", "author")

        def parts() -> Iterator[pa.Table]:
            nonlocal done
            for part in self._prompts.at(self._rows, columns):
                here = slice(done, done + len(part))
                done += len(part)
                numbers = (self._rows, *(self._number_of[name] for name in names[1:]))
                arrays = [pa.array(values[here], mask=values[here] < 0) for values in numbers]
                yield pa.table([*part.columns, *arrays], names=[*columns, *names])

        empty = _of(schemas.PROMPTS, columns)
        for name in names:
            empty = empty.append_column(name, pa.array([], pa.int32()))
        self.collect("images", empty, parts(), _IMAGE)

    def _number(self) -> None:
        """Finds the rows that stand, and gives their prompts, negative prompts and authors numbers."""
        ids, rows, done = [np.zeros(0, np.int64)], [np.zeros(0, np.int32)], 0
        prompts, negatives, authors = ([pa.array([], kind)] for kind in (pa.string(), _DIGEST, pa.string()))
        for batch in self._prompts.batches(_NUMBERED):
            stands = batch.column("prompt_withdrawn_at").is_null()
            rows.append(np.flatnonzero(stands.to_numpy(zero_copy_only=False)).astype(np.int32) + np.int32(done))
            done += len(batch)
            standing = batch if pc.all(stands).as_py() else batch.filter(stands)
            ids.append(standing.column("image_id").to_numpy())
            prompts.append(standing.column("prompt_hash"))
            negatives.append(_digests(_written(standing.column("negative_prompt"))))
            authors.append(authors_of(standing.column("username")))
        self._rows, every_id = np.concatenate(rows), np.concatenate(ids)
        self._ids = np.sort(every_id)
        # Larger ids first, so that of equal ones the smallest has the last word.
        order = np.argsort(every_id)[::-1]
        self._number_of = {
            "prompt": self._firsts(_codes(prompts), order),
            "negative": self._firsts(_codes(negatives), order),
            "author": _codes(authors),
        }

    def _firsts(self, codes: NDArray[np.int32], order: NDArray[np.int64]) -> NDArray[np.int32]:
        """For each row that stands the first one that has its code; -1 for one without a code."""
        # The last place is for those without.
        first = np.full(int(codes.max(initial=-1)) + 2, -1, np.int32)
        first[codes[order]] = self._rows[order]
        first[-1] = -1
        found: NDArray[np.int32] = first[codes]
        return found

    def _load_tags(self) -> None:
        """Cuts the first text of each distinct prompt, and each distinct negative prompt."""
        vocabulary = Vocabulary()
        for side in _TEXTS:
            self.collect(f"{side}_tags", FOUND.empty_table(), split_texts(self.texts(side, distinct=True), vocabulary))
        names = pa.table({"tag": np.arange(len(vocabulary.names), dtype=np.int32), "name": vocabulary.names})
        self._connection.register("tags", names)
        # The slices' parts, a quarter of what 100,000 prompts take, would otherwise be kept for Arrow's next table.
        pa.default_memory_pool().release_unused()

    def _standing(self, table: Rows, columns: tuple[str, ...]) -> Iterator[pa.Table]:
        """The rows of a table whose image's prompt stands."""
        for batch in table.batches(columns):
            images = batch.column("image_id").to_numpy()
            place = np.minimum(np.searchsorted(self._ids, images), len(self._ids) - 1)
            kept = self._ids[place] == images if len(self._ids) else np.zeros(len(images), bool)
            yield pa.Table.from_batches([batch if kept.all() else batch.filter(pa.array(kept))])


def _version(prompts: Rows) -> int | None:
    for batch in prompts.batches(["model_version_id"]):
        return int(batch.column(0)[0].as_py())
    return None


def _of(table: schemas.Table, columns: Iterable[str]) -> pa.Table:
    return table.arrow_schema.empty_table().select(list(columns))


def authors_of(usernames: pa.Array) -> pa.Array:
    """Who made an image; null where the API names nobody, or "unknown", as it does for accounts that are gone."""
    trimmed = pc.utf8_trim_whitespace(usernames)
    unnamed = pc.is_in(trimmed, value_set=pa.array(["", "unknown"]))
    return pc.if_else(unnamed, pa.scalar(None, pa.string()), trimmed)


def _written(texts: pa.Array) -> pa.Array:
    """``texts`` with a null for what is white space only."""
    blank = pc.equal(pc.utf8_trim_whitespace(texts), "")
    return pc.if_else(blank, pa.scalar(None, pa.string()), texts)


def _digests(texts: pa.Array) -> pa.Array:
    """A number of 128 bits for each text, null for null: what equal ones are known by without keeping them."""
    encoded = pc.dictionary_encode(texts)
    digests = [blake2b(text.encode(), digest_size=16).digest() for text in encoded.dictionary.to_pylist()]
    return pa.array(digests, _DIGEST).take(encoded.indices)


def _codes(values: list[pa.Array]) -> NDArray[np.int32]:
    """A number for each value, the same for equal ones; -1 for null."""
    encoded = pc.dictionary_encode(pa.chunked_array(values)).combine_chunks()
    codes: NDArray[np.int32] = pc.fill_null(encoded.indices, -1).to_numpy()
    return codes


# Reactions fit 32 bits and the prior is worth a tenth of one at least, so engagement lies well within the bounds.
_IMAGE = """
* EXCLUDE (created_at, engagement), prompt = row AS first,
date_trunc('week', created_at AT TIME ZONE 'UTC')::DATE AS week,
CASE WHEN part.engagement BETWEEN 1e-12 AND 1e12 THEN part.engagement END AS engagement,
round(CASE WHEN part.engagement BETWEEN 1e-12 AND 1e12 THEN part.engagement END * 1e6)::BIGINT AS engagement_millionths,
round(ln(CASE WHEN part.engagement BETWEEN 1e-12 AND 1e12 THEN part.engagement END) * 1e6)::BIGINT AS log_engagement
"""

"""The table prompt_categories, made from the prompts table.

Belongs here: which prompts are categorized anew and which decisions are taken over. Deciding is in
``prompts``; what a new taxonomy changed is in ``category_changes``.

Columns only: a row is never a Python object. A prompt is categorized once, however many images have it,
and not again while taxonomy and code stay the same. Images pass by in their order, some thousands at a time; of all
of them only ids and hashes are in memory, and the decisions that later images with equal prompts will need.
"""

from __future__ import annotations

import logging
from hashlib import blake2b
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from civitai_pipeline.derive.provenance import Stream, derived
from civitai_pipeline.lake import schemas
from civitai_pipeline.lake.rows import HeldRows
from civitai_pipeline.lake.tables import DamagedTableError
from civitai_pipeline.prompts.arrays import spread

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from civitai_pipeline.lake.paths import Lake
    from civitai_pipeline.lake.rows import Rows
    from civitai_pipeline.lake.tables import TableFile
    from civitai_pipeline.prompts.categories import Categorizer
    from civitai_pipeline.prompts.taxonomy import Taxonomy

log = logging.getLogger(__name__)

# Raised whenever the same prompts and taxonomy would give other rows.
CODE_VERSION = "3"

# Some 50,000 rows.
_IMAGES_AT_ONCE = 10_000
_COLUMNS = [column.name for column in schemas.PROMPT_CATEGORIES.columns]


def build_categories(prompts: Rows, earlier: Rows | None, categorizer: Categorizer) -> Stream:
    """Categorizes each prompt.

    Args:
        prompts: The prompts table, in its order.
        earlier: The table as it stands; what it says of an image, and of the prompts equal to its own that come
            behind it, is taken over where the same taxonomy and code said it.
        categorizer: Decides the categories of the other prompts.
    """
    version = categories_version(categorizer.taxonomy)
    if earlier is None or earlier.provenance is None or earlier.provenance.code_version != version:
        earlier = HeldRows(schemas.PROMPT_CATEGORIES.arrow_schema.empty_table())
    parts = _categorized(prompts, earlier, categorizer)
    return Stream(schemas.PROMPT_CATEGORIES, derived(prompts.provenance, version), parts)


def stage_categories(
    lake: Lake, version: int, prompts: Rows, earlier: Rows | None, categorizer: Categorizer
) -> TableFile:
    """Writes the table under a temporary name; as :func:`build_categories`, and anew if ``earlier`` is damaged.

    Raises:
        LakeError: The lake cannot be read or written.
    """
    try:
        return build_categories(prompts, earlier, categorizer).stage(lake, version)
    except DamagedTableError as error:
        if earlier is None:
            raise
        log.warning("%s; categorizing the prompts of model version %d anew", error, version)
        return build_categories(prompts, None, categorizer).stage(lake, version)


def _categorized(prompts: Rows, earlier: Rows, categorizer: Categorizer) -> Iterator[pa.Table]:
    images, hashes = _images_and_hashes(prompts)
    known = _known(earlier)
    place = np.minimum(np.searchsorted(known.images, images), len(known.images) - 1)
    same = np.zeros(len(images), bool)
    if len(known.images):
        equal = pc.equal(known.hashes.take(pa.array(place)), hashes).to_numpy(zero_copy_only=False)
        same = equal & (known.images[place] == images)
    # Numbers are given in the order of meeting, so a prompt is met first where they reach higher than ever before.
    numbers = pc.dictionary_encode(hashes).indices.to_numpy()
    is_first = np.diff(np.maximum.accumulate(numbers), prepend=-1) > 0
    is_fresh, is_repeated = is_first & ~same, ~is_first & ~same
    is_needed = np.zeros(int(numbers.max(initial=-1)) + 1, bool)
    is_needed[numbers[is_repeated]] = True
    held = place[same]
    taken = _Ahead(earlier.at(spread(known.begins[held], known.counts[held]), _COLUMNS))
    texts = _Ahead(prompts.at(np.flatnonzero(is_fresh), ["prompt"]))
    kept = _Kept(len(is_needed))
    describe = _Describe(prompts, images, hashes, categorizer)
    for begin in range(0, len(images), _IMAGES_AT_ONCE):
        here = slice(begin, begin + _IMAGES_AT_ONCE)
        fresh = np.flatnonzero(is_fresh[here]) + begin
        parts = taken.take(int(known.counts[place[here][same[here]]].sum()))
        if len(fresh):
            parts.append(describe.fresh(texts.take(len(fresh)), fresh))
        made = _in_order(parts)
        needed = np.flatnonzero(is_first[here] & is_needed[numbers[here]]) + begin
        kept.keep(made, images[needed], numbers[needed])
        repeated = np.flatnonzero(is_repeated[here]) + begin
        if len(repeated):
            made = _in_order([made, describe.of_images(*kept.of(numbers[repeated]), repeated)])
        yield made


def categories_version(taxonomy: Taxonomy) -> str:
    """The code version of a table that is decided by ``taxonomy``: this code's, the taxonomy's and its content's.

    The content counts so that a file edited without a new version is noticed, too.
    """
    return f"{CODE_VERSION}/{taxonomy.version}/{taxonomy.fingerprint}"


def _images_and_hashes(prompts: Rows) -> tuple[NDArray[np.int64], pa.Array]:
    """For each prompt its image and the hash that decides its categories: equal hashes, equal categories.

    The categorizer reads the end of a line as a comma, and the normal form folds it to a space. So prompts
    that hold line ends are told apart by their text, and all others by their ``prompt_hash``.
    """
    images, hashes = [np.zeros(0, np.int64)], [pa.array([], pa.string())]
    for batch in prompts.batches(["image_id", "prompt_hash", "prompt"]):
        images.append(batch.column("image_id").to_numpy())
        lines = pc.match_substring(batch.column("prompt"), "\n")
        texts = batch.column("prompt").filter(lines).to_pylist()
        own = pa.array([blake2b(text.encode(), digest_size=16).hexdigest() for text in texts], pa.string())
        hashes.append(pc.replace_with_mask(batch.column("prompt_hash"), lines, own))
    return np.concatenate(images), pa.concat_arrays(hashes)


class _Known(NamedTuple):
    """Which images an earlier table has, in its order.

    Attributes:
        images: Their ids.
        hashes: What was categorized.
        begins, counts: Where the rows of each begin, and how many they are.
    """

    images: NDArray[np.int64]
    hashes: pa.Array
    begins: NDArray[np.int64]
    counts: NDArray[np.int64]


def _known(earlier: Rows) -> _Known:
    images, begins = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    hashes, last, done = [pa.array([], pa.string())], -1, 0
    for batch in earlier.batches(["image_id", "categorized_hash"]):
        of_rows = batch.column("image_id").to_numpy()
        opens = np.flatnonzero(np.diff(of_rows, prepend=last))
        images.append(of_rows[opens])
        begins.append(opens + done)
        hashes.append(batch.column("categorized_hash").take(pa.array(opens)))
        last, done = of_rows[-1] if len(of_rows) else last, done + len(batch)
    begin = np.concatenate(begins)
    return _Known(np.concatenate(images), pa.concat_arrays(hashes), begin, np.diff(begin, append=done))


class _Ahead:
    """A stream of tables, from which rows are taken one after the other."""

    def __init__(self, tables: Iterator[pa.Table]) -> None:
        self._tables = tables
        self._rest: pa.Table | None = None

    def take(self, count: int) -> list[pa.Table]:
        taken = []
        while count:
            rest = next(self._tables) if self._rest is None else self._rest
            taken.append(rest.slice(0, count))
            count -= len(taken[-1])
            self._rest = rest.slice(len(taken[-1])) if len(taken[-1]) < len(rest) else None
        return taken


class _Kept:
    """Decisions that later images will need."""

    def __init__(self, prompts: int) -> None:
        self._rows = schemas.PROMPT_CATEGORIES.arrow_schema.empty_table()
        self._begins, self._counts = np.zeros(prompts, np.int64), np.zeros(prompts, np.int64)

    def keep(self, made: pa.Table, images: NDArray[np.int64], numbers: NDArray[np.int32]) -> None:
        """Keeps the rows of some images, which are among ``made``, under the numbers of their prompts."""
        if not len(images):
            return
        of_rows = made.column("image_id").to_numpy()
        begins = np.searchsorted(of_rows, images)
        counts = np.searchsorted(of_rows, images, side="right") - begins
        self._counts[numbers] = counts
        self._begins[numbers] = np.cumsum(counts) - counts + len(self._rows)
        rows = made.take(pa.array(spread(begins, counts)))
        self._rows = pa.concat_tables([self._rows, rows.cast(self._rows.schema)]).combine_chunks()

    def of(self, numbers: NDArray[np.int32]) -> tuple[pa.Table, NDArray[np.int64]]:
        """The rows of some prompts, one prompt's after the other's, and for each its prompt's place among them."""
        counts = self._counts[numbers]
        rows = self._rows.take(pa.array(spread(self._begins[numbers], counts)))
        return rows, np.repeat(np.arange(len(numbers)), counts)


class _Describe:
    """Decisions to rows of the table."""

    def __init__(self, prompts: Rows, images: NDArray[np.int64], hashes: pa.Array, categorizer: Categorizer) -> None:
        self._images, self._hashes, self._categorizer = images, hashes, categorizer
        first = next(prompts.batches(["model_version_id"]), None)
        self._version = None if first is None else first.column(0)[0]

    def fresh(self, texts: list[pa.Table], places: NDArray[np.int64]) -> pa.Table:
        """The rows of images whose prompts are categorized now.

        Args:
            texts: Their prompts, as tables of one column.
            places: Their places among the images.
        """
        decided = self._categorizer.categorize_all(pa.concat_tables(texts).column(0))
        names = pc.dictionary_encode(decided.column("category")).combine_chunks()
        rank = np.argsort(np.argsort(names.dictionary.to_numpy(zero_copy_only=False)))
        prompt = decided.column("prompt").to_numpy()
        order = np.lexsort((rank[names.indices.to_numpy()], prompt))
        return self.of_images(decided.take(pa.array(order)), prompt[order], places)

    def of_images(self, decided: pa.Table, image: NDArray[np.int64], places: NDArray[np.int64]) -> pa.Table:
        """Decisions as rows of images: of those at ``places`` the one that ``image`` says for each."""
        places = places[image]
        taxonomy = pa.scalar(self._categorizer.taxonomy.version, pa.string())
        columns = {
            "image_id": self._images[places],
            "model_version_id": pa.repeat(self._version, len(places)),
            "taxonomy_version": pa.repeat(taxonomy, len(places)),
            "categorized_hash": self._hashes.take(pa.array(places)),
        }
        return pa.table(
            {name: columns[name] if name in columns else decided.column(name) for name in _COLUMNS},
            schema=schemas.PROMPT_CATEGORIES.arrow_schema,
        )


def _in_order(parts: list[pa.Table]) -> pa.Table:
    """Rows of different images as one table in the order of images; each part has its own already."""
    together = pa.concat_tables([schemas.PROMPT_CATEGORIES.arrow_schema.empty_table(), *parts])
    images = together.column("image_id").to_numpy()
    if np.all(images[1:] >= images[:-1]):
        return together
    return together.combine_chunks().take(pa.array(np.argsort(images, kind="stable")))

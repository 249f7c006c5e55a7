"""The table prompt_categories, made from the prompts table.

Belongs here: which prompts are categorized anew and which decisions are taken over. Deciding is in
``prompts``; what a new taxonomy changed is in ``category_changes``.

Columns only: a row is never a Python object. A prompt is categorized once, however many images have it,
and not again while taxonomy and code stay the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from civitai_pipeline.derive.provenance import finished
from civitai_pipeline.lake import schemas
from civitai_pipeline.lake.tables import Provenance
from civitai_pipeline.prompts.arrays import changes, spread

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from civitai_pipeline.prompts.categories import Categorizer
    from civitai_pipeline.prompts.taxonomy import Taxonomy

# Raised whenever the same prompts and taxonomy would give other rows.
CODE_VERSION = "3"
# All that is looked at of the prompts table.
PROMPT_COLUMNS = ("image_id", "model_version_id", "prompt", "prompt_hash")

# What is decided of a prompt, whichever images have it.
_DECIDED = ["category", "confidence", "is_primary", "matched_keywords"]


def build_categories(prompts: pa.Table, earlier: pa.Table | None, categorizer: Categorizer) -> pa.Table:
    """Categorizes each prompt.

    Args:
        prompts: The prompts table.
        earlier: The table as it stands; what it says of a prompt is taken over where the same taxonomy
            and code said it.
        categorizer: Decides the categories of a prompt not seen before.
    """
    version = categories_version(categorizer.taxonomy)
    images = prompts.column("image_id").to_numpy()
    in_order = prompts if np.all(images[1:] > images[:-1]) else prompts.sort_by("image_id")
    hashes = pc.dictionary_encode(_hashes_of_what_is_categorized(in_order)).combine_chunks()
    known = _known(earlier, version)
    place = pc.index_in(hashes.dictionary, value_set=known.hashes)
    # Of equal prompts the one with the smallest id is categorized. No prompt is copied but those.
    _, first = np.unique(hashes.indices.to_numpy(), return_index=True)
    missing = np.zeros(len(in_order), bool)
    missing[first[place.is_null().to_numpy(zero_copy_only=False)]] = True
    fresh = categorizer.categorize_all(in_order.column("prompt").filter(pa.array(missing)))
    decisions = known.with_those(hashes.dictionary.filter(place.is_null()), fresh)
    place = pc.index_in(hashes.dictionary, value_set=decisions.hashes).to_numpy()[hashes.indices.to_numpy()]
    counts = decisions.counts[place]
    image = pa.array(np.repeat(np.arange(len(in_order)), counts))
    rows = decisions.rows.take(pa.array(decisions.order[spread(decisions.starts[place], counts)]))
    table = pa.table(
        {
            "image_id": in_order.column("image_id").take(image),
            "model_version_id": in_order.column("model_version_id").take(image),
            **{name: rows.column(name) for name in _DECIDED},
            "taxonomy_version": pa.repeat(pa.scalar(categorizer.taxonomy.version, pa.string()), len(rows)),
            "categorized_hash": hashes.dictionary.take(hashes.indices.take(image)),
        }
    )
    return finished(schemas.PROMPT_CATEGORIES, table, prompts, version)


def categories_version(taxonomy: Taxonomy) -> str:
    """The code version of a table that is decided by ``taxonomy``: this code's, the taxonomy's and its content's.

    The content counts so that a file edited without a new version is noticed, too.
    """
    return f"{CODE_VERSION}/{taxonomy.version}/{taxonomy.fingerprint}"


def _hashes_of_what_is_categorized(prompts: pa.Table) -> pa.ChunkedArray:
    """For each prompt the hash that decides its categories: equal hashes, equal categories.

    The categorizer reads the end of a line as a comma, and the normal form folds it to a space. So prompts
    that hold line ends are told apart by their text, and all others by their ``prompt_hash``.
    """
    column = prompts.column("prompt")
    lines = pc.match_substring(column, "\n")
    if not pc.any(lines).as_py():
        return prompts.column("prompt_hash")
    hashes = [blake2b(text.encode(), digest_size=16).hexdigest() for text in column.filter(lines).to_pylist()]
    known = prompts.column("prompt_hash").combine_chunks()
    return pa.chunked_array([pc.replace_with_mask(known, lines.combine_chunks(), pa.array(hashes, pa.string()))])


@dataclass(frozen=True)
class _Decisions:
    """What is decided of prompts.

    Attributes:
        hashes: Which prompts, each once.
        rows: Their decisions, in the columns ``_DECIDED``.
        order: The order of the rows: by prompt, then by the name of the category.
        starts, counts: Where in ``order`` each prompt's rows are.
    """

    hashes: pa.Array
    rows: pa.Table
    order: NDArray[np.int64]
    starts: NDArray[np.int64]
    counts: NDArray[np.int64]

    def with_those(self, hashes: pa.Array, fresh: pa.Table) -> _Decisions:
        """These, and those that ``fresh`` holds of the prompts ``hashes``."""
        names = pc.dictionary_encode(fresh.column("category")).combine_chunks()
        rank = np.argsort(np.argsort(names.dictionary.to_numpy(zero_copy_only=False)))
        prompt = fresh.column("prompt").to_numpy()
        order = np.lexsort((rank[names.indices.to_numpy()], prompt))
        counts = np.bincount(prompt, minlength=len(hashes)).astype(np.int64)
        return _Decisions(
            pa.concat_arrays([self.hashes, hashes.cast(pa.string())]),
            pa.concat_tables([self.rows, fresh.select(_DECIDED).cast(self.rows.schema)]),
            np.concatenate([self.order, order + len(self.rows)]),
            np.concatenate([self.starts, np.cumsum(counts) - counts + len(self.order)]),
            np.concatenate([self.counts, counts]),
        )


def _known(earlier: pa.Table | None, version: str) -> _Decisions:
    """What ``earlier`` says of prompts, if it was made by ``version``."""
    provenance = None if earlier is None else Provenance.of(earlier.schema)
    if earlier is None or provenance is None or provenance.code_version != version:
        earlier = schemas.PROMPT_CATEGORIES.arrow_schema.empty_table()
    images = earlier.column("image_id").to_numpy()
    begins = np.flatnonzero(changes(images))
    hashes = pc.dictionary_encode(earlier.column("categorized_hash").take(pa.array(begins))).combine_chunks()
    # Of the images with one prompt, the first.
    _, first = np.unique(hashes.indices.to_numpy(), return_index=True)
    counts = np.diff(np.append(begins, len(images)))
    return _Decisions(hashes.dictionary, earlier.select(_DECIDED), np.arange(len(images)), begins[first], counts[first])

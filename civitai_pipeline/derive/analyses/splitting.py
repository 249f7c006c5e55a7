"""Prompts to tags: where a text is cut, and which spellings are one tag.

A tag is what stands between two separators, in the normal form of ``prompts.text``: lower case, without
weights, emphasis brackets and ``<lora:…>`` tags. Separators are commas, line ends, the word ``BREAK`` and
``<kind:…>`` tags. What is longer than ``MAX_TAG_LENGTH`` is a sentence and no tag; it keeps its place, so that
the tags behind it keep theirs.

Belongs here: everything decided from the characters of texts, many at a time. What is counted is for ``terms``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from civitai_pipeline.prompts.text import normalise_prompt

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

# The longest of Danbooru's tags have about 60 characters; what is longer is a sentence.
MAX_TAG_LENGTH = 60
# Some 400,000 parts at a time: 20 MB of text and codes.
TEXTS_PER_SLICE = 10_000
# Every time tags are numbered, the whole vocabulary is looked at: for each slice that would be time squared.
_TAGS_NUMBERED_AT_ONCE = 1_000_000

# What :func:`split_texts` gives.
FOUND = pa.schema([pa.field(name, pa.int32()) for name in ("text", "tag", "position")])

# The commas of Chinese and Japanese (and those that NFKC would make of others), and what separates like a comma.
_SEPARATORS = r"<[\w-]+:[^<>]*>|[\x{FF0C}\x{3001}\x{FE50}\x{FE10}\r\n]|\bBREAK\b"
# Where the normal form is more than lower case, single spaces and no emphasis.
_ODD = r"[^\x00-\x7f]|[\\<>]"
_SPACES = r"[\t-\r\x1c-\x20]+"
_EMPHASIS = (
    r":[\t-\r\x1c-\x20]{0,9}[+-]?(?:[0-9]{1,9}(?:\.[0-9]{0,19})?|\.[0-9]{1,19})[\t-\r\x1c-\x20]{0,9}[)\]}]|[()\[\]{}]"
)
_BLANK, _SENTENCE = -1, -2


class Vocabulary:
    """The tags met so far, each with a number; numbers follow the order of meeting and mean nothing else."""

    def __init__(self) -> None:
        self.names = pa.array([], type=pa.string())

    def numbers_of(self, names: pa.Array) -> NDArray[np.int32]:
        """The numbers of distinct names; new ones are taken in."""
        found = pc.index_in(names, value_set=self.names)
        fresh = names.filter(pc.is_null(found))
        numbers = found.to_numpy(zero_copy_only=False).astype(np.float64)
        numbers[np.isnan(numbers)] = np.arange(len(self.names), len(self.names) + len(fresh))
        self.names = pa.concat_arrays([self.names, fresh])
        whole: NDArray[np.int32] = numbers.astype(np.int32)
        return whole


def split_texts(texts: Iterable[pa.Table], vocabulary: Vocabulary) -> Iterator[pa.Table]:
    """The tags of texts: tables of the schema :data:`FOUND`.

    Args:
        texts: Tables of ``text``, a number for each text, and ``content``.
        vocabulary: Numbers the tags.

    Yields:
        ``text``, ``tag`` (the tag's number) and ``position``, which counts from 1. Of a tag that a text repeats only
        the first time counts. A table holds whole texts.
    """
    cut: list[pa.Table] = []
    for part in texts:
        for start in range(0, len(part), TEXTS_PER_SLICE):
            cut.append(_cut(part.slice(start, TEXTS_PER_SLICE)))
            if sum(map(len, cut)) >= _TAGS_NUMBERED_AT_ONCE:
                yield _numbered(cut, vocabulary)
                cut = []
    if cut:
        yield _numbered(cut, vocabulary)


def _cut(texts: pa.Table) -> pa.Table:
    """The tags of some texts, still as words: columns as :data:`FOUND`, ``tag`` a dictionary."""
    parts = pc.split_pattern(_separated(texts.column("content").combine_chunks()), ",")
    parents = pc.list_parent_indices(parts).to_numpy()
    encoded = pc.dictionary_encode(pc.ascii_trim_whitespace(pc.list_flatten(parts)))
    words, codes = _words(encoded.dictionary)
    tags = codes[encoded.indices.to_numpy()]
    positions = _positions(parents, tags != _BLANK)
    found = np.flatnonzero(tags >= 0)
    # The smallest place of each text and tag.
    _, first = np.unique(parents[found].astype(np.int64) << 32 | tags[found], return_index=True)
    kept = found[first]
    numbers = texts.column("text").to_numpy()[parents[kept]]
    return pa.table(
        {
            "text": numbers,
            "tag": pa.DictionaryArray.from_arrays(pa.array(tags[kept]), words),
            "position": positions[kept],
        }
    )


def _numbered(cut: list[pa.Table], vocabulary: Vocabulary) -> pa.Table:
    """Tables of :func:`_cut` as one, with the tags' numbers."""
    together = pa.concat_tables(cut).combine_chunks()
    words = together.column("tag").chunk(0)
    numbers = vocabulary.numbers_of(words.dictionary)[words.indices.to_numpy()]
    return together.set_column(1, "tag", pa.array(numbers)).cast(FOUND)


def _separated(texts: pa.Array) -> pa.Array:
    """``texts`` with a comma for every separator."""
    once = pc.replace_substring_regex(texts, _SEPARATORS, ",")
    # What is left of a tag within a tag: taking out the inner one has closed the outer one's ranks.
    nested = pc.match_substring_regex(once, r"<[\w-]+:[^<>]*>")
    if pc.any(nested).as_py():
        once = pc.if_else(nested, pc.replace_substring_regex(once, r"<[\w-]+:[^<>]*>", ","), once)
    return once


def _words(parts: pa.Array) -> tuple[pa.Array, NDArray[np.int32]]:
    """The tags among parts, each once, and the place of each part there; ``_BLANK`` or ``_SENTENCE`` for no tag."""
    encoded = pc.dictionary_encode(normal_forms(parts))
    lengths = pc.utf8_length(encoded.dictionary).to_numpy()
    codes = np.where(lengths == 0, _BLANK, _SENTENCE).astype(np.int32)
    is_tag = (lengths > 0) & (lengths <= MAX_TAG_LENGTH)
    codes[is_tag] = np.arange(np.count_nonzero(is_tag))
    every: NDArray[np.int32] = codes[encoded.indices.to_numpy()]
    return encoded.dictionary.filter(pa.array(is_tag)), every


def normal_forms(parts: pa.Array) -> pa.Array:
    """The normal form of each part, as :func:`normalise_prompt` has it, without commas.

    ASCII without a backslash or an angle is done all at once; the rest goes through that function, a spelling once.
    """
    odd = pc.match_substring_regex(parts, _ODD)
    plain = pc.ascii_lower(parts)
    emphasised = pc.match_substring_regex(plain, r"[()\[\]{}]")
    bare = pc.replace_substring_regex(plain.filter(emphasised), _EMPHASIS, "")
    plain = pc.replace_with_mask(plain, emphasised, bare)
    plain = pc.ascii_trim_whitespace(pc.replace_substring_regex(plain, _SPACES, " "))
    if not pc.any(odd).as_py():
        return plain
    # A character such as U+1F101 becomes a digit and a comma.
    written = [normalise_prompt(part).replace(",", " ") for part in parts.filter(odd).to_pylist()]
    return pc.replace_with_mask(plain, odd, pa.array(written, type=pa.string()))


def _positions(parents: NDArray[np.integer], written: NDArray[np.bool_]) -> NDArray[np.int32]:
    """The place of each part among the written ones of its text, from 1."""
    if not len(parents):
        return np.zeros(0, dtype=np.int32)
    running = np.cumsum(written)
    starts = np.flatnonzero(np.diff(parents, prepend=-1))
    before = np.where(starts > 0, running[starts - 1], 0)
    lengths = np.diff(starts, append=len(parents))
    positions: NDArray[np.int32] = (running - np.repeat(before, lengths)).astype(np.int32)
    return positions

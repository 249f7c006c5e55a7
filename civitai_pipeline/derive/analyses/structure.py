"""How prompts are written and how long they are: prompt_structure, length_statistics, length_bins.

Structure is read from the text to the letter, image by image. Equal normalised prompts may be written in different
ways; such a prompt has a mark if one of its images has it. Lengths are those of the prompts table, counted alike for
negative prompts.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from civitai_pipeline.derive.analyses.basis import TEXT
from civitai_pipeline.derive.analyses.splitting import MAX_TAG_LENGTH

if TYPE_CHECKING:
    from civitai_pipeline.derive.analyses.basis import Basis


class Mark(NamedTuple):
    """A mark of structure.

    Attributes:
        holds: What a text must contain before it is worth a closer look: a search for plain characters costs a
            tenth of a pattern.
        pattern: The pattern that decides, in RE2, whose time is bounded by the text's length; empty if ``holds`` does.
    """

    holds: str
    pattern: str = ""

    @property
    def sql(self) -> str:
        """The condition on ``content``. CASE, because DuckDB evaluates both sides of an AND."""
        if not self.pattern:
            return self.holds
        quoted = self.pattern.replace("'", "''")
        return f"CASE WHEN {self.holds} THEN regexp_matches(content, '{quoted}') ELSE false END"


def _has(*characters: str) -> str:
    return " OR ".join(f"contains(content, '{one}')" for one in characters)


_NOT_ASCII = "strlen(content) > length(content)"
# Most full stops are those of weights.
_ENDS = " OR ".join(
    [
        _has("!", "?"),
        "ends_with(content, '.')",
        *(f"contains(content, '.' || chr({code}))" for code in (9, 10, 12, 13, 32)),
    ]
)
_WIDE_COMMAS = r"\x{FF0C}\x{3001}"
# The names of LoRA files are full of underscores.
_OUTSIDE_TAGS = "(?:^|>)[^<]*"

MARKS: dict[str, Mark] = {
    "comma": Mark(f"CASE WHEN contains(content, ',') THEN true ELSE {_has(chr(0xFF0C), chr(0x3001))} END"),
    # (word:1.2), and not <lora:name:0.8>, whose weight no bracket closes, nor (16:9): whole numbers on both sides
    # of the colon are a ratio.
    "weight": Mark(
        "contains(content, '(') AND contains(content, ':')",
        r"(?s)\(.*(?:[^0-9\s]\s*:\s*[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)|[0-9]\s*:\s*[+-]?[0-9]*\.[0-9]*)\s*\)",
    ),
    "round_brackets": Mark(_has("("), r"(?:^|[^\\])\("),
    "double_round_brackets": Mark(_has("(("), r"(?:^|[^\\])\(\("),
    "square_brackets": Mark(_has("["), r"(?:^|[^\\])\["),
    "curly_brackets": Mark(_has("{"), r"(?:^|[^\\])\{"),
    "escaped_brackets": Mark(_has("\\"), r"\\[()\[\]{}]"),
    "prompt_editing": Mark(_has("["), r"\[[^\[\]]*:[^\[\]]*\]"),
    "alternation": Mark(_has("|"), r"[\[{][^\[\]{}]*\|[^\[\]{}]*[\]}]"),
    "lora_tag": Mark(_has("<"), r"(?i)<lora:[^<>]+>"),
    # RE2 cannot look ahead, so the four letters are spelt out: any kind but lora.
    "other_angle_tag": Mark(
        _has("<"), r"(?i)<(?:[^l\W]\w*|l(?:[^o\W]\w*)?|lo(?:[^r\W]\w*)?|lor(?:[^a\W]\w*)?|lora\w+):[^<>]+>"
    ),
    "embedding": Mark(_has("mbedding:"), r"(?i)\bembedding:[^\s,]"),
    "wildcard": Mark(_has("__"), rf"{_OUTSIDE_TAGS}__[\w/-]+__"),
    "underscore": Mark(_has("_"), rf"{_OUTSIDE_TAGS}[A-Za-z]_[A-Za-z]"),
    "sentence": Mark(
        f"{_ENDS} OR {_NOT_ASCII}",
        r"""\pL[)\]"'\x{2019}\x{201D}]?[.!?](?:\s|$)|[\x{3002}\x{FF01}\x{FF1F}]""",
    ),
    "long_part": Mark(f"length(content) > {MAX_TAG_LENGTH}", f"[^,{_WIDE_COMMAS}\\r\\n]{{{MAX_TAG_LENGTH + 1}}}"),
    "break": Mark(_has("BREAK"), r"\bBREAK\b"),
    "and": Mark(_has("AND"), r"\bAND\b"),
    "line_break": Mark("contains(content, chr(10)) OR contains(content, chr(13))"),
    "cjk": Mark(_NOT_ASCII, r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}]"),
}

# The bins of the histograms: their width, and where the last one begins. The same for every version, so that
# histograms of several can be laid over each other.
BINS = {"characters": (50, 3000), "words": (10, 500), "tags": (5, 200)}


def prompt_structure(basis: Basis) -> pa.Table:
    """How many images, prompts and authors show each mark, of all that have a text on that side."""
    bits = " + ".join(f"(({mark.sql})::BIGINT << {place})" for place, mark in enumerate(MARKS.values()))
    for side, distinct in (("prompt", False), ("negative", True)):
        texts = basis.texts(side, distinct=distinct)
        basis.collect(f"{side}_marks", TEXT.empty_table(), texts, f"text, {bits} AS marks")
    names = pa.table({"place": pa.array(range(len(MARKS)), pa.int32()), "measure": list(MARKS)})
    basis.register("measures", names)
    return basis.table(_STRUCTURE)


_STRUCTURE = """
WITH marked AS (
    SELECT 'prompt' AS side, image_id, prompt AS text, author, marks
    FROM images JOIN prompt_marks marks ON marks.text = images.row
    UNION ALL
    SELECT 'negative', image_id, negative, author, marks
    FROM images JOIN negative_marks marks ON marks.text = images.negative
),
-- Each image, each text and each author with all of its marks at once, so that the marks need one pass.
counted AS (
    SELECT side, 'images' AS counted, marks FROM marked
    UNION ALL SELECT side, 'prompts', bit_or(marks) FROM marked GROUP BY side, text
    UNION ALL SELECT side, 'authors', bit_or(marks) FROM marked WHERE author IS NOT NULL GROUP BY side, author
)
SELECT side, measure,
       count(*) FILTER (counted = 'images' AND (marks >> place) & 1 = 1) AS images,
       count(*) FILTER (counted = 'prompts' AND (marks >> place) & 1 = 1) AS prompts,
       count(*) FILTER (counted = 'authors' AND (marks >> place) & 1 = 1) AS authors,
       count(*) FILTER (counted = 'images') AS images_total,
       count(*) FILTER (counted = 'authors') AS authors_total,
       images / images_total AS share
FROM counted CROSS JOIN measures
GROUP BY side, measure ORDER BY side, measure
"""


def prepare(basis: Basis) -> None:
    """Makes ``lengths``: a row per image, side and quantity."""
    parts = (_counted(part) for part in basis.texts("negative", distinct=True))
    basis.collect("negative_counts", _counted(TEXT.empty_table()), parts)
    basis.execute(_LENGTHS)


def length_statistics(basis: Basis) -> pa.Table:
    """Mean, spread and quartiles of each length, over images and over distinct texts."""
    # One after the other: quantiles keep every length in memory that cannot be set aside.
    every = itertools.product(("negative", "prompt"), sorted(BINS), ("images", "texts"))
    return pa.concat_tables(
        basis.table(_STATISTICS.format(side=side, quantity=quantity, counted=counted))
        for side, quantity, counted in every
    )


def length_bins(basis: Basis) -> pa.Table:
    """The histogram of each length."""
    cases = " ".join(f"WHEN '{quantity}' THEN {{{place}}}" for place, quantity in enumerate(BINS))
    width = f"CASE quantity {cases} END".format(*(width for width, _ in BINS.values()))
    last = f"CASE quantity {cases} END".format(*(last for _, last in BINS.values()))
    return basis.table(_BINS.format(width=width, last=last))


def _counted(texts: pa.Table) -> pa.Table:
    return text_counts(texts.column("content").combine_chunks()).set_column(0, "text", texts.column("text"))


def text_counts(texts: pa.Array) -> pa.Table:
    """The characters, words and tags of each text, as ``prompts.text.prompt_counts`` counts them."""
    parts = pc.split_pattern(texts, ",")
    written = pc.invert(pc.or_(pc.equal(pc.list_flatten(parts), ""), pc.utf8_is_space(pc.list_flatten(parts))))
    parents = pc.list_parent_indices(parts).to_numpy()
    tags = np.bincount(parents[written.to_numpy(zero_copy_only=False)], minlength=len(texts))
    trimmed = pc.utf8_trim_whitespace(texts)
    words = pc.if_else(pc.equal(trimmed, ""), 0, pc.list_value_length(pc.utf8_split_whitespace(trimmed)))
    return pa.table(
        {
            "text": pa.array(np.arange(len(texts), dtype=np.int32)),
            "characters": pc.utf8_length(texts),
            "words": words,
            "tags": pa.array(tags.astype(np.int32)),
        }
    )


_LENGTHS = """
CREATE VIEW lengths AS
WITH measured AS (
    SELECT 'prompt' AS side, author, first, prompt_length AS characters, word_count AS words, tag_count AS tags
    FROM images
    UNION ALL
    SELECT 'negative', author, negative = row, characters, words, tags
    FROM images JOIN negative_counts ON negative_counts.text = images.negative
)
UNPIVOT measured ON characters, words, tags INTO NAME quantity VALUE length
"""

# From sums of integers: var = (n * sum(x^2) - sum(x)^2) / (n * (n - 1)).
_STATISTICS = """
SELECT '{side}' AS side, '{quantity}' AS quantity, '{counted}' AS counted, count(*) AS n,
       count(DISTINCT author) AS authors,
       sum(length) / count(*) AS mean,
       CASE WHEN count(*) > 1 THEN
           sqrt((count(*)::HUGEINT * sum(length::BIGINT * length) - sum(length) * sum(length))::DOUBLE
                / (count(*) * (count(*) - 1.0)))
       END AS sd,
       min(length) AS minimum,
       quantile_cont(length, 0.25) AS q1, quantile_cont(length, 0.5) AS median, quantile_cont(length, 0.75) AS q3,
       max(length) AS maximum
FROM lengths WHERE side = '{side}' AND quantity = '{quantity}' AND (first OR '{counted}' = 'images')
HAVING count(*) > 0
"""

_BINS = """
WITH binned AS (
    SELECT side, quantity, {width} AS width, {last} AS last, least(length // width * width, last) AS bin_from
    FROM lengths
)
SELECT side, quantity, bin_from, CASE WHEN bin_from < last THEN bin_from + width - 1 END AS bin_to,
       count(*) AS images, (sum(count(*)) OVER (PARTITION BY side, quantity))::BIGINT AS images_total,
       images / images_total AS share
FROM binned GROUP BY side, quantity, bin_from, width, last ORDER BY side, quantity, bin_from
"""

r"""Prompts cut into segments of tokens, a batch at a time.

Belongs here: everything between the prompts as written and the token text in which ``matching`` looks for
phrases. What the words mean is in ``taxonomy``; when two prompts are equal, in ``text``.

A segment is what stands between two commas or line ends. Tags repeat a great deal, so a batch's segments
are told apart first and each is read once. In the token text each token stands between two spaces of its
own, so that a phrase ``" golden  hour "`` can only match whole tokens, and next to another match. A ``;``
is a token too: it stands for whatever else ends a phrase (``. ; : | ! ?``).

The rules are those of :func:`~civitai_pipeline.prompts.text.normalise_prompt` and :func:`tokens_of`. Plain ASCII
goes through a few passes over the whole batch that come to the same; segments with anything else (other
scripts, ``16:9``, ``f/1.4``) are read one by one by those functions themselves.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from civitai_pipeline.prompts.text import normalise_prompt

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

WORD = re.compile(r"f/?\d+(?:\.\d+)?(?![^\W_])|\d+(?:[.:/]\d+)+|[^\W_]+(?:'[^\W_]+)*")
# Full stops count from the first of them on: tried from each, a row that ends nothing would cost its length squared.
_ENDS = re.compile(r"[,;|!?\n]+|(?<!\.)\.+(?=\s|$)|:(?=\s)")
_EMBEDDING = re.compile(r"\bembedding:[^\s,]+", re.IGNORECASE)
_TAG = re.compile(r"<[\w-]+:[^<>]*>")
# Typographic punctuation is the commonest reason for a prompt not to be ASCII. None of it is part of a
# word; the apostrophe, which is, means what the typewriter's means.
_TYPOGRAPHY = (
    ("\N{RIGHT SINGLE QUOTATION MARK}", "'"),
    ("\N{LEFT SINGLE QUOTATION MARK}", '"'),
    ("\N{LEFT DOUBLE QUOTATION MARK}", '"'),
    ("\N{RIGHT DOUBLE QUOTATION MARK}", '"'),
    ("\N{EM DASH}", "-"),
    ("\N{EN DASH}", "-"),
    ("\N{BULLET}", "-"),
    ("\N{HORIZONTAL ELLIPSIS}", "..."),
    ("\N{NO-BREAK SPACE}", " "),
    ("\N{FULLWIDTH COMMA}", ","),
)

# The passes over plain ASCII. An escaped bracket becomes \x02, which parts words but is no space.
_LITERAL = re.compile(rb"\\[\\()\[\]{}]")
_WEIGHT = re.compile(rb":[ \t-\r]{0,9}[+-]?(?:\d{1,9}(?:\.\d{0,19})?|\.\d{1,19})[ \t-\r]{0,9}[)\]}]")
_LONE_APOSTROPHE = re.compile(rb"'(?:(?<![a-z0-9]')|(?![a-z0-9]))")
_POSSESSIVE = re.compile(rb"'s(?![a-z0-9'])")


def _table(changes: dict[str, str]) -> bytes:
    return bytes(ord(changes.get(chr(code), chr(code))) for code in range(256))


_WHITE = dict.fromkeys("\t\n\v\f\r\x1c\x1d\x1e\x1f_", " ")
_FOLD = _table(
    _WHITE | {chr(code): chr(code + 32) for code in range(ord("A"), ord("Z") + 1)} | dict.fromkeys("|!?", ";")
)
_WORDS_ALONE = _table({chr(code): " " for code in range(128) if not chr(code).isalnum() and chr(code) not in "';,"})
_COMMA, _SPACE, _ZERO, _NINE = b", 09"


def tokens_of(text: str) -> list[str]:
    """The tokens of lower-case ``text``: words without possessive, numbers with their dots, ``f/1.4``, ``16:9``."""
    return [token.removesuffix("'s") if "'" in token else token for token in WORD.findall(text)]


@dataclass(frozen=True)
class Segments:
    """The distinct segments of a batch of prompts, and where they stand.

    Attributes:
        text: The token text: for each segment ``"  token  token  "``, with a comma between segments.
        begins: Where each segment's tokens begin in ``text``; a segment may stand twice, see ``numbers``.
        numbers: Which segment that is, or -1 for one that stands again further on.
        of_prompts: The segments of all prompts one after the other.
        counts: How many of them each prompt has.
    """

    text: bytes
    begins: NDArray[np.int64]
    numbers: NDArray[np.int64]
    of_prompts: NDArray[np.int64]
    counts: NDArray[np.int64]


def cut(prompts: pa.StringArray) -> Segments:
    """Cuts ``prompts``, none of them null, into segments."""
    split = pc.split_pattern(pc.replace_substring(_plainer(prompts), "\n", ","), ",")
    found = pc.dictionary_encode(pc.ascii_trim_whitespace(split.flatten()))
    distinct: list[str] = found.dictionary.to_pylist()
    text, begins, numbers = _token_text(distinct)
    return Segments(
        text,
        begins,
        numbers,
        found.indices.to_numpy(zero_copy_only=False).astype(np.int64),
        np.diff(split.offsets.to_numpy()).astype(np.int64),
    )


def _plainer(prompts: pa.StringArray) -> pa.StringArray:
    """The prompts without tags and embeddings; those that even so are not plain ASCII in their normal form."""
    # As patterns, though they are none: Arrow finds those some five times as fast as plain text.
    tagged = pc.or_(pc.match_substring_regex(prompts, "<"), pc.match_substring_regex(prompts, "(?i)embedding:"))
    special = pc.or_(tagged, pc.invert(pc.string_is_ascii(prompts)))
    if not pc.any(special).as_py():
        return prompts
    made = pa.array([_plain(prompt) for prompt in prompts.filter(special).to_pylist()], pa.string())
    return pc.replace_with_mask(prompts, special, made)


def _plain(prompt: str) -> str:
    text = prompt
    if not text.isascii():
        for mark, plain in _TYPOGRAPHY:
            text = text.replace(mark, plain)
    if "embedding:" in text.lower():
        text = _EMBEDDING.sub(" ", text)
    text = _TAG.sub(" ", text)
    if "<" not in text and text.isascii():
        return text
    return normalise_prompt(_EMBEDDING.sub(" ", prompt.replace("\n", ",")))


def _token_text(segments: list[str]) -> tuple[bytes, NDArray[np.int64], NDArray[np.int64]]:
    """The token text of ``segments``, with where each begins and which it is."""
    numbers = np.arange(len(segments))
    joined = " , ".join(segments)
    others: list[int] = []
    if not joined.isascii():
        others = [number for number, segment in enumerate(segments) if not segment.isascii()]
        joined = " , ".join(segment if segment.isascii() else "" for segment in segments)
    tokens, odd = _in_passes(joined.encode())
    apart = sorted({*others, *odd.tolist()})
    numbers[apart] = -1
    one_by_one = (" ".join(_one_by_one(segments[number])) for number in apart)
    text = _spaced(b" , ".join([tokens, *(text.encode() for text in one_by_one)]))
    commas = np.flatnonzero(np.frombuffer(text, np.uint8) == _COMMA)
    begins = np.concatenate([np.zeros(1, np.int64), commas + 1])
    return text, begins, np.concatenate([numbers, np.array(apart, np.int64)])


def _one_by_one(segment: str) -> Iterable[str]:
    text = normalise_prompt(segment).replace("_", " ").replace("\N{RIGHT SINGLE QUOTATION MARK}", "'").replace("\\", "")
    for number, part in enumerate(_ENDS.split(text)):
        if number:
            yield ";"
        yield from tokens_of(part)


def _in_passes(text: bytes) -> tuple[bytes, NDArray[np.int64]]:
    """ASCII segments joined by commas as tokens between spaces; and which of them are to be read one by one."""
    if b"\\" in text:
        text = _LITERAL.sub(lambda match: b"" if match[0] == rb"\\" else b"\x02", text)
    text = _WEIGHT.sub(b"", text).translate(_FOLD, b"()[]{}\\") + b" "
    codes = np.frombuffer(text, np.uint8)
    marks = np.flatnonzero((codes == ord(".")) | (codes == ord("/")) | (codes == ord(":")))
    after = codes[marks + 1]
    # A dot, colon or slash before a digit may be part of a token.
    in_numbers = marks[(after >= _ZERO) & (after <= _NINE)]
    odd = np.unique(np.searchsorted(np.flatnonzero(codes == _COMMA), in_numbers)) if len(in_numbers) else in_numbers
    ends = marks[(after == _SPACE) & (codes[marks] != ord("/"))]
    codes = codes.copy()
    codes[ends] = ord(";")
    text = codes.tobytes()
    if b"'" in text:
        text = _POSSESSIVE.sub(b"", _LONE_APOSTROPHE.sub(b" ", text))
    return text.translate(_WORDS_ALONE).replace(b";", b" ; "), odd


def _spaced(text: bytes) -> bytes:
    """``text`` with exactly two spaces between its tokens, before the first and after the last."""
    # In numpy, for splitting and joining makes an object of each token and takes five times as long.
    codes = np.frombuffer(b" " + text + b" ", np.uint8)
    spaces = codes == _SPACE
    codes = codes[np.concatenate([[True], ~(spaces[1:] & spaces[:-1])])]
    return np.repeat(codes, 1 + (codes == _SPACE)).tobytes()

"""The text of a prompt: what may be stored, its normal form, its hash and its counts.

Belongs here: everything decided from the characters alone. Which words mean what is in ``categories``;
where the text stands in an item is in ``items``.

The normal form exists to recognise equal prompts, so it drops what changes the picture by degrees only
(weights, emphasis) or names a file (``<lora:…>`` tags), and keeps words and their order.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache
from hashlib import blake2b
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection

# The weight goes with the bracket that closes over it. Digits are bounded so that a megabyte of them costs
# one attempt for each colon instead of one for each digit.
_WEIGHT = r":\s{0,9}[+-]?(?:\d{1,9}(?:\.\d{0,19})?|\.\d{1,19})\s{0,9}[)\]}]"
_WEIGHTS = re.compile(_WEIGHT)
# AUTOMATIC1111 reads a backslash before a bracket or a backslash as "literally this character".
_LITERALS_AND_EMPHASIS = re.compile(rf"(?P<literal>\\[\\()\[\]{{}}])|{_WEIGHT}|[()\[\]{{}}\\]")
_ANGLES = re.compile(r"([<>])")
_TAG_KIND = re.compile(r"[\w-]+:")
_PLAIN_TAG = re.compile(r"<[\w-]+:[^<>]*>")
_SURROGATE = re.compile("[\ud800-\udfff]")
# As the tools write them: ComfyUI's "embedding:name", diffusers' "<name>", and AIRs.
_EMBEDDING = re.compile(r"(?<![\w<])embedding:[^\s,:()<>\[\]]{1,300}|\burn:air:[^\s,()<>\[\]]{1,300}", re.IGNORECASE)
_NAME_TAG = re.compile(r"</?[\w.-]{1,100}>")
# The Stream-Safe Text Format of Unicode (UAX #15, section 13): more marks than this in a row are parted by a character
# that says nothing. Python orders marks by an insertion sort, which a megabyte of two in turn keeps busy for an hour.
_MOST_MARKS = 30
_JOINER = "\N{COMBINING GRAPHEME JOINER}"
# No script beyond has marks that are put in order, so there is no need to look at the other million characters.
_FIRST_MARK, _BEYOND_MARKS = 0x300, 0x1F000


class PromptCounts(NamedTuple):
    """Sizes of a prompt as written.

    Attributes:
        length: Code points, white space and tags included.
        tags: Comma-separated parts that hold text.
        words: Runs of characters between white space.
    """

    length: int
    tags: int
    words: int


def storable(text: str) -> str:
    """``text`` as a file can hold it: each lone surrogate replaced by U+FFFD, all else to the letter.

    A high surrogate followed by a low one is no lone surrogate: the two become the character they mean.
    """
    if text.isascii() or not _SURROGATE.search(text):
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def prompt_counts(prompt: str) -> PromptCounts:
    """Count the characters, comma-separated parts and words of ``prompt``."""
    tags = len(list(filter(str.strip, prompt.split(","))))
    return PromptCounts(len(prompt), tags, len(prompt.split()))


def prompt_hash(prompt: str) -> str:
    """Hash of the normalised prompt: 128 bits of BLAKE2b, as 32 hexadecimal digits."""
    return hash_of_normal_form(normalise_prompt(storable(prompt)))


def hash_of_normal_form(normal_form: str) -> str:
    """``prompt_hash`` of a prompt that :func:`normalise_prompt` has seen already."""
    return blake2b(normal_form.encode(), digest_size=16).hexdigest()


def normalise_prompt(prompt: str) -> str:
    r"""The form of ``prompt`` by which equal prompts are recognised.

    In this order: NFKC, with long rows of marks parted, and lower case; ``<kind:name…>`` tags removed, nested
    ones too; emphasis brackets ``()``, ``[]`` and ``{}`` removed, with the ``:1.2`` before a closing one, whether
    or not they pair up; white space folded to one space; the parts between commas trimmed and empty ones
    dropped. Order is kept.

    An escaped bracket, ``\(``, is literal text. It keeps its backslash, else normalising twice would
    take it for emphasis; a backslash before any other character says nothing and is dropped.
    Normalising twice changes nothing.
    """
    text = _fold_case(prompt)
    if "<" in text:
        text = _without_tags(text)
    # Brackets inside a tag's "<" or kind hide it, so what they leave is looked at once more.
    bare = _without_emphasis(text)
    if bare != text:
        # What a removed bracket stood between may now combine: "e", "(", acute accent.
        bare = _fold_case(bare)
        if "<" in bare:
            bare = _without_tags(bare)
    return _tidied(bare)


def clean_prompt(prompt: str, embeddings: Collection[str] = ()) -> str:
    r"""``prompt`` as words alone, for training on: what names a file or sets a strength is gone.

    Removed are ``<kind:…>`` tags such as LoRAs, ``<name>`` tags, ``embedding:name`` and ``urn:air:…`` wherever
    they stand, emphasis brackets with their weights, and each comma-separated part that is the name of one of
    ``embeddings``, in any case. White space is folded to one space; the parts between commas are trimmed, and
    empty ones dropped. Case, order, characters and escaped brackets (``\(``) stay. Cleaning twice changes nothing.

    Args:
        prompt: The prompt as written.
        embeddings: The names of the image's embeddings, which most tools let stand as plain words.
    """
    names = {name.casefold() for name in embeddings}
    text, before = prompt, ""
    # What is removed can bring the ends of another tag together; each round shortens the text.
    while text != before:
        before = text
        if ":" in text:
            text = _EMBEDDING.sub(" ", text)
        if "<" in text:
            text = _without_tags(_NAME_TAG.sub(" ", text))
        text = _without_emphasis(text)
        parts = (" ".join(part.split()) for part in text.split(","))
        text = ", ".join(part for part in parts if part and part.casefold() not in names)
        if "<" not in text and ":" not in text:
            break
    return text


def _fold_case(text: str) -> str:
    if text.isascii():
        return text.lower()
    # Lower-casing can undo NFKC ("İ" becomes two characters) and the reverse, so until neither changes it.
    folded = _nfkc(_nfkc(text).lower())
    while folded != text:
        text, folded = folded, _nfkc(folded.lower())
    return folded


def _nfkc(text: str) -> str:
    return unicodedata.normalize("NFKC", _many_marks().sub(rf"\g<0>{_JOINER}", text))


@cache
def _many_marks() -> re.Pattern[str]:
    """Marks that another follows, as many as may stand in a row."""
    characters = map(chr, range(_FIRST_MARK, _BEYOND_MARKS))
    # What is no mark can stand for one, such as the voicing of half-width kana.
    marks = "".join(c for c in characters if unicodedata.combining(unicodedata.normalize("NFKD", c)[0]))
    return re.compile(f"[{marks}]{{{_MOST_MARKS}}}(?=[{marks}])")


def _without_emphasis(text: str) -> str:
    if "\\" in text:
        return _LITERALS_AND_EMPHASIS.sub(_keep_literal, text)
    if ":" in text:
        text = _WEIGHTS.sub("", text)
    # Six searches for a character take a tenth of the time of one translation or substitution.
    for bracket in "()[]{}":
        if bracket in text:
            text = text.replace(bracket, "")
    return text


def _keep_literal(match: re.Match[str]) -> str:
    return match["literal"] or ""


def _tidied(text: str) -> str:
    """``text`` with its white space folded, the parts between commas trimmed and the empty ones dropped."""
    # White space other than a space is not printable.
    text = text.strip() if text.isprintable() and "  " not in text else " ".join(text.split())
    # Four prompts of five are written as ", " wants it already.
    if " ," not in text and text.count(",") == text.count(", ") and not text.startswith(","):
        return text
    # Folded text has at most one space on either side of a comma.
    parts = text.replace(" ,", ",").replace(", ", ",").split(",")
    return ", ".join(filter(None, parts))


def _without_tags(text: str) -> str:
    """``text`` with a space for each ``<kind:…>``, those with a tag or an angle inside included."""
    text = _PLAIN_TAG.sub(" ", text)
    return _without_nested_tags(text) if "<" in text and ">" in text else text


def _without_nested_tags(text: str) -> str:
    """As ``_without_tags``: one pass with a stack, so depth costs nothing."""
    pieces: list[str] = []
    opened: list[int] = []
    for piece in _ANGLES.split(text):
        if piece == "<":
            opened.append(len(pieces))
        elif piece == ">" and opened:
            start = opened.pop()
            if _TAG_KIND.match(pieces[start + 1]):
                pieces[start:] = [" "]
                continue
        pieces.append(piece)
    return "".join(pieces)

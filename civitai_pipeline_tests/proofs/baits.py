"""Baits: texts of one piece taken many times, ten times as long, must take about ten times as long to read.

Or have gone over to a slower reader on the way, once, and take three times as long when they are three times as long.
A pattern that goes back over what it has read takes a hundred times as long, and a day for a megabyte. Every reader
of other people's text is tried with each piece alone and with pieces drawn together.
"""

from __future__ import annotations

import json
import time
from functools import cache
from random import Random
from typing import TYPE_CHECKING

from civitai_pipeline import jsontext
from civitai_pipeline.civitai.failures import error_detail
from civitai_pipeline.export.card import _escaped
from civitai_pipeline.prompts.categories import Categorizer
from civitai_pipeline.prompts.items import read_item
from civitai_pipeline.prompts.near_duplicates import signatures
from civitai_pipeline.prompts.resources import extract_resources, resources_json
from civitai_pipeline.prompts.scores import quality_score
from civitai_pipeline.prompts.taxonomy import load_taxonomy
from civitai_pipeline.prompts.text import clean_prompt, normalise_prompt, prompt_counts, storable
from civitai_pipeline.prompts.values import canonical_json
from civitai_pipeline.report.text import excerpt, json_for_script, plotly_literal, shortened
from civitai_pipeline_tests.proofs.fragments import BAIT
from civitai_pipeline_tests.proofs.mutations import grown
from civitai_pipeline_tests.proofs.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

SHORT, LONG = 1_500, 15_000
# Ten for what takes as long as its text is; a sort a little more; a hundred for what goes back.
MOST_TIMES = 28.0
# What looked like it is tried so much longer once more: three times the time for what takes as long as its text is,
# nine for what goes back. JSON of a thousand levels and more has a slower reader: 72 times as long, once.
ONCE_MORE = 3
MOST_TIMES_ONCE_MORE = 5.5
# Less is too little to compare.
LEAST_SECONDS = 0.03
# Where four processes share a core, single looks at a millisecond's work were seen to take thirty.
MORE_LOOKS = 5
# All the places of an item that take a text, and what is read from them.
_TEXT_KEYS = (
    "Model", "Model hash", "VAE", "Lora hashes", "TI hashes", "Version", "software", "sampler", "negativePrompt",
    "seed",
    "steps", "Hires upscaler", "comfy", "sui_image_params",
)  # fmt: skip


def _read_prompt(text: str) -> None:
    prompt = read_item({"id": 1, "meta": {"prompt": text, "negativePrompt": text}}).prompt
    if prompt is not None:
        form = normalise_prompt(prompt)
        signatures([form])
        prompt_counts(prompt)
        quality_score(prompt, 5)


def _read_fields(text: str) -> None:
    meta = {
        **dict.fromkeys(_TEXT_KEYS, text),
        "hashes": {text: "abcdef0123"},
        "civitaiResources": [{"type": text, "air": text, "modelName": text}],
        "resources": [{"type": text, "name": text, "hash": text, "weight": text}],
        "models": [text],
        "versionIds": [text],
    }
    named = dict.fromkeys(("username", "url", "createdAt", "baseModel", "nsfwLevel"), text)
    reading = read_item({"id": 1, "meta": meta, **named, "stats": {"likeCount": text}})
    resources_json(extract_resources(reading.meta, reading.prompt))


def _read_graph(text: str) -> None:
    for holder in (text, json.dumps({"prompt": text}), '{"prompt": {"1": {"class_type": "X' + text):
        read_item({"id": 1, "meta": {"comfy": holder}})


def _read_tags(text: str) -> None:
    resources_json(extract_resources({"prompt": text}, text))


def _clean(text: str) -> None:
    clean_prompt(text, ("a", "embedding"))


def _categorize(text: str) -> None:
    _categorizer().categorize_all([storable(text)])


def _read_json(text: str) -> None:
    jsontext.dumps(jsontext.loads(json.dumps([text])))
    canonical_json([text])


def _read_error(text: str) -> None:
    error_detail(text.encode("utf-8", "replace"))
    error_detail(json.dumps({"error": {"message": text}}).encode())


def _show(text: str) -> None:
    for show in (shortened, excerpt, plotly_literal, json_for_script, _escaped):
        show(text)


READERS: dict[str, Callable[[str], None]] = {
    "prompt": _read_prompt,
    "fields": _read_fields,
    "graph": _read_graph,
    "tags": _read_tags,
    "clean prompt": _clean,
    "categories": _categorize,
    "JSON": _read_json,
    "errors": _read_error,
    "pages": _show,
}


@cache
def _categorizer() -> Categorizer:
    return Categorizer(load_taxonomy())


def overgrown(parts: list[str], ends: list[str]) -> list[str]:
    """The readers that take far more than ten times as long for ten times the text, described."""
    short, long = grown(parts, ends, SHORT), grown(parts, ends, LONG)
    found = []
    for name, read in READERS.items():
        if (took := _seconds(read, long)) < LEAST_SECONDS:
            continue
        base = max(_least_seconds(read, short), 1e-5)
        took = min(took, _least_seconds(read, long))
        if took < LEAST_SECONDS or took < MOST_TIMES * base:
            continue
        again = _least_seconds(read, grown(parts, ends, LONG * ONCE_MORE)) / took
        if again > MOST_TIMES_ONCE_MORE:
            found.append(
                f"{name} took {took / base:.0f} times as long for {parts} with {ends}, and then {again:.1f} times"
            )
    return found


def _least_seconds(read: Callable[[str], None], text: str) -> float:
    """Of several looks: whatever else the machine does only adds."""
    return min(_seconds(read, text) for _ in range(MORE_LOOKS))


def _seconds(read: Callable[[str], None], text: str) -> float:
    started = time.process_time()
    read(text)
    return time.process_time() - started


def draw_and_grow(seed: int, draws: int, pieces: Sequence[str] = BAIT) -> list[Verdict]:
    """Each of ``pieces`` alone, and as many draws of several together."""
    started, random = time.monotonic(), Random(f"baits-{seed}")  # noqa: S311 - reproducible, no secret
    tried = [([piece], [end]) for piece in pieces for end in ("", "é")]
    for _ in range(draws):
        parts = ["".join(random.choices(BAIT, k=random.choice((1, 2, 3)))) for _ in range(random.choice((1, 2, 3)))]
        tried.append((parts, [random.choice((*BAIT, "")) for _ in parts]))
    problems = [problem for parts, ends in tried for problem in overgrown(parts, ends)]
    about = f"{len(tried)} baits for {len(READERS)} readers"
    return [Verdict("time grows with length", about, problems=tuple(problems), seconds=time.monotonic() - started)]

"""How many prompts a second are matched with the taxonomy, beside a plain loop over keywords."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pyarrow as pa

from civitai_pipeline.lake import schemas, tables
from civitai_pipeline.prompts.categories import Categorizer
from civitai_pipeline.prompts.taxonomy import load_taxonomy
from civitai_pipeline_tests.bench.items import VERSION

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from civitai_pipeline.lake.paths import Lake

PROMPTS = 40_000
# The loop is slow, and its rate does not depend on how many prompts it sees.
LOOPED = 400
# As many keywords as the older tool had.
FEW_KEYWORDS = 490


def keyword_rates(lake: Lake) -> dict[str, float]:
    """Prompts a second of processor time, by what was done with them; distinct prompts of the benchmark's ledger."""
    held = tables.read_table(lake, schemas.PROMPTS, VERSION, ["prompt", "prompt_hash"])
    prompts = list(dict(zip(held["prompt_hash"].to_pylist(), held["prompt"].to_pylist(), strict=True)).values())
    prompts = prompts[:PROMPTS]
    taxonomy = load_taxonomy()
    phrases = list(taxonomy.phrases)
    categorizer = Categorizer(taxonomy)
    categorizer.categorize_all(prompts[:10])
    column = pa.array(prompts)
    lists = pa.array([prompt for prompt in prompts if prompt.count(",") > 15])
    sentences = pa.array([prompt for prompt in prompts if ", " not in prompt])
    return {
        f"plain loop over the taxonomy's {len(phrases):,} phrases": _rate(
            lambda: _loop(prompts[:LOOPED], phrases), LOOPED
        ),
        f"plain loop over {FEW_KEYWORDS} keywords": _rate(
            lambda: _loop(prompts[:LOOPED], phrases[:FEW_KEYWORDS]), LOOPED
        ),
        "categories with evidence, all prompts": _rate(lambda: categorizer.categorize_all(column), len(column)),
        "the same, lists of tags only": _rate(lambda: categorizer.categorize_all(lists), len(lists)),
        "the same, sentences only": _rate(lambda: categorizer.categorize_all(sentences), len(sentences)),
    }


def _loop(prompts: Sequence[str], keywords: Sequence[str]) -> int:
    """What the older tool did first: is each keyword anywhere in the prompt?"""
    found = 0
    for prompt in prompts:
        lowered = prompt.lower()
        for keyword in keywords:
            if keyword in lowered:
                found += 1
    return found


def _rate(work: Callable[[], object], count: int) -> float:
    started = time.process_time()
    work()
    return count / (time.process_time() - started)

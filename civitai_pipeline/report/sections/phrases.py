"""Sentences several sections share. Wording of the contract's own terms is in ``words``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from civitai_pipeline.report import words
from civitai_pipeline.report.blocks import Chart

if TYPE_CHECKING:
    from civitai_pipeline.report.workbench import Workbench


def nothing(question: str, what: str, bench: Workbench) -> Chart:
    """The chart that is not drawn because there is nothing to draw."""
    return Chart(question, f"Nothing to draw: of {words.plural(bench.standing, 'prompt')}, none {what}.", None)


def n_of(known: int, bench: Workbench, noun: str = "prompt") -> str:
    """How many of all prompts a chart rests on."""
    if known == bench.standing:
        return f"n = {'all ' if known > 1 else ''}{words.plural(known, noun)}"
    return f"n = {known:,} of {words.plural(bench.standing, noun)} ({words.share(known, bench.standing)})"

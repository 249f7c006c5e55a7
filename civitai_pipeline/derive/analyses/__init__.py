"""Analyses of a version's prompts as tables, each figure with its sample size beside it.

Rows of tables in, tables out, with DuckDB and numpy between them: ``basis`` derives what several families need once,
each further module answers for one family of tables, and nothing here knows files, HTTP or Dagster. What the columns
mean stands in ``lake.analysis_schemas``, the formulas in the data dictionary.

In all of them prompts that were withdrawn are left out (``capture_rates`` says how many), and an author is a user
name; accounts that are gone, which the API calls "unknown", are no author.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from civitai_pipeline.derive.analyses.basis import Basis
from civitai_pipeline.derive.analyses.capture import capture_rates
from civitai_pipeline.derive.analyses.lift import term_lift
from civitai_pipeline.derive.analyses.membership import prepare as prepare_terms
from civitai_pipeline.derive.analyses.resources import prepare as prepare_resources
from civitai_pipeline.derive.analyses.resources import resource_pairs, resource_usage
from civitai_pipeline.derive.analyses.settings import setting_recipes, setting_values
from civitai_pipeline.derive.analyses.structure import length_bins, length_statistics, prompt_structure
from civitai_pipeline.derive.analyses.structure import prepare as prepare_lengths
from civitai_pipeline.derive.analyses.terms import prepare as prepare_tags
from civitai_pipeline.derive.analyses.terms import tag_frequencies, tag_pairs
from civitai_pipeline.derive.analyses.trends import weekly_trends
from civitai_pipeline.derive.provenance import finished
from civitai_pipeline.lake.analysis_schemas import ANALYSIS_TABLES
from civitai_pipeline.lake.rows import rows_of

if TYPE_CHECKING:
    from collections.abc import Callable

    import pyarrow as pa

    from civitai_pipeline.lake.rows import Rows

# Raised whenever the same tables would give other rows.
CODE_VERSION = "1"

_ANALYSES: dict[str, Callable[[Basis], pa.Table]] = {
    "capture_rates": capture_rates,
    "prompt_structure": prompt_structure,
    "length_statistics": length_statistics,
    "length_bins": length_bins,
    "tag_frequencies": tag_frequencies,
    "tag_pairs": tag_pairs,
    "setting_values": setting_values,
    "setting_recipes": setting_recipes,
    "resource_usage": resource_usage,
    "resource_pairs": resource_pairs,
    "term_lift": term_lift,
    "weekly_trends": weekly_trends,
}


def build_analyses(
    prompts: pa.Table | Rows, prompt_resources: pa.Table | Rows, prompt_categories: pa.Table | Rows
) -> dict[str, pa.Table]:
    """The tables of ``lake.analysis_schemas``, by name, covering the pages that ``prompts`` covers.

    Equal tables give equal analyses, in whatever order their rows are. Memory is bounded but for some 100 bytes an
    image and the tags met; what is more lies in temporary files meanwhile.

    Args:
        prompts: A version's ``prompts``; of its columns only ``basis.PROMPT_COLUMNS`` are looked at.
        prompt_resources: Its ``prompt_resources``; rows of images that ``prompts`` lacks are passed over.
        prompt_categories: Its ``prompt_categories``, likewise.
    """
    source = rows_of(prompts)
    with Basis(source, rows_of(prompt_resources), rows_of(prompt_categories)) as basis:
        for prepare in (prepare_lengths, prepare_tags, prepare_resources, prepare_terms):
            prepare(basis)
        return {
            table.name: finished(table, _ANALYSES[table.name](basis), source.provenance, CODE_VERSION)
            for table in ANALYSIS_TABLES
        }

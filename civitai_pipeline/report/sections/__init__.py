"""The sections of a version's page: one module for each subject, each a function of the workbench.

A section asks the workbench, decides what is worth saying, and returns ``blocks``. Drawing is for
``figures``, HTML for ``pages``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from civitai_pipeline.report.sections.categories import categories
from civitai_pipeline.report.sections.coverage import captures, coverage, last_run
from civitai_pipeline.report.sections.duplicates import duplicates
from civitai_pipeline.report.sections.engagement import engagement
from civitai_pipeline.report.sections.lengths import lengths
from civitai_pipeline.report.sections.negatives import negatives
from civitai_pipeline.report.sections.resources import resources
from civitai_pipeline.report.sections.settings import settings
from civitai_pipeline.report.sections.tags import tags
from civitai_pipeline.report.sections.timeline import timeline

if TYPE_CHECKING:
    from collections.abc import Callable

    from civitai_pipeline.report.blocks import Section
    from civitai_pipeline.report.workbench import Workbench

# What the data is: on every page.
ABOUT: tuple[Callable[[Workbench], Section], ...] = (coverage, captures, last_run)

# What the data says: where there is at least one prompt, which these sections rely on.
FINDINGS: tuple[Callable[[Workbench], Section], ...] = (
    categories,
    lengths,
    tags,
    resources,
    settings,
    negatives,
    engagement,
    timeline,
    duplicates,
)

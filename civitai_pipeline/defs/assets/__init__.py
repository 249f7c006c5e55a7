"""Assets: what the pipeline makes of each model version, and of all of them together.

``collection`` and ``lookups`` ask the API, ``tables`` folds what landed, ``analyses`` counts it, ``publication`` shows
it.
"""

from civitai_pipeline.defs.assets.analyses import prompt_analyses
from civitai_pipeline.defs.assets.collection import image_pages, model_version_info
from civitai_pipeline.defs.assets.lookups import resource_lookups
from civitai_pipeline.defs.assets.publication import collection_report, prompt_database, version_report
from civitai_pipeline.defs.assets.tables import (
    category_tables,
    near_duplicate_groups,
    prompt_resources,
    prompt_tables,
)

ASSETS = [
    model_version_info,
    image_pages,
    prompt_tables,
    resource_lookups,
    prompt_resources,
    category_tables,
    near_duplicate_groups,
    prompt_analyses,
    version_report,
    prompt_database,
    collection_report,
]

__all__ = ["ASSETS"]

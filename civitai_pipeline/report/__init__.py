"""Tables in, figures and HTML pages out.

Takes Arrow tables and plain values and gives text: nothing here reads or writes a file, knows the API,
or knows Dagster. The pages refer to one file beside them, :data:`PLOTLY_FILE`, whose content
:func:`plotly_javascript` gives; an explorer to the one that :func:`explorer_script` gives.
"""

from civitai_pipeline.report.explorer import explorer_script
from civitai_pipeline.report.names import (
    INDEX_FILE,
    PLOTLY_FILE,
    explorer_file_name,
    prompts_file_name,
    report_file_name,
)
from civitai_pipeline.report.overview import VersionOverview, overview_row, version_overview
from civitai_pipeline.report.pages import collection_page, explorer_page, plotly_javascript, version_page
from civitai_pipeline.report.svg import bar_svg
from civitai_pipeline.report.tables import ANALYSES, COLUMNS, VersionTables

__all__ = [
    "ANALYSES",
    "COLUMNS",
    "INDEX_FILE",
    "PLOTLY_FILE",
    "VersionOverview",
    "VersionTables",
    "bar_svg",
    "collection_page",
    "explorer_file_name",
    "explorer_page",
    "explorer_script",
    "overview_row",
    "plotly_javascript",
    "prompts_file_name",
    "report_file_name",
    "version_overview",
    "version_page",
]

"""Tables in, figures and HTML pages out.

Takes Arrow tables and plain values and gives text: nothing here reads or writes a file, knows the API,
or knows Dagster. The pages refer to one file beside them, :data:`PLOTLY_FILE`, whose content
:func:`plotly_javascript` gives.
"""

from civitai_pipeline.report.overview import Capture, VersionOverview, report_file_name, version_overview
from civitai_pipeline.report.pages import (
    INDEX_FILE,
    PLOTLY_FILE,
    collection_page,
    plotly_javascript,
    version_page,
)
from civitai_pipeline.report.svg import bar_svg
from civitai_pipeline.report.tables import VersionTables

__all__ = [
    "INDEX_FILE",
    "PLOTLY_FILE",
    "Capture",
    "VersionOverview",
    "VersionTables",
    "bar_svg",
    "collection_page",
    "plotly_javascript",
    "report_file_name",
    "version_overview",
    "version_page",
]

"""Sections written as HTML pages.

The only module that makes markup, by a Jinja template with autoescape on; style and script stand in files
beside the template and go into every page. What a page says is decided in ``sections`` and ``collection``.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

import jinja2
from markupsafe import Markup
from plotly import offline

from civitai_pipeline.report import figures, words
from civitai_pipeline.report.collection import collection_sections
from civitai_pipeline.report.sections import ABOUT, FINDINGS
from civitai_pipeline.report.text import drawable, json_for_script
from civitai_pipeline.report.workbench import Workbench

if TYPE_CHECKING:
    from collections.abc import Sequence

    import plotly.graph_objects as go

    from civitai_pipeline.report.blocks import Section
    from civitai_pipeline.report.overview import VersionOverview
    from civitai_pipeline.report.tables import VersionTables

PLOTLY_FILE = "plotly.min.js"
INDEX_FILE = "index.html"


def plotly_javascript() -> str:
    """Plotly's own bundle, to be written as :data:`PLOTLY_FILE` beside the pages."""
    return str(offline.get_plotlyjs())


def version_page(tables: VersionTables) -> str:
    """The report of one model version, a full HTML document."""
    with Workbench(tables) as bench:
        sections = [section(bench) for section in (*ABOUT, *(FINDINGS if bench.standing else ()))]
    version_id = tables.info.get("model_version_id")
    return _page(
        title=words.version_title(tables.info, version_id),
        subtitle=f"Prompts used with model version {version_id}",
        sections=sections,
        index=INDEX_FILE,
    )


def collection_page(versions: Sequence[VersionOverview]) -> str:
    """The index of reports: all versions side by side, a full HTML document."""
    return _page(
        title="Prompt collection",
        subtitle=f"{words.plural(len(versions), 'model version')} side by side",
        sections=collection_sections(versions),
        index=None,
    )


def _page(*, title: str, subtitle: str, sections: Sequence[Section], index: str | None) -> str:
    script = _asset("report.js")
    return (
        _environment()
        .get_template("page.html")
        .render(
            title=title,
            subtitle=subtitle,
            sections=sections,
            index=index,
            plotly_file=PLOTLY_FILE,
            templates=figures.TEMPLATES,
            # Our own files, never a table's content.
            style=Markup(_asset("report.css").replace("FONT_STACK", figures.FONT_STACK)),  # noqa: S704 - see above
            script=Markup(script),  # noqa: S704 - see above
            # Allows this script and no other: markup that slipped through would still not run.
            script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        )
    )


@cache
def _asset(name: str) -> str:
    return resources.files("civitai_pipeline.report.templates").joinpath(name).read_text("utf-8").strip()


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_asset),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: drawable(value) if type(value) is str else value,
    )
    environment.filters["in_script"] = lambda value: Markup(json_for_script(value))  # noqa: S704 - escaped for scripts
    environment.filters["figure"] = _figure_json
    environment.filters["cell"] = _cell
    environment.filters["block_kind"] = lambda block: type(block).__name__
    return environment


def _figure_json(figure: go.Figure) -> Markup:
    plain = figure.to_plotly_json()
    return Markup(json_for_script({"data": plain["data"], "layout": plain["layout"]}))  # noqa: S704 - escaped for scripts


def _cell(value: float | str | None, kind: str) -> str:
    """A cell's text; links are taken apart by the template."""
    if value is None:
        return "—"
    if isinstance(value, str):
        return value
    return words.share(value, 1) if kind == "share" else words.number(value)

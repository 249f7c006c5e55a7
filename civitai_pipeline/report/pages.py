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

from civitai_pipeline.report import words
from civitai_pipeline.report.collection import collection_sections
from civitai_pipeline.report.explorer import holding_in_words
from civitai_pipeline.report.figure_frame import FONT_STACK, TEMPLATES
from civitai_pipeline.report.names import INDEX_FILE, PLOTLY_FILE, explorer_file_name, report_file_name
from civitai_pipeline.report.sections import ABOUT, FINDINGS
from civitai_pipeline.report.text import drawable, json_for_script
from civitai_pipeline.report.workbench import Workbench

if TYPE_CHECKING:
    from collections.abc import Sequence

    import plotly.graph_objects as go

    from civitai_pipeline.report.blocks import Section
    from civitai_pipeline.report.overview import VersionOverview
    from civitai_pipeline.report.tables import VersionTables

# In the order in which the one script of the explorer holds them.
_EXPLORER_SCRIPTS = (
    "explorer_data.js",
    "explorer_search.js",
    "explorer_parts.js",
    "explorer_list.js",
    "explorer_opened.js",
    "explorer_page.js",
)
_WHOLE_SCRIPT = '(() => {{\n"use strict";\n{}\n}})();'


def plotly_javascript() -> str:
    """Plotly's own bundle, to be written as :data:`PLOTLY_FILE` beside the pages."""
    return str(offline.get_plotlyjs())


def version_page(tables: VersionTables) -> str:
    """The report of one model version, a full HTML document."""
    with Workbench(tables) as bench:
        sections = [section(bench) for section in (*ABOUT, *(FINDINGS if bench.standing else ()))]
    version_id = tables.info["model_version_id"]
    return _page(
        title=words.version_title(tables.info, version_id),
        subtitle=f"Prompts used with model version {version_id}",
        sections=sections,
        index=INDEX_FILE,
        explorer=explorer_file_name(version_id) if tables.standing else None,
    )


def explorer_page(tables: VersionTables, prompts_file: str) -> str:
    """The explorer of one model version's prompts, a full HTML document.

    Args:
        tables: The version's tables; at least one prompt must stand.
        prompts_file: Name of the file beside it that :func:`explorer_script` gave.
    """
    version_id = tables.info["model_version_id"]
    script = _WHOLE_SCRIPT.format("\n".join(_asset(name) for name in _EXPLORER_SCRIPTS))
    return (
        _environment()
        .get_template("explorer.html")
        .render(
            title=words.version_title(tables.info, version_id),
            subtitle=f"Explorer of the prompts used with model version {version_id}",
            holding=holding_in_words(tables.standing),
            report=report_file_name(version_id),
            about={"file": prompts_file, "site": tables.site},
            style=_style("report.css", "explorer.css"),
            script=Markup(script),  # noqa: S704 - our own files, never a table's content
            script_hash=_hash(script),
        )
    )


def collection_page(versions: Sequence[VersionOverview], without: Sequence[int] = ()) -> str:
    """The index of reports: all versions side by side, a full HTML document.

    Args:
        versions: The overviews, in any order.
        without: Versions of which pages have landed, but which have no overview yet.
    """
    return _page(
        title="Prompt collection",
        subtitle=f"{words.plural(len(versions), 'model version')} side by side",
        sections=collection_sections(versions, without),
        index=None,
        explorer=None,
    )


def _page(*, title: str, subtitle: str, sections: Sequence[Section], index: str | None, explorer: str | None) -> str:
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
            templates=TEMPLATES,
            explorer=explorer,
            style=_style("report.css"),
            script=Markup(script),  # noqa: S704 - our own files, never a table's content
            script_hash=_hash(script),
        )
    )


def _hash(script: str) -> str:
    """What the page's policy names the script by, so that markup that slipped through would still not run."""
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _style(*names: str) -> Markup:
    style = "\n".join(_asset(name) for name in names).replace("FONT_STACK", FONT_STACK)
    return Markup(style)  # noqa: S704 - our own files, never a table's content


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

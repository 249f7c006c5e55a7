"""The collection page: what was collected of each version, and whether each collection is whole, fresh and sound.

Works from overviews only. How the versions compare is for ``comparison``, a single version's sections are in
``sections``, HTML is written in ``pages``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from civitai_pipeline.report import figures, words
from civitai_pipeline.report.blocks import Block, Chart, Column, Facts, Paragraphs, Section, Table
from civitai_pipeline.report.comparison import DRAWN, labels, link, ranked_sections

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from civitai_pipeline.report.overview import VersionOverview

# Reasons to stop that somebody chose, or that are the end.
_WELL = {"at_end", "max_items", "time_budget"}
# A page names so many versions that need a look; whoever has more of them looks at the table below.
_MOST_TROUBLED = 100


def collection_sections(versions: Sequence[VersionOverview], without: Sequence[int] = ()) -> list[Section]:
    """What was collected and how healthy it is, then the versions compared.

    Args:
        versions: The overviews.
        without: Versions of which pages have landed, but which have no overview yet.
    """
    ranked = sorted(versions, key=lambda version: (-version.prompts, version.model_version_id))
    sections = [_coverage(ranked, without)]
    if ranked:
        sections += [_health(ranked), *ranked_sections(ranked)]
    return sections


def _coverage(ranked: Sequence[VersionOverview], without: Sequence[int]) -> Section:
    title = "What was collected"
    missing = [_not_counted(without)] if without else []
    if not ranked:
        said = missing or ["No model version has been collected yet."]
        return Section("versions", title, [Paragraphs(said)], "Versions")
    prompts = sum(version.prompts for version in ranked)
    fetches = [version.last_fetch for version in ranked if version.last_fetch]
    blocks: list[Block] = [
        Facts(
            "In numbers",
            [
                ("model versions", f"{len(ranked):,}"),
                ("walked to the end", f"{sum(version.at_end for version in ranked):,} of {len(ranked):,}"),
                ("prompts", f"{prompts:,}"),
                ("images rejected", f"{sum(sum(version.rejected.values()) for version in ranked):,}"),
                ("last fetch", words.moment(max(fetches)) if fetches else words.UNKNOWN),
            ],
        ),
        Paragraphs(
            [
                (
                    "One image can stand in the galleries of several versions; it then counts once for each, so the "
                    "totals may exceed the number of different images."
                ),
                *missing,
            ]
        ),
        Table(
            "All versions",
            [
                Column("version", "link"),
                Column("base model"),
                Column("prompts", "count"),
                Column("distinct", "count"),
                Column("authors", "count"),
                Column("rejected", "count"),
                Column("levels asked for"),
                Column("images dated", "date"),
            ],
            [
                (
                    link(version),
                    version.info.get("base_model") or words.UNKNOWN,
                    version.prompts,
                    version.distinct_prompts,
                    version.authors,
                    sum(version.rejected.values()),
                    words.level_names(version.browsing_levels),
                    words.span(version.oldest_created_at, version.newest_created_at),
                )
                for version in ranked
            ],
            "The name leads to the version's own report. A click on a heading sorts.",
            sortable=True,
        ),
        Chart(
            "How many prompts does each version have?",
            f"n = {words.plural(prompts, 'prompt')} in {words.plural(len(ranked), 'version')}"
            + (f"; the {DRAWN} with the most are drawn." if len(ranked) > DRAWN else "."),
            figures.bars(
                [(label, version.prompts) for label, version in zip(labels(ranked[:DRAWN]), ranked, strict=False)],
                unit="prompts",
            ),
        ),
    ]
    return Section("versions", title, blocks, "Versions")


def _not_counted(without: Sequence[int]) -> str:
    named = ", ".join(map(str, without[:10])) + (f" and {len(without) - 10:,} more" if len(without) > 10 else "")  # noqa: PLR2004 - as many as were named
    return (
        f"{words.plural(len(without), 'version has', 'versions have')} landed pages but no overview yet, and so no "
        f"place below: {named}. The next run of a version makes it, or the job rebuild does, without asking the API."
    )


def _health(ranked: Sequence[VersionOverview]) -> Section:
    newest = max((version.last_fetch for version in ranked if version.last_fetch), default=None)
    troubled = [(version, why) for version in ranked if (why := _trouble(version))]
    blocks: list[Block] = [
        Table(
            "Which versions need a look?",
            [Column("version", "link"), Column("why", "long")],
            [(link(version), why) for version, why in troubled[:_MOST_TROUBLED]],
            f"The {_MOST_TROUBLED} with the most prompts, of {len(troubled):,}."
            if len(troubled) > _MOST_TROUBLED
            else "",
        )
        if troubled
        else Paragraphs(["No version needs a look: every last run stopped as asked, and no check is known to fail."]),
        Table(
            "How whole, fresh and sound is each collection?",
            [
                Column("version", "link"),
                Column("walked"),
                Column("last fetch", "date"),
                Column("days behind", "number"),
                Column("last run ended", "date"),
                Column("because"),
                Column("new", "count"),
                Column("failed checks", "count"),
            ],
            [_health_row(version, newest) for version in ranked],
            "Days behind: from the version's last fetch to the newest fetch of all. A dash stands where no run, or no "
            "check, is known here. The checks are as they stood when this page was made.",
            sortable=True,
        ),
    ]
    return Section("health", "How healthy the collections are", blocks, "Health")


def _health_row(version: VersionOverview, newest: datetime | None) -> tuple[object, ...]:
    summary = version.summary or {}
    last = version.last_fetch
    return (
        link(version),
        _walked(version),
        words.day(last),
        None if last is None or newest is None else round((newest - last).total_seconds() / 86_400, 1),
        words.day(summary.get("finished_at")) if summary else None,
        words.short_stop_reason(summary.get("stop_reason")) if summary else None,
        summary.get("new"),
        None if version.failed_checks is None else len(version.failed_checks),
    )


def _walked(version: VersionOverview) -> str:
    if version.walked:
        return "to the end" if version.at_end else "not to the end"
    return "imported" if version.listings else "not started"


def _trouble(version: VersionOverview) -> str:
    """Why someone should look at a version, as sentences; empty when nobody need to."""
    summary = version.summary or {}
    reason = summary.get("stop_reason")
    found = []
    if reason and reason not in _WELL:
        found.append(f"The last run stopped because {words.stop_reason(reason)}.")
    if summary.get("error"):
        found.append(f"Error: {summary['error']}")
    if version.listings and not version.prompts:
        found.append("Pages were fetched, but no image has a prompt.")
    if version.failed_checks:
        found.append(f"Failed checks: {', '.join(version.failed_checks)}.")
    return " ".join(found)

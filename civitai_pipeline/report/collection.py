"""The sections of the collection page: all versions side by side.

Works from overviews only; a single version's sections are in ``sections``, HTML is written in ``pages``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from civitai_pipeline.report import figures, words
from civitai_pipeline.report.blocks import Block, Chart, Column, Facts, Paragraphs, Section, Table
from civitai_pipeline.report.text import quoted, shortened

if TYPE_CHECKING:
    from collections.abc import Sequence

    from civitai_pipeline.report.overview import VersionOverview

# More bars than this make a chart nobody reads; the tables have all versions.
_DRAWN = 40
_CAPTURED = ("negative prompt", "sampler", "steps", "CFG scale", "seed", "any resource", "a LoRA", "author")


def collection_sections(versions: Sequence[VersionOverview]) -> list[Section]:
    """Totals and coverage, then categories, settings and resources across versions."""
    ranked = sorted(versions, key=lambda version: (-version.counts.get("prompts", 0), version.model_version_id))
    sections = [_coverage(ranked)]
    if ranked:
        sections += [_captures(ranked), _categories(ranked), _settings(ranked), _resources(ranked)]
    return sections


def _labels(versions: Sequence[VersionOverview]) -> list[str]:
    """Labels for charts: both names cut, and the id instead of the version's name where that is not enough."""
    cut = [
        f"{shortened(str(version.info['model_name']), 14)} · {shortened(str(version.info['version_name']), 11)}"
        if version.info.get("model_name") and version.info.get("version_name")
        else version.title
        for version in versions
    ]
    return [
        label if cut.count(label) == 1 else f"{shortened(version.title, 14)} · {version.model_version_id}"
        for label, version in zip(cut, versions, strict=True)
    ]


def _link(version: VersionOverview) -> tuple[str, str]:
    return version.report_file, version.title


def _coverage(ranked: Sequence[VersionOverview]) -> Section:
    if not ranked:
        return Section("versions", "What was collected", [Paragraphs(["No model version has been collected yet."])])
    prompts = sum(version.counts.get("prompts", 0) for version in ranked)
    rejected = sum(version.counts.get("rejected", 0) for version in ranked)
    at_end = sum(version.at_end for version in ranked)
    fetches = [version.last_successful_fetch_at for version in ranked if version.last_successful_fetch_at]
    blocks: list[Block] = [
        Facts(
            "In numbers",
            [
                ("model versions", f"{len(ranked):,}"),
                ("walked to the end", f"{at_end:,} of {len(ranked):,}"),
                ("prompts", f"{prompts:,}"),
                ("images rejected", f"{rejected:,}"),
                ("last fetch", words.moment(max(fetches)) if fetches else words.UNKNOWN),
            ],
        ),
        Paragraphs(
            [
                (
                    "One image can stand in the galleries of several versions; it then counts once for each, so the "
                    "totals may exceed the number of different images."
                )
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
                Column("levels"),
                Column("images dated", "date"),
                Column("status"),
                Column("last fetch", "date"),
                Column("last run"),
            ],
            [_coverage_row(version) for version in ranked],
            "The name leads to the version's own report.",
        ),
    ]
    troubled = [version for version in ranked if _trouble(version)]
    if troubled:
        blocks.append(
            Table(
                "Which versions need a look?",
                [Column("version", "link"), Column("why", "long")],
                [(_link(version), _trouble(version)) for version in troubled],
            )
        )
    blocks.append(
        Chart(
            "How many prompts does each version have?",
            f"n = {words.plural(prompts, 'prompt')} in {words.plural(len(ranked), 'version')}"
            + (f"; the first {_DRAWN} are drawn." if len(ranked) > _DRAWN else "."),
            figures.bars(
                [
                    (label, version.counts.get("prompts", 0))
                    for label, version in zip(_labels(ranked[:_DRAWN]), ranked, strict=False)
                ],
                unit="prompts",
            ),
        )
    )
    return Section("versions", "What was collected", blocks)


def _coverage_row(version: VersionOverview) -> tuple[object, ...]:
    reason = (version.summary or {}).get("stop_reason")
    return (
        _link(version),
        version.info.get("base_model") or words.UNKNOWN,
        version.counts.get("prompts", 0),
        version.counts.get("distinct_prompts", 0),
        version.counts.get("authors", 0),
        version.counts.get("rejected", 0),
        words.level_names(version.browsing_levels),
        words.span(version.oldest_created_at, version.newest_created_at),
        "at its end"
        if version.at_end
        else "goes on"
        if version.walked
        else "imported"
        if version.listings
        else "not started",
        words.day(version.last_successful_fetch_at),
        str(reason) if reason else words.UNKNOWN,
    )


def _status(version: VersionOverview) -> str:
    if version.walked:
        return "at its end" if version.at_end else "goes on"
    return "imported" if version.listings else "not started"


def _trouble(version: VersionOverview) -> str:
    """Why someone should look at a version, as a sentence; empty when nobody need to."""
    summary = version.summary or {}
    reason = summary.get("stop_reason")
    found = []
    if reason and reason not in {"at_end", "max_items", "time_budget"}:
        found.append(f"The last run stopped because {words.stop_reason(reason)}.")
    if summary.get("error"):
        found.append(f"Error: {summary['error']}")
    if version.listings and not version.counts.get("prompts"):
        found.append("Pages were fetched, but no image has a prompt.")
    return " ".join(found)


def _captures(ranked: Sequence[VersionOverview]) -> Section:
    rows = []
    for version in ranked:
        rates = {capture.field: capture.rate for capture in version.captures}
        rows.append((_link(version), version.counts.get("prompts", 0), *(rates.get(name) for name in _CAPTURED)))
    return Section(
        "capture",
        "What the images tell",
        [
            Table(
                "How often does an image tell its settings?",
                [
                    Column("version", "link"),
                    Column("n", "count"),
                    *(Column(name, "share") for name in _CAPTURED),
                ],
                rows,
                "Versions with different capture rates differ in who uploads and with which tool; compare their "
                "settings with that in mind.",
            )
        ],
    )


def _categories(ranked: Sequence[VersionOverview]) -> Section:
    question = "Do the versions differ in what their prompts are about?"
    classified = [version for version in ranked if sum(version.category_primary.values())]
    if not classified:
        return Section("categories", "Categories", [Chart(question, "No prompt has been classified yet.", None)])
    names = list(dict.fromkeys(name for version in classified for name in version.category_primary))
    rows = []
    for version in classified:
        total = sum(version.category_primary.values())
        rows.append((version, total, [version.category_primary.get(name, 0) / total for name in names]))
    thin = [version.title for version, total, _ in rows if total < words.THIN]
    answer = (
        f"n = {words.plural(sum(total for _, total, _ in rows), 'prompt')} in {words.plural(len(rows), 'version')}."
    )
    if thin:
        named = ", ".join(quoted(title) for title in thin[:5])
        answer += f" Fewer than {words.THIN} prompts, so shares of little worth: {named}"
        answer += f" and {len(thin) - 5} more." if len(thin) > 5 else "."  # noqa: PLR2004 - as many as were named
    chart = Chart(
        question,
        answer,
        figures.stacked_shares(
            [
                (label, shares)
                for label, (_, _, shares) in zip(_labels([row[0] for row in rows[:_DRAWN]]), rows, strict=False)
            ],
            names,
            unit="prompts, by primary category",
        ),
        Table(
            "Primary category by version",
            [Column("version", "link"), Column("n", "count"), *(Column(name, "share") for name in names)],
            [(_link(version), total, *shares) for version, total, shares in rows],
        ),
        legend=names,
    )
    return Section("categories", "Categories", [chart])


def _tops(rows: Sequence[tuple[str, int]], whole: int) -> str:
    # Each name isolated, so that one written from right to left does not carry the next along.
    return (
        ", ".join(f"\u2068{shortened(name, 48)}\u2069 ({words.share(images, whole)})" for name, images in rows) or "—"
    )


def _settings(ranked: Sequence[VersionOverview]) -> Section:
    rows = []
    for version in ranked:
        known = {capture.field: capture.known for capture in version.captures}
        rows.append(
            (
                _link(version),
                _tops(version.top_samplers, known.get("sampler", 0)),
                _tops(version.top_sizes, known.get("size", 0)),
                version.medians.get("steps"),
                version.medians.get("cfg_scale"),
                version.medians.get("prompt_length"),
                version.medians.get("reaction_count"),
            )
        )
    return Section(
        "settings",
        "Settings",
        [
            Table(
                "Which settings are usual for each version?",
                [
                    Column("version", "link"),
                    Column("samplers", "long"),
                    Column("sizes", "long"),
                    Column("median steps", "number"),
                    Column("median CFG scale", "number"),
                    Column("median prompt length", "number"),
                    Column("median reactions", "number"),
                ],
                rows,
                "Shares are of the images that tell the setting.",
            )
        ],
    )


def _resources(ranked: Sequence[VersionOverview]) -> Section:
    return Section(
        "resources",
        "LoRAs and checkpoints",
        [
            Table(
                "Which LoRAs and checkpoints are used with each version?",
                [Column("version", "link"), Column("LoRAs", "long"), Column("checkpoints", "long")],
                [
                    (
                        _link(version),
                        _tops(version.top_loras, version.counts.get("prompts", 0)),
                        _tops(version.top_checkpoints, version.counts.get("prompts", 0)),
                    )
                    for version in ranked
                ],
                "Shares are of all prompts of the version, including those that name no resource.",
            )
        ],
    )

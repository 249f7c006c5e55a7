"""The versions of a collection compared: what they tell, their categories, settings and resources.

Works from overviews only; what was collected at all is for ``collection``.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

from civitai_pipeline.report import figures, words
from civitai_pipeline.report.blocks import Block, Chart, Column, Section, Table
from civitai_pipeline.report.overview import MOST_CHECKPOINTS, MOST_LORAS
from civitai_pipeline.report.text import LABEL_COLUMNS, quoted, shortened

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from civitai_pipeline.report.overview import Used, VersionOverview

# More bars than this make a chart nobody reads; the tables have more.
DRAWN = 40
# Rows of the tables that compare: with thousands of versions a page of all of them would not open at ease.
_LISTED = 200
# Versions that a table of shared resources has a column for.
_COLUMNS = 8
_SHARED = 40
_SAMPLERS = 7
_TOP = 3
_CAPTURED = ("negative prompt", "sampler", "steps", "CFG scale", "seed", "any resource", "a LoRA", "author")


def ranked_sections(ranked: Sequence[VersionOverview]) -> list[Section]:
    """What compares the versions, which come with the most prompts first."""
    return [_captures(ranked), _categories(ranked), _settings(ranked), _resources(ranked)]


def link(version: VersionOverview) -> tuple[str, str]:
    """The address of a version's page, and its title."""
    return version.report_file, version.title


def labels(versions: Sequence[VersionOverview]) -> list[str]:
    """Labels for charts: both names, cut where they must be, and the id instead where that is not enough."""
    cut = [_label(version) for version in versions]
    counts = Counter(cut)
    return [
        label if counts[label] == 1 else f"{shortened(version.title, 14)} · {version.model_version_id}"
        for label, version in zip(cut, versions, strict=True)
    ]


def _label(version: VersionOverview) -> str:
    if shortened(version.title) == version.title:
        return version.title
    names = [str(version.info[key]) for key in ("model_name", "version_name") if version.info.get(key)]
    widths = (LABEL_COLUMNS - 14, 11) if len(names) > 1 else (LABEL_COLUMNS,)
    return " · ".join(shortened(name, width) for name, width in zip(names, widths, strict=False)) or version.title


def _listed_note(ranked: Sequence[VersionOverview]) -> str:
    if len(ranked) <= _LISTED:
        return ""
    return f" The {_LISTED} with the most prompts, of {len(ranked):,}; the table version_overviews has all."


def _captures(ranked: Sequence[VersionOverview]) -> Section:
    table = Table(
        "How often does an image tell its settings?",
        [Column("version", "link"), Column("n", "count"), *(Column(name, "share") for name in _CAPTURED)],
        [(link(version), version.prompts, *(version.told(name) for name in _CAPTURED)) for version in ranked[:_LISTED]],
        "Versions with different capture rates differ in who uploads and with which tool; compare their settings with "
        "that in mind." + _listed_note(ranked),
        sortable=True,
    )
    return Section("capture", "What the images tell", [table], "Capture rates")


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
    chart = Chart(
        question,
        _n(sum(total for _, total, _ in rows), classified) + _thin(classified),
        _stacked([(version, shares) for version, _, shares in rows], names, "prompts, by primary category"),
        Table(
            "Primary category by version",
            [Column("version", "link"), Column("n", "count"), *(Column(name, "share") for name in names)],
            [(link(version), total, *shares) for version, total, shares in rows[:_LISTED]],
            _listed_note(classified).strip(),
            sortable=True,
        ),
        legend=names,
    )
    return Section("categories", "Categories", [chart])


def _n(prompts: int, versions: Sequence[VersionOverview], which: str = "") -> str:
    drawn = f"; the {DRAWN} with the most prompts are drawn." if len(versions) > DRAWN else "."
    return f"n = {words.plural(prompts, 'prompt')}{which} in {words.plural(len(versions), 'version')}{drawn}"


def _thin(versions: Sequence[VersionOverview]) -> str:
    thin = [version.title for version in versions if version.prompts < words.THIN]
    if not thin:
        return ""
    named = ", ".join(quoted(title) for title in thin[:5])
    rest = f" and {len(thin) - 5} more." if len(thin) > 5 else "."  # noqa: PLR2004 - as many as were named
    return f" Fewer than {words.THIN} prompts, so shares of little worth: {named}{rest}"


def _stacked(rows: Sequence[tuple[VersionOverview, Sequence[float]]], parts: Sequence[str], unit: str) -> Any:  # noqa: ANN401 - a figure
    drawn = rows[:DRAWN]
    titles = labels([version for version, _ in drawn])
    return figures.stacked_shares(
        [(label, shares) for label, (_, shares) in zip(titles, drawn, strict=True)], parts, unit=unit
    )


def _tops(rows: Sequence[tuple[str, int]], whole: int) -> str:
    # Each name isolated, so that one written from right to left does not carry the next along.
    return (
        ", ".join(f"\u2068{shortened(name, 48)}\u2069 ({words.share(images, whole)})" for name, images in rows[:_TOP])
        or "—"
    )


def _settings(ranked: Sequence[VersionOverview]) -> Section:
    table = Table(
        "Which settings are usual for each version?",
        [
            Column("version", "link"),
            Column("samplers used most", "long"),
            Column("sampler told", "share"),
            Column("median steps", "number"),
            Column("steps told", "share"),
            Column("median CFG scale", "number"),
            Column("CFG scale told", "share"),
            Column("commonest sizes", "long"),
            Column("median prompt length", "number"),
            Column("median reactions", "number"),
        ],
        [
            (
                link(version),
                _tops(version.samplers, version.known.get("sampler", 0)),
                version.told("sampler"),
                version.medians.get("steps"),
                version.told("steps"),
                version.medians.get("cfg_scale"),
                version.told("CFG scale"),
                _tops(version.sizes, version.known.get("size", 0)),
                version.medians.get("prompt_length"),
                version.medians.get("reaction_count"),
            )
            for version in ranked[:_LISTED]
        ],
        "Shares of samplers and sizes, and medians, are of the images that tell the setting; how many do stands beside."
        + _listed_note(ranked),
        sortable=True,
    )
    return Section("settings", "Settings", [*_samplers(ranked), table])


def _samplers(ranked: Sequence[VersionOverview]) -> list[Block]:
    telling = [version for version in ranked if version.known.get("sampler")]
    if not telling:
        return []
    # By the mean of the versions' shares: by images, the largest version alone would choose.
    weights: dict[str, float] = defaultdict(float)
    for version in telling:
        for name, images in version.samplers:
            weights[name] += images / version.known["sampler"]
    names = sorted(weights, key=lambda name: (-weights[name], name))[:_SAMPLERS]
    rows = []
    for version in telling:
        shares = {name: images / version.known["sampler"] for name, images in version.samplers}
        parts = [shares.get(name, 0.0) for name in names]
        rows.append((version, [*parts, max(1 - sum(parts), 0.0)]))
    parts_named = [*names, "others"]
    return [
        Chart(
            "Do the versions differ in their samplers?",
            _n(sum(version.known["sampler"] for version in telling), telling, " that tell their sampler,")
            + _thin(telling),
            _stacked(rows, parts_named, "images that tell their sampler"),
            note=f"The {len(names)} samplers with the largest mean share over the versions, as metadata spells them.",
            legend=parts_named,
        )
    ]


def _resources(ranked: Sequence[VersionOverview]) -> Section:
    table = Table(
        "Which LoRAs and checkpoints are used with each version?",
        [Column("version", "link"), Column("LoRAs", "long"), Column("checkpoints", "long")],
        [
            (
                link(version),
                _tops([(used.name, used.images) for used in version.loras], version.prompts),
                _tops([(used.name, used.images) for used in version.checkpoints], version.prompts),
            )
            for version in ranked[:_LISTED]
        ],
        "Shares are of all prompts of the version, including those that name no resource." + _listed_note(ranked),
        sortable=True,
    )
    blocks: list[Block] = [table]
    if len(ranked) > 1:
        blocks = [
            _shared(ranked, "LoRA", MOST_LORAS, lambda version: version.loras),
            _shared(ranked, "checkpoint", MOST_CHECKPOINTS, lambda version: version.checkpoints),
            table,
        ]
    return Section("resources", "LoRAs and checkpoints", blocks, "Resources")


def _shared(
    ranked: Sequence[VersionOverview], noun: str, most: int, used_by: Callable[[VersionOverview], Sequence[Used]]
) -> Block:
    """The resources that several versions' images name, with their share of each version's prompts."""
    question = f"Which {noun}s do several versions share?"
    users: dict[str, int] = defaultdict(int)
    images: dict[str, int] = defaultdict(int)
    shares: dict[str, float] = defaultdict(float)
    names: dict[str, Counter[str]] = defaultdict(Counter)
    for version in ranked:
        for used in used_by(version):
            users[used.key] += 1
            images[used.key] += used.images
            shares[used.key] += used.images / version.prompts
            names[used.key][used.name] += used.images
    shared = sorted((key for key in users if users[key] > 1), key=lambda key: (-users[key], -shares[key], key))
    if not shared:
        return Chart(
            question, f"None of the {words.plural(len(users), noun)} is named with more than one version.", None
        )
    titles = {f"version {version.model_version_id}": version.title for version in ranked}
    columns = [version for version in ranked if used_by(version)][:_COLUMNS]
    told = [{used.key: used.images / version.prompts for used in used_by(version)} for version in columns]
    rows = [
        (
            titles.get(key) or min(names[key], key=lambda name: (-names[key][name], name)),
            users[key],
            images[key],
            *(_share_of(key, version_told, most) for version_told in told),
        )
        for key in shared[:_SHARED]
    ]
    listed = f"the first {_SHARED} are listed, " if len(shared) > _SHARED else ""
    beside = f" The {_COLUMNS} versions with the most prompts stand beside." if len(ranked) > _COLUMNS else ""
    return Table(
        question,
        [
            Column(noun),
            Column("versions", "count"),
            Column("images", "count"),
            *(Column(label, "share") for label in labels(columns)),
        ],
        rows,
        f"n = {words.plural(len(shared), f'shared {noun}')} of {len(users):,}, in "
        f"{words.plural(len(ranked), 'version')}; {listed}those of most versions first. Shares are of all prompts of a "
        f"version. Counted are the {most} that each version uses most: a dash stands where one may be used more "
        f"rarely.{beside}",
        sortable=True,
    )


def _share_of(key: str, told: Mapping[str, float], most: int) -> float | None:
    # What a whole list lacks is not used; what a list that was cut lacks may be.
    return told.get(key, 0.0 if len(told) < most else None)

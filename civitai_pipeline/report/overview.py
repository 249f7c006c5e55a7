"""A version's report boiled down to what the collection page compares.

Small plain values, so that many versions fit in memory while their tables do not. How they are laid out
side by side is for ``collection``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from civitai_pipeline.report import words
from civitai_pipeline.report.names import report_file_name
from civitai_pipeline.report.sections.categories import category_counts
from civitai_pipeline.report.sections.coverage import capture_counts, rejection_counts
from civitai_pipeline.report.sections.resources import top_resources
from civitai_pipeline.report.workbench import Workbench

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from civitai_pipeline.report.tables import VersionTables

_TOP = 3


@dataclass(frozen=True)
class Capture:
    """How many of the prompts have a field.

    Attributes:
        field: The field as the page names it.
        known: Prompts that have it.
        total: All prompts.
    """

    field: str
    known: int
    total: int

    @property
    def rate(self) -> float | None:
        """Known of total; None where there are no prompts."""
        return self.known / self.total if self.total else None


@dataclass(frozen=True)
class VersionOverview:
    """What the collection page says of one version.

    Attributes:
        model_version_id: The version.
        info: Its ``model_version_info`` row; values may be None.
        report_file: Name of its page, beside the collection page.
        counts: ``prompts`` (whose prompt stands), ``withdrawn``, ``distinct_prompts``, ``authors``, ``duplicates``,
            ``rejected`` and one count for each rejected outcome.
        oldest_created_at: The oldest dated image, in UTC.
        newest_created_at: The newest.
        last_successful_fetch_at: The latest over all listings.
        listings: The rows of ``collection_state``.
        summary: The last run's summary.
        category_presence: For each category, images that match it.
        category_primary: For each category, images it is the primary one of.
        captures: How often each field is known.
        medians: Medians by name: ``prompt_length``, ``steps``, ``cfg_scale``, ``reaction_count``; None if unknown.
        top_loras: The most used LoRAs and their images.
        top_checkpoints: The most used checkpoints and their images.
        top_samplers: The most used samplers and their images.
        top_sizes: The most used sizes and their images.
    """

    model_version_id: int
    info: Mapping[str, Any]
    report_file: str
    counts: Mapping[str, int]
    oldest_created_at: datetime | None = None
    newest_created_at: datetime | None = None
    last_successful_fetch_at: datetime | None = None
    listings: Sequence[Mapping[str, Any]] = ()
    summary: Mapping[str, Any] | None = None
    category_presence: Mapping[str, int] = field(default_factory=dict)
    category_primary: Mapping[str, int] = field(default_factory=dict)
    captures: Sequence[Capture] = ()
    medians: Mapping[str, float | None] = field(default_factory=dict)
    top_loras: Sequence[tuple[str, int]] = ()
    top_checkpoints: Sequence[tuple[str, int]] = ()
    top_samplers: Sequence[tuple[str, int]] = ()
    top_sizes: Sequence[tuple[str, int]] = ()

    @property
    def title(self) -> str:
        """The version's name, or its id where no name is known."""
        return words.version_title(self.info, self.model_version_id)

    @property
    def browsing_levels(self) -> int | None:
        """The maturity bits its listings asked for; None where none is known."""
        bits = 0
        for listing in self.listings:
            bits |= listing.get("browsing_level") or 0
        return bits or None

    @property
    def at_end(self) -> bool:
        """Whether every listing was walked to its end; an import is no walk."""
        return bool(self.walked) and all(listing.get("status") == "at_end" for listing in self.walked)

    @property
    def walked(self) -> Sequence[Mapping[str, Any]]:
        """The listings without what was imported."""
        return [listing for listing in self.listings if listing.get("sort") != words.IMPORTED]


def version_overview(tables: VersionTables) -> VersionOverview:
    """Boils a version's tables down.

    Args:
        tables: The version's tables; ``info`` must hold ``model_version_id``.
    """
    with Workbench(tables) as bench:
        return _overview(bench)


def _overview(bench: Workbench) -> VersionOverview:
    tables = bench.tables
    version_id = int(tables.info["model_version_id"])
    distinct, authors, duplicates, oldest, newest, *medians = bench.row(
        """
        SELECT count(DISTINCT prompt_hash), count(DISTINCT author), count(*) FILTER (WHERE repeats_exactly),
               min(created), max(created),
               quantile_disc(prompt_length, 0.5), quantile_disc(steps, 0.5), quantile_disc(cfg_scale, 0.5),
               quantile_disc(reaction_count, 0.5)
        FROM prompts
        """
    )
    rejected = dict(rejection_counts(bench))
    fetches = [words.as_moment(listing.get("last_successful_fetch_at")) for listing in tables.collection_state]
    categories = category_counts(bench)
    return VersionOverview(
        model_version_id=version_id,
        info=tables.info,
        report_file=report_file_name(version_id),
        counts={
            "prompts": bench.standing,
            "withdrawn": bench.count("SELECT count(*) FROM everything WHERE withdrawn"),
            "distinct_prompts": distinct,
            "authors": authors,
            "duplicates": duplicates,
            "rejected": sum(rejected.values()),
            **rejected,
        },
        oldest_created_at=words.as_moment(oldest),
        newest_created_at=words.as_moment(newest),
        last_successful_fetch_at=max((fetch for fetch in fetches if fetch), default=None),
        listings=tables.collection_state,
        summary=tables.summary,
        category_presence={category: present for category, present, _ in categories},
        category_primary={category: primary for category, _, primary in categories},
        captures=[Capture(name, known, bench.standing) for name, known in capture_counts(bench)],
        medians=dict(zip(("prompt_length", "steps", "cfg_scale", "reaction_count"), medians, strict=True)),
        top_loras=[(row[0], row[2]) for row in top_resources(bench, "lora", _TOP)],
        top_checkpoints=[(row[0], row[2]) for row in top_resources(bench, "checkpoint", _TOP)],
        top_samplers=_pairs(
            bench,
            """
            SELECT sampler, count(*) AS images FROM prompts WHERE sampler IS NOT NULL
            GROUP BY sampler ORDER BY images DESC, sampler LIMIT $1
            """,
        ),
        top_sizes=_pairs(
            bench,
            """
            SELECT width || 'x' || height, count(*) AS images FROM prompts
            WHERE width IS NOT NULL AND height IS NOT NULL
            GROUP BY width, height ORDER BY images DESC, width, height LIMIT $1
            """,
        ),
    )


def _pairs(bench: Workbench, sql: str) -> list[tuple[str, int]]:
    return [(str(name), int(images)) for name, images in bench.rows(sql, _TOP)]

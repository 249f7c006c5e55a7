"""What the collection page knows of each version, and the row of ``version_overviews`` it is read from.

A version boils its tables down to one row in its own run, so that the page over all versions reads a few
kilobytes of each, however many prompts it has. How they are laid out side by side is for ``collection``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from civitai_pipeline.report import words
from civitai_pipeline.report.names import report_file_name
from civitai_pipeline.report.sections.categories import category_counts
from civitai_pipeline.report.sections.coverage import capture_counts, rejection_counts
from civitai_pipeline.report.sections.resources import top_resources
from civitai_pipeline.report.workbench import Workbench

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from civitai_pipeline.report.tables import VersionTables

# Raised whenever the same tables would give another row.
CODE_VERSION = "1"

# What one version has among its most used, another may have further down its list; beyond this they share little.
MOST_LORAS, MOST_CHECKPOINTS, MOST_VALUES = 100, 50, 20

_MEDIANS = ("prompt_length", "steps", "cfg_scale", "reaction_count")


class Used(NamedTuple):
    """A resource and the images that name it.

    Attributes:
        key: What it is told apart by, in all versions alike.
        name: What people know it by.
        images: Images that name it.
    """

    key: str
    name: str
    images: int


@dataclass(frozen=True)
class VersionOverview:
    """What the collection page says of one version.

    Attributes:
        model_version_id: The version.
        info: Its ``model_version_info`` row; values may be None.
        report_file: Name of its page, beside the collection page.
        prompts: Images whose prompt stands.
        distinct_prompts: Different prompts among them.
        authors: Named authors of them.
        oldest_created_at: The oldest dated image, in UTC.
        newest_created_at: The newest.
        rejected: Rejected images, by outcome.
        known: For each field that an image may tell, the images that do.
        category_primary: For each category, images it is the primary one of.
        medians: Medians by name: ``prompt_length``, ``steps``, ``cfg_scale``, ``reaction_count``; None if unknown.
        samplers: The most used samplers and their images.
        sizes: The commonest sizes and their images.
        loras: The most used LoRAs.
        checkpoints: The most used checkpoints.
        listings: The rows of ``collection_state``.
        summary: The last run's summary, or None where no run is known.
        failed_checks: The checks that failed when last made; None where none is known to have been made.
    """

    model_version_id: int
    info: Mapping[str, Any]
    report_file: str
    prompts: int
    distinct_prompts: int
    authors: int
    oldest_created_at: datetime | None
    newest_created_at: datetime | None
    rejected: Mapping[str, int]
    known: Mapping[str, int]
    category_primary: Mapping[str, int]
    medians: Mapping[str, float | None]
    samplers: Sequence[tuple[str, int]]
    sizes: Sequence[tuple[str, int]]
    loras: Sequence[Used]
    checkpoints: Sequence[Used]
    listings: Sequence[Mapping[str, Any]] = ()
    summary: Mapping[str, Any] | None = None
    failed_checks: Sequence[str] | None = None

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

    @property
    def last_fetch(self) -> datetime | None:
        """The latest fetch over all listings."""
        fetches = (words.as_moment(listing.get("last_successful_fetch_at")) for listing in self.listings)
        return max((fetch for fetch in fetches if fetch), default=None)

    def told(self, name: str) -> float | None:
        """The share of the prompts that tell a field; None where there are no prompts."""
        return self.known.get(name, 0) / self.prompts if self.prompts else None


def version_overview(
    row: Mapping[str, Any],
    info: Mapping[str, Any],
    listings: Sequence[Mapping[str, Any]] = (),
    summary: Mapping[str, Any] | None = None,
    failed_checks: Sequence[str] | None = None,
) -> VersionOverview:
    """A version's overview from its row of ``version_overviews`` and what is known of its collection."""
    version_id = int(row["model_version_id"])
    return VersionOverview(
        model_version_id=version_id,
        info=info,
        report_file=report_file_name(version_id),
        prompts=row["prompts"],
        distinct_prompts=row["distinct_prompts"],
        authors=row["authors"],
        oldest_created_at=words.as_moment(row["oldest_created_at"]),
        newest_created_at=words.as_moment(row["newest_created_at"]),
        rejected=dict(_together(row, "outcomes", "outcome_images")),
        known=dict(_together(row, "fields", "field_images")),
        category_primary=dict(_together(row, "categories", "primary_images")),
        medians={name: row[f"{name}_median"] for name in _MEDIANS},
        samplers=list(_together(row, "samplers", "sampler_images")),
        sizes=list(_together(row, "sizes", "size_images")),
        loras=[Used(*one) for one in _together(row, "lora_keys", "loras", "lora_images")],
        checkpoints=[Used(*one) for one in _together(row, "checkpoint_keys", "checkpoints", "checkpoint_images")],
        listings=listings,
        summary=summary,
        failed_checks=failed_checks,
    )


def _together(row: Mapping[str, Any], *columns: str) -> Iterable[tuple[Any, ...]]:
    return zip(*(row[column] for column in columns), strict=True)


def overview_row(tables: VersionTables) -> dict[str, Any]:
    """A version's tables boiled down to its row of ``version_overviews``.

    Args:
        tables: The version's tables; ``info`` must hold ``model_version_id``.
    """
    with Workbench(tables) as bench:
        return _row(bench)


def _row(bench: Workbench) -> dict[str, Any]:
    distinct, authors, oldest, newest, *medians = bench.row(
        """
        SELECT count(DISTINCT prompt_hash), count(DISTINCT author), min(created), max(created),
               quantile_disc(prompt_length, 0.5), quantile_disc(steps, 0.5),
               quantile_disc(cfg_scale, 0.5) FILTER (isfinite(cfg_scale)), quantile_disc(reaction_count, 0.5)
        FROM prompts
        """
    )
    return {
        "model_version_id": int(bench.tables.info["model_version_id"]),
        "prompts": bench.standing,
        "withdrawn": bench.count("SELECT count(*) FROM everything WHERE withdrawn"),
        "distinct_prompts": distinct,
        "authors": authors,
        "oldest_created_at": words.as_moment(oldest),
        "newest_created_at": words.as_moment(newest),
        **{f"{name}_median": median for name, median in zip(_MEDIANS, medians, strict=True)},
        **_lists(rejection_counts(bench), "outcomes", "outcome_images"),
        **_lists(capture_counts(bench), "fields", "field_images"),
        **_lists(category_counts(bench), "categories", "category_images", "primary_images"),
        **_lists(bench.rows(_SAMPLERS, MOST_VALUES), "samplers", "sampler_images"),
        **_lists(bench.rows(_SIZES, MOST_VALUES), "sizes", "size_images"),
        **_lists(
            [row[:3] for row in top_resources(bench, "checkpoint", MOST_CHECKPOINTS)],
            "checkpoints", "checkpoint_keys", "checkpoint_images",
        ),
        **_lists(
            [row[:3] for row in top_resources(bench, "lora", MOST_LORAS)], "loras", "lora_keys", "lora_images"
        ),
    }  # fmt: skip


def _lists(rows: Sequence[tuple[Any, ...]], *columns: str) -> dict[str, list[Any]]:
    return {column: [row[place] for row in rows] for place, column in enumerate(columns)}


_SAMPLERS = """
SELECT sampler, count(*) AS images FROM prompts WHERE sampler IS NOT NULL
GROUP BY sampler ORDER BY images DESC, sampler LIMIT $1
"""
_SIZES = """
SELECT width || 'x' || height, count(*) AS images FROM prompts WHERE width IS NOT NULL AND height IS NOT NULL
GROUP BY width, height ORDER BY images DESC, width, height LIMIT $1
"""

"""What the data is and is not: counts, dates, levels, listings, capture rates, rejections, the last run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from civitai_pipeline.report import words
from civitai_pipeline.report.blocks import Block, Column, Facts, Paragraphs, Section, Table

if TYPE_CHECKING:
    from civitai_pipeline.report.workbench import Workbench

# Field names as readers know them, with the query that counts the standing prompts that have one.
_CAPTURED = """
SELECT
    count(negative_prompt), count(sampler), count(scheduler), count(steps), count(cfg_scale), count(seed),
    count(clip_skip), count(CASE WHEN width IS NOT NULL AND height IS NOT NULL THEN 1 END),
    count(checkpoint_name), count(base_model), count(author), count(created),
    count(CASE WHEN image_id IN (SELECT image_id FROM resources) THEN 1 END),
    count(CASE WHEN image_id IN (SELECT image_id FROM resources WHERE type = 'lora') THEN 1 END)
FROM prompts
"""
_CAPTURED_FIELDS = (
    "negative prompt",
    "sampler",
    "scheduler",
    "steps",
    "CFG scale",
    "seed",
    "clip skip",
    "size",
    "checkpoint name",
    "base model",
    "author",
    "date",
    "any resource",
    "a LoRA",
)


def capture_counts(bench: Workbench) -> list[tuple[str, int]]:
    """For each field, how many of the standing prompts have it."""
    return list(zip(_CAPTURED_FIELDS, bench.row(_CAPTURED), strict=True))


def rejection_counts(bench: Workbench) -> list[tuple[str, int]]:
    """How many images were rejected, by outcome."""
    return [
        (str(outcome), int(images))
        for outcome, images in bench.rows(
            "SELECT outcome, count(*) AS images FROM rejected GROUP BY outcome ORDER BY images DESC, outcome"
        )
    ]


def coverage(bench: Workbench) -> Section:
    """The opening: what was collected, from where, and what is therefore not in it."""
    held, withdrawn, distinct, authors, unnamed, oldest, newest = bench.row(
        """
        SELECT (SELECT count(*) FROM everything), (SELECT count(*) FROM everything WHERE withdrawn),
               count(DISTINCT prompt_hash), count(DISTINCT author), count(*) - count(author),
               min(created), max(created)
        FROM prompts
        """
    )
    rejected = bench.count("SELECT count(*) FROM rejected")
    span = words.span(oldest, newest)
    blocks: list[Block] = [
        Facts(
            "In numbers",
            [
                ("prompts", f"{bench.standing:,}"),
                ("distinct prompts", f"{distinct:,}"),
                ("named authors", f"{authors:,}"),
                ("images rejected", f"{rejected:,}"),
                ("images dated", span),
            ],
        ),
        Paragraphs(_what_it_is(bench, held=held, withdrawn=withdrawn, unnamed=unnamed)),
        _version_facts(bench.tables.info),
    ]
    if bench.standing:
        blocks.append(_levels(bench))
    if bench.tables.collection_state:
        blocks.append(_listings(bench.tables.collection_state))
    return Section("data", "What this data is, and what it is not", blocks, "Data")


def _what_it_is(bench: Workbench, *, held: int, withdrawn: int, unnamed: int) -> list[str]:
    listings = [row for row in bench.tables.collection_state if row.get("sort") != words.IMPORTED]
    imported = sum(row["total_collected"] for row in bench.tables.collection_state if row.get("sort") == words.IMPORTED)
    asked = 0
    for listing in listings:
        asked |= listing.get("browsing_level") or 0
    lines = []
    if held:
        lines.append(
            f"Each row is one image from this version's gallery on CivitAI whose metadata holds a prompt. "
            f"{words.plural(held, 'image is', 'images are')} held."
        )
    else:
        lines.append(
            "No prompts are held for this version yet, so this page says only what is known of the collection."
        )
    if withdrawn:
        lines.append(
            f"{words.plural(withdrawn, 'prompt was', 'prompts were')} later withdrawn from the site. "
            "They stay in the table as last known, and everything below leaves them out."
        )
    if imported:
        lines.append(
            f"{words.plural(imported, 'image was', 'images were')} first brought by an import from the older tool, "
            "which fetched a part of the gallery and did not record which."
        )
    if asked:
        missing = words.ALL_LEVELS & ~asked
        line = f"Browsing levels asked for: {words.level_names(asked)}."
        if missing:
            line += f" Images rated {words.level_names(missing)} are not in here, so nothing below speaks for them."
        lines.append(line)
    still_open = sum(listing.get("status") == "open" for listing in listings)
    if still_open:
        lines.append(
            f"{words.plural(still_open, 'listing is', 'listings are')} not walked to the end: "
            "what is here is a part, and not a random one."
        )
    elif listings:
        lines.append("Every listing was walked to its end as it stood at the last fetch.")
    lines.append(
        "Images without metadata, videos, private posts and images deleted before the fetch are missing, "
        "and people who share prompts need not resemble those who do not."
    )
    if unnamed and held:
        lines.append(
            f"{words.plural(unnamed, 'image names', 'images name')} no author; counts of authors leave them out."
        )
    return lines


def _levels(bench: Workbench) -> Table:
    rows = bench.rows(
        """
        SELECT browsing_level, count(*) AS images, count(*) / $1, count(DISTINCT author)
        FROM prompts GROUP BY browsing_level ORDER BY browsing_level NULLS LAST
        """,
        bench.standing,
    )
    return Table(
        "Of which browsing levels are the images?",
        [
            Column("level", "link"),
            Column("images", "count"),
            Column("share of prompts", "share"),
            Column("authors", "count"),
        ],
        [(bench.explored(words.level_names(level), levels=str(level or 0)), *counts) for level, *counts in rows],
        "As the site rates the images; a prompt may say more or less. A level leads to its prompts in the explorer.",
    )


def _version_facts(info: dict[str, Any]) -> Facts:
    trained = [str(word) for word in info.get("trained_words") or []]
    items = [
        ("model", info.get("model_name")),
        ("version", info.get("version_name")),
        ("type", info.get("model_type")),
        ("base model", info.get("base_model")),
        ("model id", info.get("model_id")),
        ("model version id", info.get("model_version_id")),
        ("AIR", info.get("air")),
        ("published", words.day(info.get("published_at"))),
        ("trigger words", ", ".join(trained) or "none named"),
    ]
    return Facts(
        "The model version", [(label, words.UNKNOWN if value is None else str(value)) for label, value in items]
    )


def _listings(listings: list[dict[str, Any]]) -> Table:
    status = {"at_end": "walked to the end", "open": "goes on"}
    rows = [
        (
            listing.get("sort") or words.UNKNOWN,
            words.UNKNOWN
            if listing.get("sort") == words.IMPORTED
            else words.level_names(listing.get("browsing_level")),
            "imported"
            if listing.get("sort") == words.IMPORTED
            else status.get(str(listing.get("status")), words.UNKNOWN),
            listing.get("walk"),
            listing.get("pages"),
            listing.get("attempted"),
            listing.get("saved"),
            listing.get("duplicates"),
            words.span(listing.get("oldest_created_at"), listing.get("newest_created_at")),
            words.moment(listing.get("last_successful_fetch_at")),
        )
        for listing in listings
    ]
    return Table(
        "How far each listing was walked",
        [
            Column("sort"),
            Column("levels"),
            Column("status"),
            Column("walk", "count"),
            Column("pages", "count"),
            Column("items fetched", "count"),
            Column("saved", "count"),
            Column("duplicates", "count"),
            Column("images dated", "date"),
            Column("last fetch", "date"),
        ],
        rows,
    )


def captures(bench: Workbench) -> Section:
    """How often each field is there at all, and what was turned away."""
    blocks: list[Block] = []
    if bench.standing:
        blocks.append(
            Table(
                "How often does an image tell?",
                [Column("field"), Column("known", "count"), Column("of", "count"), Column("share", "share")],
                [
                    (field, known, bench.standing, known / bench.standing)
                    for field, known in sorted(capture_counts(bench), key=lambda row: -row[1])
                ],
                "An image that does not name a field is left out of that field's chart; unknown is never taken for a "
                "default.",
            )
        )
    rejected = bench.rows(
        """
        SELECT outcome, reason, count(*) AS images FROM rejected
        GROUP BY outcome, reason ORDER BY images DESC, outcome, reason LIMIT 12
        """
    )
    total = bench.count("SELECT count(*) FROM rejected")
    if rejected:
        blocks.append(
            Table(
                "Why were images rejected?",
                [
                    Column("outcome"),
                    Column("reason", "long"),
                    Column("images", "count"),
                    Column("share of rejected", "share"),
                ],
                [
                    (words.OUTCOMES.get(outcome, outcome), reason, images, images / total)
                    for outcome, reason, images in rejected
                ],
                f"n = {words.plural(total, 'rejected image')}; the 12 commonest reasons at most. "
                "All are kept in the table rejected_images.",
            )
        )
    else:
        blocks.append(Paragraphs(["No image was rejected."]))
    return Section("capture", "What the images tell, and what was turned away", blocks, "Capture rates")


_RUN_COUNTS = ("pages", "attempted", *words.OUTCOMES, "saved", "requests", "retries")


def last_run(bench: Workbench) -> Section:
    """The last run's summary in words and numbers."""
    summary = bench.tables.summary
    if summary is None:
        unknown = "No run's summary is known: the pages came from elsewhere, or Dagster's records of the runs are gone."
        return Section("run", "The last run", [Paragraphs([unknown])], "Last run")
    lines = (
        [f"The last run stopped because {words.stop_reason(summary['stop_reason'])}."]
        if summary.get("stop_reason")
        else ["Why the last run stopped is unknown."]
    )
    if summary.get("started_at") and summary.get("finished_at"):
        lines.append(
            f"It ran from {words.moment(summary['started_at'])} to {words.moment(summary['finished_at'])}"
            + (f", waiting {words.number(summary['waited_s'], 0)} s of that." if summary.get("waited_s") else ".")
        )
    if summary.get("prompts_before") is not None and summary.get("prompts_after") is not None:
        lines.append(f"Prompts before: {summary['prompts_before']:,}; after: {summary['prompts_after']:,}.")
    if summary.get("reported_total") is not None:
        lines.append(f"The API reported {summary['reported_total']:,} images in total.")
    if summary.get("more_available"):
        lines.append("More is available: another run continues where this one stopped.")
    if summary.get("error"):
        lines.append(f"Error: {summary['error']}")
    counts = [
        (words.OUTCOMES.get(key, {"attempted": "items fetched"}.get(key, key)), words.number(summary[key]))
        for key in _RUN_COUNTS
        if summary.get(key) is not None
    ]
    return Section("run", "The last run", [Paragraphs(lines), Facts("What the run did", counts)], "Last run")

"""Which categories the prompts fall in, and how sure the classifier was."""

from __future__ import annotations

from typing import TYPE_CHECKING

from civitai_pipeline.report import figures, words
from civitai_pipeline.report.binning import Bin
from civitai_pipeline.report.blocks import Block, Chart, Column, Section, Table
from civitai_pipeline.report.sections.phrases import n_of, nothing
from civitai_pipeline.report.sections.recategorized import recategorized
from civitai_pipeline.report.text import quoted

if TYPE_CHECKING:
    from civitai_pipeline.report.workbench import Workbench

# The contract's order, which gives each category the same colour on every page.
CATEGORIES = ("style", "lighting", "composition", "mood", "basic", "technical", "NSFW", "uncategorized")

_CONFIDENCE_BINS = 20


def category_counts(bench: Workbench) -> list[tuple[str, int, int]]:
    """For each category: images it matches, and images it is the primary category of."""
    found = {
        str(category): (int(present), int(primary))
        for category, present, primary in bench.rows(
            """
            SELECT category, count(DISTINCT image_id), count(DISTINCT image_id) FILTER (WHERE is_primary)
            FROM categories GROUP BY category
            """
        )
    }
    order = [*CATEGORIES, *sorted(set(found) - set(CATEGORIES))]
    return [(category, *found.get(category, (0, 0))) for category in order]


def categories(bench: Workbench) -> Section:
    """Presence, primary category and confidence."""
    counts = category_counts(bench)
    classified = bench.count("SELECT count(DISTINCT image_id) FROM categories")
    if not classified:
        missing = nothing("Which categories do the prompts touch?", "has been classified", bench)
        return Section("categories", "Categories", [missing])
    taxonomies = ", ".join(
        str(version)
        for (version,) in bench.rows("SELECT DISTINCT taxonomy_version FROM categories ORDER BY taxonomy_version")
    )
    blocks: list[Block] = [
        _presence(bench, counts, classified, taxonomies),
        _primary(bench, counts),
        _confidence(bench, classified),
        *recategorized(bench),
    ]
    return Section("categories", "Categories", blocks)


def _presence(bench: Workbench, counts: list[tuple[str, int, int]], classified: int, taxonomies: str) -> Chart:
    evidence = dict(
        bench.rows(
            """
            WITH matches AS (SELECT category, unnest(matched_keywords) AS word FROM categories),
            words AS (
                SELECT category, word, count(*) AS images FROM matches GROUP BY category, word
                QUALIFY row_number() OVER (PARTITION BY category ORDER BY images DESC, word) <= 5
            )
            SELECT category, string_agg(word, ', ' ORDER BY images DESC, word) FROM words GROUP BY category
            """
        )
    )
    ranked = sorted(counts, key=lambda row: (-row[1], CATEGORIES.index(row[0]) if row[0] in CATEGORIES else 99))
    return Chart(
        "Which categories do the prompts touch?",
        f"{n_of(classified, bench)}. {quoted(ranked[0][0])} is found most, in "
        f"{words.share(ranked[0][1], classified)} of them. "
        "A prompt can touch several, so the shares add up to more than 100 %.",
        figures.bars([(category, present) for category, present, _ in ranked], unit="images", whole=classified),
        Table(
            "Images by category",
            [
                Column("category", "link"),
                Column("images", "count"),
                Column("share", "share"),
                Column("primary", "count"),
                Column("commonest evidence", "long"),
            ],
            [
                (
                    bench.explored(category, category=category),
                    present,
                    present / classified,
                    primary,
                    evidence.get(category, ""),
                )
                for category, present, primary in ranked
            ],
        ),
        f"Decided by matching words (taxonomy {taxonomies}): a category's absence means that none of its words is in "
        "the prompt.",
        classified < words.THIN,
    )


def _primary(bench: Workbench, counts: list[tuple[str, int, int]]) -> Chart:
    total = sum(primary for *_, primary in counts)
    question = "What is each prompt mainly about?"
    if not total:
        return nothing(question, "has a primary category", bench)
    shares = [(category, primary) for category, _, primary in counts]
    first = max(shares, key=lambda row: row[1])
    return Chart(
        question,
        f"{n_of(total, bench)}. {quoted(first[0])} is the primary category of {words.share(first[1], total)}. "
        "Every prompt counts once.",
        figures.donut(shares, unit="images"),
        Table(
            "Images by primary category",
            [Column("category", "link"), Column("images", "count"), Column("share", "share")],
            [
                (bench.explored(category, category=f"mainly:{category}"), primary, primary / total)
                for category, primary in shares
            ],
        ),
        thin=total < words.THIN,
    )


def _confidence(bench: Workbench, classified: int) -> Chart:
    slots = dict(
        bench.rows(
            """
            SELECT least(floor(confidence * $1 + 1e-9), $1 - 1)::INTEGER AS slot, count(*)
            FROM categories WHERE is_primary GROUP BY slot
            """,
            _CONFIDENCE_BINS,
        )
    )
    low, median, high, unsure = bench.row(
        """
        SELECT quantile_cont(confidence, 0.25), quantile_cont(confidence, 0.5), quantile_cont(confidence, 0.75),
               count(*) FILTER (WHERE confidence < 0.5)
        FROM categories WHERE is_primary
        """
    )
    bins = [
        Bin(slot / _CONFIDENCE_BINS, (slot + 1) / _CONFIDENCE_BINS, slots.get(slot, 0))
        for slot in range(_CONFIDENCE_BINS)
    ]
    per_category = bench.rows(
        """
        SELECT category, count(*) AS images, quantile_cont(confidence, 0.25), quantile_cont(confidence, 0.5),
               quantile_cont(confidence, 0.75)
        FROM categories WHERE is_primary GROUP BY category ORDER BY images DESC, category
        """
    )
    total = sum(bin_.count for bin_ in bins)
    if not total:
        return nothing("How sure is the classification?", "has a primary category", bench)
    return Chart(
        "How sure is the classification?",
        f"{n_of(total, bench)}. The primary category's confidence has its median at {words.number(median)} "
        f"(quartiles {words.number(low)} and {words.number(high)}); {words.share(unsure, total)} are below 0.5.",
        figures.histogram(bins, axis="confidence of the primary category", unit="images", whole=False),
        Table(
            "Confidence by primary category",
            [
                Column("category"),
                Column("images", "count"),
                Column("25 %", "number"),
                Column("median", "number"),
                Column("75 %", "number"),
            ],
            per_category,
        ),
        "Confidence says how much evidence the words give, not how often the category is right. Uncategorized prompts "
        "stand at 0.",
        thin=classified < words.THIN,
    )

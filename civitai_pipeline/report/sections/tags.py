"""The tags of the prompts: which are used most, and which go together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from civitai_pipeline.report import figures, words
from civitai_pipeline.report.blocks import Block, Chart, Column, Section, Table
from civitai_pipeline.report.sections.phrases import n_of, nothing
from civitai_pipeline.report.text import quoted
from civitai_pipeline.report.workbench import TAG_LENGTH

if TYPE_CHECKING:
    from civitai_pipeline.report.workbench import Workbench

HOW_TAGS_ARE_READ = (
    "A tag is a comma-separated part of a prompt, in lower case, without weights, emphasis brackets and LoRA "
    f"references, of at most {TAG_LENGTH} characters, counted once per image."
)
TAG_COLUMNS = (
    Column("tag", "link"),
    Column("images", "count"),
    Column("share", "share"),
    Column("authors", "count"),
    Column("distinct prompts", "count"),
)

# A pair must be carried by this many authors: one author's template would otherwise fill the list.
_PAIR_AUTHORS = 3

# Tags on either side of the square, which a phone can still name; of fewer than these it says nothing.
_SQUARE, _LEAST_SQUARE = 16, 4
# Fewer prompts with both tags than this are chance.
_LEAST_BOTH = 5


def with_tag(bench: Workbench, tag: str, **asked: str) -> tuple[str, str]:
    """The explorer with a tag looked for, and the tag."""
    return bench.explored(tag, words='"' + tag.replace('"', " ") + '"', **asked)


def tags(bench: Workbench) -> Section:
    """The most used tags and the pairs that go together more than chance."""
    bench.read_tags()
    question = "Which tags are used most?"
    rows = bench.rows(
        """
        WITH top AS (SELECT tag, count(*) AS images FROM tags GROUP BY tag ORDER BY images DESC, tag LIMIT 25)
        SELECT tag, any_value(top.images), any_value(top.images) / $1, count(DISTINCT author),
               count(DISTINCT prompt_hash)
        FROM top JOIN tags USING (tag) JOIN prompts USING (image_id)
        GROUP BY tag ORDER BY 2 DESC, tag
        """,
        bench.standing,
    )
    if not rows:
        return Section("tags", "Tags", [nothing(question, "has a tag", bench)])
    tagged, different = bench.row("SELECT count(DISTINCT image_id), count(DISTINCT tag) FROM tags")
    chart = Chart(
        question,
        f"{n_of(tagged, bench)}, with {words.plural(different, 'different tag')}. {quoted(rows[0][0])} leads, in "
        f"{words.share(rows[0][1], bench.standing)} of the prompts.",
        figures.bars([(row[0], row[1]) for row in rows], unit="images", whole=bench.standing),
        Table("Most used tags", TAG_COLUMNS, [(with_tag(bench, tag), *counts) for tag, *counts in rows]),
        HOW_TAGS_ARE_READ + " Where authors or distinct prompts are few, one person's template makes the tag common.",
        tagged < words.THIN,
    )
    return Section("tags", "Tags", [chart, *_together(bench), _pairs(bench)])


def _together(bench: Workbench) -> list[Block]:
    """How the commonest tags go together, two by two."""
    distinct = bench.count("SELECT count(*) FROM prompts WHERE NOT repeats_exactly")
    counts = dict(bench.rows(_COMMONEST, _SQUARE))
    if distinct < words.THIN or len(counts) < _LEAST_SQUARE:
        return []
    both = {(a, b): n for a, b, n in bench.rows(_BOTH, list(counts))}
    names = list(counts)

    def said(one: str, other: str) -> tuple[float | None, str]:
        if one == other:
            return None, ""
        n, expected = both.get((one, other), 0), counts[one] * counts[other] / distinct
        if n < _LEAST_BOTH and expected < _LEAST_BOTH:
            return None, ""
        # None together would be no ratio to draw: as good as the least.
        ratio = max(n, 0.5) / expected
        return ratio, f"{one} and {other}: {words.plural(n, 'prompt')}, {words.number(n / expected)} times chance"

    cells = [[said(one, other) for other in names] for one in names]
    known = sum(ratio is not None for row in cells for ratio, _ in row) // 2
    pairs = len(names) * (len(names) - 1) // 2
    if not known:
        return []
    return [
        Chart(
            "Which of the commonest tags seek each other, and which avoid each other?",
            f"n = {words.plural(distinct, 'distinct prompt')}, {known} of {pairs} pairs of the {len(names)} commonest "
            "tags. Blue: together more often than chance; orange: more rarely.",
            figures.heat_map(
                names,
                [[ratio for ratio, _ in row] for row in cells],
                [[text for _, text in row] for row in cells],
            ),
            note=f"Times chance, as in the table below. Blank: fewer than {_LEAST_BOTH} prompts with both, where "
            "chance would give as few.",
        )
    ]


_COMMONEST = """
SELECT tag, count(*) AS n FROM tags SEMI JOIN (SELECT image_id FROM prompts WHERE NOT repeats_exactly) USING (image_id)
GROUP BY tag ORDER BY n DESC, tag LIMIT $1
"""
_BOTH = """
WITH used AS (
    SELECT image_id, tag FROM tags SEMI JOIN (SELECT image_id FROM prompts WHERE NOT repeats_exactly) USING (image_id)
    WHERE list_contains($1::VARCHAR[], tag)
)
SELECT a.tag, b.tag, count(*) FROM used a JOIN used b USING (image_id) WHERE a.tag <> b.tag GROUP BY a.tag, b.tag
"""


def _pairs(bench: Workbench) -> Block:
    distinct = bench.count("SELECT count(*) FROM prompts WHERE NOT repeats_exactly")
    least = max(5, round(distinct * 0.005))
    rows = bench.rows(
        """
        WITH distinct_tags AS (
            SELECT t.image_id, t.tag FROM tags t
            SEMI JOIN (SELECT image_id FROM prompts WHERE NOT repeats_exactly) USING (image_id)
        ),
        top AS (SELECT tag, count(*) AS n FROM distinct_tags GROUP BY tag ORDER BY n DESC, tag LIMIT 80),
        used AS (
            SELECT d.image_id, d.tag, top.n, p.author
            FROM distinct_tags d JOIN top USING (tag) JOIN prompts p USING (image_id)
        )
        SELECT a.tag, b.tag, count(*) AS together, count(*) / least(any_value(a.n), any_value(b.n)),
               count(*) * $1 / (any_value(a.n) * any_value(b.n)) AS lift, count(DISTINCT a.author) AS authors
        FROM used a JOIN used b ON a.image_id = b.image_id AND a.tag < b.tag
        GROUP BY a.tag, b.tag
        HAVING together >= $2 AND authors >= $3 AND lift > 1
        ORDER BY lift DESC, together DESC, a.tag, b.tag LIMIT 15
        """,
        float(distinct),
        least,
        _PAIR_AUTHORS,
    )
    question = "Which tags go together more often than chance?"
    if not rows:
        return Chart(
            question,
            f"No pair of common tags stands together in {least} or more distinct prompts of at least {_PAIR_AUTHORS} "
            "named authors more often than chance.",
            None,
        )
    return Table(
        question,
        [
            Column("tag"),
            Column("with"),
            Column("times chance", "number"),
            Column("prompts with both", "count"),
            Column("share of the rarer", "share"),
            Column("authors", "count"),
        ],
        [(first, second, lift, both, of_rarer, authors) for first, second, both, of_rarer, lift, authors in rows],
        f"n = {words.plural(distinct, 'distinct prompt')}. Among the 80 commonest tags; only pairs in at least {least} "
        f"distinct prompts of at least {_PAIR_AUTHORS} named authors. Times chance (lift) is the share of prompts with "
        "both, over the product of the two tags' shares.",
    )

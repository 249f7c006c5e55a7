"""The card of a dataset folder: ``README.md`` with the front matter that the Hugging Face hub reads.

Every number is counted from what was written. Names that others chose are escaped.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

from civitai_pipeline.export.groups import SPLITS
from civitai_pipeline.export.huggingface import DATA_FOLDER
from civitai_pipeline.export.options import LEVELS, level_name
from civitai_pipeline.export.selection import REASONS
from civitai_pipeline.lake.schemas import BIGINT, BOOLEAN, DOUBLE, INTEGER, TIMESTAMPTZ, VARCHAR, VARCHAR_LIST

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from civitai_pipeline.export.huggingface import Split
    from civitai_pipeline.export.options import ExportOptions
    from civitai_pipeline.export.selection import Selection
    from civitai_pipeline.lake.schemas import Column

# Rows of a table of counts; a card with hundreds of base models is read by nobody.
_MOST_VALUES = 30
# From R on the hub asks readers' age.
_ADULT_FROM_LEVEL = LEVELS["R"]
_SIZES = (
    (1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"), (100_000_000, "10M<n<100M"), (1_000_000_000, "100M<n<1B"),
)  # fmt: skip
_ADDRESS = re.compile(r":(?=//)|@|(?<=www)\.", re.IGNORECASE)
_FEATURES: Mapping[Any, Mapping[str, str]] = {
    BIGINT: {"dtype": "int64"},
    INTEGER: {"dtype": "int32"},
    DOUBLE: {"dtype": "float64"},
    BOOLEAN: {"dtype": "bool"},
    VARCHAR: {"dtype": "string"},
    VARCHAR_LIST: {"sequence": "string"},
    TIMESTAMPTZ: {"dtype": "timestamp[us, tz=UTC]"},
}
_SPLIT_RULES = {
    "both": "Rows of one author, of equal prompts, of near duplicates of a model version, or of one image are in one "
    "split, and so are rows linked through others. So no author and no near duplicate is in two splits.",
    "near": "Rows of equal prompts, of near duplicates of a model version, or of one image are in one split, and so "
    "are rows linked through others. Authors can be in several splits.",
    "author": "Rows of one author or of one image are in one split, and so are rows linked through others. Equal and "
    "nearly equal prompts of different authors can be in several splits.",
}

Counts = dict[str | int | None, dict[str, int]]


@dataclass(frozen=True)
class CardFacts:
    """What a card tells.

    Attributes:
        columns: The columns of the data.
        splits: What was written of each split.
        by_level: Rows of each split by maturity bit.
        by_base_model: Rows of each split by base model.
        by_version: Rows of each split by model version.
        version_names: The names of model versions, where they are known.
        options: How the rows were chosen.
        selection: What was left out.
        largest_group: The rows of the largest group that had to stay in one split.
        date: The day of the export.
    """

    columns: Sequence[Column]
    splits: Sequence[Split]
    by_level: Counts
    by_base_model: Counts
    by_version: Counts
    version_names: Mapping[int, str]
    options: ExportOptions
    selection: Selection
    largest_group: int
    date: str


def card(facts: CardFacts) -> str:
    """The card in Markdown."""
    front = yaml.safe_dump(_front_matter(facts), sort_keys=False, allow_unicode=True, width=1000)
    sections = [_introduction(facts), _counts(facts), _splits(facts), _columns(facts), _choice(facts), _caution(facts)]
    return f"---\n{front}---\n\n" + "\n".join(sections)


def size_category(rows: int) -> str:
    """The hub's word for a dataset of so many rows."""
    return next((name for bound, name in _SIZES if rows < bound), "n>1B")


def _front_matter(facts: CardFacts) -> dict[str, Any]:
    rows = sum(split.rows for split in facts.splits)
    tags = ["prompts", "text-to-image", "stable-diffusion", "civitai"]
    if any(isinstance(level, int) and level >= _ADULT_FROM_LEVEL for level in facts.by_level):
        tags.append("not-for-all-audiences")
    return {
        "pretty_name": "Image generation prompts from CivitAI",
        "license": "other",
        "license_name": "civitai-user-content",
        "license_link": "https://civitai.com/content/tos",
        "task_categories": ["text-generation"],
        "tags": tags,
        "size_categories": [size_category(rows)],
        "configs": [
            {
                "config_name": "default",
                "data_files": [
                    {"split": split.name, "path": f"{DATA_FOLDER}/{split.name}-*.parquet"} for split in facts.splits
                ],
            }
        ],
        "dataset_info": {
            "features": [{"name": column.name, **_FEATURES[column.type]} for column in facts.columns],
            "splits": [
                {"name": split.name, "num_bytes": split.bytes_in_memory, "num_examples": split.rows}
                for split in facts.splits
            ],
            "download_size": sum(split.bytes_on_disk for split in facts.splits),
            "dataset_size": sum(split.bytes_in_memory for split in facts.splits),
        },
    }


def _introduction(facts: CardFacts) -> str:
    rows = sum(split.rows for split in facts.splits)
    return f"""\
# Image generation prompts from CivitAI

{rows:,} prompts that people published with images on CivitAI, one row for each image and model version, exported on
{facts.date} with civitai_pipeline. There are no images in it.
"""


def _counts(facts: CardFacts) -> str:
    versions: Counts = {
        f"{version} {facts.version_names[version]}" if version in facts.version_names else version: counts
        for version, counts in facts.by_version.items()
        if isinstance(version, int)
    }
    levels: Counts = {level_name(bit) if isinstance(bit, int) and bit else None: n for bit, n in facts.by_level.items()}
    totals: Counts = {"all rows": {split.name: split.rows for split in facts.splits}}
    return "\n".join(
        [
            "## Counts\n",
            _counted(facts, "rows", totals),
            "### By maturity\n\nAs CivitAI rates the image, not the prompt.\n",
            _counted(facts, "maturity", levels),
            "### By base model\n",
            _counted(facts, "base model", facts.by_base_model),
            "### By model version\n",
            _counted(facts, "model version", versions),
        ]
    )


def _splits(facts: CardFacts) -> str:
    missing = [name for name in SPLITS if name not in {split.name for split in facts.splits}]
    note = (
        f"\nThere is no {' and no '.join(missing)} split: there are too few groups to deal out. "
        f"{'`--split-by near` makes smaller groups.' if facts.options.split_by == 'both' else ''}\n"
        if missing
        else ""
    )
    return f"""\
## Splits

{_SPLIT_RULES[facts.options.split_by]} Near duplicates are known within a model version, not between versions.

A group of rows goes to `train` (80 %), `validation` (10 %) or `test` (10 %) by the hash of its smallest image id
and the seed {facts.options.seed}. Groups of more than a tenth of all rows go to `train`, so shares differ from these;
the largest group has {facts.largest_group:,} rows.
{note}"""


def _columns(facts: CardFacts) -> str:
    rows = ((f"`{column.name}`", column.sql_type, column.description) for column in facts.columns)
    return "## Columns\n\nA null means unknown, never zero.\n\n" + _table(("column", "type", "meaning"), rows)


def _choice(facts: CardFacts) -> str:
    chosen = {name: value for name, value in facts.options.chosen().items() if name != "format"}
    options = "\n".join(f"- `{name}`: {_escaped(_plain(value))}" for name, value in chosen.items())
    left = [(f"{count:,}", REASONS[reason]) for reason, count in facts.selection.left_out.items()]
    table = _table(("rows", "left out because they are"), left) if left else "No row was left out.\n"
    return f"""\
## How it was made

The rows were collected from CivitAI's public API, from the galleries of the model versions above, and contain only
prompts that their makers published there. {facts.selection.held:,} rows were held of these versions. Nothing was
translated, corrected or judged by hand.

{f"Options of the export:{chr(10)}{chr(10)}{options}" if options else "The export was made with its default options."}

{table}"""


def _caution(facts: CardFacts) -> str:
    hashed = any(column.name == "author_hash" for column in facts.columns)
    names = (
        "`author_hash` is a keyed BLAKE2b hash of the user name; the key is not part of this dataset. It tells authors "
        "apart without naming them."
        if hashed
        else "User names are not part of this dataset."
    )
    return f"""\
## Licence and caution

The prompts are their authors' text. CivitAI's [terms](https://civitai.com/content/tos) say what its users allow; this
card gives nobody a licence. Look at what your use needs before you publish or train. The data comes as it is, without
any warranty.

{names} A prompt can hold names and other personal matters that its author wrote there, and `image_id`, where it is
a column, leads to the image and so to its author on CivitAI. Remove rows whose authors ask for it.

The maturity is CivitAI's rating of the image; a mild rating does not promise a mild prompt, and text of any kind can
stand in a prompt. Prompts are untrusted text: escape them where they are shown.

## Known biases

- Only images whose uploaders left their metadata visible have a prompt.
- A few authors write a large share of the prompts, and many prompts are copies of others with small changes.
- Reactions depend on an image's age and its author's followers; a high count is no measure of a prompt.
- Galleries of popular model versions, English words and the habits of a few tools are over-represented.
- Categories come from a list of words; they find what is named, not what is meant.
"""


def _counted(facts: CardFacts, heading: str, counts: Counts) -> str:
    names = [split.name for split in facts.splits]
    shown = list(counts.items())
    if len(shown) > _MOST_VALUES:
        others = [numbers for _, numbers in shown[_MOST_VALUES:]]
        total = {name: sum(numbers[name] for numbers in others) for name in SPLITS}
        shown = [*shown[:_MOST_VALUES], (f"{len(others)} others", total)]
    rows = (
        ("unknown" if value is None else _escaped(str(value)), *(str(n[name]) for name in names), str(sum(n.values())))
        for value, n in shown
    )
    return _table((heading, *names, "all"), rows)


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(headings)} |", f"|{' --- |' * len(headings)}"]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    """Text by others on one line, without what Markdown or HTML would take for a mark in a table."""
    marked = "".join(f"\\{letter}" if letter in "|\\`*_[]~" else letter for letter in " ".join(text.split()))
    # What is written like an address becomes a link without any mark.
    marked = _ADDRESS.sub(r"\\\g<0>", marked)
    return marked.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _plain(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)

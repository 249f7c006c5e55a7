"""The data dictionary: every table, view and column of the lake, and what the computed ones mean.

``python -m civitai_pipeline.dictionary`` prints ``docs/data-dictionary.md``. Tables come from their
declarations and views from the SQL that makes them; what neither can say is written below.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from civitai_pipeline.dictionary_analyses import ANALYSES
from civitai_pipeline.lake.database import VIEWS, connect
from civitai_pipeline.lake.files import working_folder
from civitai_pipeline.lake.paths import Lake
from civitai_pipeline.lake.schemas import PROMPTS, TABLES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from civitai_pipeline.lake.schemas import Table

_INTRODUCTION = """\
# Data dictionary

<!-- Printed by `python -m civitai_pipeline.dictionary`; a test compares the two. Change that module, not this file. -->

A table is a Parquet file for each model version, `<table>/<version>.parquet` in the lake. `civitai.duckdb` has a
view of each table's name over all versions, and the further [views](#views) below. "Required" columns hold no
null; a blocking check sees to it. A null number means unknown, never zero.

Every time is in UTC with microseconds. DuckDB shows a `TIMESTAMPTZ` in the time zone of its session;
`SET TimeZone = 'UTC'` makes it show what is stored.
"""

_VIEWS_INTRODUCTION = """\
## Views

These exist in `civitai.duckdb` beside the views of the tables. They hold no data of their own and read the Parquet
files as they stand at the time of the query.
"""

_VIEW_NOTES: Mapping[str, str] = {
    "images_unique": (
        "One row per image over all versions. An image can stand in the galleries of several versions; of its rows in\n"
        "`prompts` the one seen last is taken. The columns are those of `prompts`, and:"
    ),
    "collection_state": (
        "One row per model version and listing: the ledger as a table. Its walk is the listing's newest one; the\n"
        "counts are over all walks of the listing. It is made from `landed_pages`, so it stands where the last run\n"
        "brought the tables; `civitai-pipeline status` reads the ledger itself."
    ),
    "coverage": (
        "One row per model version, listing and walk: which span of `created_at` was walked, and whether to the end.\n"
        "Made from `landed_pages`, too."
    ),
    "civitai_prompts": (
        "One row per image and version, under the column names of the older tool, whose ids were text. Its\n"
        "`download_count` and `raw_metadata` have no equal here: the API gives no downloads, and the landed pages\n"
        "keep what it sent."
    ),
}

_VIEW_COLUMNS: Mapping[str, Mapping[str, str]] = {
    "images_unique": {"model_version_ids": "Every model version whose rows hold the image, ascending"},
    "collection_state": {
        "model_version_id": "The model version",
        "sort": "The order of the listing",
        "browsing_level": "The maturity bits of the listing",
        "status": "`open` if a next cursor is stored, else `at_end`",
        "walk": "The number of the listing's newest walk: the one whose last page was fetched last",
        "pages": "Pages landed, confirmations among them",
        "attempted": "Items they showed",
        "saved": "Items that were new or updated",
        "duplicates": "Items held already that brought no news",
        "planned_total": "The `max_items` of the run that landed the last page; null without a limit",
        "next_page_cursor": "The stored cursor; null at the end of the walk",
        "last_page_number": "The number of the walk's last landed page",
        "last_successful_fetch_at": "When that page was fetched",
        "total_collected": "Images that this listing was the first to bring; those of a version's listings add up",
        "oldest_created_at": "The earliest `created_at` among the items",
        "newest_created_at": "The latest",
        "listing": "The listing as JSON",
    },
    "coverage": {
        "model_version_id": "The model version",
        "sort": "The order of the listing",
        "browsing_level": "The maturity bits of the listing",
        "walk": "The number of the walk",
        "from_created_at": "The earliest `created_at` among the items it showed",
        "to_created_at": "The latest",
        "complete": "Whether it began at the listing's start and its last page is an end",
        "last_confirmed_at": "When a page without a next cursor was last fetched; null if none was",
        "pages": "Pages landed, confirmations among them",
        "attempted": "Items they showed",
        "first_fetched_at": "When its first page was fetched",
        "last_fetched_at": "When its last page was fetched",
        "listing": "The listing as JSON",
    },
    "civitai_prompts": {
        "civitai_id": "`image_id`, as text",
        "full_prompt": "`prompt`",
        "negative_prompt": "`negative_prompt`",
        "quality_score": "`quality_score`",
        "reaction_count": "`reaction_count`",
        "comment_count": "`comment_count`",
        "prompt_length": "`prompt_length`",
        "tag_count": "`tag_count`",
        "model_name": "The model's name, from `model_version_info`",
        "model_id": "The model's id, as text",
        "model_version_id": "`model_version_id`, as text",
        "collected_at": "`first_seen_at`",
    },
}

_MEANINGS = """\
## How the computed columns come about

### Outcomes

Each item of a page has exactly one outcome. Where several would fit, the first of this list is the one.

| outcome | when | where it goes |
| --- | --- | --- |
| `malformed` | it is no object, or has no usable id | `rejected_images` |
| `version_mismatch` | only with `strict_version_match`: its `civitaiResources` name no checkpoint of this version | \
`rejected_images` |
| `no_prompt` | it has no prompt or one of white space only, and is not held | `rejected_images` |
| `duplicate` | it is held and brings no news; with `append_only`, it is held | `prompts`: `last_seen_at`, `last_page` |
| `updated` | it is held and its fingerprint differs, or its prompt is gone or back again | `prompts` |
| `new` | it is not held and has a prompt | `prompts` |

With `append_only` a held row stays as it is, `last_seen_at` included. When the prompt of a held image is found gone,
the row stays as last known and `prompt_withdrawn_at` is set; exports leave such rows out. If the prompt comes back,
the column is null again. An image leaves `rejected_images` when it is accepted, and one that is held does not enter it.

### `fingerprint`

A signed 64-bit BLAKE2b hash of the metadata, the six counts (cry, laugh, like, heart, dislike, comment) and
`browsing_level`. The order of keys and the flat or nested delivery of metadata make no difference. Other fields, such
as `url` or `username`, do not count as news; they are taken over when something else is.

### Times

| column | meaning |
| --- | --- |
| `created_at` | what the API sorts by: the latest of published, scanned and created, not when the image was made |
| `first_seen_at`, `last_seen_at` | when the pages that first and last showed the image were fetched |
| `prompt_withdrawn_at` | when the page was fetched that first showed the image without its prompt |
| `fetched_at` | in `landed_pages`, when the answer was complete; in `model_version_info`, when the row was made from\
 an answer at most five minutes old |
| `published_at` | when the model version was published, as the API says |

### `prompt_hash`, and which prompts are equal

`prompt_hash` is 128 bits of BLAKE2b, in hexadecimal, over the normalised prompt. A prompt is normalised in this order:

1. Unicode NFKC, and lower case, until neither changes anything.
2. Tags such as `<lora:name:0.8>` are removed, nested ones too.
3. Emphasis brackets `()`, `[]` and `{}` are removed, with a weight such as `:1.2` before a closing one. A bracket
   behind a backslash is text and stays; a backslash before anything else is dropped. Steps 1 and 2 are then repeated,
   for brackets may have stood inside a tag or a character.
4. White space is folded to one space.
5. The parts between commas are trimmed, and empty ones dropped. Their order is kept.

`duplicate_of` is the image with the smallest id among those of the version with the same `prompt_hash`; null on that
image itself.

`prompt`, `negative_prompt` and their lengths are not normalised: text is kept to the letter, except that a lone
surrogate, which no file can hold, becomes U+FFFD. Lengths count characters.

### `near_duplicate_group`, and which prompts are nearly equal

Two prompts are compared by their words and pairs of neighbouring words, after normalisation, as sets: the pairs do
not reach over a comma, parts that are mere praise (`masterpiece`, `best quality`, `score_9` and the like) are left
out where anything else is left, and scripts without spaces count by character. Their similarity is what is in both
sets over what is in either. It is estimated with MinHash signatures, with a standard error of 0.04 to 0.06.

The images of a version are taken in the order of their ids. Each joins the earlier leader its prompt is most like, if
it is as alike as 0.7, or becomes a leader itself. A group is a leader with those that joined it.
`near_duplicate_group` is the leader's id, the smallest of the group, on every image of it, the leader included; null
for a prompt of its own. Equal prompts are always in one group. Every member is like the leader, but two members may
be less alike, and a prompt may be like a member of a group it is not in: a prompt varied step by step falls into
several groups. Images with larger ids do not change the groups of those held, except that one alone may become a
leader; images with smaller ids may.

In `near_duplicate_groups`, an empty `username` or `unknown`, which the API writes for accounts that are gone, is no
author.

### `quality_score`

The older tool's score, from 0 to 40, kept so that old and new numbers can be put side by side. The sum of

- 2 points for each of `masterpiece`, `best quality`, `ultra-detailed`, `highres`, `high resolution`, `8k`,
- 1 point for each of `intricate`, `detailed`, `realistic`, `sharp`, `clear`,
- 1 point for every 5 reactions, at most 20,
- 3 points for 15 to 80 words.

A term counts once, and wherever its letters stand: "unclear" holds `clear`. The older tool read a field for reactions
that the API does not have, so its own scores lack that part. The score counts words; do not judge words by it.

### `engagement`

An image's reactions against those of images of about its age in the same version; 1.0 is typical. With `y` the image's
reactions and `m` the mean reactions of its cohort:

    engagement = (alpha + y) / (alpha + m)

Ages are counted from the newest image of the version. Cohorts are steps of age by half a doubling, from one hour
upwards, merged from the youngest until each has 50 images. `alpha` says how much a reaction is worth as evidence and
is estimated over all cohorts, `n` being a cohort's size, as

    alpha = sum(m^2) / sum((y - m)^2 * n / (n - 1) - m)

summed over the images and kept from 0.1 to 1,000,000. It is the posterior mean of `y / m` under a gamma prior with
mean 1 and Poisson counts: where few reactions are usual, a few more move the value little. Null where reactions or
`created_at` are unknown. All values of a version may change when its images do.

### `category` and `confidence`

Categories are `NSFW`, `style`, `lighting`, `composition`, `mood`, `basic` and `technical`. The normalised prompt is cut
into segments at commas, line ends and the ends of sentences. In a segment the longest phrase of the taxonomy wins at
each place and uses up its words; a match within reach of a negation ("no shadows") does not count. The spellings of one
term are one piece of evidence.

    confidence = e / (e + 0.35)

`e` is the summed strength of the category's distinct terms: 1.5 for a strong one, 1 for an ordinary, 0.5 for a weak.
So one weak term gives 0.59, one ordinary 0.74, one strong 0.81, three ordinary 0.90, and nothing reaches 1. It is a
measure of evidence, not the share of such prompts that are categorized right: on prompts labelled by a hand that had
not seen the taxonomy, categories with one weak term were right in 36 %, with one ordinary in 45 %, one strong in 88 %,
several terms in 97 % (taxonomy 1); after mending what misled, in 50, 52, 95 and 99 % (taxonomy 2, the same prompts).

The primary category is the one with the most distinct terms; among equals the one with the greater strength, then the
first in the order above. A prompt without any match has one row: `uncategorized`, primary, confidence 0.

How well the packaged taxonomy finds the categories, as F1 of their presence:

| prompts | NSFW | style | lighting | composition | mood | basic | technical | mean | primary right |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |
| 202 of the tests, whose author wrote the taxonomy | 1.00 | 0.99 | 0.98 | 0.98 | 0.97 | 0.99 | 0.97 | 0.98 | 98 % |
| 230 by other hands, taxonomy 1, not seen by them | 0.95 | 0.94 | 0.97 | 0.94 | 0.90 | 0.89 | 0.98 | 0.94 | 78 % |
| the same, taxonomy 2, mended by their errors | 0.95 | 0.97 | 0.98 | 0.97 | 0.97 | 0.98 | 0.99 | 0.97 | 84 % |

Expect something between the last two lines of prompts that nobody has looked at. In 94 % of the 230 the primary found
was one that the labeller found defensible. Few of them are NSFW (10), so that figure says little.

### `source` and `sources`

Where a resource is named, most trusted first:

| source | where |
| --- | --- |
| `civitai_resources` | `civitaiResources` |
| `air` | an AIR (`urn:air:…`) in `Model` or in the prompt |
| `resources`, `additional_resources` | `resources`, `additionalResources` |
| `models`, `vaes`, `upscalers`, `controlnets` | the lists `models`, `vaes`, `upscalers`, `controlNets` |
| `version_ids` | `versionIds` |
| `model_keys` | `Model` with `Model hash`, `VAE`, `Hires upscaler` |
| `hashes` | `hashes`, `Lora hashes`, `TI hashes` |
| `comfy` | the files that the ComfyUI graph loads |
| `prompt_tag` | `<lora:name:0.8>` and the like, and `embedding:name`, in the prompt or the negative prompt |

Two mentions are one resource if they share the version id, the first ten digits of the file hash, or type and name.
Names are compared in lower case, without folders and the extension of a model file; LoRA, LyCORIS and DoRA count as one
type, and a mention without a type may be of any. Two version ids are never one resource. The hash of a VAE and that of
an empty file are ignored.

Each column is taken from the most trusted mention that has it; of hashes, the longest. `weight` too is the first that
is given: a tag's `:0.8`, or its `unet=` before its `te=`; a graph's `strength_model`; `weight` or `strength` of an
entry. It is null where no source gives one, and never filled in. `raw` is what the first source says; beyond 10,000
bytes it is cut out and reads `{"cut_bytes": n}`. An image has at most 500 resources.

### `first_page`, `last_page`, `page`, `confirms`

A landed page as `walk/page`: `2/17` is `pages/<version>/0002/000017.json.zst`, or in a file there like
`000010-000057.json.zst`.
"""


def dictionary() -> str:
    """The data dictionary in Markdown."""
    parts = [_INTRODUCTION, "## Tables\n", *map(_table_section, TABLES), _VIEWS_INTRODUCTION]
    with working_folder() as empty:
        parts += _view_sections(Lake.at(empty))
    return "\n".join([*parts, _MEANINGS, ANALYSES])


def _table_section(table: Table) -> str:
    key = ", ".join(f"`{name}`" for name in table.key)
    rows = ((c.name, c.sql_type, "yes" if c.required else "", c.description) for c in table.columns)
    lines = _markdown_table(("column", "type", "required", "meaning"), rows)
    return f"### `{table.name}`\n\n{table.description} Ordered by {key}.\n\n{lines}"


def _view_sections(lake: Lake) -> Iterator[str]:
    with connect(lake) as connection:
        for name, note in _VIEW_NOTES.items():
            meanings = _VIEW_COLUMNS[name]
            inherited = {column.name for column in PROMPTS.columns} if name == "images_unique" else set()
            described = connection.sql(f"DESCRIBE {name}").fetchall()
            rows = [(column, kind, meanings[column]) for column, kind, *_ in described if column not in inherited]
            yield f"### `{name}`\n\n{note}\n\n{_markdown_table(('column', 'type', 'meaning'), rows)}"
    if set(_VIEW_NOTES) != set(VIEWS):
        raise ValueError("the views described are not the views there are")


def _markdown_table(headings: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [f"| {' | '.join(headings)} |", f"|{' --- |' * len(headings)}"]
    for name, kind, *rest in rows:
        cells = [f"`{name}`", _sql_type(kind), *rest]
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(lines) + "\n"


def _sql_type(kind: str) -> str:
    return "TIMESTAMPTZ" if kind == "TIMESTAMP WITH TIME ZONE" else kind


if __name__ == "__main__":
    sys.stdout.write(dictionary())

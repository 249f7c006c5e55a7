"""The lake's tables: every column's name, type and meaning, declared once.

The Parquet files, Dagster's column metadata, the schema check and the data dictionary all read the
declarations below and in ``analysis_schemas``. A column's order here is its order in the file.
"""

from __future__ import annotations

from civitai_pipeline.lake.analysis_schemas import ANALYSIS_TABLES
from civitai_pipeline.lake.columns import (
    BIGINT,
    BIGINT_LIST,
    BOOLEAN,
    DOUBLE,
    INTEGER,
    SIGNATURE,
    SQL_NAMES,
    TIMESTAMPTZ,
    VARCHAR,
    VARCHAR_LIST,
    Column,
    Table,
)

__all__ = [
    "ANALYSIS_TABLES",
    "BIGINT",
    "BIGINT_LIST",
    "BOOLEAN",
    "CATEGORY_CHANGES",
    "DOUBLE",
    "INTEGER",
    "LANDED_PAGES",
    "MODEL_VERSION_INFO",
    "NEAR_DUPLICATE_GROUPS",
    "PROMPTS",
    "PROMPT_CATEGORIES",
    "PROMPT_RESOURCES",
    "REJECTED_IMAGES",
    "SIGNATURE",
    "SQL_NAMES",
    "TABLES",
    "TIMESTAMPTZ",
    "VARCHAR",
    "VARCHAR_LIST",
    "VERSION_OVERVIEWS",
    "Column",
    "Table",
]

_IMAGE_ID = Column("image_id", BIGINT, "CivitAI's id of the image", required=True)
_VERSION_ID = Column("model_version_id", BIGINT, "The model version whose gallery was asked for", required=True)

MODEL_VERSION_INFO = Table(
    "model_version_info",
    "What the API says of a model version; one row per version.",
    ("model_version_id",),
    (
        _VERSION_ID,
        Column("model_id", BIGINT, "The model the version belongs to; null while the API could not be asked"),
        Column("model_name", VARCHAR, "The model's name"),
        Column("version_name", VARCHAR, "The version's name"),
        Column("model_type", VARCHAR, "Checkpoint, LORA, … as the API spells it"),
        Column("base_model", VARCHAR, "The base model the version was made for"),
        Column("air", VARCHAR, "The version's AIR (URN) identifier"),
        Column("published_at", TIMESTAMPTZ, "When the version was published"),
        Column("trained_words", VARCHAR_LIST, "Trigger words its maker names"),
        Column("fetched_at", TIMESTAMPTZ, "When the API said so; null while it could not be asked"),
    ),
)

PROMPTS = Table(
    "prompts",
    "One row per image with a prompt.",
    ("image_id",),
    (
        _IMAGE_ID,
        _VERSION_ID,
        Column("post_id", BIGINT, "The post the image belongs to"),
        Column("username", VARCHAR, "Who uploaded it"),
        Column("created_at", TIMESTAMPTZ, "The API's sort time: the latest of published, scanned, created"),
        Column("prompt", VARCHAR, "The prompt, to the letter", required=True),
        Column("negative_prompt", VARCHAR, "The negative prompt, to the letter"),
        Column("prompt_hash", VARCHAR, "Hash of the normalised prompt", required=True),
        Column(
            "duplicate_of",
            BIGINT,
            "The first image (smallest id) of this version with the same normalised prompt; null if this is it",
        ),
        Column(
            "near_duplicate_group",
            BIGINT,
            "The image its prompt is a near duplicate of, or itself where it is that image: the smallest id of the "
            "group; null for a prompt of its own",
        ),
        Column("base_model", VARCHAR, "The base model the API names for the image"),
        Column("browsing_level", INTEGER, "Maturity bit: 1 PG, 2 PG-13, 4 R, 8 X, 16 XXX"),
        Column("nsfw_level", VARCHAR, "Maturity in words: None, Soft, Mature, X"),
        Column("width", INTEGER, "Pixels"),
        Column("height", INTEGER, "Pixels"),
        Column("url", VARCHAR, "The image file's address"),
        Column("cry_count", INTEGER, "Reactions of that kind at the latest sighting"),
        Column("laugh_count", INTEGER, "Reactions of that kind at the latest sighting"),
        Column("like_count", INTEGER, "Reactions of that kind at the latest sighting"),
        Column("heart_count", INTEGER, "Reactions of that kind at the latest sighting"),
        Column("dislike_count", INTEGER, "Always 0 in the API of today"),
        Column("comment_count", INTEGER, "Comments at the latest sighting"),
        Column("reaction_count", INTEGER, "cry + laugh + like + heart"),
        Column("steps", INTEGER, "Sampling steps"),
        Column("cfg_scale", DOUBLE, "Guidance scale"),
        Column("sampler", VARCHAR, "Sampler, as the metadata spells it"),
        Column("scheduler", VARCHAR, "Noise schedule, as the metadata spells it"),
        Column("seed", BIGINT, "Seed; null where it does not fit 64 bits with a sign"),
        Column("clip_skip", INTEGER, "CLIP layers skipped"),
        Column("checkpoint_name", VARCHAR, "The checkpoint's name in the metadata"),
        Column("generator", VARCHAR, "The tool: a1111, civitai, comfyui, …, unknown", required=True),
        Column("prompt_length", INTEGER, "Characters of the prompt", required=True),
        Column("tag_count", INTEGER, "Comma-separated parts of the prompt that hold text", required=True),
        Column("word_count", INTEGER, "Words of the prompt", required=True),
        Column("quality_score", INTEGER, "The older tool's score, 0 to 40; formula in the data dictionary"),
        Column("engagement", DOUBLE, "Reactions against those of images of the same age; 1.0 is typical"),
        Column("first_seen_at", TIMESTAMPTZ, "When a page first showed the image", required=True),
        Column("last_seen_at", TIMESTAMPTZ, "When a page last showed it", required=True),
        Column("prompt_withdrawn_at", TIMESTAMPTZ, "When the prompt was first found gone; null while it stands"),
        Column("first_page", VARCHAR, "The page that first showed it, as walk/page", required=True),
        Column("last_page", VARCHAR, "The page that last showed it, as walk/page", required=True),
        Column(
            "fingerprint",
            BIGINT,
            "Hash of metadata, counts and maturity; differs when a later sighting brings news",
            required=True,
        ),
        Column(
            "resources",
            VARCHAR,
            "The resources the item names, as a JSON list; prompt_resources spreads it into rows",
            required=True,
        ),
        Column(
            "prompt_signature",
            SIGNATURE,
            "MinHash signature of the normalised prompt: one byte for each of 64 slots",
            required=True,
        ),
    ),
)

REJECTED_IMAGES = Table(
    "rejected_images",
    "One row per image not accepted, at its latest sighting.",
    ("page", "position"),
    (
        Column("image_id", BIGINT, "CivitAI's id of the image; null if the item has none"),
        _VERSION_ID,
        Column("outcome", VARCHAR, "no_prompt, version_mismatch or malformed", required=True),
        Column("reason", VARCHAR, "Why, in one sentence", required=True),
        Column("page", VARCHAR, "The page that last showed it, as walk/page", required=True),
        Column("position", INTEGER, "Its place on that page, from 0", required=True),
        Column("item", VARCHAR, "The item as JSON", required=True),
    ),
)

PROMPT_RESOURCES = Table(
    "prompt_resources",
    "One row per distinct resource of an image, however many sources name it.",
    ("image_id", "position"),
    (
        _IMAGE_ID,
        _VERSION_ID,
        Column("position", INTEGER, "The resource's place among the image's resources, from 0", required=True),
        Column(
            "resource_type",
            VARCHAR,
            "checkpoint, lora, embedding, vae, hypernet, upscaler, controlnet, …, unknown",
            required=True,
        ),
        Column("resource_name", VARCHAR, "Its name in the metadata or the prompt, else the model's as the API says it"),
        Column("resource_model_id", BIGINT, "CivitAI's model id, where an AIR or the API names it"),
        Column("resource_version_id", BIGINT, "CivitAI's model version id, from the metadata, else from the API"),
        Column("resource_hash", VARCHAR, "File hash, lower case"),
        Column("weight", DOUBLE, "Strength; null when not given: unknown is not 1.0"),
        Column("source", VARCHAR, "The source that names it first", required=True),
        Column("sources", VARCHAR_LIST, "Every source that names it", required=True),
        Column("raw", VARCHAR, "What the first source says, as JSON", required=True),
        Column("resolved_by", VARCHAR, "What the API was asked by and knew: version_id or hash; null if by neither"),
        Column("resolved_name", VARCHAR, "The model's name, as the API says it"),
        Column("resolved_version_name", VARCHAR, "The version's name, as the API says it"),
        Column("resolved_base_model", VARCHAR, "The base model the version was made for, as the API says it"),
    ),
)

PROMPT_CATEGORIES = Table(
    "prompt_categories",
    "One row per image and matching category.",
    ("image_id", "category"),
    (
        _IMAGE_ID,
        _VERSION_ID,
        Column(
            "category",
            VARCHAR,
            "NSFW, style, lighting, composition, mood, basic, technical or uncategorized",
            required=True,
        ),
        Column("confidence", DOUBLE, "0 to 1; meaning in the data dictionary", required=True),
        Column("is_primary", BOOLEAN, "True for exactly one category of an image", required=True),
        Column("matched_keywords", VARCHAR_LIST, "The evidence", required=True),
        Column("taxonomy_version", VARCHAR, "The taxonomy that decided", required=True),
        Column(
            "categorized_hash",
            VARCHAR,
            "Hash of what was categorized: the normalised prompt, the ends of its lines read as commas",
            required=True,
        ),
    ),
)

CATEGORY_CHANGES = Table(
    "category_changes",
    "One row per category and time that a version's prompts were categorized anew, by another taxonomy or other code.",
    ("change", "category"),
    (
        _VERSION_ID,
        Column("change", INTEGER, "Which time it was, from 1; the last 20 are kept", required=True),
        Column("from_version", VARCHAR, "What decided before: code, taxonomy and its file's hash", required=True),
        Column("to_version", VARCHAR, "What decided then", required=True),
        Column("category", VARCHAR, "The category, uncategorized among them", required=True),
        Column("images", INTEGER, "Images compared: those that both states hold", required=True),
        Column("images_before", INTEGER, "Images that had the category", required=True),
        Column("images_after", INTEGER, "Images that have it then", required=True),
        Column("gained", INTEGER, "Images that have it newly", required=True),
        Column("lost", INTEGER, "Images that have it no more", required=True),
        Column("primary_before", INTEGER, "Images it was the primary category of", required=True),
        Column("primary_after", INTEGER, "Images it is the primary category of then", required=True),
        Column("primary_from", VARCHAR, "Where new primaries came from: JSON, category to images", required=True),
        Column("gained_image_ids", BIGINT_LIST, "Some that gained it: the 5 smallest ids", required=True),
        Column("lost_image_ids", BIGINT_LIST, "Some that lost it: the 5 smallest ids", required=True),
    ),
)

NEAR_DUPLICATE_GROUPS = Table(
    "near_duplicate_groups",
    "One row per group of two or more images whose prompts are equal or near duplicates.",
    ("near_duplicate_group",),
    (
        Column("near_duplicate_group", BIGINT, "The group, by the smallest image id in it", required=True),
        _VERSION_ID,
        Column("images", INTEGER, "Images in the group", required=True),
        Column("distinct_prompts", INTEGER, "Different prompts among them, by prompt_hash", required=True),
        Column("authors", INTEGER, "Different authors among those that are named", required=True),
        Column("images_with_author", INTEGER, "Images whose author is named", required=True),
        Column(
            "top_author_share",
            DOUBLE,
            "Share, 0 to 1, that the author with the most images has in images_with_author; null if nobody is named",
        ),
    ),
)

LANDED_PAGES = Table(
    "landed_pages",
    "One row per landed page: the ledger as a table, with what became of each page's items.",
    ("sequence",),
    (
        _VERSION_ID,
        Column("walk", INTEGER, "The walk the page belongs to, from 1", required=True),
        Column("page", INTEGER, "Its number in the walk, from 1", required=True),
        Column("sequence", BIGINT, "Its place in the order of landing, over all walks", required=True),
        Column("run_id", VARCHAR, "The run that landed it"),
        Column("listing", VARCHAR, "What was walked, as JSON", required=True),
        Column("sort", VARCHAR, "The order asked for; `Import` where the older tool fetched the items", required=True),
        Column("browsing_level", INTEGER, "The maturity bits asked for; 0 for an import", required=True),
        Column("cursor", VARCHAR, "The cursor that asked for it; null for a first page"),
        Column("next_cursor", VARCHAR, "Where the walk goes on; null at its end"),
        Column("confirms", VARCHAR, "The page it repeats without news, as walk/page"),
        Column("max_items", INTEGER, "The most items the run was to ask for"),
        Column("fetched_at", TIMESTAMPTZ, "When the answer was complete", required=True),
        Column("elapsed_s", DOUBLE, "Seconds from the request to the complete answer"),
        Column("attempted", INTEGER, "Items it showed: the sum of the six outcomes", required=True),
        Column("new", INTEGER, "Images accepted for the first time", required=True),
        Column("updated", INTEGER, "Images held already that brought news", required=True),
        Column("duplicate", INTEGER, "Images held already that brought none", required=True),
        Column("no_prompt", INTEGER, "Images without a prompt", required=True),
        Column("version_mismatch", INTEGER, "Images that strict matching refused", required=True),
        Column("malformed", INTEGER, "Items that are no images", required=True),
        Column("oldest_created_at", TIMESTAMPTZ, "The earliest created_at among its items"),
        Column("newest_created_at", TIMESTAMPTZ, "The latest created_at among its items"),
    ),
)

VERSION_OVERVIEWS = Table(
    "version_overviews",
    "What a model version comes to, for setting versions side by side; one row per version.",
    ("model_version_id",),
    (
        _VERSION_ID,
        Column("prompts", BIGINT, "Images whose prompt stands: the n of what follows", required=True),
        Column(
            "withdrawn", BIGINT, "Images whose prompt was withdrawn; all that follows leaves them out", required=True
        ),
        Column("distinct_prompts", BIGINT, "Different prompts, by prompt_hash", required=True),
        Column("authors", BIGINT, "Different named authors", required=True),
        Column("oldest_created_at", TIMESTAMPTZ, "The earliest created_at"),
        Column("newest_created_at", TIMESTAMPTZ, "The latest created_at"),
        Column("prompt_length_median", DOUBLE, "Median length of a prompt in characters"),
        Column("steps_median", DOUBLE, "Median steps of the images that tell them"),
        Column("cfg_scale_median", DOUBLE, "Median CFG scale of the images that tell it"),
        Column("reaction_count_median", DOUBLE, "Median reactions"),
        Column("outcomes", VARCHAR_LIST, "Outcomes of rejected images", required=True),
        Column("outcome_images", BIGINT_LIST, "Rejected images of each", required=True),
        Column("fields", VARCHAR_LIST, "What an image may tell, as the reports name it", required=True),
        Column("field_images", BIGINT_LIST, "Images that tell each", required=True),
        Column("categories", VARCHAR_LIST, "Categories", required=True),
        Column("category_images", BIGINT_LIST, "Images that match each", required=True),
        Column("primary_images", BIGINT_LIST, "Images each is the primary one of", required=True),
        Column("samplers", VARCHAR_LIST, "The 20 samplers used most", required=True),
        Column("sampler_images", BIGINT_LIST, "Images of each", required=True),
        Column("sizes", VARCHAR_LIST, "The 20 commonest sizes, as 832x1216", required=True),
        Column("size_images", BIGINT_LIST, "Images of each", required=True),
        Column("checkpoints", VARCHAR_LIST, "The 50 checkpoints used most, as the reports name them", required=True),
        Column(
            "checkpoint_keys",
            VARCHAR_LIST,
            "What each is known by: `version <id>`, `name <name>` or `hash <hash>`",
            required=True,
        ),
        Column("checkpoint_images", BIGINT_LIST, "Images that name each", required=True),
        Column("loras", VARCHAR_LIST, "The 100 LoRAs used most, as the reports name them", required=True),
        Column("lora_keys", VARCHAR_LIST, "What each is known by, as with checkpoints", required=True),
        Column("lora_images", BIGINT_LIST, "Images that name each", required=True),
    ),
)

TABLES: tuple[Table, ...] = (
    LANDED_PAGES,
    MODEL_VERSION_INFO,
    PROMPTS,
    REJECTED_IMAGES,
    PROMPT_RESOURCES,
    PROMPT_CATEGORIES,
    CATEGORY_CHANGES,
    NEAR_DUPLICATE_GROUPS,
    *ANALYSIS_TABLES,
    VERSION_OVERVIEWS,
)

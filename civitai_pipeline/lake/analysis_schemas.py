"""The tables of analyses: counts and statistics over a version's prompts, each with its sample size beside it.

In all of them only prompts that stand are counted, withdrawn ones are left out; ``authors`` are named ones, told
apart by user name; ``prompts`` are distinct normalised prompts, so that ``images`` less ``prompts`` are exact
repeats. Formulas and their sources stand in the data dictionary.
"""

from __future__ import annotations

from civitai_pipeline.lake.columns import BIGINT, DOUBLE, INTEGER, TIMESTAMPTZ, VARCHAR, Column, Table

_VERSION_ID = Column("model_version_id", BIGINT, "The model version whose prompts were counted", required=True)
_RANK = Column("rank", INTEGER, "Its place by images, from 1; equal counts are in the order of the text", required=True)
_SIDE = Column("side", VARCHAR, "prompt or negative", required=True)
_IMAGES = Column("images", BIGINT, "Images with it", required=True)
_PROMPTS = Column("prompts", BIGINT, "Distinct prompts among these images", required=True)
_AUTHORS = Column("authors", BIGINT, "Distinct named authors among these images", required=True)


def _total(description: str) -> Column:
    return Column("images_total", BIGINT, description, required=True)


def _share(description: str) -> Column:
    return Column("share", DOUBLE, description, required=True)


CAPTURE_RATES = Table(
    "capture_rates",
    "How much is known: for each fact that an analysis rests on, n of N.",
    ("fact",),
    (
        _VERSION_ID,
        Column("fact", VARCHAR, "What may be known; each is explained in the data dictionary", required=True),
        Column("counted", VARCHAR, "What known and total count: images or LoRA uses", required=True),
        Column("known", BIGINT, "Those of which it is known", required=True),
        Column("total", BIGINT, "All of them", required=True),
        Column("capture_rate", DOUBLE, "known / total; null where there are none"),
        Column("different", BIGINT, "Different values known", required=True),
        Column("authors", BIGINT, "Distinct named authors among the known", required=True),
    ),
)

PROMPT_STRUCTURE = Table(
    "prompt_structure",
    "How prompts are written: one row per side and mark of structure.",
    ("side", "measure"),
    (
        _VERSION_ID,
        _SIDE,
        Column("measure", VARCHAR, "The mark looked for; each is explained in the data dictionary", required=True),
        _IMAGES,
        Column("prompts", BIGINT, "Distinct prompts with it, or negative prompts, as written", required=True),
        _AUTHORS,
        _total("Images with a text on that side"),
        Column("authors_total", BIGINT, "Distinct named authors of these", required=True),
        _share("images / images_total"),
    ),
)

_LENGTH_OF = Column("quantity", VARCHAR, "characters, words or tags (comma-separated parts)", required=True)

LENGTH_STATISTICS = Table(
    "length_statistics",
    "How long prompts are: one row per side, quantity and way of counting.",
    ("side", "quantity", "counted"),
    (
        _VERSION_ID,
        _SIDE,
        _LENGTH_OF,
        Column("counted", VARCHAR, "images, or texts: equal prompts once, by their first image", required=True),
        Column("n", BIGINT, "How many were measured", required=True),
        Column("authors", BIGINT, "Distinct named authors of these", required=True),
        Column("mean", DOUBLE, "Mean", required=True),
        Column("sd", DOUBLE, "Standard deviation of a sample; null for a single one"),
        Column("minimum", INTEGER, "Least", required=True),
        Column("q1", DOUBLE, "Lower quartile", required=True),
        Column("median", DOUBLE, "Median", required=True),
        Column("q3", DOUBLE, "Upper quartile", required=True),
        Column("maximum", INTEGER, "Most", required=True),
    ),
)

LENGTH_BINS = Table(
    "length_bins",
    "Histograms of length: one row per side, quantity and bin that holds an image. The bins are the same everywhere.",
    ("side", "quantity", "bin_from"),
    (
        _VERSION_ID,
        _SIDE,
        _LENGTH_OF,
        Column("bin_from", INTEGER, "The least length in the bin", required=True),
        Column("bin_to", INTEGER, "The greatest; null for the last bin, which has no end"),
        _IMAGES,
        _total("Images with a text on that side"),
        _share("images / images_total"),
    ),
)

TAG_FREQUENCIES = Table(
    "tag_frequencies",
    "The most used tags of prompts and of negative prompts.",
    ("side", "rank"),
    (
        _VERSION_ID,
        _SIDE,
        _RANK,
        Column("tag", VARCHAR, "The tag in normal form, without weights, emphasis and LoRA tags", required=True),
        _IMAGES,
        Column("prompts", BIGINT, "Distinct prompts with it, or negative prompts, as written", required=True),
        _AUTHORS,
        _total("Images with a tag on that side"),
        _share("images / images_total"),
        Column("mean_position", DOUBLE, "Its mean place among the parts of the text, from 1", required=True),
    ),
)

TAG_PAIRS = Table(
    "tag_pairs",
    "Which of the most used tags stand together in prompts.",
    ("tag", "other_tag"),
    (
        _VERSION_ID,
        Column("tag", VARCHAR, "The tag that comes first in the alphabet", required=True),
        Column("other_tag", VARCHAR, "The other one", required=True),
        Column("images", BIGINT, "Images with both", required=True),
        Column("prompts", BIGINT, "Distinct prompts with both", required=True),
        Column("authors", BIGINT, "Distinct named authors of images with both", required=True),
        Column("prompts_tag", BIGINT, "Distinct prompts with the first", required=True),
        Column("prompts_other", BIGINT, "Distinct prompts with the other", required=True),
        Column("prompts_total", BIGINT, "Distinct prompts with a tag", required=True),
        Column("lift", DOUBLE, "prompts against those that chance would give; 1 is chance", required=True),
    ),
)

_KNOWN = Column("known", BIGINT, "Images of which it is known: the n", required=True)
_ALL_IMAGES = _total("All images: the N")
_CAPTURE_RATE = Column("capture_rate", DOUBLE, "known / images_total", required=True)

SETTING_VALUES = Table(
    "setting_values",
    "Which settings are used: one row per setting and value.",
    ("setting", "rank"),
    (
        _VERSION_ID,
        Column(
            "setting",
            VARCHAR,
            "sampler, scheduler, steps, cfg_scale, size, orientation, clip_skip, checkpoint, generator or base_model",
            required=True,
        ),
        _RANK,
        Column("value", VARCHAR, "The value as text; null for all that come after the most used, taken together"),
        Column("number", DOUBLE, "The value as a number, where it is one"),
        _IMAGES,
        _PROMPTS,
        _AUTHORS,
        _KNOWN,
        _share("images / known"),
        _ALL_IMAGES,
        _CAPTURE_RATE,
    ),
)

SETTING_RECIPES = Table(
    "setting_recipes",
    "Which settings are used together, among images of which sampler, steps, CFG scale and size are all known.",
    ("rank",),
    (
        _VERSION_ID,
        _RANK,
        Column("sampler", VARCHAR, "Sampler, as the metadata spells it", required=True),
        Column("steps_from", INTEGER, "Steps: the least of the bin", required=True),
        Column("steps_to", INTEGER, "Steps: the greatest of the bin", required=True),
        Column("cfg_from", DOUBLE, "CFG scale: from this", required=True),
        Column("cfg_below", DOUBLE, "CFG scale: to below this", required=True),
        Column("width", INTEGER, "Pixels", required=True),
        Column("height", INTEGER, "Pixels", required=True),
        _IMAGES,
        _PROMPTS,
        _AUTHORS,
        Column("known", BIGINT, "Images of which all four are known: the n", required=True),
        _share("images / known"),
        _ALL_IMAGES,
        _CAPTURE_RATE,
        Column("engagement_n", BIGINT, "Images of the recipe whose engagement is known", required=True),
        Column("engagement_median", DOUBLE, "Their median engagement; 1.0 is typical"),
    ),
)

RESOURCE_USAGE = Table(
    "resource_usage",
    "Which resources are used with which checkpoint, and at what weight.",
    ("checkpoint_key", "resource_type", "resource_key"),
    (
        _VERSION_ID,
        Column(
            "checkpoint_key",
            VARCHAR,
            "The images' checkpoint: `version <id>`, `name <name>` or `hash <hash>`; `all` for all images together, "
            "`none` for those that name none",
            required=True,
        ),
        Column("checkpoint", VARCHAR, "The checkpoint's commonest name"),
        Column("resource_type", VARCHAR, "lora (LyCORIS and DoRA too), embedding, vae, …, checkpoint", required=True),
        Column("resource_key", VARCHAR, "`version <id>`, `name <name>` or `hash <hash>`", required=True),
        Column("resource", VARCHAR, "The resource's commonest name"),
        Column("resource_version_id", BIGINT, "CivitAI's model version id, where it is known"),
        _IMAGES,
        _PROMPTS,
        _AUTHORS,
        _total("Images with that checkpoint"),
        _share("images / images_total"),
        Column("weights", BIGINT, "Images that tell the weight: the n of what follows", required=True),
        Column("weight_unknown_share", DOUBLE, "Share of the images that do not tell it", required=True),
        Column("weight_authors", BIGINT, "Distinct named authors of images that tell it", required=True),
        Column("weight_minimum", DOUBLE, "Least weight"),
        Column("weight_q1", DOUBLE, "Lower quartile of the weights"),
        Column("weight_median", DOUBLE, "Median weight over images"),
        Column("weight_q3", DOUBLE, "Upper quartile of the weights"),
        Column("weight_maximum", DOUBLE, "Greatest weight"),
        Column("weight_author_median", DOUBLE, "Median over the named authors' own medians: each counts once"),
        Column("engagement_n", BIGINT, "Images whose engagement is known", required=True),
        Column("engagement_mean", DOUBLE, "Their mean engagement; 1.0 is typical"),
        Column("engagement_median", DOUBLE, "Their median engagement"),
    ),
)

RESOURCE_PAIRS = Table(
    "resource_pairs",
    "Which LoRAs are used together, and which with which checkpoint.",
    ("resource_type", "resource_key", "lora_key"),
    (
        _VERSION_ID,
        Column("resource_type", VARCHAR, "lora or checkpoint", required=True),
        Column("resource_key", VARCHAR, "One of the pair", required=True),
        Column("resource", VARCHAR, "Its commonest name"),
        Column("lora_key", VARCHAR, "The LoRA that goes with it; of two LoRAs, the later key", required=True),
        Column("lora", VARCHAR, "Its commonest name"),
        Column("images", BIGINT, "Images with both", required=True),
        Column("authors", BIGINT, "Distinct named authors of these", required=True),
        Column("images_resource", BIGINT, "Images with the first, among images_total", required=True),
        Column("images_lora", BIGINT, "Images with the LoRA, among images_total", required=True),
        _total("Images that name a LoRA, and a checkpoint if the pair has one"),
        Column("lift", DOUBLE, "images against those that chance would give; 1 is chance", required=True),
    ),
)

_KIND = Column("kind", VARCHAR, "tag, lora, checkpoint, sampler or category", required=True)
_TERM_KEY = Column("term_key", VARCHAR, "The term; of a resource, its key", required=True)
_TERM = Column("term", VARCHAR, "The term as a person knows it; of a resource, its commonest name")

TERM_LIFT = Table(
    "term_lift",
    "Engagement of images with a term against images without it, each author counting once.",
    ("kind", "term_key", "comparison"),
    (
        _VERSION_ID,
        _KIND,
        _TERM_KEY,
        _TERM,
        Column(
            "comparison",
            VARCHAR,
            "between_authors: authors' images with it against authors' images without; within_authors: the same "
            "author's images with and without",
            required=True,
        ),
        Column("images_with", BIGINT, "Images with the term that are compared", required=True),
        Column("authors_with", BIGINT, "Their authors", required=True),
        Column("images_without", BIGINT, "Images without it that are compared", required=True),
        Column("authors_without", BIGINT, "Their authors", required=True),
        Column("ratio", DOUBLE, "Engagement with / without, of geometric means; 1 is no difference", required=True),
        Column("ratio_low", DOUBLE, "Lower end of its 95 % interval; null where authors do not vary"),
        Column("ratio_high", DOUBLE, "Upper end"),
        Column("p_value", DOUBLE, "Two-sided p of no difference, for this comparison alone"),
        Column("q_value", DOUBLE, "The same, corrected for all comparisons of this kind (Benjamini-Hochberg)"),
        Column("comparisons", BIGINT, "How many it was corrected for", required=True),
    ),
)

WEEKLY_TRENDS = Table(
    "weekly_trends",
    "How the use of terms changes: one row per term and week in which images of its kind were made public.",
    ("kind", "term_key", "week_start"),
    (
        _VERSION_ID,
        _KIND,
        _TERM_KEY,
        _TERM,
        Column("week", VARCHAR, "The ISO 8601 week, as 2026-W07", required=True),
        Column("week_start", TIMESTAMPTZ, "Its Monday, 00:00 UTC", required=True),
        Column("images", BIGINT, "Images with the term", required=True),
        Column("authors", BIGINT, "Distinct named authors of these", required=True),
        Column("images_total", BIGINT, "Images of the week that tell the kind", required=True),
        Column("authors_total", BIGINT, "Distinct named authors of these", required=True),
        _share("images / images_total"),
        Column("author_share", DOUBLE, "Mean over the week's authors of the share of their images with the term"),
        Column("author_share_before", DOUBLE, "The mean of author_share over the four weeks before"),
        Column("change", DOUBLE, "author_share less author_share_before; null where a week has too few authors"),
    ),
)

ANALYSIS_TABLES: tuple[Table, ...] = (
    CAPTURE_RATES,
    PROMPT_STRUCTURE,
    LENGTH_STATISTICS,
    LENGTH_BINS,
    TAG_FREQUENCIES,
    TAG_PAIRS,
    SETTING_VALUES,
    SETTING_RECIPES,
    RESOURCE_USAGE,
    RESOURCE_PAIRS,
    TERM_LIFT,
    WEEKLY_TRENDS,
)

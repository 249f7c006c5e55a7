"""The columns an export can have: those of ``prompts`` and some more, and which of them are chosen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from civitai_pipeline.export.options import OptionError
from civitai_pipeline.lake.schemas import DOUBLE, PROMPTS, SIGNATURE, VARCHAR, VARCHAR_LIST, Column

if TYPE_CHECKING:
    from civitai_pipeline.export.options import ExportOptions

AUTHOR_HASH = Column("author_hash", VARCHAR, "Keyed hash of the user name; null where the name is unknown")
CLEAN = {
    "clean_prompt": Column(
        "clean_prompt", VARCHAR, "The prompt without LoRA and other tags, embeddings, emphasis brackets and weights"
    ),
    "clean_negative_prompt": Column("clean_negative_prompt", VARCHAR, "The same of the negative prompt"),
}
FROM_CATEGORIES = {
    "category": Column("category", VARCHAR, "The primary category; uncategorized where nothing matched"),
    "category_confidence": Column("category_confidence", DOUBLE, "The primary category's confidence, 0 to 1"),
    "categories": Column("categories", VARCHAR_LIST, "Every category of the prompt, the surest first"),
    "matched_keywords": Column("matched_keywords", VARCHAR_LIST, "The primary category's evidence"),
}
# A signature is bytes, which neither CSV nor JSON can hold, and means nothing outside the lake.
_PROMPTS = {column.name: column for column in PROMPTS.columns if column.type != SIGNATURE}
COLUMNS: dict[str, Column] = {
    **_PROMPTS,
    **FROM_CATEGORIES,
    **CLEAN,
    AUTHOR_HASH.name: AUTHOR_HASH,
}

# What is of use without the lake and leads to nobody: no user name, post or address of the picture, none of the
# pipeline's own book-keeping.
_HUGGINGFACE = (
    "image_id", "model_version_id", "author_hash", "created_at", "prompt", "clean_prompt", "negative_prompt",
    "clean_negative_prompt", "prompt_hash", "near_duplicate_group", "base_model", "browsing_level", "nsfw_level",
    "width", "height", "reaction_count", "comment_count", "steps", "cfg_scale", "sampler", "scheduler", "seed",
    "clip_skip", "checkpoint_name", "generator", "prompt_length", "tag_count", "word_count", "quality_score",
    "engagement", "category", "category_confidence",
)  # fmt: skip


def columns_of(options: ExportOptions) -> tuple[Column, ...]:
    """The columns that an export will have, in order.

    Raises:
        OptionError: ``columns`` names one that there is not, one twice, or ``username`` where it is hashed.
    """
    names = list(_default(options)) if options.columns is None else _named(options.columns, _default(options))
    if options.hides_authors and "username" in names:
        raise OptionError("username is replaced by author_hash in this export; name that in columns instead")
    return tuple(COLUMNS[name] for name in names)


def _default(options: ExportOptions) -> tuple[str, ...]:
    if options.format == "huggingface":
        return _HUGGINGFACE
    names = [*_PROMPTS, "category"]
    if options.hides_authors:
        names[names.index("username")] = AUTHOR_HASH.name
    return tuple(names)


def _named(text: str, default: tuple[str, ...]) -> list[str]:
    names: list[str] = []
    for name in (part.strip() for part in text.split(",")):
        if name != "default" and name not in COLUMNS:
            raise OptionError(f"there is no column {name!r}; there are default, {', '.join(COLUMNS)}")
        names += default if name == "default" else [name]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise OptionError(f"columns names {', '.join(twice)} twice")
    return names

"""Example tables for the reports: seeded, safe for work, with the scripts and the mischief of real prompts."""

from __future__ import annotations

import hashlib
import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa

from civitai_pipeline.lake.schemas import PROMPT_CATEGORIES, PROMPT_RESOURCES, PROMPTS, REJECTED_IMAGES
from civitai_pipeline.report import VersionTables

VERSION = 111222
START = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)

SUBJECTS = (
    "a lighthouse on a cliff, crashing waves, gulls",
    "1girl, solo, straw hat, sunflower field, smile",
    "1boy, knight, plate armor, castle courtyard",
    "portrait of an old fisherman, weathered face, wool cap",
    "red panda drinking tea, tiny cup, steam",
    "futuristic tram station, neon signs, rain, reflections",
    "bowl of ramen, soft boiled egg, chopsticks",
    "hot air balloons over a desert canyon",
    "桜並木を歩く少女, 制服, 春風, 花びら",
    "夜の東京、ネオン、雨上がり、反射",
    "一只戴眼镜的猫，书店，暖色灯光",  # noqa: RUF001 - Chinese prompts separate tags with this comma
    "한옥 마을의 겨울 풍경, 눈, 등불",
    "قطة صغيرة تجلس على سجادة, ضوء دافئ, حديقة",
    "חתול ישן על אדניה, אור בוקר",
    "🦊🍂 fox in autumn leaves, 🍁, cozy",
    "hatsune miku \\(vocaloid\\), stage, spotlight",
    "<script>alert('prompt')</script>, watercolor, garden",
    "<b>bold</b> & <i>italic</i> typography poster, serif",
)
STYLES = ("watercolor", "oil painting", "anime style", "photorealistic", "pixel art", "(ink sketch:1.2)", "3d render")
LIGHTS = ("golden hour", "soft lighting", "rim light", "volumetric lighting", "candlelight", "overcast")
SHOTS = ("close-up", "wide shot", "rule of thirds", "from above", "depth of field", "centered composition")
MOODS = ("serene", "dramatic", "melancholic", "joyful", "mysterious")
BASICS = ("masterpiece", "best quality", "((highly detailed))", "absurdres", "8k")
NEGATIVES = ("lowres", "bad anatomy", "worst quality", "blurry", "watermark", "text", "jpeg artifacts", "<u>logo</u>")
LORAS = (
    ("Ink Wash Study", 900001),
    ("detail_slider_v2", 900002),
    ("水彩スタイル", 900003),
    ("<img src=x onerror=alert(1)>", 900004),
    ("Soft Film Grain & Light Leaks — a very long name that nobody can read in full", 900005),
    ("مصباح", None),
)
SAMPLERS = ("DPM++ 2M Karras", "Euler a", "DPM++ SDE Karras", "UniPC", "Euler", "<i>custom</i>")
SIZES = ((832, 1216), (1024, 1024), (1216, 832), (768, 1344), (512, 768))
AUTHORS = (*(f"maker_{n}" for n in range(60)), "<script>alert('name')</script>", "絵師さん", "رسام", "unknown", None)

INFO: dict[str, Any] = {
    "model_version_id": VERSION,
    "model_id": 99887,
    "model_name": "Harbour Light <script>alert('model')</script>",
    "version_name": "v2 水彩",
    "model_type": "Checkpoint",
    "base_model": "Illustrious",
    "air": "urn:air:sdxl:checkpoint:civitai:99887@111222",
    "published_at": datetime(2025, 12, 24, 8, 0, tzinfo=UTC),
    "trained_words": ["harbour", "</script><script>alert('word')</script>"],
    "fetched_at": START,
}


def make_tables(count: int, *, seed: int = 7, version: int = VERSION) -> VersionTables:
    """Tables of ``count`` prompts; equal arguments give equal tables."""
    rng = random.Random(seed)  # noqa: S311 - examples, not secrets
    prompts: list[dict[str, Any]] = []
    resources: list[dict[str, Any]] = []
    categories: list[dict[str, Any]] = []
    first_of: dict[str, int] = {}
    for position in range(count):
        image_id = 1000 + position
        row = _prompt(rng, image_id, version, prompts)
        row["duplicate_of"] = first_of.get(row["prompt_hash"])
        first_of.setdefault(row["prompt_hash"], image_id)
        prompts.append(row)
        resources += _resources(rng, image_id, version)
        categories += _categories(row, version)
    return VersionTables(
        info={**INFO, "model_version_id": version},
        prompts=pa.Table.from_pylist(prompts, PROMPTS.arrow_schema),
        rejected_images=pa.Table.from_pylist(_rejected(rng, count // 12, version), REJECTED_IMAGES.arrow_schema),
        prompt_resources=pa.Table.from_pylist(resources, PROMPT_RESOURCES.arrow_schema),
        prompt_categories=pa.Table.from_pylist(categories, PROMPT_CATEGORIES.arrow_schema),
        collection_state=_listings(count, version) if count else [],
        summary=make_summary(count, version) if count else None,
    )


def make_summary(count: int, version: int = VERSION) -> dict[str, Any]:
    """A run's summary as the contract has it, after a run that fetched everything at once."""
    rejected = count // 12
    return {
        "model_version_id": version,
        "stop_reason": "max_items",
        "more_available": True,
        "pages": 1 + count // 100,
        "attempted": count + rejected,
        "new": count,
        "updated": 0,
        "duplicate": 0,
        "no_prompt": rejected,
        "version_mismatch": 0,
        "malformed": 0,
        "saved": count,
        "reported_total": None,
        "prompts_before": 0,
        "prompts_after": count,
        "requests": 2 + count // 100,
        "retries": 1,
        "waited_s": 3.5,
        "started_at": "2026-06-01T08:00:00+00:00",
        "finished_at": "2026-06-01T08:20:00+00:00",
        "error": None,
    }


def _prompt(rng: random.Random, image_id: int, version: int, before: list[dict[str, Any]]) -> dict[str, Any]:
    if before and rng.random() < 0.12:
        text = rng.choice(before[-200:])["prompt"]
    else:
        parts = [rng.choice(SUBJECTS)]
        parts += rng.sample(STYLES, rng.choice((0, 1, 1, 2)))
        parts += rng.sample(LIGHTS, rng.choice((0, 1, 1)))
        parts += rng.sample(SHOTS, rng.choice((0, 1)))
        parts += rng.sample(MOODS, rng.choice((0, 0, 1)))
        parts += rng.sample(BASICS, rng.choice((0, 1, 2, 3)))
        if rng.random() < 0.4:
            parts.append("<lora:detail_slider_v2:0.7>")
        if rng.random() < 0.1:
            parts.append("quiet streets and distant hills seen through morning mist " * rng.randint(2, 12))
        text = ", ".join(parts)
    told = rng.random() < 0.85
    reactions = min(int(rng.paretovariate(0.9)) - 1, 4000)
    width, height = rng.choices(SIZES, (6, 4, 2, 1, 1))[0]
    created = START + timedelta(hours=rng.triangular(0, 24 * 200, 24 * 40))
    near = rng.random() < 0.06 and image_id > 1010
    return {
        "image_id": image_id,
        "model_version_id": version,
        "post_id": 5000 + image_id,
        "username": rng.choices(AUTHORS, [1 / (n + 1) for n in range(len(AUTHORS))])[0],
        "created_at": created,
        "prompt": text,
        "negative_prompt": ", ".join(rng.sample(NEGATIVES, rng.randint(2, 6))) if rng.random() < 0.7 else None,
        "prompt_hash": hashlib.sha256(text.lower().encode()).hexdigest()[:32],
        "near_duplicate_group": image_id - rng.randint(1, 9) if near else None,
        "base_model": "Illustrious",
        "browsing_level": rng.choice((1, 1, 1, 2)),
        "nsfw_level": "None",
        "width": width,
        "height": height,
        "url": f"https://image.invalid/{image_id}.jpeg",
        "cry_count": 0,
        "laugh_count": 0,
        "like_count": reactions,
        "heart_count": 0,
        "dislike_count": 0,
        "comment_count": rng.choice((0, 0, 0, 1, 2)),
        "reaction_count": reactions,
        "steps": rng.choices((20, 24, 25, 28, 30, 35, 40, 50, 150), (5, 2, 6, 8, 7, 3, 2, 1, 0.05))[0]
        if told
        else None,
        "cfg_scale": rng.choices((3.5, 4, 4.5, 5, 6, 7, 7.5), (1, 2, 3, 6, 4, 6, 1))[0] if told else None,
        "sampler": rng.choices(SAMPLERS, (8, 9, 3, 1, 1, 0.5))[0] if told else None,
        "scheduler": "karras" if rng.random() < 0.2 else None,
        "seed": rng.randrange(2**32) if told else None,
        "clip_skip": 2 if rng.random() < 0.3 else None,
        "checkpoint_name": "harbourLight_v2" if told else None,
        "generator": rng.choice(("a1111", "civitai", "comfyui", "unknown")),
        "prompt_length": len(text),
        "tag_count": len([part for part in text.split(",") if part.strip()]),
        "word_count": len(text.split()),
        "quality_score": rng.randint(0, 40),
        "engagement": round(rng.lognormvariate(0, 0.8), 4),
        "first_seen_at": START,
        "last_seen_at": START,
        "prompt_withdrawn_at": START if rng.random() < 0.004 else None,
        "first_page": "1/1",
        "last_page": "1/1",
        "fingerprint": image_id,
        "prompt_signature": bytes(64),
        "resources": "[]",
    }


def _resources(rng: random.Random, image_id: int, version: int) -> list[dict[str, Any]]:
    found: list[tuple[str, str, int | None, float | None]] = (
        [("checkpoint", "harbourLight_v2", version, None)] if rng.random() < 0.9 else []
    )
    for name, version_id in rng.sample(LORAS, rng.choice((0, 0, 1, 1, 2))):
        weight = round(rng.choice((0.4, 0.6, 0.8, 1.0)) + rng.uniform(-0.15, 0.15), 2) if rng.random() < 0.75 else None
        found.append(("lora", name, version_id if rng.random() < 0.8 else None, weight))
    if rng.random() < 0.05:
        found.append(("embedding", "EasyNegative", None, None))
    return [
        {
            "image_id": image_id,
            "model_version_id": version,
            "position": position,
            "resource_type": kind,
            "resource_name": name,
            "resource_version_id": version_id,
            "weight": weight,
            "source": "civitai_resources" if version_id else "prompt_tag",
            "sources": ["civitai_resources" if version_id else "prompt_tag"],
            "raw": "{}",
        }
        for position, (kind, name, version_id, weight) in enumerate(found)
    ]


def _categories(row: dict[str, Any], version: int) -> list[dict[str, Any]]:
    lexicon = {
        "style": STYLES,
        "lighting": LIGHTS,
        "composition": SHOTS,
        "mood": MOODS,
        "basic": BASICS,
        "technical": ("8k", "absurdres", "3d render"),
    }
    matched = {category: [word for word in words if word in row["prompt"]] for category, words in lexicon.items()}
    scores = {category: min(1.0, 0.2 + 0.27 * len(found)) for category, found in matched.items() if found} or {
        "uncategorized": 0.0
    }
    primary = max(scores, key=lambda category: scores[category])
    return [
        {
            "image_id": row["image_id"],
            "model_version_id": version,
            "category": category,
            "confidence": score,
            "is_primary": category == primary,
            "matched_keywords": matched.get(category, []),
            "taxonomy_version": "7",
        }
        for category, score in scores.items()
    ]


def _rejected(rng: random.Random, count: int, version: int) -> list[dict[str, Any]]:
    kinds = (
        ("no_prompt", "the item has no metadata"),
        ("no_prompt", "the prompt is white space only"),
        ("version_mismatch", "no checkpoint with this version id among its resources"),
        ("malformed", "<script>alert('reason')</script> is no id"),
    )
    picked = rng.choices(kinds, (8, 2, 1, 1), k=count)
    return [
        {
            "image_id": 900000 + position,
            "model_version_id": version,
            "outcome": outcome,
            "reason": reason,
            "page": "1/1",
            "position": position,
            "item": "{}",
        }
        for position, (outcome, reason) in enumerate(picked)
    ]


def _listings(count: int, version: int) -> list[dict[str, Any]]:
    return [
        {
            "model_version_id": version,
            "sort": "Oldest",
            "browsing_level": 3,
            "status": "open",
            "walk": 1,
            "pages": 1 + count // 100,
            "attempted": count + count // 12,
            "saved": count,
            "duplicates": 4,
            "total_collected": count,
            "last_successful_fetch_at": datetime(2026, 8, 1, 8, 20, tzinfo=UTC),
            "oldest_created_at": START,
            "newest_created_at": START + timedelta(days=200),
        },
        {"sort": "Most Reactions", "browsing_level": 1, "status": "at_end"},
    ]

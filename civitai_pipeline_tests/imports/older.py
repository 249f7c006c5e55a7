"""Makes databases as the older tool left them: its tables, its releases and its quirks, from a seed.

Written from what its files look like, without any code of the importer, so that a mistake in one is not in the other.
"""

from __future__ import annotations

import json
import random
import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

VERSIONS = (910011, 910012, 690310)
MODEL = 9001
NAME = "Harbor Light XL"
START = datetime(2025, 9, 27, 7, 45, tzinfo=UTC)
WORDS = [
    "kite",
    "lantern",
    "harbour",
    "fog",
    "heron",
    "orchard",
    "violin",
    "copper",
    "meadow",
    "tide",
    "glass",
    "winter",
]
BROKEN = ("{'id': 1, 'meta': ", "[1, 2]", '"text"', "{" * 300, "__import__('os').system('true')")

_PROMPTS = """CREATE TABLE civitai_prompts (id INTEGER PRIMARY KEY, civitai_id TEXT UNIQUE, full_prompt TEXT,
    negative_prompt TEXT, quality_score INTEGER, reaction_count INTEGER, comment_count INTEGER, download_count INTEGER,
    prompt_length INTEGER, tag_count INTEGER, model_name TEXT, model_id TEXT,{version} collected_at TIMESTAMP,
    raw_metadata TEXT)"""
_OTHERS = """
CREATE TABLE prompt_categories (id INTEGER PRIMARY KEY, prompt_id INTEGER, category TEXT, keywords TEXT,
    confidence REAL);
CREATE TABLE collection_state (id INTEGER PRIMARY KEY, model_id TEXT NOT NULL, version_id TEXT DEFAULT '',
    last_offset INTEGER, total_collected INTEGER, next_page_cursor TEXT, status TEXT, planned_total INTEGER,
    attempted INTEGER, duplicates INTEGER, saved INTEGER, summary_json TEXT, last_update TIMESTAMP,
    UNIQUE(model_id, version_id));
"""
_RESOURCES = """CREATE TABLE prompt_resources (id INTEGER PRIMARY KEY, prompt_id INTEGER, resource_index INTEGER,
    resource_type TEXT, resource_name TEXT, resource_model_id TEXT, resource_model_version_id TEXT, resource_id TEXT,
    resource_raw TEXT)"""

Json = dict[str, Any]


@dataclass
class Older:
    """What a made database should become.

    Attributes:
        path: The file.
        rows: For each version and image, what the tables should say.
        naming: The versions and images whose row names the version as its checkpoint.
        no_prompt: Images that have none.
        broken: The rows that cannot be read, by their place.
    """

    path: Path
    rows: dict[tuple[int, int], Json] = field(default_factory=dict)
    naming: set[tuple[int, int]] = field(default_factory=set)
    no_prompt: set[tuple[int, int]] = field(default_factory=set)
    broken: set[int] = field(default_factory=set)


@dataclass(frozen=True)
class Release:
    """What a release of the older tool wrote."""

    has_versions: bool = True
    has_resources: bool = True


def make_older(
    path: Path,
    *,
    rows: int = 60,
    seed: int = 1,
    first_image: int = 1000,
    release: Release | None = None,
    versions: Sequence[int] = VERSIONS,
    breaks: bool = True,
    rows_a_second: int = 3,
) -> Older:
    """Makes a database of ``rows`` rows, most of them sound, and says what should come of it."""
    release = release or Release()
    made, rng = Older(path), random.Random(seed)  # noqa: S311 - a repeatable example, no secret
    with closing(sqlite3.connect(path)) as connection, connection:
        column = " model_version_id TEXT," if release.has_versions else ""
        connection.execute(_PROMPTS.format(version=column))
        connection.executescript(_OTHERS)
        if release.has_resources:
            connection.execute(_RESOURCES)
        for place in range(1, rows + 1):
            at = START + timedelta(seconds=place // rows_a_second)
            row = _Row(rng, place, first_image + place, rng.choice(list(versions)), at, breaks=breaks)
            row.write(connection, release)
            row.expect(made, release)
        for version in versions:
            # Each version under two keys, and as one that was never finished.
            for model, status in (("", "idle"), (str(version), "running")):
                connection.execute(
                    "INSERT INTO collection_state (model_id, version_id, last_offset, status, planned_total) "
                    "VALUES (?, ?, 1000, ?, 10000000)",
                    (model, str(version), status),
                )
    return made


class _Row:
    """One row, drawn from the ways in which the older tool wrote rows."""

    def __init__(
        self, rng: random.Random, place: int, image_id: int, version: int, at: datetime, *, breaks: bool
    ) -> None:
        self.place, self.image_id, self.version, self.at = place, image_id, version, at
        self.civitai_id: str | None = str(image_id)
        self.prompt = f'{" ".join(rng.sample(WORDS, 4))}, it\'s "{place}" <lora:Kite {place}:0.7>'
        self.full_prompt = self.prompt
        self.negative = rng.choice(["", "blurry, 朝霧"])
        self.stats = dict.fromkeys(("cryCount", "laughCount", "dislikeCount"), 0)
        self.stats |= {"likeCount": rng.randrange(9), "heartCount": 1, "commentCount": rng.randrange(3)}
        self.checkpoint = {"type": "checkpoint", "modelVersionId": version, "modelVersionName": "v1"}
        self.resource_raw = rng.choice([json.dumps(self.checkpoint), str(self.checkpoint), ""])
        self.shape = rng.choice(["json", "json", "repr", "repr", "empty", "no meta"])
        self.model_id = rng.choice([str(version), "", str(MODEL)])
        if self.shape == "empty":
            self.model_id = str(version)
        if place % 13 == 0:
            self.shape, self.full_prompt = "no prompt", ""
        item = self._item()
        self.raw: str | None = {
            "json": json.dumps(item),
            "repr": str(item),
            "empty": rng.choice(["", None]),
            "no meta": json.dumps({**item, "meta": None}),
            "no prompt": json.dumps({**item, "meta": {"steps": 3}}),
        }[self.shape]
        if breaks and place % 17 == 0:
            self.shape, self.raw = "broken", rng.choice(BROKEN)
        if breaks and place % 29 == 0:
            self.shape, self.civitai_id = "broken", rng.choice([None, f"abc{place}", f"-{place}"])

    def _item(self) -> Json:
        return {
            "id": self.image_id,
            "url": f"https://image.civitai.com/a/{self.image_id}.jpeg",
            "createdAt": "2025-08-01T09:15:30.123Z",
            "nsfw": False,
            "stats": self.stats,
            "meta": {
                "prompt": self.prompt,
                "negativePrompt": self.negative,
                "steps": 20,
                "civitaiResources": [self.checkpoint],
            },
            "username": None,
            "modelVersionIds": [self.version],
        }

    def write(self, connection: sqlite3.Connection, release: Release) -> None:
        columns: Json = {
            "id": self.place,
            "civitai_id": self.civitai_id,
            "full_prompt": self.full_prompt,
            "negative_prompt": self.negative,
            "quality_score": 7,
            "reaction_count": 0,
            "comment_count": self.stats["commentCount"],
            "download_count": 0,
            "prompt_length": len(self.prompt),
            "tag_count": 3,
            "model_name": NAME,
            "model_id": self.model_id,
            "collected_at": f"{self.at:%Y-%m-%d %H:%M:%S}",
            "raw_metadata": self.raw,
        }
        if release.has_versions:
            columns["model_version_id"] = str(self.version)
        _insert(connection, "civitai_prompts", columns)
        category = {"prompt_id": self.place, "category": "NSFW", "keywords": "[]", "confidence": 0.0}
        _insert(connection, "prompt_categories", category)
        if release.has_resources:
            resource = {
                "prompt_id": self.place,
                "resource_index": 0,
                "resource_type": "checkpoint",
                "resource_name": NAME,
                "resource_model_id": "",
                "resource_model_version_id": str(self.version),
                "resource_id": "",
                "resource_raw": self.resource_raw,
            }
            _insert(connection, "prompt_resources", resource)

    def expect(self, made: Older, release: Release) -> None:
        if self.shape == "broken":
            made.broken.add(self.place)
            return
        if self.shape == "no prompt":
            made.no_prompt.add((self.version, self.image_id))
            return
        has_meta, has_stats = self.shape in {"json", "repr"}, self.shape != "empty"
        comments = self.stats["commentCount"]
        made.rows[self.version, self.image_id] = {
            "prompt": self.prompt,
            "negative_prompt": self.negative if self.negative or has_meta else None,
            # What the older tool wrote in its columns says nothing where it is a zero.
            "like_count": self.stats["likeCount"] if has_stats else None,
            "reaction_count": self.stats["likeCount"] + 1 if has_stats else None,
            "comment_count": comments if has_stats else comments or None,
            "steps": 20 if has_meta else None,
            "first_seen_at": self.at,
            "last_seen_at": self.at,
        }
        if has_meta or (self.shape == "empty" and release.has_resources):
            made.naming.add((self.version, self.image_id))


def _insert(connection: sqlite3.Connection, table: str, columns: Json) -> None:
    names, marks = ", ".join(columns), ", ".join("?" * len(columns))
    connection.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", list(columns.values()))  # noqa: S608 - our own names

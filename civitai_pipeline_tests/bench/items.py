"""Items in the manner of real ones, any number of them, from a seed; and a ledger filled with them.

Half of the prompts are lists of some 40 comma tags, the others sentences or both; the words follow a Zipf law, one
prompt in ten repeats another to the letter and one in ten with a tag changed, authors and LoRAs are a few prolific
ones and many rare ones, and the metadata comes in the shapes of three tools. The words are made up or the taxonomy's
own.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from random import Random
from typing import TYPE_CHECKING, Any

import orjson

from civitai_pipeline.lake.ledger import Ledger
from civitai_pipeline.lake.pages import LandedPage, Options, PageId
from civitai_pipeline.prompts.taxonomy import load_taxonomy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from civitai_pipeline.lake.paths import Lake

Json = dict[str, Any]

VERSION = 910011
PAGE_SIZE = 200
START = datetime(2025, 1, 6, tzinfo=UTC)

_SYLLABLES = [
    "ka",
    "ro",
    "mi",
    "ten",
    "vel",
    "du",
    "sha",
    "lin",
    "or",
    "bas",
    "qui",
    "na",
    "tor",
    "el",
    "fi",
    "gra",
    "sun",
    "mo",
    "ped",
    "ri",
]
_ARTICLES = ("a", "the", "her", "his", "one", "this")
_LINKS = ("with", "under", "beside", "and", "over", "in front of", "holding", "near", "behind", "looking at")
_SAMPLERS = ("Euler a", "DPM++ 2M Karras", "DPM++ SDE", "DDIM", "UniPC", "euler_ancestral")
_SIZES = ((512, 768), (832, 1216), (1024, 1024), (1216, 832), (896, 1152))


class _Zipf:
    """Draws from ``things``, the first often and the last rarely."""

    def __init__(self, things: list[Any]) -> None:
        self._things = things
        self._weights = list(accumulate(1 / (rank + 8) for rank in range(len(things))))

    def draw(self, random: Random, count: int) -> list[Any]:
        return random.choices(self._things, cum_weights=self._weights, k=count)


@dataclass
class Items:
    """An endless supply of items.

    Attributes:
        seed: Equal seeds give equal items.
    """

    seed: int = 1

    def __post_init__(self) -> None:
        self._random = random = Random(self.seed)  # noqa: S311 - not a secret
        nouns = ["".join(random.choices(_SYLLABLES, k=random.randint(2, 4))) for _ in range(20_000)]
        phrases = sorted(phrase for phrase in load_taxonomy().phrases if phrase.isascii())
        random.shuffle(phrases)
        pairs = [f"{random.choice(nouns)} {random.choice(nouns)}" for _ in range(20_000)]
        # One tag in three or so is in the taxonomy, as in real lists.
        mixed = [word for group in zip(phrases * 8, nouns, pairs, strict=False) for word in group]
        self._tags = _Zipf(mixed)
        self._words = _Zipf([word for tag in mixed[:9000] for word in tag.split()])
        self._authors = _Zipf([f"author_{number}" for number in range(8000)])
        self._loras = _Zipf(
            [(f"{random.choice(nouns)}_v{n % 7}", f"{random.getrandbits(48):012x}", 100_000 + n) for n in range(3000)]
        )
        self._recent: list[str] = ["a kite"]
        self._made = 0

    def draw(self, count: int) -> Iterator[Json]:
        """The next ``count`` items."""
        for _ in range(count):
            self._made += 1
            yield self._item(self._made)

    def _item(self, number: int) -> Json:
        random = self._random
        width, height = random.choice(_SIZES)
        made = START + timedelta(minutes=number)
        return {
            "id": 50_000_000 + number * 3 + random.randint(0, 2),
            "url": f"https://image.example/{random.getrandbits(64):016x}/original=true/{number}.jpeg",
            "hash": f"U{random.getrandbits(120):030x}",
            "width": width,
            "height": height,
            "nsfwLevel": random.choice(("None", "None", "Soft", "Mature")),
            "type": "image",
            "nsfw": False,
            "browsingLevel": random.choice((1, 1, 1, 2, 4)),
            "createdAt": made.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "postId": 9_000_000 + number // 3,
            "stats": {
                "cryCount": random.randint(0, 2),
                "laughCount": random.randint(0, 3),
                "likeCount": int(random.expovariate(0.1)),
                "dislikeCount": 0,
                "heartCount": int(random.expovariate(0.2)),
                "commentCount": random.randint(0, 1),
            },
            "meta": None if random.random() < 0.06 else self._meta(),
            "username": self._authors.draw(random, 1)[0],
            "baseModel": "SDXL 1.0",
            "modelVersionIds": [VERSION],
        }

    def _meta(self) -> Json:
        random = self._random
        prompt = self._prompt()
        loras = self._loras.draw(random, random.choice((0, 1, 1, 2, 3)))
        common: Json = {
            "prompt": prompt,
            "negativePrompt": ", ".join(self._tags.draw(random, random.choice((0, 5, 12)))),
            "cfgScale": random.choice((4, 5, 6.5, 7)),
            "steps": random.choice((20, 25, 28, 30, 40)),
            "sampler": random.choice(_SAMPLERS),
            "seed": random.getrandbits(32),
        }
        shape = random.random()
        if shape < 0.45:
            tags = "".join(f" <lora:{name}:0.{random.randint(4, 9)}>" for name, _, _ in loras)
            hashes = {"model": "0a1b2c3d4e"} | {f"lora:{name}": digest for name, digest, _ in loras}
            resources = [{"type": "lora", "name": n, "weight": 0.7, "hash": h} for n, h, _ in loras]
            return common | {
                "prompt": prompt + tags,
                "Size": "832x1216",
                "Model": "kiteMix_v2",
                "Model hash": "0a1b2c3d4e",
                "Version": "v1.9.0",
                "Clip skip": "2",
                "hashes": hashes,
                "resources": [*resources, {"type": "model", "name": "kiteMix_v2", "hash": "0a1b2c3d4e"}],
            }
        if shape < 0.8:
            used = [{"type": "lora", "weight": 0.8, "modelVersionId": version} for _, _, version in loras]
            named = [{"type": "checkpoint", "modelVersionId": VERSION}, *used]
            return common | {"clipSkip": 2, "workflow": "txt2img", "civitaiResources": named, "resources": []}
        if shape < 0.95:
            files = [{"name": f"{name}.safetensors", "type": "lora", "strength": 0.7} for name, _, _ in loras]
            return common | {
                "scheduler": "normal",
                "models": ["kiteMix_v2.safetensors"],
                "additionalResources": files,
                "comfy": _graph(prompt, loras),
            }
        return {"comfy": _graph(prompt, loras)}

    def _prompt(self) -> str:
        random = self._random
        draw = random.random()
        if draw < 0.1:
            return random.choice(self._recent)
        if draw < 0.2:
            parts = random.choice(self._recent).split(", ")
            parts[random.randrange(len(parts))] = self._tags.draw(random, 1)[0]
            prompt = ", ".join(parts)
        elif draw < 0.6:
            prompt = ", ".join(self._weighted(tag) for tag in self._tags.draw(random, random.randint(20, 58)))
        elif draw < 0.8:
            prompt = " ".join(self._sentence() for _ in range(random.randint(3, 8)))
        else:
            prompt = f"{self._sentence()} " + ", ".join(self._tags.draw(random, random.randint(8, 30)))
        if len(self._recent) < 2_000:
            self._recent.append(prompt)
        else:
            self._recent[random.randrange(2_000)] = prompt
        return prompt

    def _weighted(self, tag: str) -> str:
        draw = self._random.random()
        if draw < 0.06:
            return f"({tag}:1.{self._random.randint(1, 5)})"
        return tag.replace(" ", "_") if draw < 0.1 else tag

    def _sentence(self) -> str:
        random = self._random
        words = self._words.draw(random, random.randint(8, 20))
        for place in range(2, len(words), 4):
            words[place] = random.choice(_LINKS) if place % 8 else random.choice(_ARTICLES)
        return " ".join(words).capitalize() + "."


def _graph(prompt: str, loras: list[tuple[str, str, int]]) -> str:
    nodes: Json = {
        "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "kiteMix_v2.safetensors"}},
        "2": {"class_type": "CLIPTextEncode", "inputs": {"text": prompt, "clip": ["1", 1]}},
        "3": {"class_type": "CLIPTextEncode", "inputs": {"text": "blurry", "clip": ["1", 1]}},
        "4": {
            "class_type": "KSampler",
            "inputs": {
                "seed": 7, "steps": 28, "cfg": 5.5, "sampler_name": "euler", "scheduler": "normal",
                "positive": ["2", 0], "negative": ["3", 0], "model": ["1", 0],
            },
        },
    }  # fmt: skip
    for number, (name, _, _) in enumerate(loras, start=5):
        nodes[str(number)] = {
            "class_type": "LoraLoader",
            "inputs": {"lora_name": f"{name}.safetensors", "strength_model": 0.7},
        }
    return orjson.dumps({"prompt": nodes, "workflow": {}}).decode()


def land(lake: Lake, items: Items, count: int) -> None:
    """Lands the next ``count`` items as pages of walk 1."""
    ledger = Ledger(lake, VERSION)
    first = ledger.page_count(1) + 1
    for number in range(first, first + -(-count // PAGE_SIZE)):
        page = list(items.draw(min(PAGE_SIZE, count - (number - first) * PAGE_SIZE)))
        metadata = {"nextCursor": f"{number}|{number}"}
        envelope = LandedPage(
            id=PageId(1, number),
            model_version_id=VERSION,
            sequence=number,
            run_id="benchmark",
            listing={"model_version_id": VERSION, "sort": "Oldest", "browsing_level": 31},
            cursor=None if number == 1 else f"{number - 1}|{number - 1}",
            url="http://127.0.0.1/api/v1/images",
            options=Options(),
            fetched_at=START + timedelta(days=400, seconds=number),
            elapsed_s=0.5,
            items=[],
            metadata=metadata,
        )
        ledger.land(envelope, orjson.dumps({"items": page, "metadata": metadata}))

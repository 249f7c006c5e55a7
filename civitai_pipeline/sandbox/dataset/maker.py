"""One synthetic image at a time: who posted it, what it says, how it was received, what is odd about it.

Puts together prompts (``prompts.py``) and metadata (``metadata.py``). How many images, and when, is decided
in ``__init__.py``.
"""

from __future__ import annotations

import uuid
from random import Random
from typing import TYPE_CHECKING, cast

from civitai_pipeline.sandbox.dataset.metadata import GENERATORS, Task, chance, size
from civitai_pipeline.sandbox.dataset.models import CHECKPOINTS, LORA_VERSIONS
from civitai_pipeline.sandbox.dataset.prompts import PromptWriter, vocabulary
from civitai_pipeline.sandbox.images import Image, iso, split

if TYPE_CHECKING:
    from civitai_pipeline.sandbox.dataset.metadata import Meta

_DAY_MS = 86_400_000
_NSFW_NAMES = {1: "None", 2: "Soft", 4: "Mature"}
_PROLIFIC_AUTHORS = 45
# Prompts a new image may repeat: the recent ones, as authors do.
_REMEMBERED_PROMPTS = 5000
_OVERSIZED_BYTES = 300_000
# Rare, and yet in every dataset of a thousand images.
_OVERSIZED_EVERY, _OVERSIZED_FIRST = 1500, 700
# Which gallery an image is also posted to, where it is posted to two; 910011 for the others.
_ALSO_LISTED = {910011: 910012}
_TAGS = (
    (4, "landscape"), (5, "portrait"), (81, "animal"), (172, "food"), (292, "city"), (414, "night"), (1445, "fantasy"),
    (2309, "robot"), (3060, "watercolor"), (4115, "photography"), (5133, "woman"), (5232, "man"), (6594, "outdoors"),
)  # fmt: skip
_EXTENSIONS = {"image": "jpeg", "video": "mp4", "audio": "mp3"}


class ImageMaker:
    """Composes images from a seed; the same calls give the same images.

    Args:
        seed: Any integer.
        end_ms: The dataset's last day, which engagement's age is measured from.
    """

    def __init__(self, seed: int, end_ms: int) -> None:
        self.random = Random(seed)  # noqa: S311 - reproducible data, no secret
        self.end_ms = end_ms
        self.writer = PromptWriter(self.random)
        self._recent: list[tuple[str, str]] = []
        self._authors = [self._author_name() for _ in range(_PROLIFIC_AUTHORS)]
        # Rank r posts about 1/r as much as rank 1.
        self._author_shares = [1 / (rank + 1) for rank in range(_PROLIFIC_AUTHORS)]
        self._generators = [write for write, _ in GENERATORS.values()]
        self._generator_shares = [share for _, share in GENERATORS.values()]
        self._post = 16_000_000
        self._made = 0

    def makes(self, version_id: int) -> bool:
        """Whether images of this version can be composed: it has to be one of the checkpoints."""
        return version_id in CHECKPOINTS

    def image(self, image_id: int, version_id: int, at_ms: int) -> Image:
        """A new image of a version.

        Args:
            image_id: Its id.
            version_id: The version it was made with or posted to.
            at_ms: Its sort time, milliseconds since 1970.
        """
        random = self.random
        self._made += 1
        author = self._author()
        level = random.choices((1, 2, 4), (84, 11, 5))[0]
        media = random.choices(("image", "video", "audio"), (982, 16, 2))[0]
        width, height = size(random)
        loras = [random.choice(LORA_VERSIONS) for _ in range(random.choices((0, 1, 2, 3), (50, 30, 15, 5))[0])]
        loras = list(dict.fromkeys(loras))
        meta = self._meta(version_id, author, (width, height), loras, at_ms)
        versions, detected = self._links(version_id, loras if meta and "civitaiResources" in meta else [])
        if not chance(random, 0.4):
            self._post += random.randint(1, 40)
        stats = self._stats(at_ms)
        name = str(uuid.UUID(int=random.getrandbits(128), version=4))
        item: dict[str, object] = {
            "id": image_id,
            "url": f"https://image.civitai.com/sandbox/{name}/original=true/{name}.{_EXTENSIONS[media]}",
            "hash": None if chance(random, 0.03) else "U" + name.replace("-", "")[:27],
            "width": None if media == "audio" else width,
            "height": None if media == "audio" else height,
            "nsfwLevel": _NSFW_NAMES[level],
            "type": media,
            "nsfw": level != 1,
            "browsingLevel": level,
            "createdAt": iso(at_ms),
            "postId": self._post,
            "stats": stats,
            "meta": meta,
            "username": author or "unknown",
            "baseModel": self._base_model(detected),
            "modelVersionIds": detected,
        }
        head, meta_json, tail = split(item)
        image = Image(
            id=image_id,
            head=head,
            meta=meta_json,
            tail=tail,
            sort_ms=at_ms,
            versions=versions,
            level=level,
            media=media,
            username=author,
            post_id=self._post,
            base_model=str(item["baseModel"]) if item["baseModel"] is not None else None,
            tags=tuple(random.sample(_TAGS, random.randint(0, 3))),
            # Scanning and publishing come after the upload, sometimes days after.
            uploaded_ms=at_ms
            - (random.randrange(3 * _DAY_MS) if chance(random, 0.1) else random.randrange(1000, 60_000)),
            checkpoint_base=self._true_base(version_id),
            meta_hidden=meta is not None and chance(random, 0.03),
        )
        image.read_counts(item)
        return image

    # -- prompt and metadata

    def _meta(
        self, version_id: int, author: str | None, pixels: tuple[int, int], loras: list[int], at_ms: int
    ) -> Meta | None:
        random = self.random
        flaw = random.choices((None, "null", "empty", "no_prompt", "blank"), (894, 70, 8, 18, 10))[0]
        if flaw == "null":
            return None
        if flaw == "empty":
            return {}
        prompt = self._prompt(author or "")
        negative = self.writer.negative() if chance(random, 0.7) else ""
        task = Task(prompt, negative, CHECKPOINTS[version_id], pixels, loras, at_ms)
        write = random.choices(self._generators, self._generator_shares)[0]
        meta = write(random, task)
        if flaw == "no_prompt":
            del meta["prompt"]
        elif flaw == "blank":
            meta["prompt"] = random.choice(("", " ", "\n", "   \t"))
        if self._made % _OVERSIZED_EVERY == _OVERSIZED_FIRST:
            meta["comfy"] = '{"prompt": {}, "workflow": {"note": "' + "layer " * (_OVERSIZED_BYTES // 6) + '"}}'
        return meta

    def _prompt(self, author: str) -> str:
        random = self.random
        repeat = random.choices(("no", "equal", "equal once normalised", "nearly equal"), (85, 6, 3, 6))[0]
        if repeat != "no" and self._recent:
            theirs = [prompt for name, prompt in self._recent[-60:] if name == author]
            earlier = random.choice(theirs) if theirs else random.choice(self._recent)[1]
            if repeat == "equal":
                return earlier
            return self.writer.same_text(earlier) if repeat != "nearly equal" else self.writer.near_text(earlier)
        prompt = self.writer.prompt()
        self._recent.append((author, prompt))
        if len(self._recent) > _REMEMBERED_PROMPTS:
            del self._recent[: _REMEMBERED_PROMPTS // 2]
        return prompt

    # -- author, links, engagement

    def _author(self) -> str | None:
        if chance(self.random, 0.006):
            return None
        if chance(self.random, 0.55):
            return self.random.choices(self._authors, self._author_shares)[0]
        return self._author_name()

    def _author_name(self) -> str:
        words = cast("dict[str, list[str]]", vocabulary()["shared"])
        random = self.random
        name = random.choice(words["authors_first"]) + random.choice(("_", "")) + random.choice(words["authors_second"])
        return name if chance(random, 0.3) else f"{name}{random.randint(1, 999)}"

    def _links(self, version_id: int, loras: list[int]) -> tuple[tuple[int, ...], list[int]]:
        """The galleries that list an image, and the versions its resources were recognised as."""
        random = self.random
        linked = [version_id]
        if chance(random, 0.045):
            linked.append(_ALSO_LISTED.get(version_id, 910011))
        galleries = tuple(linked + loras)
        detected = [*linked, *loras]
        if chance(random, 0.09):
            # Posted to the gallery or linked by hand, but not recognised.
            detected.remove(version_id)
        return galleries, detected

    def _true_base(self, version_id: int) -> str:
        return "Illustrious" if CHECKPOINTS[version_id].base_model == "Illustrious" else "SDXL 1.0"

    def _base_model(self, detected: list[int]) -> str | None:
        if not detected:
            return ""
        bases = [self._true_base(version) for version in detected if version in CHECKPOINTS]
        if not bases:
            return None
        # All checkpoints' base models run together, as the search index holds them.
        return "".join(bases)

    def _stats(self, at_ms: int) -> dict[str, int]:
        random = self.random
        age_days = max(0.0, (self.end_ms - at_ms) / _DAY_MS)
        reach = 0.25 + min(1.0, age_days / 45)
        reactions = 0 if chance(random, 0.12) else int(min(4000.0, random.paretovariate(0.95) * 2.2 * reach))
        likes = min(reactions, round(reactions * random.uniform(0.4, 0.9)))
        rest = reactions - likes
        hearts = int(rest * random.uniform(0.5, 1.0))
        laughs = (rest - hearts) // 2
        return {
            "cryCount": rest - hearts - laughs,
            "laughCount": laughs,
            "likeCount": likes,
            "dislikeCount": 0,
            "heartCount": hearts,
            "commentCount": int(random.paretovariate(1.6)) - 1,
        }

"""What the stand-in knows: models, versions and images, and how they change while it runs.

A world holds data and answers "which images, in which order"; it knows no HTTP. Parameters, cursors and
pages are in ``listing.py``; the synthetic dataset in ``dataset/``.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from civitai_pipeline.sandbox.catalog import Model, ModelFile, Version
from civitai_pipeline.sandbox.images import Image, from_item, iso

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from civitai_pipeline.sandbox.dataset import ImageMaker

# 2026-11-01T00:00:00Z. A fixed day keeps every dataset the same for its seed.
REFERENCE_MS = 1_793_491_200_000
# Time between two images added to a running world: about what a popular version sees.
_ARRIVAL_MS = 37_000
# Old listings cost memory; a walk needs one, a busy test a few.
_KEPT_LISTINGS = 64


@dataclass
class World:
    """The data of one stand-in. All methods may be called from any thread.

    Attributes:
        models: Models by id.
        versions: Versions by id; the order within a model is its creator's order.
        images: All images, in the order they came.
        now_ms: The world's clock, milliseconds since 1970: it stands still until images are added.
        maker: Composes images added while running; None for worlds from files and lists, which repeat theirs.
    """

    models: dict[int, Model] = field(default_factory=dict)
    versions: dict[int, Version] = field(default_factory=dict)
    images: list[Image] = field(default_factory=list)
    now_ms: int = REFERENCE_MS
    maker: ImageMaker | None = None
    lock: threading.RLock = field(default_factory=threading.RLock, repr=False)

    def __post_init__(self) -> None:
        self._by_id: dict[int, list[Image]] = {}
        self._last_id = 0
        self._galleries: dict[int, list[Image]] = {version: [] for version in self.versions}
        self._listings: dict[object, list[Image]] = {}
        for image in self.images:
            self._index(image)

    # -- where worlds come from

    @classmethod
    def synthetic(cls, seed: int = 1, images: int = 4000, reference_ms: int = REFERENCE_MS) -> World:
        """The seeded dataset: the same seed and count give the same world, byte for byte.

        Args:
            seed: Any integer.
            images: How many images over all versions.
            reference_ms: The day the data ends, milliseconds since 1970.
        """
        from civitai_pipeline.sandbox.dataset import build_world  # noqa: PLC0415 - the dataset imports this module

        return build_world(seed=seed, images=images, reference_ms=reference_ms)

    @classmethod
    def from_items(cls, items: Iterable[object], model_version_id: int = 910011, model_id: int = 9001) -> World:
        """A world of one version whose gallery is exactly these items, whatever JSON they are.

        In the Feed path the list's order is that of ``Oldest``. An item without a readable ``browsingLevel``
        or ``type`` passes every filter on them.
        """
        world = cls()
        world.add_version(model_id, model_version_id)
        for item in items:
            world.insert(item, model_version_id, available_at_once=True)
        return world

    @classmethod
    def from_jsonl(cls, path: str | Path) -> World:
        """A world from a file with one API-shaped item a line, listed under its ``modelVersionIds``.

        Raises:
            SandboxError: The file cannot be read, or a line is not such an item; the message names the line.
        """
        from civitai_pipeline.sandbox.files import read_items  # noqa: PLC0415 - that module builds worlds

        return read_items(path)

    # -- changing while the server runs

    def add_version(
        self, model_id: int, version_id: int, *, model: Model | None = None, version: Version | None = None
    ) -> None:
        """Makes a version known, with its model if that is new.

        Args:
            model_id: The model's id.
            version_id: The version's id.
            model: What to say of the model; something plain by default.
            version: What to say of the version; something plain by default.
        """
        with self.lock:
            if model is not None or model_id not in self.models:
                self.models[model_id] = model or Model(model_id, f"Model {model_id}", "Checkpoint")
            self.versions[version_id] = version or Version(
                version_id,
                model_id,
                f"version {version_id}",
                "SDXL 1.0",
                REFERENCE_MS - 800 * 86_400_000,
                files=(
                    ModelFile(
                        version_id * 10,
                        f"model_{version_id}.safetensors",
                        6_775_430.3,
                        {"AutoV2": f"{version_id:010X}"},
                    ),
                ),
            )
            self._galleries.setdefault(version_id, [])

    def remove_version(self, version_id: int) -> None:
        """Unpublishes a version: look-ups say 404. Its images stay listed elsewhere."""
        with self.lock:
            self.versions[version_id] = replace(self.versions[version_id], published=False)
            self._changed()

    def add_images(self, version_id: int, n: int) -> list[int]:
        """Adds n new images to a version's gallery, newest last.

        Returns:
            Their ids. Where the maker does not know the version, items of its gallery come again under new ids.

        Raises:
            KeyError: There is no such version.
        """
        with self.lock:
            return [self._add_image(version_id) for _ in range(n)]

    def _add_image(self, version_id: int) -> int:
        self.now_ms += _ARRIVAL_MS
        new_id = self._last_id + 1
        if self.maker is not None and self.maker.makes(version_id):
            image = self.maker.image(new_id, version_id, self.now_ms)
            image.available_s = time.time()
        else:
            gallery = self._galleries[version_id]
            item = gallery[len(gallery) // 2].item() if gallery else None
            fields = item if isinstance(item, dict) else {"meta": None, "modelVersionIds": [version_id]}
            copy = {**fields, "id": new_id, "createdAt": iso(self.now_ms)}
            image = from_item(
                copy, position=new_id, versions=[version_id], sort_ms=self.now_ms, raw=True, available_s=time.time()
            )
        self.images.append(image)
        self._index(image)
        self._changed()
        return new_id

    def insert(self, item: object, version_id: int, *, available_at_once: bool = False) -> None:
        """Adds an item, served exactly as given, as the newest of a version's gallery.

        Args:
            item: Any JSON value.
            version_id: The gallery.
            available_at_once: Show it even where the published filter would hold a new image back.
        """
        with self.lock:
            self.now_ms += _ARRIVAL_MS
            image = from_item(
                item,
                position=len(self.images) + 1,
                versions=[version_id],
                sort_ms=self.now_ms,
                raw=True,
                available_s=0.0 if available_at_once else time.time(),
            )
            self.images.append(image)
            self._index(image)
            self._changed()

    def place(self, images: Iterable[Image]) -> None:
        """Adds images that were made elsewhere."""
        with self.lock:
            for image in images:
                self.images.append(image)
                self._index(image)
                self.now_ms = max(self.now_ms, image.sort_ms)
            self._changed()

    def delete_image(self, image_id: int) -> None:
        """Removes an image from every gallery.

        Raises:
            KeyError: No image has this id.
        """
        with self.lock:
            gone = self._by_id.pop(image_id)
            self.images = [image for image in self.images if image.id != image_id]
            for version in {version for image in gone for version in image.versions}:
                self._galleries[version] = [image for image in self._galleries[version] if image.id != image_id]
            self._changed()

    def update_stats(
        self, image_id: int, *, like: int = 0, heart: int = 0, laugh: int = 0, cry: int = 0, comment: int = 0
    ) -> None:
        """Adds to an image's counts.

        Raises:
            KeyError: No image has this id.
        """
        added = {"likeCount": like, "heartCount": heart, "laughCount": laugh, "cryCount": cry, "commentCount": comment}

        def change(item: dict[str, object]) -> None:
            stats = item.get("stats")
            counts = dict(stats) if isinstance(stats, dict) else {}
            for key, more in added.items():
                counts[key] = counts.get(key, 0) + more
            item["stats"] = counts

        self._rewrite(image_id, change)

    def set_meta(self, image_id: int, meta: object) -> None:
        """Gives an image another ``meta``, as an uploader who edits it would.

        Raises:
            KeyError: No image has this id.
        """
        self._rewrite(image_id, lambda item: item.__setitem__("meta", meta))

    def hide_meta(self, image_id: int) -> None:
        """The uploader hides the prompt: listings say null from now on.

        Raises:
            KeyError: No image has this id.
        """
        with self.lock:
            for image in self._by_id[image_id]:
                image.meta_hidden = True
            self._changed()

    def _rewrite(self, image_id: int, change: Callable[[dict[str, object]], None]) -> None:
        with self.lock:
            for image in self._by_id[image_id]:
                item = image.item()
                if isinstance(item, dict):
                    change(item)
                    image.replace_item(item)
            self._changed()

    # -- reading

    def gallery(self, version_id: int | None) -> list[Image]:
        """The images listed under a version, or all of them for None; empty if there is no such version."""
        with self.lock:
            return list(self.images if version_id is None else self._galleries.get(version_id, []))

    def find(self, image_id: int) -> list[Image]:
        """The images of this id: one, unless a test put several there."""
        with self.lock:
            return list(self._by_id.get(image_id, []))

    def image_ids(self, version_id: int, level: int = 1, media: str | None = "image") -> list[int]:
        """The ids a complete Oldest walk of a version returns, in its order.

        Args:
            version_id: The version.
            level: The maturity bits asked for.
            media: The media type asked for, or None for all.
        """
        shown = [
            image
            for image in self.gallery(version_id)
            if (image.level is None or image.level & level) and (media is None or image.media in {None, media})
        ]
        return [image.id for image in sorted(shown, key=lambda image: (image.sort_ms, image.id))]

    def versions_of(self, model_id: int) -> list[Version]:
        """The published versions of a model in its creator's order: the latest first."""
        with self.lock:
            return [
                version
                for version in reversed(self.versions.values())
                if version.model_id == model_id and version.published
            ]

    def by_hash(self, digest: str) -> Version | None:
        """The published version with a file of this hash; of several the earliest, then the one of lowest id."""
        wanted = digest.upper()
        with self.lock:
            found = [
                version
                for version in self.versions.values()
                if version.published
                and any(wanted == value.upper() for file in version.files for value in file.hashes.values())
            ]
        return min(found, key=lambda version: (version.created_ms, version.id), default=None)

    def listing(self, key: object, build: Callable[[], list[Image]]) -> list[Image]:
        """What ``build`` gives, remembered under a key until the world changes."""
        with self.lock:
            if key not in self._listings:
                while len(self._listings) >= _KEPT_LISTINGS:
                    self._listings.pop(next(iter(self._listings)))
                self._listings[key] = build()
            return self._listings[key]

    def summary(self) -> Mapping[int, int]:
        """How many images each version's gallery lists."""
        with self.lock:
            return {version: len(gallery) for version, gallery in self._galleries.items()}

    def _index(self, image: Image) -> None:
        self._by_id.setdefault(image.id, []).append(image)
        self._last_id = max(self._last_id, image.id)
        for version in image.versions:
            self._galleries.setdefault(version, []).append(image)

    def _changed(self) -> None:
        self._listings.clear()

"""The seeded synthetic dataset: several galleries of safe-for-work images with prompts of every kind.

How many images, of which version, and when. A single image is ``maker.py``; words are ``vocabulary.toml``.
"""

from __future__ import annotations

from random import Random

from civitai_pipeline.sandbox.dataset.maker import ImageMaker
from civitai_pipeline.sandbox.dataset.metadata import chance
from civitai_pipeline.sandbox.dataset.models import (
    AGES_DAYS,
    DEMO_VERSIONS,
    EMPTY_VERSION,
    SHARED_FILE_HASH,
    models,
    versions,
)
from civitai_pipeline.sandbox.world import World

_DAY_MS = 86_400_000
# 2200, 1300 and 500 of the default 4000.
_SHARES = {910011: 0.55, 910012: 0.325, 920021: 0.125}
_FIRST_ID = 70_000_000


def build_world(seed: int, images: int, reference_ms: int) -> World:
    """The world of a seed; see :meth:`World.synthetic`."""
    random = Random(f"times-{seed}")  # noqa: S311 - reproducible data, no secret
    maker = ImageMaker(seed, reference_ms)
    world = World(
        models={model.id: model for model in models()},
        versions={version.id: version for version in versions(reference_ms)},
        now_ms=reference_ms,
        maker=maker,
    )
    world.place(
        maker.image(image_id, version_id, at_ms)
        for image_id, version_id, at_ms in _arrivals(random, images, reference_ms)
    )
    return world


def _arrivals(random: Random, images: int, end_ms: int) -> list[tuple[int, int, int]]:
    """Id, version and time of every image, in order of time; ids rise with it, with gaps."""
    counts = {version: int(images * share) for version, share in _SHARES.items()}
    counts[DEMO_VERSIONS[0]] += images - sum(counts.values())
    moments = [
        # Most come soon after a version does, then fewer and fewer, until an hour before the end.
        (end_ms - 3_600_000 - int((AGES_DAYS[version] * _DAY_MS - 7_200_000) * (1 - random.random() ** 1.4)), version)
        for version, count in counts.items()
        for _ in range(count)
    ]
    moments.sort()
    # A few images share their millisecond: ties are part of the API.
    moments = [
        (moments[n - 1][0] if n and chance(random, 0.002) else at_ms, version)
        for n, (at_ms, version) in enumerate(moments)
    ]
    arrivals = []
    image_id = _FIRST_ID
    for at_ms, version in moments:
        image_id += random.randint(2, 40)
        arrivals.append((image_id, version, at_ms))
    return arrivals


__all__ = ["DEMO_VERSIONS", "EMPTY_VERSION", "SHARED_FILE_HASH", "ImageMaker", "build_world"]

"""Items from a file: one API-shaped item a line becomes a world.

Reading and its errors only; the world itself is ``world.py``.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

from civitai_pipeline.sandbox.catalog import Model, ModelFile, Version
from civitai_pipeline.sandbox.images import Image, from_item, milliseconds
from civitai_pipeline.sandbox.options import SandboxError
from civitai_pipeline.sandbox.world import World

if TYPE_CHECKING:
    from collections.abc import Iterator

_AIR = re.compile(r"urn:air:[a-z0-9]+:([a-z]+):civitai:(\d+)@(\d+)", re.IGNORECASE)
_TYPES = {
    "checkpoint": "Checkpoint",
    "lora": "LORA",
    "embedding": "TextualInversion",
    "embed": "TextualInversion",
    "vae": "VAE",
    "upscaler": "Upscaler",
}
_FIRST_MODEL_ID = 5001


def read_items(path: str | Path) -> World:
    """The world of a file; see :meth:`World.from_jsonl`."""
    images: list[Image] = []
    types: dict[int, str] = {}
    owners: dict[int, int] = {}
    bases: dict[int, str | None] = {}
    for number, item in _lines(Path(path)):
        image = _image(item, number, f"{path}, line {number}")
        images.append(image)
        for version in image.versions:
            types.setdefault(version, "Other")
            bases.setdefault(version, image.base_model or None)
        types |= {version: kind for version, kind in _named_types(item) if version in types}
        for kind, model, version in _AIR.findall(json.dumps(item.get("meta"))):
            owners[int(version)] = int(model)
            if int(version) in types:
                types[int(version)] = _TYPES.get(kind.lower(), "Other")
    if not images:
        raise SandboxError(f"{path} holds no items")
    world = World(now_ms=max(image.sort_ms for image in images))
    free = _FIRST_MODEL_ID
    for version, kind in types.items():
        model = owners.get(version)
        while model is None or model in types:
            # No item says which model this version is of. A model id must not be a version id too.
            model, free = (free, free + 1) if free not in types and free not in owners.values() else (None, free + 1)
        world.add_version(
            model,
            version,
            model=Model(model, f"Model {model}", kind),
            version=_version(version, model, bases[version], world),
        )
    world.place(images)
    return world


def _lines(path: Path) -> Iterator[tuple[int, dict[str, object]]]:
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                if not line.strip():
                    continue
                try:
                    item: object = json.loads(line)
                except ValueError as error:
                    raise SandboxError(f"{path}, line {number}: not JSON: {error}") from error
                if not isinstance(item, dict):
                    raise SandboxError(f"{path}, line {number}: not an object but {type(item).__name__}")
                yield number, item
    except OSError as error:
        raise SandboxError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SandboxError(f"{path} is not UTF-8 text") from error


def _image(item: dict[str, object], position: int, where: str) -> Image:
    image_id, versions = item.get("id"), item.get("modelVersionIds")
    if not _is_id(image_id):
        raise SandboxError(f"{where}: 'id' is not a positive integer")
    if not isinstance(versions, list) or not all(_is_id(version) for version in versions):
        raise SandboxError(f"{where}: 'modelVersionIds' is not a list of positive integers")
    created_ms = milliseconds(item.get("createdAt"))
    if created_ms is None:
        raise SandboxError(f"{where}: 'createdAt' is not a time")
    if "meta" not in item:
        raise SandboxError(f"{where}: there is no 'meta'")
    return from_item(item, position=position, versions=list(dict.fromkeys(versions)), sort_ms=created_ms, raw=False)


def _named_types(item: dict[str, object]) -> Iterator[tuple[int, str]]:
    meta = item.get("meta")
    resources = meta.get("civitaiResources") if isinstance(meta, dict) else None
    for resource in resources if isinstance(resources, list) else []:
        if (
            isinstance(resource, dict)
            and _is_id(resource.get("modelVersionId"))
            and isinstance(resource.get("type"), str)
        ):
            yield resource["modelVersionId"], _TYPES.get(resource["type"].lower(), "Other")


def _version(version_id: int, model_id: int, base_model: str | None, world: World) -> Version:
    file = ModelFile(version_id * 10, f"model_{version_id}.safetensors", 223_110.5, {"AutoV2": f"{version_id:010X}"})
    return Version(
        version_id, model_id, f"version {version_id}", base_model, world.now_ms - 800 * 86_400_000, files=(file,)
    )


def _is_id(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0

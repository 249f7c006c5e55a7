"""Models, versions and files, and the bodies that describe them.

Records and their JSON, as ``/models/{id}``, ``/model-versions/{id}`` and the by-hash look-ups write them.
Status codes and errors of those endpoints are in ``endpoints.py``; images in ``images.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from civitai_pipeline.sandbox.images import decode, iso

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from civitai_pipeline.sandbox.images import Image

# The site's address, not the stand-in's: that is what the API writes into its bodies.
SITE = "https://civitai.com"
_ECOSYSTEMS = {
    "Illustrious": "sdxl",
    "Pony": "sdxl",
    "NoobAI": "sdxl",
    "SDXL 1.0": "sdxl",
    "SD 1.5": "sd1",
    "Flux.1 D": "flux1",
}
_SHOWCASE_OF_MODEL = 20
_SHOWCASE_OF_VERSION = 10


@dataclass(frozen=True)
class ModelFile:
    """A file of a version.

    Attributes:
        id: The file id.
        name: The file name.
        size_kb: The size in kilobytes.
        hashes: Hash type to upper-case hex.
    """

    id: int
    name: str
    size_kb: float
    hashes: dict[str, str]


@dataclass(frozen=True)
class Version:
    """A model version.

    Attributes:
        id: The version id.
        model_id: The model it belongs to.
        name: What its creator called it.
        base_model: The API's base model name, or None if unknown.
        created_ms: When it was made, milliseconds since 1970.
        trained_words: Trigger words.
        files: Its files; a version without any is left out of ``/models/{id}``, as the API does.
        level: Union of the maturity bits of its images.
        published: Unpublished versions are 404 everywhere.
    """

    id: int
    model_id: int
    name: str
    base_model: str | None
    created_ms: int
    trained_words: tuple[str, ...] = ()
    files: tuple[ModelFile, ...] = ()
    level: int = 1
    published: bool = True


@dataclass(frozen=True)
class Model:
    """A model.

    Attributes:
        id: The model id.
        name: Its name.
        type: The API's model type, such as ``Checkpoint`` or ``LORA``.
        creator: The creator's user name.
        tags: Its tags.
        description: HTML, or None.
    """

    id: int
    name: str
    type: str
    creator: str = "sandbox_creator"
    tags: tuple[str, ...] = ()
    description: str | None = None


def air(model: Model, version: Version) -> str:
    """The resource name (AIR) of a version."""
    ecosystem = _ECOSYSTEMS.get(version.base_model or "", "other")
    return f"urn:air:{ecosystem}:{model.type.lower()}:civitai:{model.id}@{version.id}"


def model_body(model: Model, versions: Sequence[Version], galleries: dict[int, list[Image]]) -> dict[str, object]:
    """The body of ``/models/{id}``.

    Args:
        model: The model.
        versions: Its visible versions in the creator's order.
        galleries: The showcase images of each version id.
    """
    level = 0
    for version in versions:
        level |= version.level
    return {
        "id": model.id,
        "name": model.name,
        "description": model.description,
        "type": model.type,
        "nsfw": False,
        "nsfwLevel": level,
        "poi": False,
        "minor": False,
        "sfwOnly": False,
        "allowNoCredit": True,
        "allowCommercialUse": "{Image,RentCivit}",
        "allowDerivatives": True,
        "allowDifferentLicense": True,
        "availability": "Public",
        "userId": 5,
        "baseModels": sorted({version.base_model for version in versions if version.base_model}),
        "cosmetic": None,
        "supportsGeneration": True,
        "stats": {
            "downloadCount": 1200 + model.id % 977,
            "thumbsUpCount": 130 + model.id % 89,
            "thumbsDownCount": 1,
            "commentCount": model.id % 17,
            "tippedAmountCount": 0,
        },
        "creator": {"username": model.creator, "image": None},
        "tags": list(model.tags),
        "modelVersions": [
            _stripped(_version_of_model(version, index, galleries.get(version.id, [])))
            for index, version in enumerate(versions)
        ],
    }


def _version_of_model(version: Version, index: int, images: list[Image]) -> dict[str, object]:
    return {
        "id": version.id,
        "index": index,
        "name": version.name,
        "baseModel": version.base_model,
        "baseModelType": "Standard",
        "createdAt": iso(version.created_ms),
        "publishedAt": iso(version.created_ms + 3_600_000),
        "status": "Published",
        "availability": "Public",
        "nsfwLevel": version.level,
        "description": None,
        "trainedWords": list(version.trained_words),
        "covered": True,
        "vaeId": None,
        "earlyAccessDeadline": None,
        "stats": {"downloadCount": 400 + version.id % 313, "thumbsUpCount": 40 + version.id % 37, "thumbsDownCount": 0},
        "files": [_file(file, version) | ({"primary": True} if n == 0 else {}) for n, file in enumerate(version.files)],
        "images": [_showcase(image) for image in images[:_SHOWCASE_OF_MODEL]],
        "downloadUrl": f"{SITE}/api/download/models/{version.id}",
    }


def version_body(model: Model, version: Version, images: Iterable[Image]) -> dict[str, object]:
    """The body of ``/model-versions/{id}`` and of the look-ups by hash."""
    return {
        "id": version.id,
        "modelId": version.model_id,
        "name": version.name,
        "nsfwLevel": version.level,
        "createdAt": iso(version.created_ms),
        "updatedAt": iso(version.created_ms + 86_400_000),
        "status": "Published",
        "publishedAt": iso(version.created_ms + 3_600_000),
        "trainedWords": list(version.trained_words),
        "trainingStatus": None,
        "trainingDetails": None,
        "baseModel": version.base_model,
        "baseModelType": "Standard",
        "description": None,
        "uploadType": "Created",
        "usageControl": "Download",
        "licensingFee": None,
        "paidAccess": None,
        "air": air(model, version),
        "stats": {"downloadCount": 400 + version.id % 313, "thumbsUpCount": 40 + version.id % 37},
        "model": {"name": model.name, "type": model.type, "nsfw": False, "poi": False},
        "files": [_file(file, version) | {"primary": n == 0} for n, file in enumerate(version.files)],
        "images": [
            # meta is sent even when the uploader hid it; hasMeta is what tells.
            _showcase(image) | {"metadata": None, "availability": "Public", "meta": _meta(image)}
            for image in list(images)[:_SHOWCASE_OF_VERSION]
        ],
        "downloadUrl": f"{SITE}/api/download/models/{version.id}",
    }


def _file(file: ModelFile, version: Version) -> dict[str, object]:
    return {
        "id": file.id,
        "name": file.name,
        "type": "Model",
        "sizeKB": file.size_kb,
        "metadata": {"format": "SafeTensor", "size": "pruned", "fp": "fp16"},
        "hashes": file.hashes,
        "pickleScanResult": "Success",
        "virusScanResult": "Success",
        "scannedAt": iso(version.created_ms + 600_000),
        "downloadUrl": f"{SITE}/api/download/models/{version.id}",
    }


def _meta(image: Image) -> object:
    return None if image.meta is None else decode(image.meta)


def _showcase(image: Image) -> dict[str, object]:
    item = image.item()
    fields = item if isinstance(item, dict) else {}
    meta = fields.get("meta")
    prompt = meta.get("prompt") if isinstance(meta, dict) else None
    return {
        "url": fields.get("url"),
        "nsfwLevel": image.level or 1,
        "width": fields.get("width"),
        "height": fields.get("height"),
        "hash": fields.get("hash"),
        "type": image.media,
        "minor": False,
        "poi": False,
        "hasMeta": meta is not None and not image.meta_hidden,
        "hasPositivePrompt": bool(prompt) and not image.meta_hidden,
        "onSite": isinstance(meta, dict) and "civitaiResources" in meta,
        "remixOfId": None,
    }


def _stripped(body: dict[str, object]) -> dict[str, object]:
    # /models/{id} alone drops nulls and empty arrays from its versions.
    return {key: value for key, value in body.items() if value is not None and value != []}

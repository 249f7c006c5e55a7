"""The models and versions of the synthetic dataset. Records only; its images come from ``maker.py``."""

from __future__ import annotations

from civitai_pipeline.sandbox.catalog import Model, ModelFile, Version
from civitai_pipeline.sandbox.dataset.metadata import Checkpoint, lora_digest
from civitai_pipeline.sandbox.dataset.prompts import lora_names

# The versions with a gallery worth collecting, largest first.
DEMO_VERSIONS = (910011, 910012, 920021)
# Published, with a file, and without a single image.
EMPTY_VERSION = 910013
_DAY_MS = 86_400_000

CHECKPOINTS = {
    910011: Checkpoint(910011, 9001, "harborLightXL_v1", "A1C0FFEE01", "sdxl", "SDXL"),
    910012: Checkpoint(910012, 9001, "harborLightXL_v2", "A1C0FFEE02", "sdxl", "SDXL"),
    910013: Checkpoint(910013, 9001, "harborLightXL_v3Preview", "A1C0FFEE03", "sdxl", "SDXL"),
    920021: Checkpoint(920021, 9002, "meridianAnime_v1", "B2D1CE5021", "sdxl", "Illustrious"),
}
# Days before the dataset's end on which each version came out.
AGES_DAYS = {910011: 730, 910012: 410, 910013: 2, 920021: 290}
LORA_VERSIONS = tuple(700101 + n for n in range(len(lora_names())))
# A VAE shipped with two versions: the look-up by hash has to choose.
SHARED_FILE_HASH = "5A5A5A5A00"


def models() -> list[Model]:
    """All models."""
    loras = [
        Model(8101 + n, name.replace("_", " ").title(), "LORA", "quiet_loom", ("style",))
        for n, name in enumerate(lora_names())
    ]
    return [
        Model(
            9001,
            "Harbor Light XL",
            "Checkpoint",
            "north_lantern",
            ("base model", "photorealistic"),
            "<p>Light, water and weather.</p>",
        ),
        Model(
            9002,
            "Meridian Anime",
            "Checkpoint",
            "paper_fox",
            ("anime", "illustration"),
            "<p>Clean lines, open skies.</p>",
        ),
        *loras,
    ]


def versions(end_ms: int) -> list[Version]:
    """All versions, in the order they came out within their model.

    Args:
        end_ms: The dataset's last day.
    """
    names = {910011: "v1.0", 910012: "v2.0", 910013: "v3 preview", 920021: "v1.0"}
    words = {9002: ("meridian style",)}
    bases = {9001: "SDXL 1.0", 9002: "Illustrious"}
    made = [
        Version(
            id=version_id,
            model_id=checkpoint.model_id,
            name=names[version_id],
            base_model=bases[checkpoint.model_id],
            created_ms=end_ms - AGES_DAYS[version_id] * _DAY_MS,
            trained_words=words.get(checkpoint.model_id, ()),
            files=_files(checkpoint),
            level=1 if version_id == EMPTY_VERSION else 7,
        )
        for version_id, checkpoint in CHECKPOINTS.items()
    ]
    for n, name in enumerate(lora_names()):
        digest = lora_digest(name).upper()
        made.append(
            Version(
                LORA_VERSIONS[n],
                8101 + n,
                "v1.0",
                "SDXL 1.0",
                end_ms - (720 - 20 * n) * _DAY_MS,
                (name.split("_")[0].lower(),),
                (ModelFile(51_000 + n, f"{name}.safetensors", 223_110.5, {"AutoV2": digest[:10], "AutoV3": digest}),),
            )
        )
    return made


def _files(checkpoint: Checkpoint) -> tuple[ModelFile, ...]:
    short = checkpoint.autov2
    own = ModelFile(
        checkpoint.version_id * 10,
        f"{checkpoint.name}.safetensors",
        6_775_430.3,
        {
            "AutoV1": short[:8],
            "AutoV2": short,
            "SHA256": (short * 7)[:64],
            "CRC32": short[2:],
            "BLAKE3": (short[::-1] * 7)[:64],
        },
    )
    if checkpoint.version_id not in {910011, 910012}:
        return (own,)
    return own, ModelFile(
        checkpoint.version_id * 10 + 1, "harbor_vae.safetensors", 326_800.0, {"AutoV2": SHARED_FILE_HASH}
    )

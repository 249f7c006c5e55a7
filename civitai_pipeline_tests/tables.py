"""The tables of a build, read into memory, and no file of it left behind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from civitai_pipeline.derive.prompt_tables import STEP_TABLES, build_prompt_tables
from civitai_pipeline.lake.tables import write_table

if TYPE_CHECKING:
    from collections.abc import Callable

    import pyarrow as pa

    from civitai_pipeline.lake.paths import Lake


@dataclass(frozen=True)
class Built:
    """What ``build_prompt_tables`` made."""

    prompts: pa.Table
    rejected_images: pa.Table
    landed_pages: pa.Table
    pages_added: int
    started_anew: bool

    def put_in_place(self, lake: Lake, version: int) -> None:
        """Writes the tables into the lake."""
        for table in STEP_TABLES:
            write_table(lake, table, version, getattr(self, table.name))

    def equals(self, other: Built, *, provenance: bool = False) -> bool:
        """Whether two builds made the same tables, to the last cell and, if asked, with the same provenance."""
        return all(
            getattr(self, table.name).equals(getattr(other, table.name), check_metadata=provenance)
            for table in STEP_TABLES
        )


def built_tables(
    lake: Lake, version: int, *, rebuild: bool = False, on_slab: Callable[[int, int], None] | None = None
) -> Built:
    """The tables of a version, brought up to its ledger and not written."""
    made = build_prompt_tables(lake, version, rebuild=rebuild, on_slab=on_slab)
    tables = {name: file.read() for name, file in made.files.items()}
    return Built(**tables, pages_added=made.pages_added, started_anew=made.started_anew)

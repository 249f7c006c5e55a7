"""The tables of a build, read into memory, and no file of it left behind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from civitai_pipeline.derive import prompt_categories, prompt_resources
from civitai_pipeline.derive.prompt_tables import STEP_TABLES, build_prompt_tables
from civitai_pipeline.lake.rows import HeldRows
from civitai_pipeline.lake.tables import conform, write_table

if TYPE_CHECKING:
    from collections.abc import Callable

    from civitai_pipeline.derive.provenance import Stream
    from civitai_pipeline.lake.paths import Lake
    from civitai_pipeline.prompts.categories import Categorizer


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


def whole(stream: Stream) -> pa.Table:
    """A table as it would be written, with its provenance."""
    empty = stream.table.arrow_schema.empty_table()
    parts = [conform(stream.table, part).replace_schema_metadata(None) for part in stream.parts]
    return stream.provenance.attached_to(pa.concat_tables([empty, *parts]))


def build_resources(prompts: pa.Table, lookups: pa.Table | None = None) -> pa.Table:
    """The table prompt_resources of some prompts."""
    return whole(prompt_resources.build_resources(HeldRows(prompts), lookups))


def build_categories(prompts: pa.Table, earlier: pa.Table | None, categorizer: Categorizer) -> pa.Table:
    """The table prompt_categories of some prompts."""
    held = None if earlier is None else HeldRows(earlier)
    return whole(prompt_categories.build_categories(HeldRows(prompts), held, categorizer))

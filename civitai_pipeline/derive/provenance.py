"""What a table that is made from another says of where it came from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from civitai_pipeline.lake import tables
from civitai_pipeline.lake.tables import Provenance, TableFile

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa

    from civitai_pipeline.lake.paths import Lake
    from civitai_pipeline.lake.schemas import Table


@dataclass(frozen=True)
class Stream:
    """A table that is made while it is written.

    Attributes:
        table: Which table it is.
        provenance: Where it comes from.
        parts: Its rows, with at least the declared columns, some thousands at a time; to be read once.
    """

    table: Table
    provenance: Provenance
    parts: Iterator[pa.Table]

    def stage(self, lake: Lake, version: int) -> TableFile:
        """Writes it under a temporary name.

        Raises:
            LakeError: The lake cannot be read or written.
        """
        return tables.stage_table(lake, self.table, version, self.parts, self.provenance)


def derived(origin: Provenance | None, code_version: str) -> Provenance:
    """Where a table came from that was made by ``code_version`` from one that came from ``origin``."""
    return Provenance(code_version, {}) if origin is None else replace(origin, code_version=code_version)


def finished(table: Table, data: pa.Table, origin: Provenance | None, code_version: str) -> pa.Table:
    """``data`` as ``table`` declares it, covering the pages that what it was made from, of ``origin``, covers.

    Raises:
        ValueError: A declared column is missing, or one of its values does not fit.
    """
    return derived(origin, code_version).attached_to(tables.conform(table, data))

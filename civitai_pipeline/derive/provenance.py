"""What a table that is made from another says of where it came from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from civitai_pipeline.lake import tables
from civitai_pipeline.lake.tables import Provenance

if TYPE_CHECKING:
    import pyarrow as pa

    from civitai_pipeline.lake.schemas import Table


def finished(table: Table, data: pa.Table, source: pa.Table, code_version: str) -> pa.Table:
    """``data`` as ``table`` declares it, covering the pages that ``source``, which it was made from, covers.

    Raises:
        ValueError: A declared column is missing, or one of its values does not fit.
    """
    origin = Provenance.of(source.schema)
    provenance = Provenance(code_version, {} if origin is None else origin.covered)
    return provenance.attached_to(tables.conform(table, data))

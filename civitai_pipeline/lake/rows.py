"""The rows of a table wherever they are, in a file or in memory, for those who read them a batch at a time.

Belongs here: what such readers may ask for. Writing, and reading a table whole, are in ``tables``.
"""

from __future__ import annotations

import logging
import weakref
from typing import TYPE_CHECKING, Protocol, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from civitai_pipeline.lake.schema_versions import brought_up, check_not_newer
from civitai_pipeline.lake.tables import STREAMED_ROWS, DamagedTableError, Provenance, damage_explained, open_sound

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray
    from upath import UPath

    from civitai_pipeline.lake.paths import Lake
    from civitai_pipeline.lake.schemas import Table

log = logging.getLogger(__name__)


class Rows(Protocol):
    """A table that can be read more than once, and as many of its columns as are needed."""

    @property
    def provenance(self) -> Provenance | None:
        """Where it came from; None if it does not say."""

    def __len__(self) -> int:
        """How many rows it has."""

    def read(self, columns: Sequence[str]) -> pa.Table:
        """Some of its columns, whole."""

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Some of its columns, a few thousand rows at a time."""

    def at(self, places: NDArray[np.integer], columns: Sequence[str]) -> Iterator[pa.Table]:
        """Some columns of the rows at rising places, which count from 0; a few thousand at a time."""


class HeldRows:
    """A table in memory as :class:`Rows`."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table

    @property
    def provenance(self) -> Provenance | None:
        """Where it came from; None if it does not say."""
        return Provenance.of(self._table.schema)

    def __len__(self) -> int:
        return len(self._table)

    def read(self, columns: Sequence[str]) -> pa.Table:
        """Some of its columns, whole."""
        return self._table.select(columns)

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Some of its columns, a few thousand rows at a time."""
        yield from self._table.select(columns).to_batches(max_chunksize=STREAMED_ROWS)

    def at(self, places: NDArray[np.integer], columns: Sequence[str]) -> Iterator[pa.Table]:
        """Some columns of the rows at rising places, which count from 0; a few thousand at a time."""
        for start in range(0, len(places), STREAMED_ROWS):
            yield self._table.select(columns).take(pa.array(places[start : start + STREAMED_ROWS]))


class PinnedTable:
    """A version's table in its file as it is now, as :class:`Rows`: another writer's swap does not change what is read.

    Its file is closed when the object goes.

    Raises:
        FileNotFoundError: It has not been written yet.
        DamagedTableError: Its file cannot be read; so may all that reads from it.
        NewerTableError: A newer release wrote it.
        OlderTableError: An older release wrote it, and what is read from it lacks what cannot be left open.
        LakeError: The lake cannot be read; likewise.
    """

    def __init__(self, table: Table, path: UPath, version: int | None = None) -> None:
        self.table = table
        self._path = path
        with damage_explained(path):
            file = path.open("rb")
            weakref.finalize(self, file.close)
            # What this process has just written need not be looked through again.
            self._file = pq.ParquetFile(file) if version is None else open_sound(file, table, version)
            self._is_older = check_not_newer(table, path, self._file.schema_arrow) < table.schema_version

    @classmethod
    def of(cls, lake: Lake, table: Table, version: int) -> Self:
        """The table that stands in the lake."""
        return cls(table, lake.table(table, version), version)

    def __len__(self) -> int:
        return int(self._file.metadata.num_rows)

    @property
    def provenance(self) -> Provenance | None:
        """Where it came from; None if it does not say."""
        return Provenance.of(self._file.schema_arrow)

    @property
    def fits(self) -> bool:
        """Whether it has the declared columns with the declared types, and they mean what they do today."""
        found = self._file.schema_arrow
        return not self._is_older and all(
            c.name in found.names and found.field(c.name).type == c.type for c in self.table.columns
        )

    def read(self, columns: Sequence[str]) -> pa.Table:
        """Some of its columns, whole."""
        with damage_explained(self._path):
            data = self._file.read(columns=list(columns))
        return brought_up(self.table, self._path, data, columns) if self._is_older else data.select(columns)

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """Its declared columns or some of them, a few thousand rows at a time."""
        return self._batches(None, columns)

    def at(self, places: NDArray[np.integer], columns: Sequence[str]) -> Iterator[pa.Table]:
        """Some columns of the rows at rising places, which count from 0; row groups without any are not read."""
        metadata = self._file.metadata
        begins = np.cumsum([0, *(metadata.row_group(number).num_rows for number in range(metadata.num_row_groups))])
        wanted = np.unique(np.searchsorted(begins, places, side="right") - 1)
        # Neighbours are read as one, so that small groups do not make small batches.
        for run in np.split(wanted, np.flatnonzero(np.diff(wanted) > 1) + 1) if len(wanted) else []:
            begin = int(begins[run[0]])
            for batch in self._batches(run.tolist(), columns):
                here = places[slice(*np.searchsorted(places, [begin, begin + len(batch)]))]
                if len(here) == len(batch):
                    yield pa.Table.from_batches([batch])
                elif len(here):
                    yield pa.Table.from_batches([batch]).take(pa.array(here - begin))
                begin += len(batch)

    def _batches(self, groups: list[int] | None, columns: Sequence[str] | None) -> Iterator[pa.RecordBatch]:
        names = [c.name for c in self.table.columns] if columns is None else list(columns)
        schema = pa.schema([self.table.arrow_schema.field(name) for name in names])
        with damage_explained(self._path):
            for batch in self._file.iter_batches(batch_size=STREAMED_ROWS, row_groups=groups, columns=names):
                if self._is_older:
                    older = brought_up(self.table, self._path, pa.Table.from_batches([batch]), names)
                    yield from older.to_batches()
                else:
                    yield batch.select(names).cast(schema)


def rows_of(table: pa.Table | Rows) -> Rows:
    """``table`` as :class:`Rows`."""
    return HeldRows(table) if isinstance(table, pa.Table) else table


def earlier_rows(lake: Lake, table: Table, version: int) -> PinnedTable | None:
    """A version's table as an earlier run left it; None where there is none that can be added to.

    Raises:
        LakeError: The lake cannot be read.
    """
    try:
        earlier = PinnedTable.of(lake, table, version)
    except FileNotFoundError:
        return None
    except DamagedTableError as error:
        log.warning("%s; making it anew", error)
        return None
    if not earlier.fits:
        log.warning("table %s does not fit its schema; making it anew", table.name)
        return None
    return earlier

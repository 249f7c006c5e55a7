"""Rows brought into their order from where they lie: an earlier table, and files that slabs were set aside in.

Which row goes where is decided over a few narrow columns; the wide ones pass through here a batch at a time, so
that however many rows there are, only some thousands are in memory.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
from upath import UPath

from civitai_pipeline.lake.files import explained

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

# The number that stands for the earlier table; slabs count from 1.
EARLIER = 0
# Slabs hold images of about the same time, so a batch of rows in order lies in one or two of each walk.
_KEPT_SLABS = 4
# Rows of slabs that are gathered at once, in bytes: three times what 10,000 ordinary ones have.
_MOST_BYTES = 64_000_000


class Plan(NamedTuple):
    """Where each row of a table lies, in the table's order.

    Attributes:
        slab: The number of the slab it is set aside in, or ``EARLIER``.
        row: Its number there, from 0; among those of the earlier table always rising.
    """

    slab: NDArray[np.int64]
    row: NDArray[np.int64]

    @classmethod
    def of(cls, table: pa.Table) -> Plan:
        """The plan in the columns ``slab`` and ``row``."""
        return cls(*(np.asarray(table.column(name), dtype=np.int64) for name in cls._fields))


class SlabFiles:
    """Tables of one schema set aside under their slabs' numbers, each in a file."""

    def __init__(self, folder: Path, schema: pa.Schema) -> None:
        folder.mkdir(exist_ok=True)
        self.schema = schema
        self._folder = folder
        self._read = lru_cache(_KEPT_SLABS)(self._read_file)
        # Of each slab, and of the earlier table, of which nothing is known here.
        self._row_bytes = [0.0]

    def only(self, columns: Sequence[str]) -> SlabFiles:
        """The same rows with some of their columns; the others are not read."""
        return SlabFiles(self._folder, pa.schema([self.schema.field(name) for name in columns]))

    def put(self, slab: int, rows: pa.Table) -> None:
        """Sets a slab's rows aside. Slabs come in their order.

        Raises:
            LakeError: They cannot be written.
        """
        path = self._path(slab)
        with (
            explained(path, "write", answers=()),
            pa.OSFile(str(path), "wb") as file,
            pa.ipc.new_file(file, self.schema) as writer,
        ):
            writer.write_table(rows)
        self._row_bytes.append(rows.nbytes / max(len(rows), 1))

    def cuts(self, slab: NDArray[np.int64], rows_at_a_time: int) -> Iterator[slice]:
        """Cuts rows into pieces that are small enough to be held.

        Args:
            slab: The slab of each row.
            rows_at_a_time: The most rows of a piece.
        """
        known = np.zeros(int(slab.max(initial=0)) + 1)
        known[: len(self._row_bytes)] = self._row_bytes[: len(known)]
        ends, start = np.cumsum(known[slab]), 0
        while start < len(slab):
            fitting = int(np.searchsorted(ends, (ends[start - 1] if start else 0) + _MOST_BYTES, side="right"))
            end = min(max(fitting, start + 1), start + rows_at_a_time, len(slab))
            yield slice(start, end)
            start = end

    def take(self, slab: int, rows: NDArray[np.int64]) -> pa.Table:
        """Some of a slab's rows."""
        return self._read(slab).take(pa.array(rows))

    def _read_file(self, slab: int) -> pa.Table:
        with pa.OSFile(str(self._path(slab)), "rb") as file:
            names = pa.ipc.open_file(file).schema.names
            wanted = [names.index(name) for name in self.schema.names]
            reader = pa.ipc.open_file(file, options=pa.ipc.IpcReadOptions(included_fields=wanted))
            # One chunk: taking from several copies them all each time.
            return reader.read_all().select(self.schema.names).combine_chunks()

    def _path(self, slab: int) -> UPath:
        return UPath(self._folder / f"{slab}.arrow")


class _Forward:
    """The rows of a stream by rising number."""

    def __init__(self, batches: Iterable[pa.RecordBatch]) -> None:
        self._batches = iter(batches)
        self._batch: Any = None
        self._first = self._end = 0

    def take(self, rows: NDArray[np.int64]) -> list[pa.Table]:
        taken = []
        while len(rows):
            while self._end <= rows[0]:
                self._first, self._batch = self._end, next(self._batches)
                self._end += len(self._batch)
            here = int(np.searchsorted(rows, self._end))
            table, wanted = pa.Table.from_batches([self._batch]), rows[:here] - self._first
            whole = wanted[-1] - wanted[0] + 1 == here
            taken.append(table.slice(int(wanted[0]), here) if whole else table.take(pa.array(wanted)))
            rows = rows[here:]
        return taken


def gathered(
    plan: Plan, earlier: Iterable[pa.RecordBatch], slabs: SlabFiles, rows_at_a_time: int
) -> Iterator[pa.Table]:
    """The rows of a plan in its order, with the columns of ``slabs``, some at a time.

    Args:
        plan: Where each row lies.
        earlier: The rows of the earlier table, in its order; may have more columns.
        slabs: The rows set aside.
        rows_at_a_time: How many rows to give at once, or fewer where they are large.
    """
    forward, names = _Forward(earlier), slabs.schema.names
    for piece in slabs.cuts(plan.slab, rows_at_a_time):
        slab, row = plan.slab[piece], plan.row[piece]
        parts: list[pa.Table] = []
        places: list[NDArray[np.int64]] = []
        for number in np.unique(slab).tolist():
            here = np.flatnonzero(slab == number)
            if number == EARLIER:
                parts += [part.select(names).cast(slabs.schema) for part in forward.take(row[here])]
            else:
                parts.append(slabs.take(number, row[here]))
            places.append(here)
        together = pa.concat_tables(parts)
        # Each part is in order, so there is something to sort only where there are several.
        yield together if len(places) == 1 else together.take(pa.array(np.argsort(np.concatenate(places))))

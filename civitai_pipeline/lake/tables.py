"""The Parquet tables: read, written under a temporary name and swapped in, with where they came from.

Each file says in its own metadata how far into the ledger it reaches and which code made it, so that a
reader can tell whether it may be added to or must be made anew.
"""

from __future__ import annotations

import logging
import weakref
from collections import Counter
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from io import BufferedReader
from typing import TYPE_CHECKING, Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from civitai_pipeline.lake.files import LakeError, explained, is_local, swap_in, temporary
from civitai_pipeline.lake.pages import PageId
from civitai_pipeline.lake.schema_versions import (
    OlderTableError,
    brought_up,
    check_not_newer,
    schema_version_of,
    stamp,
)
from civitai_pipeline.lake.seals import Slot, seal_fault, unsealed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from upath import UPath

    from civitai_pipeline.lake.paths import Lake
    from civitai_pipeline.lake.schemas import Table

log = logging.getLogger(__name__)

PROVENANCE_KEY = b"civitai_pipeline"
# One row group of this size holds some 60 MB of prompts: small enough to stream, large enough to scan fast.
ROW_GROUP_ROWS = 50_000
# Rows read at a time where a table is streamed: some 20 MB of prompts.
STREAMED_ROWS = 10_000
# Level 1 writes prompts twice as fast as zstd's default, into files a twentieth larger.
_STORED: dict[str, Any] = {"compression": "zstd", "compression_level": 1}


class DamagedTableError(LakeError):
    """A table's file cannot be read as the table it should be."""


@dataclass(frozen=True)
class Provenance:
    """Where a table came from.

    Attributes:
        code_version: The version of the code that made it.
        covered: The number of the last page of each walk it covers.
        gaps: The pages up to there that it does not cover: they had been set aside.
    """

    code_version: str
    covered: Mapping[int, int]
    gaps: frozenset[PageId] = frozenset()

    def attached_to(self, table: pa.Table) -> pa.Table:
        """``table`` with this provenance in its metadata."""
        covered = {str(walk): pages for walk, pages in sorted(self.covered.items())}
        said: dict[str, Any] = {"code_version": self.code_version, "covered": covered}
        if self.gaps:
            said["gaps"] = [str(place) for place in sorted(self.gaps)]
        text = orjson.dumps(said)
        return table.replace_schema_metadata({PROVENANCE_KEY: text})

    @classmethod
    def of(cls, schema: pa.Schema) -> Provenance | None:
        """The provenance in a schema's metadata; None if it has none that can be understood."""
        text = (schema.metadata or {}).get(PROVENANCE_KEY)
        if text is None:
            return None
        try:
            fields = orjson.loads(text)
            covered = {int(walk): pages for walk, pages in fields["covered"].items()}
            return cls(fields["code_version"], covered, frozenset(map(PageId.parse, fields.get("gaps", ()))))
        except (ValueError, KeyError, TypeError, AttributeError):
            return None


def from_rows(table: Table, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """``rows`` as an Arrow table of the declared schema.

    Raises:
        pyarrow.ArrowInvalid, pyarrow.ArrowTypeError: A value does not fit its column.
    """
    return pa.Table.from_pylist(list(rows), schema=table.arrow_schema)


def conform(table: Table, data: pa.Table) -> pa.Table:
    """``data`` with the declared columns in the declared order and types; its metadata is kept.

    Raises:
        ValueError: A declared column is missing, or one of its values does not fit.
    """
    missing = [c.name for c in table.columns if c.name not in data.column_names]
    if missing:
        raise ValueError(f"table {table.name} lacks the columns {', '.join(missing)}")
    try:
        conformed = data.select([c.name for c in table.columns]).cast(table.arrow_schema)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, ValueError) as error:
        raise ValueError(f"table {table.name} does not fit its schema: {error}") from error
    return conformed.replace_schema_metadata(data.schema.metadata)


def schema_faults(table: Table, *parts: pa.Table) -> list[str]:
    """How data differs from the declared schema, one sentence each; none if it does not.

    Args:
        table: The declaration.
        parts: The data; of several, the first that has a column is asked for its type, all for its nulls.
    """
    faults = []
    for column in table.columns:
        having = [part for part in parts if column.name in part.column_names]
        if not having:
            faults.append(f"column {column.name} is missing")
            continue
        found, nulls = having[0].schema.field(column.name).type, sum(p.column(column.name).null_count for p in having)
        if found != column.type:
            faults.append(f"column {column.name} is {found}, not {column.type}")
        elif column.required and nulls:
            faults.append(f"column {column.name} has {nulls} nulls")
    return faults


class TableFile:
    """A version's table, finished under a temporary name: to be put in its place, or else forgotten.

    The temporary file goes when the object does.
    """

    def __init__(self, lake: Lake, table: Table, version: int, path: UPath, rows: int) -> None:
        self.table = table
        self.version = version
        self.rows = rows
        self.path = path
        self._lake = lake

    def __len__(self) -> int:
        return self.rows

    def read(self) -> pa.Table:
        """The table, with its provenance.

        Raises:
            LakeError: The lake cannot be read.
        """
        with damage_explained(self.path), self.path.open("rb") as file:
            return conform(self.table, unsealed(pq.read_table(file)))

    def put_in_place(self) -> UPath:
        """Swaps the file in for the one that stands in the lake; where that is.

        Raises:
            LakeError: The lake cannot be written; the old file stays.
        """
        path = self._lake.table(self.table, self.version)
        swap_in(self.path, path)
        return path


def stage_table(
    lake: Lake, table: Table, version: int, batches: Iterable[pa.Table | pa.RecordBatch], provenance: Provenance
) -> TableFile:
    """Writes a version's table under a temporary name, one batch of rows after the other.

    Args:
        lake: Where it will have its place.
        table: Which table it is.
        version: The model version.
        batches: Its rows, with at least the declared columns; each becomes a row group.
        provenance: Where they came from.

    Raises:
        ValueError: A batch does not fit the declared schema.
        LakeError: The lake cannot be written.
    """
    schema = provenance.attached_to(table.arrow_schema.empty_table()).schema
    schema = schema.with_metadata(stamp(table, schema.metadata))
    rows = 0
    stack = ExitStack()
    try:
        scratch = stack.enter_context(temporary(lake.root, table.name))
        with explained(lake.table(table, version), "write"), _sealed(scratch, table, version, schema) as writer:
            for batch in batches:
                data = pa.Table.from_batches([batch]) if isinstance(batch, pa.RecordBatch) else batch
                writer.write_table(conform(table, data).replace_schema_metadata(schema.metadata), ROW_GROUP_ROWS)
                rows += len(data)
    except BaseException:
        stack.close()
        raise
    staged = TableFile(lake, table, version, scratch, rows)
    weakref.finalize(staged, stack.close)
    return staged


@contextmanager
def _sealed(path: UPath, table: Table, version: int, schema: pa.Schema) -> Iterator[pq.ParquetWriter]:
    """Writes a file of a version's table, sealed in the end where a file can be written to twice."""
    slot = None
    with path.open("wb") as file, pq.ParquetWriter(file, schema, **_STORED) as writer:
        yield writer
        if is_local(path):
            slot = Slot.in_footer(writer, table.name, version)
    if slot is not None:
        with path.open("r+b") as finished:
            slot.fill(finished)


def file_faults(lake: Lake, table: Table, version: int) -> tuple[list[str], int]:
    """How a version's file differs from the declared schema, one sentence each, and how many rows it has.

    Nulls are counted by what the file says of itself, so that no column is read but lists.

    Raises:
        FileNotFoundError: It has not been written yet.
        DamagedTableError: Its file cannot be read.
        LakeError: The lake cannot be read.
    """
    path = lake.table(table, version)
    with damage_explained(path), path.open("rb") as opened:
        file = pq.ParquetFile(opened)
        found = schema_version_of(file.schema_arrow)
        lists = [c.name for c in table.columns if pa.types.is_list(c.type) and c.name in file.schema_arrow.names]
        faults = schema_faults(table, file.schema_arrow.empty_table(), file.read(lists))
        nulls = {name: count for name, count in _null_counts(file).items() if name not in lists}
        rows = file.metadata.num_rows
    if found != table.schema_version:
        faults.insert(0, f"schema version {found}, not {table.schema_version}")
    required = [c.name for c in table.columns if c.required and nulls.get(c.name)]
    return faults + [f"column {name} has {nulls[name]} nulls" for name in required], rows


def _null_counts(file: pq.ParquetFile) -> Counter[str]:
    """The nulls of each column, as its row groups count them."""
    counts: Counter[str] = Counter()
    for group in range(file.metadata.num_row_groups):
        for place in range(file.metadata.num_columns):
            column = file.metadata.row_group(group).column(place)
            statistics = column.statistics
            if statistics is not None and statistics.has_null_count:
                counts[column.path_in_schema] += statistics.null_count
    return counts


def write_table(lake: Lake, table: Table, version: int, data: pa.Table) -> UPath:
    """Writes a version's table under a temporary name and swaps it in.

    Raises:
        ValueError: ``data`` does not fit the declared schema; the old file stays.
        LakeError: The lake cannot be written; the old file stays.
    """
    path = lake.table(table, version)
    conformed = unsealed(conform(table, data))
    conformed = conformed.replace_schema_metadata(stamp(table, conformed.schema.metadata))
    with temporary(lake.root, table.name) as scratch:
        with explained(path, "write"), _sealed(scratch, table, version, conformed.schema) as writer:
            writer.write_table(conformed, ROW_GROUP_ROWS)
        swap_in(scratch, path)
    return path


def table_exists(lake: Lake, table: Table, version: int) -> bool:
    """Whether the version's table has been written."""
    return bool(lake.table(table, version).is_file())


def read_table(lake: Lake, table: Table, version: int, columns: Sequence[str] | None = None) -> pa.Table:
    """A version's table, or some columns of it; columns that a file of an older release lacks are null.

    Raises:
        FileNotFoundError: It has not been written yet.
        DamagedTableError: Its file cannot be read.
        NewerTableError: A newer release wrote it.
        OlderTableError: An older release wrote it, and it lacks what cannot be left open.
        LakeError: The lake cannot be read.
    """
    path = lake.table(table, version)
    with damage_explained(path), path.open("rb") as file:
        opened = open_sound(file, table, version)
        names = [c.name for c in table.columns] if columns is None else list(columns)
        is_older = check_not_newer(table, path, opened.schema_arrow) < table.schema_version
        if is_older or not set(names) <= set(opened.schema_arrow.names):
            return unsealed(brought_up(table, path, opened.read(names), names))
        return unsealed(opened.read(None if columns is None else names))


def open_sound(file: Any, table: Table, version: int) -> pq.ParquetFile:  # noqa: ANN401 - fsspec's files have no type
    """An open file as that of a version's table, if its bytes are those that were written.

    Raises:
        pyarrow.ArrowInvalid: They are not, or it is no Parquet file; turn it into what a reader may expect.
        OSError: The same, as Arrow says it of some damage.
    """
    # Asking an object store for all bytes takes longer than for some columns, and it guards its bytes itself.
    fault = seal_fault(file, table.name, version) if isinstance(file, BufferedReader) else None
    if fault is not None:
        raise pa.ArrowInvalid(fault)
    return pq.ParquetFile(file)


def first_rows(lake: Lake, table: Table, version: int, rows: int, columns: int) -> pa.Table:
    """The first rows of a version's table, and of its declared columns the first.

    Raises:
        FileNotFoundError: It has not been written yet.
        DamagedTableError: Its file cannot be read.
        LakeError: The lake cannot be read.
    """
    path = lake.table(table, version)
    names = [c.name for c in table.columns[:columns]]
    with damage_explained(path), path.open("rb") as file:
        batches = pq.ParquetFile(file).iter_batches(batch_size=rows, columns=names)
        first = next(batches, None)
    return table.arrow_schema.empty_table().select(names) if first is None else pa.Table.from_batches([first])


def read_provenance(lake: Lake, table: Table, version: int) -> Provenance | None:
    """Where a version's table came from; None if it is not there or does not say.

    Raises:
        DamagedTableError: Its file cannot be read.
        LakeError: The lake cannot be read.
    """
    path = lake.table(table, version)
    if not path.is_file():
        return None
    with damage_explained(path), path.open("rb") as file:
        return Provenance.of(pq.read_schema(file))


@contextmanager
def damage_explained(path: UPath) -> Iterator[None]:
    """Turns what Arrow raises on a damaged file into a :class:`DamagedTableError` that says what to do."""
    damage: Exception
    with explained(path, "read"):
        try:
            yield
        except FileNotFoundError:
            raise
        # In a file without a seal, the names of columns may no longer be text.
        except (pa.ArrowException, IsADirectoryError, UnicodeDecodeError) as error:
            damage = error
        except OSError as error:
            if error.errno is not None:
                raise
            damage = error
        else:
            return
    # Arrow tells of some damage in several lines.
    said = " ".join(str(getattr(damage, "strerror", None) or damage).split())
    version = path.name.partition(".")[0]
    command = f"civitai-pipeline check {version} --repair" if version.isdigit() else "civitai-pipeline check --repair"
    raise DamagedTableError(f"{path} is damaged ({said}); {command} makes it anew from the landed pages") from damage


def read_earlier(lake: Lake, table: Table, version: int) -> pa.Table | None:
    """A version's table as an earlier run left it; None where there is none that can be added to.

    Raises:
        NewerTableError: A newer release wrote it.
        LakeError: The lake cannot be read.
    """
    try:
        return conform(table, read_table(lake, table, version))
    except FileNotFoundError:
        return None
    except (DamagedTableError, OlderTableError, ValueError) as error:
        log.warning("%s; making it anew", error)
        return None

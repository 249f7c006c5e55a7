"""One export from beginning to end: selects rows, writes them beside the output, gives them its name."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import duckdb
import orjson

from civitai_pipeline.export.authors import KeyFileError, author_key
from civitai_pipeline.export.card import CardFacts, card
from civitai_pipeline.export.columns import AUTHOR_HASH, columns_of
from civitai_pipeline.export.groups import SPLITS
from civitai_pipeline.export.huggingface import counts_by, write_splits
from civitai_pipeline.export.options import FOLDER_FORMATS, highest_bit
from civitai_pipeline.export.rows import RowReader
from civitai_pipeline.export.selection import REASONS, assign_splits, select_rows
from civitai_pipeline.export.staging import MARKER, ExportError, explained, staged
from civitai_pipeline.export.wildcards import write_wildcards
from civitai_pipeline.export.writing import write_csv, write_jsonl, write_parquet
from civitai_pipeline.lake.database import connect, duckdb_explained
from civitai_pipeline.lake.files import is_local
from civitai_pipeline.lake.pinning import pinned
from civitai_pipeline.lake.schemas import PROMPTS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import pyarrow as pa

    from civitai_pipeline.export.options import ExportOptions
    from civitai_pipeline.export.selection import Selection
    from civitai_pipeline.lake.paths import Lake
    from civitai_pipeline.lake.schemas import Column


@dataclass(frozen=True)
class ExportResult:
    """What an export wrote.

    Attributes:
        output: The file or folder.
        format: Its format.
        held: Rows held of the versions asked for.
        rows: Rows written; of wildcards, rows whose terms were counted.
        left_out: The other rows by reason; ``held`` is the sum of both.
        versions: The model versions with rows in it, ascending.
        bytes: The size of the file, or of the folder's files.
        splits: Rows by split; empty but for ``huggingface``.
        largest_group: The rows of the largest group kept in one split; null but for ``huggingface``.
        terms: Terms by category; empty but for ``wildcards``.
        first_rows: The first few rows, for a look; None where there are none.
    """

    output: str
    format: str
    held: int
    rows: int
    left_out: dict[str, int]
    versions: list[int]
    bytes: int
    splits: dict[str, int]
    largest_group: int | None
    terms: dict[str, int]
    first_rows: pa.Table | None

    def as_dict(self) -> dict[str, Any]:
        """The result as JSON values, without the rows."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name != "first_rows"}

    def notes(self) -> list[str]:
        """What a person should know of it beside the number of rows, one line each."""
        notes = [f"{count:,} rows left out: {REASONS[reason]}" for reason, count in self.left_out.items()]
        if not self.held:
            notes.append("nothing is held of what was asked for; run civitai-pipeline collect VERSION first")
        if self.splits:
            notes.append(", ".join(f"{name} {rows:,}" for name, rows in self.splits.items()))
            notes.append(f"the largest group of rows that had to stay together has {self.largest_group:,} rows")
            if (self.largest_group or 0) * 2 > self.rows or len(self.splits) < len(SPLITS):
                notes.append("shares are far from 80, 10 and 10 %: groups are too large or too few; see --split-by")
        notes += [f"{category}: {terms:,} terms" for category, terms in self.terms.items()]
        return notes


def export_prompts(
    lake: Lake,
    versions: Sequence[int],
    options: ExportOptions,
    output: Path,
    *,
    default_level: int = 1,
    key_file: Path | None = None,
) -> ExportResult:
    """Writes the prompts of some versions to a file or folder.

    Args:
        lake: Where the tables are.
        versions: The model versions to export; all of them if none is named.
        options: What to export, and how.
        output: The file or folder to write; replaced when the export is complete.
        default_level: The maturity bits allowed where neither ``options`` nor a landed page says which were asked for.
        key_file: The key that user names are hashed with, instead of the lake's own.

    Raises:
        OptionError: An option names a column that there is not.
        ExportError: There is nothing to export, or ``output`` cannot be written.
        LakeError: The lake cannot be read.
    """
    columns = columns_of(options)
    _refuse_unknown(lake, versions)
    key = _key(lake, columns, key_file)
    with (
        staged(output, folder=options.format in FOLDER_FORMATS) as scratch,
        pinned(lake) as still,
        connect(still) as connection,
    ):
        selection = select_rows(connection, still, versions, options, highest_bit(default_level))
        export = _Export(still, options, columns, key)
        with _trouble_explained(output):
            return export.write(connection, selection, scratch / "out", output, highest_bit(default_level))


class _Export:
    def __init__(self, lake: Lake, options: ExportOptions, columns: Sequence[Column], key: bytes | None) -> None:
        self._lake = lake
        self._options = options
        self._columns = columns
        self._key = key

    def write(
        self, connection: duckdb.DuckDBPyConnection, selection: Selection, path: Path, output: Path, level: int
    ) -> ExportResult:
        """Writes the selected rows to ``path``, which will be called ``output``."""
        options, splits, terms, largest = self._options, {}, {}, None
        reader = RowReader(connection, self._lake, self._columns, self._key)
        if options.format == "csv":
            write_csv(connection, reader.schema, reader.batches(), path, bom=options.bom)
        elif options.format == "jsonl":
            write_jsonl(connection, reader.batches(), path)
        elif options.format == "parquet":
            write_parquet(reader.schema, reader.batches(), path)
        else:
            _refuse_nothing(selection)
            if options.format == "wildcards":
                terms = write_wildcards(connection, self._lake, options, self._level(connection, level), path)
                if not terms:
                    raise ExportError(
                        "no term is used often enough; lower --min-images or --min-authors, or collect more"
                    )
            else:
                largest = assign_splits(connection, options.split_by, options.seed)
                splits = self._write_dataset(connection, reader, selection, path, largest)
        result = ExportResult(
            output=str(output),
            format=options.format,
            held=selection.held,
            rows=selection.rows,
            left_out=selection.left_out,
            versions=selection.versions,
            bytes=sum(file.stat().st_size for file in _files(path)),
            splits=splits,
            largest_group=largest,
            terms=terms,
            first_rows=reader.first_rows,
        )
        if path.is_dir():
            about = {**result.as_dict(), "output": output.name, "options": asdict(options)}
            (path / MARKER).write_bytes(orjson.dumps(about, option=orjson.OPT_INDENT_2))
        return result

    def _write_dataset(
        self,
        connection: duckdb.DuckDBPyConnection,
        reader: RowReader,
        selection: Selection,
        folder: Path,
        largest_group: int,
    ) -> dict[str, int]:
        """Writes the dataset folder; returns the rows of each split."""
        splits = write_splits(connection, reader, folder)
        with duckdb_explained("read the tables in", str(self._lake.root)):
            names = connection.execute(
                "SELECT model_version_id, concat_ws(' ', model_name, version_name) FROM model_version_info"
            ).fetchall()
        facts = CardFacts(
            columns=self._columns,
            splits=splits,
            by_level=counts_by(connection, self._lake, "browsing_level"),
            by_base_model=counts_by(connection, self._lake, "base_model"),
            by_version=counts_by(connection, self._lake, "model_version_id"),
            version_names={version: name for version, name in names if name},
            options=self._options,
            selection=selection,
            largest_group=largest_group,
            date=datetime.now(UTC).date().isoformat(),
        )
        (folder / "README.md").write_text(card(facts), encoding="utf-8", newline="\n")
        return {split.name: split.rows for split in splits}

    def _level(self, connection: duckdb.DuckDBPyConnection, default_level: int) -> int:
        """The highest maturity asked for, over the versions."""
        if self._options.highest_level is not None:
            return self._options.highest_level
        with duckdb_explained("read the tables in", str(self._lake.root)):
            row = connection.execute(
                "SELECT max(coalesce(highest, $level)) FROM "
                "(SELECT DISTINCT model_version_id FROM selection) LEFT JOIN levels USING (model_version_id)",
                {"level": default_level},
            ).fetchone()
        return int(row[0]) if row and row[0] else default_level


def _key(lake: Lake, columns: Sequence[Column], key_file: Path | None) -> bytes | None:
    if all(column.name != AUTHOR_HASH.name for column in columns):
        return None
    try:
        return author_key(lake, key_file)
    except KeyFileError as error:
        raise ExportError(str(error)) from None


def _refuse_unknown(lake: Lake, versions: Sequence[int]) -> None:
    if not is_local(lake.root):
        raise ExportError("exports read a lake in a folder; copy it here and set CIVITAI_LAKE to the copy")
    missing = [version for version in versions if not lake.table(PROMPTS, version).is_file()]
    if missing:
        raise ExportError(
            f"nothing has been collected of model version {', '.join(map(str, missing))}; "
            f"run civitai-pipeline collect {missing[0]} first"
        )


def _refuse_nothing(selection: Selection) -> None:
    if not selection.rows:
        reasons = "; ".join(f"{count:,} are {REASONS[reason]}" for reason, count in selection.left_out.items())
        raise ExportError(
            f"there is no row to export: {reasons}"
            if reasons
            else "there is no row to export: nothing is held; run civitai-pipeline collect VERSION first"
        )


def _files(path: Path) -> Iterator[Path]:
    yield from (file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]


@contextmanager
def _trouble_explained(output: Path) -> Iterator[None]:
    """Turns what goes wrong while writing into an :class:`ExportError`; reading has errors of its own."""
    try:
        with explained(output):
            yield
    except duckdb.Error as error:
        reason = " ".join(str(error).split())
        raise ExportError(f"cannot write {output}: {reason}; choose another --output") from error

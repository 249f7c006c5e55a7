"""The older tool's SQLite file: opened for reading only, its rows one after the other.

Knows the file's tables and how SQLite fails. What a row means is the business of ``older_rows``.
"""

from __future__ import annotations

import hashlib
import sqlite3
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

PROMPTS, RESOURCES = "civitai_prompts", "prompt_resources"
CATEGORIES, STATES = "prompt_categories", "collection_state"
# What a row must have to be a prompt of an image at all; the tool's releases differ in the other columns.
NEEDED = ("civitai_id", "full_prompt")
MAGIC = b"SQLite format 3\0"
# Somebody else's write takes milliseconds; who holds the file for longer has it open for work.
BUSY_S = 5.0
# SQLite allows 32,766 parameters; a page is what is wanted at a time.
FETCH_ROWS = 200

Row = dict[str, Any]


class OlderFileError(Exception):
    """The file cannot be read now; the message says why and what to do."""


class NoOlderFileError(OlderFileError):
    """There is no older database at the path given."""


@dataclass(frozen=True)
class OlderRow:
    """One row of ``civitai_prompts``, with those of ``prompt_resources`` that belong to it.

    Attributes:
        place: SQLite's own number of the row.
        columns: Its columns by name; what was stored as bytes is text.
        resources: Its resources, in order.
    """

    place: int
    columns: Row
    resources: list[Row]


class OlderFile:
    """An open older database, as it stood when it was opened.

    Attributes:
        name: The file's name, without its folder.
        digest: The first 16 hexadecimal digits of the SHA-256 of its content.
        modified_at: When the file was last written to.
        columns: The columns of ``civitai_prompts``.
    """

    def __init__(self, connection: sqlite3.Connection, name: str, digest: str, modified_at: datetime) -> None:
        """Looks which tables there are.

        Raises:
            NoOlderFileError: A table or column without which it is no older database is missing.
        """
        self._connection = connection
        self.name = name
        self.digest = digest
        self.modified_at = modified_at
        self.columns = self._columns_of(PROMPTS)
        if not self.columns:
            raise NoOlderFileError(f"{name} has no table {PROMPTS}, so it is no database of the older tool")
        missing = [column for column in NEEDED if column not in self.columns]
        if missing:
            raise NoOlderFileError(
                f"{PROMPTS} in {name} has no column {missing[0]}, so it is no database of the older tool"
            )
        self._has_resources = "prompt_id" in self._columns_of(RESOURCES) and "id" in self.columns
        if self._has_resources:
            self._index_resources()

    def count(self) -> int:
        """How many rows ``civitai_prompts`` has."""
        ((rows,),) = self._query(f"SELECT count(*) FROM {PROMPTS}")  # noqa: S608 - our own table name
        return int(rows)

    def heads(self, wanted: Sequence[str]) -> Iterator[tuple[int, Row]]:
        """Place and some columns of every row, in the order of the file; a column that is not there is None."""
        there = [column for column in wanted if column in self.columns]
        names = ", ".join(f'"{column}"' for column in there)
        found = self._query(f"SELECT rowid{names and ', '}{names} FROM {PROMPTS} ORDER BY rowid")  # noqa: S608 - our own names
        for place, *values in found:
            yield place, dict.fromkeys(wanted) | {k: _text(v) for k, v in zip(there, values, strict=True)}

    def rows(self, places: Sequence[int]) -> Iterator[OlderRow]:
        """Whole rows, in the order asked for."""
        for start in range(0, len(places), FETCH_ROWS):
            some = [int(place) for place in places[start : start + FETCH_ROWS]]
            marks = ", ".join("?" * len(some))
            names = ", ".join(f'"{column}"' for column in self.columns)
            sql = f"SELECT rowid, {names} FROM {PROMPTS} WHERE rowid IN ({marks})"  # noqa: S608 - our own names
            found = {
                place: dict(zip(self.columns, map(_text, values), strict=True))
                for place, *values in self._query(sql, some)
            }
            resources = self._resources(sorted({row["id"] for row in found.values()})) if self._has_resources else {}
            for place in some:
                row = found[place]
                yield OlderRow(place, row, resources.get(row.get("id"), []))

    def states(self) -> Iterator[Row]:
        """The rows of ``collection_state``; none where there is no such table."""
        return self._whole_table(STATES)

    def categories(self) -> Iterator[Row]:
        """The rows of ``prompt_categories``, each with its prompt's ``civitai_id``."""
        if "prompt_id" not in self._columns_of(CATEGORIES) or "id" not in self.columns:
            return iter(())
        prompts = f"(SELECT id AS prompt_key, civitai_id FROM {PROMPTS})"  # noqa: S608 - our own table name
        return self._whole_table(CATEGORIES, f"LEFT JOIN {prompts} ON prompt_id = prompt_key", "civitai_id")

    def _whole_table(self, table: str, join: str = "", *more: str) -> Iterator[Row]:
        columns = [*self._columns_of(table), *more]
        if not columns:
            return
        names = ", ".join(f'"{column}"' for column in columns)
        for values in self._query(f"SELECT {names} FROM {table} {join} ORDER BY {table}.rowid"):  # noqa: S608 - our own names
            yield dict(zip(columns, map(_text, values), strict=True))

    def _index_resources(self) -> None:
        """Finds the resources of a prompt without reading them all: the tool's own files have no such index.

        In SQLite's temporary database, which spills to the disk; the file itself is never written.
        """
        self._run(f"CREATE TEMP TABLE resource_places AS SELECT prompt_id, rowid AS place FROM {RESOURCES}")  # noqa: S608 - our own table name
        self._run("CREATE INDEX temp.resource_places_of ON resource_places (prompt_id)")

    def _resources(self, ids: list[Any]) -> dict[Any, list[Row]]:
        columns = self._columns_of(RESOURCES)
        names = ", ".join(f'resources."{column}"' for column in columns)
        marks = ", ".join("?" * len(ids))
        sql = (
            f"SELECT {names} FROM temp.resource_places JOIN {RESOURCES} AS resources ON resources.rowid = place "  # noqa: S608 - our own names
            f"WHERE resource_places.prompt_id IN ({marks}) ORDER BY place"
        )
        found: dict[Any, list[Row]] = {}
        for values in self._query(sql, ids):
            row = dict(zip(columns, map(_text, values), strict=True))
            found.setdefault(row["prompt_id"], []).append(row)
        for rows in found.values():
            rows.sort(key=_resource_index)
        return found

    def _columns_of(self, table: str) -> list[str]:
        return [str(row[1]) for row in self._query(f"PRAGMA main.table_info({table})")]

    def _query(self, sql: str, values: Sequence[Any] = ()) -> Iterator[tuple[Any, ...]]:
        with _sqlite_explained(self.name):
            yield from self._connection.execute(sql, values)

    def _run(self, sql: str) -> None:
        with _sqlite_explained(self.name):
            self._connection.execute(sql)


@contextmanager
def open_older_file(path: Path) -> Iterator[OlderFile]:
    """Opens an older database for reading.

    All reading happens in one transaction, so that a tool which still writes to the file cannot make its first
    and its last row disagree.

    Raises:
        NoOlderFileError: There is none at ``path``.
        OlderFileError: It cannot be read now, or is damaged.
    """
    if path.is_dir():
        raise NoOlderFileError(f"{path} is a folder; name the older tool's database file, or use merge-lake for a lake")
    try:
        with path.open("rb") as file:
            magic = file.read(len(MAGIC))
        if magic != MAGIC:
            raise NoOlderFileError(f"{path} is no SQLite database")
        digest, modified_at = _digest(path), datetime.fromtimestamp(path.stat().st_mtime, UTC)
    except FileNotFoundError:
        raise NoOlderFileError(f"there is no file {path}") from None
    except OSError as error:
        raise OlderFileError(f"cannot read {path}: {error.strerror or error}") from None
    connection = _connect(path)
    try:
        with _sqlite_explained(path.name):
            connection.execute("BEGIN")
        yield OlderFile(connection, path.name, digest, modified_at)
    finally:
        connection.close()


def _connect(path: Path) -> sqlite3.Connection:
    """A connection that cannot write.

    A file left in WAL mode in a folder that cannot be written opens only as ``immutable``; that is right as long
    as no log lies beside it, whose rows would otherwise be missed.
    """
    flags = ["mode=ro"]
    log = path.with_name(path.name + "-wal")
    if not (log.exists() and log.stat().st_size):
        flags.append("mode=ro&immutable=1")
    problem: sqlite3.Error | None = None
    for flag in flags:
        connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?{flag}", uri=True, timeout=BUSY_S, isolation_level=None
        )
        # What is no UTF-8 must neither stop the rows behind it nor be changed without a trace.
        connection.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
        try:
            connection.execute("SELECT count(*) FROM sqlite_master").fetchall()
        except sqlite3.Error as error:
            connection.close()
            problem = error
            if not _cannot_open(error):
                break
        else:
            return connection
    with _sqlite_explained(path.name):
        assert problem is not None  # noqa: S101 - the loop returns otherwise
        raise problem


def _cannot_open(error: sqlite3.Error) -> bool:
    return getattr(error, "sqlite_errorname", "").startswith(("SQLITE_CANTOPEN", "SQLITE_READONLY"))


@contextmanager
def _sqlite_explained(name: str) -> Iterator[None]:
    """Turns SQLite's errors into an :class:`OlderFileError` that says what to do."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorname", "")
        if code.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            raise OlderFileError(
                f"{name} is locked by a program that writes to it; close the older tool, then run again"
            ) from None
        if code.startswith("SQLITE_READONLY"):
            raise OlderFileError(
                f"{name} was left in the middle of a change, which must be undone before it can be read; open it "
                "once with the older tool or with sqlite3, then run again"
            ) from None
        if code.startswith("SQLITE_NOTADB"):
            raise NoOlderFileError(f"{name} is no SQLite database, or is encrypted") from None
        raise OlderFileError(
            f"{name} cannot be read: {error}; if it is damaged, recover it with sqlite3's .recover into a new file "
            "and import that"
        ) from None


def _digest(path: Path) -> str:
    """A digest of the content, the log of a file in WAL mode included."""
    found = hashlib.sha256()
    for part in (path, path.with_name(path.name + "-wal")):
        with suppress(FileNotFoundError), part.open("rb") as file:
            while block := file.read(1 << 20):
                found.update(block)
    return found.hexdigest()[:16]


def _text(value: Any) -> Any:  # noqa: ANN401 - whatever SQLite holds
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value


def _resource_index(row: Row) -> int:
    index = row.get("resource_index")
    return index if isinstance(index, int) else 0

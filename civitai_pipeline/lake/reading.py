"""Queries over ``civitai.duckdb`` that can only read, as ``civitai-pipeline sql`` runs them.

The database is opened read-only, files are out of reach but for those of the lake, and settings are locked. That
leaves COPY and EXPORT, which write files without touching the database, so only statements that read are run. How an
answer is shown is for ``cli``.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import duckdb

from civitai_pipeline.lake.files import LakeError, is_local, working_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from civitai_pipeline.lake.paths import Lake

ONLY_READING = "only statements that read can be run here: SELECT, FROM, WITH, VALUES, DESCRIBE, SUMMARIZE, SHOW"
CHUNK = 1000


class QueryError(Exception):
    """A query cannot be run; the message says why, in one line."""


@dataclass(frozen=True)
class Answer:
    """What a query gives.

    Attributes:
        columns: The names of its columns; two may be the same.
        rows: Its rows, read as they are asked for, before the next query is run.
    """

    columns: list[str]
    rows: Iterator[tuple[Any, ...]]


class Reader:
    """Runs queries over the database's views; made by :func:`reading`."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection

    def answers(self, script: str) -> Iterator[Answer]:
        """Runs the statements of a script one after the other.

        Yields:
            The answer of each.

        Raises:
            QueryError: One is wrong, does more than read, or fails; those before it have been run.
        """
        with _in_one_line():
            statements = self._connection.extract_statements(script)
        for statement in statements:
            self._refuse_writing(statement)
            with _in_one_line():
                self._connection.execute(statement)
            yield Answer([column[0] for column in self._connection.description or ()], self._rows())

    def _refuse_writing(self, statement: duckdb.Statement) -> None:
        if statement.type is not duckdb.StatementType.SELECT:
            raise QueryError(ONLY_READING)
        # WITH may hold a COPY or an INSERT, but only at the top, so a query that works below the top has none.
        query = statement.query.strip().rstrip(";")
        with _in_one_line():
            self._connection.execute(f"EXPLAIN FROM (\n{query}\n)")

    def _rows(self) -> Iterator[tuple[Any, ...]]:
        with _in_one_line():
            while rows := self._connection.fetchmany(CHUNK):
                yield from rows

    def views(self) -> list[str]:
        """The names of the database's views."""
        (answer,) = self.answers("SELECT view_name FROM duckdb_views() WHERE NOT internal ORDER BY view_name")
        return [str(name) for (name,) in answer.rows]


@contextmanager
def reading(lake: Lake) -> Iterator[Reader]:
    """Opens the lake's database for reading.

    Raises:
        LakeError: There is none yet, or it cannot be read.
    """
    if not is_local(lake.root):
        raise LakeError(f"{lake.database} is no file of this machine; query it where the lake is kept")
    if not lake.database.is_file():
        raise LakeError(
            f"there is no {lake.database.name} in {lake.root}; run civitai-pipeline collect VERSION, or "
            "civitai-pipeline check --repair if it was there before"
        )
    # Beside the database, where DuckDB would put them, the temporary files of a large query would lie in the lake.
    with working_folder() as scratch:
        try:
            connection = duckdb.connect(str(lake.database), read_only=True)
        except duckdb.Error as error:
            raise LakeError(
                f"cannot read {lake.database}: {_line(error)} (civitai-pipeline check --repair makes it anew)"
            ) from None
        with connection:
            # Before external access goes, which allows the temporary folder that is set then, and none later.
            connection.execute("SET temp_directory = $1", [scratch])
            connection.execute("SET allowed_directories = [$1]", [str(lake.root)])
            for setting in (
                "TimeZone = 'UTC'",
                "enable_progress_bar = false",
                "autoinstall_known_extensions = false",
                "autoload_known_extensions = false",
                "enable_external_access = false",
                "lock_configuration = true",
            ):
                connection.execute(f"SET {setting}")
            yield Reader(connection)


@contextmanager
def _in_one_line() -> Iterator[None]:
    try:
        yield
    except duckdb.InterruptException:
        raise KeyboardInterrupt from None
    except duckdb.Error as error:
        raise QueryError(_line(error)) from None


def _line(error: duckdb.Error) -> str:
    # What follows shows the place in the query, in several lines.
    said = str(error).partition("\n\nLINE ")[0]
    return " ".join(said.split())

"""The command ``sql``: one query and its answer, or a prompt for many."""

from __future__ import annotations

import itertools
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

import click
from rich.console import Console

from civitai_pipeline.cli.answers import MOST_ROWS, csv_lines, json_rows, table_of
from civitai_pipeline.cli.common import (
    EXIT_CANCELED,
    Misuse,
    Trouble,
    examples,
    mention,
    print_json,
    say,
    settings_or_misuse,
)
from civitai_pipeline.lake.files import LakeError
from civitai_pipeline.lake.paths import Lake

if TYPE_CHECKING:
    from civitai_pipeline.lake.reading import Answer, Reader

PROMPT, GOES_ON = "lake> ", "  ... "
HELP = """\
.tables          the views that can be queried
.help            this
.quit            end; Ctrl-D does too
DESCRIBE name;   the columns of a view
A query may go over several lines and ends with a semicolon."""


@click.command(
    epilog=examples(
        'sql "SELECT category, count(*) FROM prompt_categories GROUP BY category"',
        'sql "FROM images_unique ORDER BY engagement DESC LIMIT 20" --format csv',
        'sql "DESCRIBE prompts"',
        "sql",
    )
)
@click.argument("query", required=False)
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "csv", "json"]),
    default="table",
    show_default=True,
    help=f"How to print the answer: a table of at most {MOST_ROWS} rows cut to the terminal, or all of it.",
)
def sql(query: str | None, form: str) -> None:
    """Query the lake's database; nothing can be changed.

    Without QUERY, asks for queries, or reads them from standard input where that is no terminal.
    """
    settings = settings_or_misuse()
    from civitai_pipeline.lake.reading import QueryError, reading  # noqa: PLC0415 - loads DuckDB

    try:
        with reading(Lake.at(settings.lake)) as reader:
            if query is None and sys.stdin.isatty():
                _converse(reader, form)
            else:
                _run(reader, sys.stdin.read() if query is None else query, form)
    except QueryError as error:
        raise Misuse(str(error)) from None
    except LakeError as error:
        raise Trouble(str(error)) from None
    except KeyboardInterrupt:
        say("Error: cancelled")
        sys.exit(EXIT_CANCELED)


def _run(reader: Reader, script: str, form: str) -> None:
    for answer in reader.answers(script):
        _show(answer, form)


def _converse(reader: Reader, form: str) -> None:
    from civitai_pipeline.lake.reading import QueryError  # noqa: PLC0415 - loads DuckDB

    with suppress(ImportError):
        # Gives the prompt its line editing and history; some builds of Python lack it.
        import readline  # noqa: F401, PLC0415
    mention("Queries end with a semicolon. .tables lists the views, .help says more, .quit ends.")
    pending = ""
    while True:
        try:
            line = input(GOES_ON if pending else PROMPT)
        except EOFError:
            click.echo()
            return
        except KeyboardInterrupt:
            click.echo()
            pending = ""
            continue
        if not pending and line.strip().startswith("."):
            if not _command(reader, line.strip()):
                return
            continue
        pending = f"{pending}\n{line}" if pending else line
        if pending.strip().endswith(";"):
            try:
                _run(reader, pending, form)
            except QueryError as error:
                say(f"Error: {error}")
            except KeyboardInterrupt:
                say("Cancelled.")
            pending = ""
        elif not pending.strip():
            pending = ""


def _command(reader: Reader, line: str) -> bool:
    """Does what a line that begins with a full stop asks for; whether the conversation goes on."""
    if line in {".quit", ".exit"}:
        return False
    if line == ".tables":
        for name in reader.views():
            click.echo(name)
    elif line == ".help":
        click.echo(HELP)
    else:
        say(f"Error: there is no {line.split(maxsplit=1)[0]}; .help lists what there is")
    return True


def _show(answer: Answer, form: str) -> None:
    if form == "csv":
        for line in csv_lines(answer.columns, answer.rows):
            click.echo(line, nl=False)
    elif form == "json":
        print_json(json_rows(answer.columns, answer.rows))
    else:
        console = Console()
        rows = list(itertools.islice(answer.rows, MOST_ROWS))
        table, left_out = table_of(answer.columns, rows, console.width)
        console.print(table)
        if left_out:
            mention(f"No room for {len(left_out)} more columns: {', '.join(left_out)}")
        if next(answer.rows, None) is not None:
            mention(f"The first {MOST_ROWS} rows; add LIMIT, or --format csv for all of them.")

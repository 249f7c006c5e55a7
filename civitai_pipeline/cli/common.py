"""What the commands share: errors and their exit statuses, argument types, settings, JSON."""

from __future__ import annotations

import json
import os
import re
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NoReturn

import click
from rich.console import Console

from civitai_pipeline.civitai.listing import parse_id
from civitai_pipeline.console import printable
from civitai_pipeline.settings import Settings, SettingsError, load_settings

if TYPE_CHECKING:
    from civitai_pipeline.civitai.client import CivitaiClient
    from civitai_pipeline.civitai.payloads import Model

EXIT_TROUBLE = 1
EXIT_USAGE = 2
EXIT_CANCELED = 130

# DEL, the C1 controls, line separators, and what turns text around.
_STEERING = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")

errors = Console(stderr=True)
# What --quiet silences; ``main`` sets it.
notices = Console(stderr=True)


# No table is as wide; Rich would else fold what goes to a file or another command at 80 columns.
_WIDE = 500


def output() -> Console:
    """Standard output for tables: as wide as the terminal, or as they are where it is none and ``COLUMNS`` not set."""
    console = Console()
    return console if console.is_terminal or "COLUMNS" in os.environ else Console(width=_WIDE)


def say(text: str) -> None:
    """Prints a line on standard error, to the letter that a terminal can show and however long it is."""
    errors.print(printable(text, kept="\n"), markup=False, highlight=False, soft_wrap=True)


def mention(text: str) -> None:
    """Prints a line on standard error as :func:`say` does, unless only errors and warnings are wanted."""
    notices.print(printable(text, kept="\n"), markup=False, highlight=False, soft_wrap=True)


def examples(*lines: str) -> str:
    """The end of a command's help: command lines that show its use."""
    return "\n".join(["\b", "Examples:", *(f"  civitai-pipeline {line}" for line in lines)])


def point_to_versions(model: Model, command: str) -> NoReturn:
    """Ends the command, which was given a model's id for that of a version, and lists the model's versions."""
    say(f"Error: {model.id} is the id of a model, {model.name}, not of a model version. Its versions:")
    for version in model.versions:
        say(f"  civitai-pipeline {command} {version.id}    {version.name} ({version.base_model})")
    sys.exit(EXIT_USAGE)


class Trouble(click.ClickException):
    """Something outside the command went wrong; one line says what and what to do."""

    exit_code = EXIT_TROUBLE

    def show(self, file: Any = None) -> None:  # noqa: ANN401, ARG002 - click's signature
        """Prints the line on standard error."""
        say(f"Error: {self.message}")


class Misuse(Trouble):
    """The command was given something it cannot use."""

    exit_code = EXIT_USAGE


class IdParam(click.ParamType[int]):
    """A model's or model version's id."""

    def __init__(self, what: str) -> None:
        self.name = what

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:  # noqa: ANN401 - click's signature
        """The id that ``value`` spells."""
        try:
            return parse_id(str(value), self.name)
        except ValueError as error:
            self.fail(str(error), param, ctx)


VERSION = IdParam("model version id")
MODEL = IdParam("model id")
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document on standard output.")


def settings_or_misuse() -> Settings:
    """What the environment says; ends the command where it holds something unusable."""
    try:
        return load_settings()
    except SettingsError as error:
        raise Misuse(str(error)) from None


def client(settings: Settings) -> CivitaiClient:
    """The process's client for the API."""
    # The same client that the assets use in this process, so that spacing and look-ups are shared.
    from civitai_pipeline.defs.resources import client_for  # noqa: PLC0415 - Dagster takes seconds to load

    return client_for(settings)


def print_json(document: object) -> None:
    """Prints one JSON document on standard output; times are ISO 8601 in UTC."""
    text = json.dumps(document, ensure_ascii=False, indent=2, default=_json_default)
    # JSON itself escapes the other controls; these may stand as they are, and steer a terminal that it is read on.
    click.echo(_STEERING.sub(lambda found: f"\\u{ord(found[0]):04x}", text))


def _json_default(value: object) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    raise TypeError(f"{type(value).__name__} has no JSON form")

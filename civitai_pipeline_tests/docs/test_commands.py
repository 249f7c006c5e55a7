from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

import click
import pytest

from civitai_pipeline.cli import main
from civitai_pipeline_tests.docs.documents import DOCUMENTS, ROOT, pieces_of_code, rows_after, shell_lines, text_of

if TYPE_CHECKING:
    from pathlib import Path

COMMAND_LINES = [
    pytest.param(document, line, id=f"{document.name}: {line}")
    for document in DOCUMENTS
    for line in dict.fromkeys(shell_lines(document, "civitai-pipeline"))
]


def test_the_documents_show_commands() -> None:
    assert len(COMMAND_LINES) > 10


@pytest.mark.parametrize(("document", "line"), COMMAND_LINES)
def test_every_command_line_names_an_existing_command_and_options(document: Path, line: str) -> None:
    _, name, *arguments = shlex.split(line)
    if name == "…":
        return
    command = main.commands.get(name)
    assert command is not None, f"{document}: there is no command {name}"
    known = {option for parameter in command.params for option in parameter.opts} | {"--help", "-h"}
    given = [argument.partition("=")[0] for argument in arguments if argument.startswith("-")]
    assert not set(given) - known, f"{document}: {line}"


@pytest.mark.parametrize(("document", "line"), COMMAND_LINES)
def test_every_command_line_can_be_parsed(document: Path, line: str) -> None:
    _, name, *arguments = shlex.split(line)
    places = {"VERSION": "910011", "MODEL": "9001"}
    command = main.commands.get(name)
    if command is None:
        return
    try:
        command.make_context(name, [places.get(argument, argument) for argument in arguments])
    except click.UsageError as error:
        pytest.fail(f"{document}: {line}: {error.format_message()}")


def test_the_readme_explains_every_command() -> None:
    explained = {shlex.split(row[0].strip("`"))[1] for row in rows_after(text_of("README.md"), "## Commands")}
    assert explained == set(main.commands)


def test_every_make_target_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", text_of("Makefile"), re.MULTILINE))
    named = {
        (document.name, target)
        for document in DOCUMENTS
        for piece in pieces_of_code(document)
        for target in re.findall(r"(?:^|[`\s])make ([a-z-]+)", piece)
    }
    assert {"demo", "test", "dev"} <= {target for _, target in named}
    assert not {(document, target) for document, target in named if target not in targets}


def test_the_documents_name_no_place_outside_the_project() -> None:
    for document in DOCUMENTS:
        assert not re.search(r"(?<![\w.])/(?:work|tmp|home|root)\b", document.read_text(encoding="utf-8")), document
    assert (ROOT / "LICENSE").is_file()

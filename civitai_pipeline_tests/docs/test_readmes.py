"""The Japanese README has what the English one has: sections, commands, tables, links and pictures."""

from __future__ import annotations

import pytest

from civitai_pipeline_tests.docs.documents import (
    ROOT,
    depths_of,
    links_of,
    names_in,
    pieces_of_code,
    shell_lines,
    tables_of,
    text_of,
)

ENGLISH, JAPANESE = ROOT / "README.md", ROOT / "README.ja.md"


def test_they_link_to_each_other_at_the_top() -> None:
    assert "](README.ja.md)" in text_of("README.md").split("\n\n")[1]
    assert "](README.md)" in text_of("README.ja.md").split("\n\n")[1]


def test_they_have_the_same_sections() -> None:
    assert depths_of(JAPANESE) == depths_of(ENGLISH)


@pytest.mark.parametrize("program", ["civitai-pipeline", "make", "source"])
def test_they_show_the_same_commands_in_the_same_order(program: str) -> None:
    commands = list(shell_lines(ENGLISH, program))
    assert commands
    assert list(shell_lines(JAPANESE, program)) == commands


def test_their_longer_pieces_of_code_are_the_same() -> None:
    english, japanese = ([p for p in pieces_of_code(d) if p.startswith("```")] for d in (ENGLISH, JAPANESE))
    assert japanese == english


def test_their_tables_have_the_same_rows_about_the_same_things() -> None:
    for english, japanese in zip(tables_of(ENGLISH), tables_of(JAPANESE), strict=True):
        assert [len(row) for row in japanese] == [len(row) for row in english]
        for ours, theirs in zip(english, japanese, strict=True):
            assert names_in(theirs) == names_in(ours)


def test_they_lead_to_the_same_places() -> None:
    # Sentences turn round in translation, and the links in them with them.
    english, japanese = (sorted(links_of(document)) for document in (ENGLISH, JAPANESE))
    assert [link for link in japanese if link != "README.md"] == [link for link in english if link != "README.ja.md"]


def test_they_name_the_same_things() -> None:
    english, japanese = (names_in([text_of(path.name).replace("```", "")]) for path in (ENGLISH, JAPANESE))
    assert japanese == english

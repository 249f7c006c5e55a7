"""The document on queries: every one runs on a lake collected from the stand-in, and gives rows."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from civitai_pipeline.collect.options import CollectOptions
from civitai_pipeline.instance import prepare_home
from civitai_pipeline.lake.paths import Lake
from civitai_pipeline.lake.reading import reading
from civitai_pipeline.sandbox import DEMO_VERSIONS, Sandbox, World
from civitai_pipeline_tests.docs.documents import text_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TEXT = text_of("docs/queries.md")
QUERIES = re.findall(r"^### (.+)\n(?:(?!```|###)[\s\S])*?```sql\n([\s\S]*?)```", TEXT, re.MULTILINE)


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lake]:
    from civitai_pipeline import launch  # noqa: PLC0415 - loads Dagster
    from civitai_pipeline.defs.resources import NoProgress  # noqa: PLC0415 - loads Dagster

    home: Path = tmp_path_factory.mktemp("queries")
    with Sandbox(World.synthetic(seed=1)) as server, pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "CIVITAI_BASE_URL": server.url,
            "CIVITAI_LAKE": str(home / "lake"),
            "CIVITAI_MIN_REQUEST_INTERVAL": "0",
            "DAGSTER_HOME": str(home / "dagster"),
        }.items():
            patch.setenv(name, value)
        prepare_home(home / "dagster")
        run = launch.collect(DEMO_VERSIONS[0], CollectOptions(), NoProgress())
        assert (run.failures, run.failed_checks) == ([], [])
        yield Lake.at(str(home / "lake"))


def test_there_are_enough_questions_and_each_has_a_query() -> None:
    assert len(QUERIES) == TEXT.count("\n### ") == TEXT.count("```sql\n")
    assert 15 <= len(QUERIES) <= 25


def test_every_question_has_an_answer(lake: Lake) -> None:
    unanswered = []
    with reading(lake) as reader:
        for question, query in QUERIES:
            (answer,) = reader.answers(query)
            assert len(set(answer.columns)) == len(answer.columns), question
            unanswered += [question] if not list(answer.rows) else []
    assert unanswered == []

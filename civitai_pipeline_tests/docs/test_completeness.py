from __future__ import annotations

import re
import tomllib
from datetime import UTC, datetime
from pathlib import Path

from civitai_pipeline.collect.summary import StopReason, Summary
from civitai_pipeline.definitions import build_defs
from civitai_pipeline.derive.analyses import build_analyses
from civitai_pipeline.derive.analyses.structure import MARKS
from civitai_pipeline.dictionary import dictionary
from civitai_pipeline.lake.database import VIEWS
from civitai_pipeline.lake.schemas import PROMPT_CATEGORIES, PROMPT_RESOURCES, PROMPTS, TABLES
from civitai_pipeline.lake.tables import from_rows
from civitai_pipeline.prompts.items import Outcome
from civitai_pipeline_tests.docs.documents import DOCUMENTS, ROOT, links_of, names_in, rows_after, text_of
from civitai_pipeline_tests.lake.examples import prompt_row


def test_the_data_dictionary_is_current() -> None:
    printed = dictionary()
    assert text_of("docs/data-dictionary.md") == printed, (
        "write it anew: python -m civitai_pipeline.dictionary > docs/data-dictionary.md"
    )


def test_the_data_dictionary_has_every_table_view_and_column() -> None:
    text = text_of("docs/data-dictionary.md")
    for table in TABLES:
        section = rows_after(text, f"### `{table.name}`")
        assert [row[0].strip("`") for row in section] == [column.name for column in table.columns]
    for view in VIEWS:
        assert rows_after(text, f"### `{view}`")


def test_the_data_dictionary_explains_every_outcome_in_order_of_precedence() -> None:
    rows = rows_after(text_of("docs/data-dictionary.md"), "### Outcomes")
    assert [row[0].strip("`") for row in rows] == [outcome.value for outcome in Outcome]


def test_the_data_dictionary_explains_every_fact_and_measure_of_the_analyses() -> None:
    text = text_of("docs/data-dictionary.md")
    assert names_in([row[0] for row in rows_after(text, "### Measures of `prompt_structure`")]) == set(MARKS)
    tables = build_analyses(
        from_rows(PROMPTS, [prompt_row(1)]),
        *(table.arrow_schema.empty_table() for table in (PROMPT_RESOURCES, PROMPT_CATEGORIES)),
    )
    facts = set(tables["capture_rates"].column("fact").to_pylist())
    assert names_in([row[0] for row in rows_after(text, "### Facts of `capture_rates`")]) == facts


def test_every_dependency_is_justified_and_no_other() -> None:
    project = tomllib.loads(text_of("pyproject.toml"))["project"]
    text = text_of("docs/dependencies.md")
    for heading, requirements in (
        ("## At run time", project["dependencies"]),
        ("## For development", project["optional-dependencies"]["dev"]),
    ):
        rows = rows_after(text, heading)
        assert sorted(row[0].strip("`") for row in rows) == sorted(
            re.split(r"[<>=!~\[; ]", line)[0] for line in requirements
        )
        assert all(row[1] for row in rows)


def test_every_variable_is_in_the_readme_and_in_the_example() -> None:
    example = re.findall(r"^#?([A-Z][A-Z_]+)=", text_of(".env.example"), re.MULTILINE)
    assert names_in([row[0] for row in rows_after(text_of("README.md"), "## Settings")]) == set(example)
    read = re.findall(r'"((?:CIVITAI|DAGSTER)_[A-Z_]+)"', text_of("civitai_pipeline/settings.py"))
    assert set(read) == set(example)


def test_every_stop_reason_is_explained() -> None:
    rows = rows_after(text_of("docs/operations.md"), "## Stop reasons")
    assert [row[0].strip("`") for row in rows] == [reason.value for reason in StopReason]


def test_every_key_of_the_summary_is_explained() -> None:
    explained = names_in([row[0] for row in rows_after(text_of("docs/architecture.md"), "## The run summary")])
    summary = Summary(model_version_id=1, run_id=None, started_at=datetime.now(UTC), listing={})
    summary.turn_to({})
    assert explained == set(summary.as_dict())


def test_every_asset_job_and_check_is_in_the_architecture() -> None:
    text = text_of("docs/architecture.md")
    assets = {key.to_user_string() for key in build_defs().resolve_asset_graph().get_all_asset_keys()}
    assert names_in([row[0] for row in rows_after(text, "## The flow")]) == assets
    checks = {check.name for check in build_defs().resolve_asset_graph().asset_check_keys}
    assert names_in([row[1] for row in rows_after(text, "## Checks")]) == checks
    for job in build_defs().resolve_all_job_defs():
        if not job.name.startswith("__"):
            assert f"`{job.name}`" in text, job.name


def test_every_package_is_in_the_architecture() -> None:
    drawn = text_of("docs/architecture.md").split("## The packages", 1)[1].split("## The lake", 1)[0]
    packages = {path.parent.name for path in (ROOT / "civitai_pipeline").glob("*/__init__.py")}
    assert packages
    assert not {package for package in packages if f"      {package}/ " not in drawn}


def test_every_decision_has_a_number_and_its_parts() -> None:
    decisions = sorted((ROOT / "docs/decisions").glob("[0-9]*.md"))
    assert [path.name[:4] for path in decisions] == [f"{n:04d}" for n in range(1, len(decisions) + 1)]
    for number, path in enumerate(decisions, start=1):
        text = path.read_text(encoding="utf-8")
        assert text.startswith(f"# {number}. ")
        assert all(part in text for part in ("\nStatus: ", "\n## Context\n", "\n## Decision\n", "\n## Consequences\n"))


def test_every_decision_is_in_the_index_under_its_title() -> None:
    rows = rows_after(text_of("docs/decisions/README.md"), "# Decisions")
    listed = [(link, title, status) for link, title, status in rows]
    decisions = sorted((ROOT / "docs/decisions").glob("[0-9]*.md"))
    assert listed == [
        (f"[{number}]({path.name})", lines[0].partition(". ")[2], lines[2].removeprefix("Status: "))
        for number, path in enumerate(decisions, start=1)
        for lines in [path.read_text(encoding="utf-8").splitlines()]
    ]


def test_every_folder_of_the_lake_is_in_the_readme() -> None:
    shown = names_in([row[0] for row in rows_after(text_of("README.md"), "## What the lake holds")])
    assert {f"{table.name}/" for table in TABLES} <= shown
    assert {view for view in VIEWS if f"`{view}`" not in text_of("README.md")} == set()


def test_every_document_can_be_reached_from_the_readme() -> None:
    reached, waiting = set[Path](), [ROOT / "README.md"]
    while waiting:
        document = waiting.pop().resolve()
        if document in reached or document.suffix != ".md":
            continue
        reached.add(document)
        waiting += [document.parent / link.partition("#")[0] for link in links_of(document) if "://" not in link]
    assert set(DOCUMENTS) <= reached


def test_everything_that_make_does_is_in_contributing() -> None:
    targets = set(re.findall(r"^([a-z-]+):.*##", text_of("Makefile"), re.MULTILINE)) - {"help"}
    assert not {target for target in targets if f"make {target}" not in text_of("CONTRIBUTING.md")}

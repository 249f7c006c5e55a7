"""The ``collect`` job on a real instance, a real lake and the stand-in."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import dagster as dg
import duckdb
import pyarrow as pa
import pytest

from civitai_pipeline.definitions import build_defs
from civitai_pipeline.defs.events import latest_summaries, latest_summary
from civitai_pipeline.defs.metadata import summary_from_metadata, summary_metadata
from civitai_pipeline.defs.partitions import register_versions
from civitai_pipeline.instance import prepare_home
from civitai_pipeline.lake import schemas, tables
from civitai_pipeline.lake.paths import Lake
from civitai_pipeline.sandbox import Sandbox, World
from civitai_pipeline_tests.conftest import point_at
from civitai_pipeline_tests.defs.collecting import IMAGE_PAGES, VERSION, checks_of, run

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

# The steps that make more than the table they are named after.
STEPS = {
    **dict.fromkeys(("prompts", "rejected_images", "landed_pages"), "prompt_tables"),
    **dict.fromkeys(("prompt_categories", "category_changes"), "category_tables"),
    "version_overviews": "version_report",
}


@dataclass(frozen=True)
class Collected:
    """What one whole run made, for tests that look at it or go on from it.

    Attributes:
        lake: The lake.
        home: The instance's folder.
        stand_in: What was collected from.
        result: The run's result.
    """

    lake: Lake
    home: Path
    stand_in: Sandbox
    result: dg.ExecuteInProcessResult


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collected]:
    """One whole run for all tests here; each works on a copy."""
    folder = tmp_path_factory.mktemp("whole_run")
    lake, home = folder / "lake", folder / "dagster"
    with pytest.MonkeyPatch.context() as monkeypatch, Sandbox(World.synthetic(seed=7, images=400)) as server:
        point_at(server.url, lake, home, monkeypatch)
        monkeypatch.setenv("CIVITAI_REPORT_URL", "http://127.0.0.1:8700/")
        prepare_home(home)
        with dg.DagsterInstance.get() as instance:
            result = run(instance)
        yield Collected(Lake.at(str(lake)), home, server, result)


@pytest.fixture
def collected(
    whole_run: Collected, tmp_path: Path, in_memory: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Collected, dg.DagsterInstance]]:
    """A copy of what the whole run made, and its instance; the stand-in is the one it came from."""
    lake, home = tmp_path / "lake", in_memory / "dagster"
    shutil.copytree(str(whole_run.lake.root), lake)
    shutil.copytree(whole_run.home, home)
    point_at(whole_run.stand_in.url, lake, home, monkeypatch)
    whole_run.stand_in.forget_requests()
    with dg.DagsterInstance.get() as instance:
        yield replace(whole_run, lake=Lake.at(str(lake)), home=home), instance


def test_one_run_makes_every_table_the_reports_and_the_database(whole_run: Collected) -> None:
    result, lake = whole_run.result, whole_run.lake
    assert result.success, [str(e.step_failure_data.error) for e in result.all_events if e.is_step_failure]
    shown = set(whole_run.stand_in.world.image_ids(VERSION))
    held = set(tables.read_table(lake, schemas.PROMPTS, VERSION).column("image_id").to_pylist())
    rejected = set(tables.read_table(lake, schemas.REJECTED_IMAGES, VERSION).column("image_id").to_pylist())
    assert held | rejected == shown
    assert not held & rejected
    for name in (f"{VERSION}.html", "index.html", "plotly.min.js"):
        assert (lake.reports / name).is_file()
    with duckdb.connect(str(lake.database), read_only=True) as connection:
        assert connection.sql("SELECT count(*) FROM prompts").fetchall() == [(len(held),)]
        assert connection.sql("SELECT status FROM collection_state").fetchall() == [("at_end",)]
        assert connection.sql("SELECT prompts FROM version_overviews").fetchall() == [(len(held),)]


def test_every_check_is_evaluated_for_the_partition_and_passes(whole_run: Collected) -> None:
    evaluations = whole_run.result.get_asset_check_evaluations()
    assert {e.partition for e in evaluations} == {str(VERSION)}
    passed = checks_of(whole_run.result)
    assert all(passed.values()), passed
    assert len(passed) == 10 + len(schemas.TABLES)


def test_the_index_of_reports_is_made_of_overviews_alone_and_tells_of_checks(
    collected: tuple[Collected, dg.DagsterInstance],
) -> None:
    made, instance = collected
    prompts = tables.read_table(made.lake, schemas.PROMPTS, VERSION)
    wrong = pa.concat_tables([prompts, prompts.slice(0, 1)])
    tables.write_table(made.lake, schemas.PROMPTS, VERSION, wrong)
    assert not check_alone(instance, "prompts", "prompts_are_images_of_the_version")
    for table in schemas.TABLES:
        if table not in {schemas.VERSION_OVERVIEWS, schemas.LANDED_PAGES, schemas.MODEL_VERSION_INFO}:
            made.lake.table(table, VERSION).unlink()
    made.lake.pages(5).mkdir(parents=True)
    assert run(instance, only=["collection_report"]).success
    page = (made.lake.reports / "index.html").read_text(encoding="utf-8")
    assert "Harbor Light XL · v1.0" in page
    assert "end reached" in page
    assert "Failed checks: prompts.prompts_are_images_of_the_version." in page
    assert "1 version has landed pages but no overview yet, and so no place below: 5." in page


def test_pictures_tables_and_numbers_of_a_run_stand_in_the_metadata(
    collected: tuple[Collected, dg.DagsterInstance],
) -> None:
    _, instance = collected
    shown = {name: _metadata(instance, name) for name in ("image_pages", "prompt_categories", "version_report")}
    pictures = [
        (name, key, value.md_str)
        for name, metadata in shown.items()
        for key, value in metadata.items()
        if isinstance(value, dg.MarkdownMetadataValue)
    ]
    assert [(name, key) for name, key, _ in pictures] == [
        ("image_pages", "picture/outcomes"),
        ("prompt_categories", "images by category"),
        ("prompt_categories", "confidence of primary categories"),
        ("version_report", "images by month"),
        ("version_report", "images by category"),
        ("version_report", "images by LoRA"),
    ]
    assert all((md or "").startswith("![](data:image/svg+xml;base64,") for _, _, md in pictures)
    assert max(len(md or "") for _, _, md in pictures) < 1000
    categories, report = shown["prompt_categories"], shown["version_report"]
    rows = [record.data for record in categories["categories"].value.records]
    assert {row["category"] for row in rows} >= {"style", "lighting"}
    assert sum(row["primary"] for row in rows) == report["prompts"].value
    assert categories["images_categorized"].value + categories["images_uncategorized"].value == report["prompts"].value
    assert isinstance(report["different LoRAs"], dg.IntMetadataValue)
    assert report["report"] == dg.UrlMetadataValue(f"http://127.0.0.1:8700/{VERSION}.html")
    assert "dagster/column_lineage" in categories
    assert "report" in _metadata(instance, "collection_report", None)


def test_the_report_has_no_link_where_it_is_not_served(collected: tuple[Collected, dg.DagsterInstance]) -> None:
    _, instance = collected
    assert run(instance, only=["version_report", "version_overviews"]).success
    assert "report" not in _metadata(instance, "version_report")


def _metadata(
    instance: dg.DagsterInstance, name: str, partition: str | None = str(VERSION)
) -> Mapping[str, dg.MetadataValue[Any]]:
    partitions = None if partition is None else [partition]
    found = instance.fetch_materializations(
        dg.AssetRecordsFilter(asset_key=dg.AssetKey(name), asset_partitions=partitions), limit=1
    ).records[0]
    assert found.asset_materialization is not None
    return found.asset_materialization.metadata


def test_the_summary_stands_on_the_materialization_and_adds_up(
    collected: tuple[Collected, dg.DagsterInstance],
) -> None:
    made, instance = collected
    summary = latest_summary(instance, IMAGE_PAGES, str(VERSION))
    assert summary is not None
    assert latest_summaries(instance, IMAGE_PAGES) == {str(VERSION): summary}
    assert summary["stop_reason"] == "at_end"
    assert summary["attempted"] == len(made.stand_in.world.image_ids(VERSION))
    assert summary["prompts_after"] - summary["prompts_before"] == summary["new"]
    assert summary["listing"]["sort"] == "Oldest"
    assert summary["error"] is None


def test_rows_are_counted_and_columns_shown_on_each_table(whole_run: Collected) -> None:
    for table in schemas.TABLES:
        steps = STEPS | {analysis.name: "prompt_analyses" for analysis in schemas.ANALYSIS_TABLES}
        event = whole_run.result.asset_materializations_for_node(steps.get(table.name, table.name))
        found = next(m for m in event if m.asset_key.to_user_string() == table.name)
        assert found.metadata["dagster/partition_row_count"].value == found.metadata["rows"].value
        assert found.partition == str(VERSION)


def test_a_second_run_continues_where_the_first_stopped_and_each_makes_a_report_whose_explorer_fits(
    instance: dg.DagsterInstance, environment: dict[str, str], stand_in: Sandbox
) -> None:
    lake = Lake.at(environment["CIVITAI_LAKE"])
    summaries, names = [], set()
    limited: dict[str, Any] = {"max_items": 50, "page_size": 25}
    for config in (limited, {}):
        run(instance, **config)
        summaries.append(latest_summary(instance, IMAGE_PAGES, str(VERSION)) or {})
        (prompts,) = lake.reports.glob(f"{VERSION}-prompts-*.js")
        explorer = (lake.reports / f"{VERSION}-explorer.html").read_text(encoding="utf-8")
        assert f'"file":"{prompts.name}"' in explorer
        assert f'"site":"{stand_in.url}"' in explorer
        assert f'href="{VERSION}-explorer.html"' in (lake.reports / f"{VERSION}.html").read_text(encoding="utf-8")
        names.add(prompts.name)
    assert len(names) == 2
    first, second = summaries
    assert (first["stop_reason"], first["attempted"], first["branch"]) == ("max_items", 50, "initial")
    assert (second["stop_reason"], second["branch"]) == ("at_end", "additional")
    assert second["prompts_before"] == first["prompts_after"]
    assert first["attempted"] + second["attempted"] == len(stand_in.world.image_ids(VERSION))


def test_rebuilding_makes_the_same_tables_without_asking_the_api(
    collected: tuple[Collected, dg.DagsterInstance],
) -> None:
    made, instance = collected
    lake = made.lake
    built = (
        schemas.PROMPTS,
        schemas.REJECTED_IMAGES,
        schemas.PROMPT_RESOURCES,
        schemas.PROMPT_CATEGORIES,
        schemas.NEAR_DUPLICATE_GROUPS,
    )
    before = [tables.read_table(lake, table, VERSION) for table in built]
    for table in built[1:]:
        lake.table(table, VERSION).unlink()
    assert run(instance, "rebuild").success
    assert [tables.read_table(lake, table, VERSION) for table in built] == before
    assert made.stand_in.requests == []


def test_another_taxonomy_categorizes_anew_without_the_api_and_shows_what_changed(
    collected: tuple[Collected, dg.DagsterInstance], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, instance = collected
    lake = made.lake
    held = len(tables.read_table(lake, schemas.PROMPTS, VERSION))
    assert len(tables.read_table(lake, schemas.CATEGORY_CHANGES, VERSION)) == 0
    words = tmp_path / "words.toml"
    words.write_text("version = 'mine'\n[categories.article]\nterms = ['a', 'the']", encoding="utf-8")
    monkeypatch.setenv("CIVITAI_TAXONOMY", str(words))
    result = run(instance, "rebuild")
    assert result.success
    assert made.stand_in.requests == []
    changes = tables.read_table(lake, schemas.CATEGORY_CHANGES, VERSION).to_pylist()
    assert {row["change"] for row in changes} == {1}
    assert {row["images"] for row in changes} == {held}
    article = next(row for row in changes if row["category"] == "article")
    assert article["images_before"] == 0 < article["gained"] == article["images_after"]
    assert all(row["to_version"].split("/")[1] == "mine" for row in changes)
    shown = next(
        m
        for m in result.asset_materializations_for_node("category_tables")
        if m.asset_key.path[-1] == "prompt_categories"
    ).metadata["changes"]
    assert isinstance(shown, dg.TableMetadataValue)
    assert len(shown.records) == len(changes)
    assert "taxonomy mine" in (lake.reports / f"{VERSION}.html").read_text(encoding="utf-8")
    words.write_text("version = 'mine'\n[categories.article]\nterms = ['the', 'the']", encoding="utf-8")
    failed = run(instance, "rebuild")
    assert not failed.success
    (failure,) = [event.step_failure_data for event in failed.all_events if event.is_step_failure]
    assert f"{words}: category 'article': 'the' is listed twice; remove one" in str(failure.error)


def test_a_summary_survives_its_way_through_metadata() -> None:
    summary = {"a": None, "b": True, "c": 3, "d": 0.5, "e": "text", "f": [1, 2], "g": {"h": 1}}
    assert summary_from_metadata(summary_metadata(summary)) == summary


@pytest.mark.parametrize(
    ("table", "check"),
    [
        (schemas.PROMPTS, "prompts_are_images_of_the_version"),
        (schemas.NEAR_DUPLICATE_GROUPS, "groups_are_those_of_prompts"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.name,
)
def test_a_wrong_table_is_caught_before_it_spreads(
    collected: tuple[Collected, dg.DagsterInstance], table: schemas.Table, check: str
) -> None:
    made, instance = collected
    rows = tables.read_table(made.lake, table, VERSION)
    tables.write_table(made.lake, table, VERSION, pa.concat_tables([rows, rows.slice(0, 1)]))
    assert not check_alone(instance, table.name, check)


def check_alone(instance: dg.DagsterInstance, asset: str, check: str) -> bool:
    """Makes a check and nothing else; whether it passed."""
    checks = (
        build_defs()
        .resolve_job_def("collect")
        .get_subset(asset_check_selection={dg.AssetCheckKey(dg.AssetKey(asset), check)}, asset_selection=set())
    )
    result = checks.execute_in_process(instance=instance, partition_key=str(VERSION), raise_on_error=False)
    (passed,) = checks_of(result).values()
    return passed


def test_tables_of_different_pages_are_not_compared_and_a_warning_says_so(
    instance: dg.DagsterInstance, environment: dict[str, str]
) -> None:
    register_versions(instance, [VERSION])
    lake = Lake.at(environment["CIVITAI_LAKE"])
    compared = {
        schemas.PROMPT_RESOURCES: "resources_belong_to_prompts",
        schemas.PROMPT_CATEGORIES: "categories_are_well_formed",
        schemas.NEAR_DUPLICATE_GROUPS: "groups_are_those_of_prompts",
    }
    for table in (schemas.PROMPTS, *compared):
        covered = {1: 1 if table is schemas.PROMPTS else 2}
        empty = tables.Provenance("1", covered).attached_to(table.arrow_schema.empty_table())
        tables.write_table(lake, table, VERSION, empty)
    keys = {dg.AssetCheckKey(dg.AssetKey(table.name), check) for table, check in compared.items()}
    job = build_defs().resolve_job_def("collect").get_subset(asset_check_selection=keys, asset_selection=set())
    result = job.execute_in_process(instance=instance, partition_key=str(VERSION), raise_on_error=False)
    assert result.success
    found = result.get_asset_check_evaluations()
    assert {check.severity for check in found} == {dg.AssetCheckSeverity.WARN}
    assert {check.passed for check in found} == {False}
    assert len(found) == len(compared)


def test_registering_a_model_makes_partitions_of_its_versions(instance: dg.DagsterInstance, stand_in: Sandbox) -> None:
    config = {"ops": {"register_versions_of_model": {"config": {"model_id": 9001}}}}
    for _ in range(2):
        assert (
            build_defs()
            .resolve_job_def("register_model")
            .execute_in_process(instance=instance, run_config=config)
            .success
        )
    published = {str(version.id) for version in stand_in.world.versions_of(9001)}
    assert set(instance.get_dynamic_partitions("model_version")) == published


def test_previewing_lands_nothing(instance: dg.DagsterInstance, environment: dict[str, str]) -> None:
    assert run(instance, "preview_collection").success
    assert not Lake.at(environment["CIVITAI_LAKE"]).pages(VERSION).exists()


def test_a_run_under_way_leaves_its_numbers_in_the_log_for_the_ui_to_plot(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("civitai_pipeline.defs.assets.collection.OBSERVE_EVERY_S", 0.0)
    run(instance, only=["image_pages"], page_size=50)
    attempted = []
    for record in reversed(instance.fetch_observations(IMAGE_PAGES, limit=50).records):
        assert record.asset_observation is not None
        said = summary_from_metadata(record.asset_observation.metadata)
        assert said["stop_reason"] is None
        attempted.append(said["attempted"])
    assert attempted == sorted(attempted)
    assert len(attempted) > 2

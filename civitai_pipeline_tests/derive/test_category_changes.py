"""What categorizing anew changed is told, kept and bounded."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from civitai_pipeline.derive.category_changes import KEPT_CHANGES, build_category_changes, latest_change
from civitai_pipeline.lake import schemas
from civitai_pipeline.lake.rows import HeldRows
from civitai_pipeline.lake.tables import schema_faults
from civitai_pipeline.prompts.categories import Categorizer
from civitai_pipeline.prompts.taxonomy import load_taxonomy
from civitai_pipeline_tests.tables import build_categories

from .landing import VERSION, Pages, image

if TYPE_CHECKING:
    from pathlib import Path

    import pyarrow as pa


@pytest.fixture
def prompts(pages: Pages) -> pa.Table:
    pages.land(*(image(n, text) for n, text in enumerate(["oak", "oak, elm", "elm, fox", "fox", "sea"], start=1)))
    return pages.build().prompts


def categorizer(folder: Path, version: str, **words: list[str]) -> Categorizer:
    path = folder / "words.toml"
    lists = "".join(f"[categories.{name}]\nterms = {orjson.dumps(terms).decode()}\n" for name, terms in words.items())
    path.write_text(f"version = '{version}'\n{lists}", encoding="utf-8")
    return Categorizer(load_taxonomy(path))


def changes_of(earlier: pa.Table | None, now: pa.Table, history: pa.Table | None) -> pa.Table:
    return build_category_changes(None if earlier is None else HeldRows(earlier), HeldRows(now), history)


def row(table: pa.Table, category: str) -> dict[str, Any]:
    return next(row for row in latest_change(table) if row["category"] == category)


def test_each_category_tells_what_it_gained_and_lost(prompts: pa.Table, tmp_path: Path) -> None:
    before = build_categories(prompts, None, categorizer(tmp_path, "1", tree=["oak", "elm"], beast=["hen"]))
    after = build_categories(prompts, before, categorizer(tmp_path, "2", beast=["fox", "elm"], tree=["oak"]))
    made = changes_of(before, after, None)
    assert schema_faults(schemas.CATEGORY_CHANGES, made) == []
    assert {entry["model_version_id"] for entry in made.to_pylist()} == {VERSION}
    assert [entry["category"] for entry in made.to_pylist()] == ["beast", "tree", "uncategorized"]
    beast, tree, none = (row(made, name) for name in ("beast", "tree", "uncategorized"))
    assert [entry["images"] for entry in (beast, tree, none)] == [5, 5, 5]
    assert [(e["images_before"], e["images_after"], e["gained"], e["lost"]) for e in (beast, tree, none)] == [
        (0, 3, 3, 0),
        (3, 2, 0, 1),
        (2, 1, 0, 1),
    ]
    assert [(e["primary_before"], e["primary_after"]) for e in (beast, tree, none)] == [(0, 3), (3, 1), (2, 1)]
    assert orjson.loads(beast["primary_from"]) == {"tree": 2, "uncategorized": 1}
    assert (beast["gained_image_ids"], tree["lost_image_ids"], none["gained_image_ids"]) == ([2, 3, 4], [3], [])
    assert [version.split("/")[1] for version in (beast["from_version"], beast["to_version"])] == ["1", "2"]


def test_without_another_taxonomy_or_code_the_history_stays(prompts: pa.Table, tmp_path: Path) -> None:
    first, second = (categorizer(tmp_path, version, tree=["oak"]) for version in "12")
    one = build_categories(prompts, None, first)
    two = build_categories(prompts, one, second)
    assert len(changes_of(None, one, None)) == 0
    assert len(changes_of(one, one, None)) == 0
    assert len(changes_of(one.replace_schema_metadata(None), two, None)) == 0
    history = changes_of(one, two, None)
    assert changes_of(two, two, history).equals(history)


def test_a_file_edited_without_a_new_version_is_another_taxonomy(prompts: pa.Table, tmp_path: Path) -> None:
    before = build_categories(prompts, None, categorizer(tmp_path, "1", tree=["oak"]))
    after = build_categories(prompts, before, categorizer(tmp_path, "1", tree=["elm"]))
    assert row(changes_of(before, after, None), "tree")["gained"] == 1


def test_a_comparison_that_was_written_before_a_crash_is_not_written_twice(prompts: pa.Table, tmp_path: Path) -> None:
    first, second = categorizer(tmp_path, "1", tree=["oak"]), categorizer(tmp_path, "2", tree=["elm"])
    one, two = build_categories(prompts, None, first), build_categories(prompts, None, second)
    history = changes_of(one, two, None)
    assert changes_of(one, two, history).equals(history)
    back = changes_of(two, one, history)
    assert [entry["change"] for entry in back.to_pylist()] == [1, 1, 2, 2]
    again = changes_of(one, two, back)
    assert max(entry["change"] for entry in again.to_pylist()) == 3


def test_the_history_is_bounded_and_only_shared_images_are_compared(pages: Pages, tmp_path: Path) -> None:
    pages.land(image(1, "oak"), image(2, "elm"))
    one = build_categories(pages.bring_up().prompts, None, categorizer(tmp_path, "1", tree=["oak"]))
    pages.land(image(3, "elm"))
    prompts = pages.bring_up().prompts
    history = None
    for number in range(KEPT_CHANGES + 3):
        taxonomy = replace(categorizer(tmp_path, "2", tree=["elm"]).taxonomy, version=str(number + 2))
        two = build_categories(prompts, one, Categorizer(taxonomy))
        history = changes_of(one, two, history)
    assert history is not None
    assert {entry["change"] for entry in history.to_pylist()} == set(range(4, KEPT_CHANGES + 4))
    tree = row(history, "tree")
    assert (tree["images"], tree["images_before"], tree["images_after"], tree["lost_image_ids"]) == (2, 1, 1, [1])

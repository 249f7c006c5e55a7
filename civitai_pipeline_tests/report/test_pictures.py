"""The pictures in the Dagster UI: counted right, well-formed, and small enough to be shown in place."""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from civitai_pipeline.report import pictures
from civitai_pipeline_tests.report.examples import make_summary, make_tables

if TYPE_CHECKING:
    from civitai_pipeline.report import VersionTables

SVG = "{http://www.w3.org/2000/svg}"
NUMBERS = st.integers(min_value=0, max_value=10**9)


@pytest.fixture(scope="module")
def tables() -> VersionTables:
    return make_tables(300)


def texts(svg: str) -> list[str]:
    return [text.text or "" for text in ET.fromstring(svg).iter(f"{SVG}text")]  # noqa: S314 - our own text


def lengths(svg: str) -> list[int]:
    (path,) = ET.fromstring(svg).iter(f"{SVG}path")  # noqa: S314 - our own text
    return [int(length) for length in re.findall(r"[hv]-?(\d+)", path.attrib["d"])]


def test_a_picture_is_markdown_that_holds_it_whole() -> None:
    svg = pictures.rows_svg([("style", 40)])
    said = pictures.in_markdown(svg)
    assert base64.b64decode(said.removeprefix("![](data:image/svg+xml;base64,").removesuffix(")")).decode() == svg


def test_bars_are_as_long_as_their_values_and_rows_left_out_are_counted() -> None:
    svg = pictures.rows_svg([("style", 40), ("mood", 10)])
    assert texts(svg) == ["style 40", "mood 10"]
    assert lengths(svg) == [120, 30]
    many = pictures.rows_svg([(f"tag {n}", 100 - n) for n in range(100)])
    assert texts(many)[-1] == f"and {100 - len(lengths(many))} more"
    assert len(lengths(many)) > 5


def test_columns_too_many_to_fit_are_added_up_and_none_is_lost() -> None:
    assert lengths(pictures.columns_svg("a", "b", [4, 0, 1])) == [44, 11]
    values = [1] * 400
    svg = pictures.columns_svg("2020-01", "2053-04", values)
    assert "2020-01 to 2053-04" in texts(svg)
    heights = lengths(svg)
    assert 20 < len(heights) < 60


def test_nothing_to_show_is_said() -> None:
    assert texts(pictures.rows_svg([])) == texts(pictures.columns_svg("", "", [])) == ["Nothing yet."]


@given(st.lists(st.tuples(st.text(), NUMBERS), max_size=40))
def test_any_rows_are_well_formed_and_shown_in_place(rows: list[tuple[str, float]]) -> None:
    svg = pictures.rows_svg(rows)
    texts(svg)
    assert len(pictures.in_markdown(svg)) < pictures.IN_PLACE


@given(st.text(), st.lists(NUMBERS, max_size=300))
def test_any_columns_are_well_formed_and_shown_in_place(name: str, values: list[float]) -> None:
    svg = pictures.columns_svg(name, name, values)
    texts(svg)
    assert len(pictures.in_markdown(svg)) < pictures.IN_PLACE


def test_outcomes_are_those_of_the_summary() -> None:
    summary = make_summary(300)
    assert texts(pictures.outcomes_svg(summary))[0] == f"new {summary['new']}"


def test_resources_of_one_name_are_told_apart_by_their_ids() -> None:
    tables = make_tables(2)
    rows = [
        {"image_id": image, "position": 0, "resource_type": "lora", "resource_name": "v1.0", "resource_version_id": id_}
        for image, id_ in ((1000, 7), (1001, 7), (1001, 8))
    ]
    resources = pa.Table.from_pylist(rows, tables.prompt_resources.schema)
    prompts = tables.prompts.set_column(
        tables.prompts.schema.get_field_index("prompt_withdrawn_at"),
        "prompt_withdrawn_at",
        pa.nulls(2, pa.timestamp("us", "UTC")),
    )
    assert pictures.resource_counts(prompts, resources, "lora") == [("7 v1.0", 2), ("8 v1.0", 1)]


def test_months_count_every_dated_prompt_that_stands(tables: VersionTables) -> None:
    prompts = tables.prompts
    by_month = duckdb.execute(
        "SELECT count(*) FROM prompts WHERE prompt_withdrawn_at IS NULL AND created_at IS NOT NULL "
        "GROUP BY date_trunc('month', created_at AT TIME ZONE 'UTC')"
    ).fetchall()
    svg = pictures.months_svg(prompts)
    assert f"at most {max(by_month)[0]}" in texts(svg)
    assert len(lengths(svg)) == len(by_month)


def test_resources_and_categories_are_counted_by_image(tables: VersionTables) -> None:
    prompts, resources, categories = tables.prompts, tables.prompt_resources, tables.prompt_categories
    counted = pictures.resource_counts(prompts, resources, "lora")
    assert [images for _, images in counted] == sorted((images for _, images in counted), reverse=True)
    standing = "SEMI JOIN (FROM prompts WHERE prompt_withdrawn_at IS NULL) USING (image_id)"
    (of_one,) = duckdb.execute(
        f"SELECT count(DISTINCT image_id) FROM resources {standing} WHERE resource_name = 'Ink Wash Study'"  # noqa: S608 - our own
    ).fetchall()
    assert [images for name, images in counted if name == "Ink Wash Study"] == [of_one[0]]
    found = pictures.category_counts(categories)
    assert sum(primary for _, _, primary, _ in found) == len(set(categories.column("image_id").to_pylist()))
    assert len(lengths(pictures.confidence_svg(categories))) >= 1

"""What holds of the analyses whatever they are made from."""

from __future__ import annotations

import math
import random
from collections import defaultdict
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from civitai_pipeline.derive.analyses import CODE_VERSION, build_analyses, cooccurrence, resources
from civitai_pipeline.lake import rows, schemas
from civitai_pipeline.lake.paths import Lake
from civitai_pipeline.lake.rows import PinnedTable
from civitai_pipeline.lake.schemas import ANALYSIS_TABLES
from civitai_pipeline.lake.tables import Provenance, from_rows, schema_faults, write_table
from civitai_pipeline.prompts.text import storable
from civitai_pipeline_tests.report.examples import make_tables

from .examples import MONDAY, analyses, image, resource

if TYPE_CHECKING:
    from pathlib import Path

    from civitai_pipeline.report import VersionTables

SHARES = {"share", "capture_rate", "weight_unknown_share", "author_share", "author_share_before", "p_value", "q_value"}


def hold_invariants(tables: dict[str, pa.Table]) -> None:
    """Shares lie within 0 and 1, no part is larger than its whole, rows are in the order of their keys."""
    for table in ANALYSIS_TABLES:
        made = tables[table.name]
        assert schema_faults(table, made) == []
        rows = made.to_pylist()
        keys = [tuple(row[name] for name in table.key) for row in rows]
        assert keys == sorted(set(keys)), table.name
        for row in rows:
            assert all(row[name] is None or 0 <= row[name] <= 1 for name in SHARES & set(row))
            assert row.get("images", 0) <= row.get("known", row.get("images_total", math.inf))
            assert row.get("known", 0) <= row.get("images_total", row.get("total", math.inf))
            assert row.get("prompts", 0) <= row.get("images", math.inf)
            assert row.get("authors", 0) <= row.get("images", row.get("known", math.inf))
            assert not any(isinstance(value, float) and not math.isfinite(value) for value in row.values())
            for low, high in (("minimum", "q1"), ("q1", "median"), ("median", "q3"), ("q3", "maximum"),
                              ("ratio_low", "ratio"), ("ratio", "ratio_high"), ("p_value", "q_value")):  # fmt: skip
                if row.get(low) is not None and row.get(high) is not None:
                    assert row[low] <= row[high] + 1e-12
    hold_sums(tables)


def hold_sums(tables: dict[str, pa.Table]) -> None:
    """Values add up to what is known, bins to what was measured."""
    values: dict[str, int] = defaultdict(int)
    for row in tables["setting_values"].to_pylist():
        values[row["setting"]] += row["images"]
    assert {row["setting"]: row["known"] for row in tables["setting_values"].to_pylist()} == values
    bins: dict[tuple[str, str], int] = defaultdict(int)
    for row in tables["length_bins"].to_pylist():
        bins[row["side"], row["quantity"]] += row["images"]
    measured = {
        (row["side"], row["quantity"]): row["n"]
        for row in tables["length_statistics"].to_pylist()
        if row["counted"] == "images"
    }
    assert measured == bins


@pytest.fixture(scope="module")
def version() -> VersionTables:
    return make_tables(1500)


@pytest.fixture(scope="module")
def made(version: VersionTables) -> dict[str, pa.Table]:
    return build_analyses(version.prompts, version.prompt_resources, version.prompt_categories)


def test_the_analyses_of_a_version_keep_the_rules(made: dict[str, pa.Table]) -> None:
    assert list(made) == [table.name for table in ANALYSIS_TABLES]
    assert all(len(table) for table in made.values())
    hold_invariants(made)


def test_the_order_of_rows_makes_no_difference(version: VersionTables, made: dict[str, pa.Table]) -> None:
    chance = random.Random(5)  # noqa: S311 - an order, no secret
    shuffled = [
        table.take(chance.sample(range(len(table)), len(table)))
        for table in (version.prompts, version.prompt_resources, version.prompt_categories)
    ]
    again = build_analyses(*shuffled)
    assert {name for name in made if not again[name].equals(made[name])} == set()


def test_a_file_read_in_batches_and_what_is_done_in_parts_make_no_difference(
    version: VersionTables, made: dict[str, pa.Table], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resources, "_IMAGES_A_PART", 400)
    monkeypatch.setattr(rows, "STREAMED_ROWS", 400)
    monkeypatch.setattr(cooccurrence, "_CHUNK_ROWS", 100)
    lake, sources = Lake.at(str(tmp_path)), []
    categories = version.prompt_categories.drop_columns(["categorized_hash"])
    categories = categories.append_column("categorized_hash", pa.repeat("0", len(categories)))
    for table, data in (
        (schemas.PROMPTS, version.prompts),
        (schemas.PROMPT_RESOURCES, version.prompt_resources),
        (schemas.PROMPT_CATEGORIES, categories),
    ):
        write_table(lake, table, 1, data)
        sources.append(PinnedTable.of(lake, table, 1))
    again = build_analyses(*sources)
    assert {name for name in made if not again[name].equals(made[name])} == set()


def test_nothing_makes_empty_tables_of_the_declared_schema() -> None:
    tables = analyses([])
    for table in ANALYSIS_TABLES:
        assert tables[table.name].schema.equals(table.arrow_schema)
        assert len(tables[table.name]) == 0


def test_withdrawn_prompts_alone_leave_only_the_count_of_them() -> None:
    tables = analyses([image(1, "kite, sea", prompt_withdrawn_at=MONDAY)], [resource(1, "lora", "wind")])
    assert {name for name, table in tables.items() if len(table)} == {"capture_rates"}
    hold_invariants(tables)


def test_the_tables_say_which_pages_they_cover() -> None:
    prompts = Provenance("9", {1: 4}).attached_to(from_rows(schemas.PROMPTS, [image(1, "kite")]))
    others = [table.arrow_schema.empty_table() for table in (schemas.PROMPT_RESOURCES, schemas.PROMPT_CATEGORIES)]
    for table in build_analyses(prompts, *others).values():
        assert Provenance.of(table.schema) == Provenance(CODE_VERSION, {1: 4})


TEXT = st.text().map(storable)
ODD = TEXT | st.sampled_from(
    [
        "<lora:a:1>",
        "((((",
        "桜、春\uff0c",
        "🦊" * 40,
        "a," * 300,
        ":1.2)",
        "\x00",
        "BREAK",
        "'; DROP TABLE images; --",
        "$most",
    ]
)
MAYBE = st.none() | ODD
PROMPT = ODD.filter(lambda text: bool(text.strip()))
NUMBERS = st.none() | st.integers(-(2**31), 2**31 - 1)
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "negative_prompt": MAYBE,
    "engagement": st.none() | st.floats(0, 1e300),
    "sampler": MAYBE,
    "checkpoint_name": MAYBE,
    "steps": NUMBERS,
    "cfg_scale": st.none() | st.floats(allow_nan=False, allow_infinity=False),
    "width": NUMBERS,
    "height": NUMBERS,
    "clip_skip": NUMBERS,
    "seed": st.none() | st.integers(-(2**63), 2**63 - 1),
    "created_at": st.none()
    | st.timedeltas(timedelta(days=-9000), timedelta(days=9000)).map(lambda after: MONDAY + after),
    "prompt_withdrawn_at": st.sampled_from([None, None, None, MONDAY]),
}
IMAGES = st.lists(st.tuples(PROMPT, MAYBE, st.fixed_dictionaries({}, optional=FIELDS)), max_size=12)
RESOURCES = st.lists(
    st.tuples(st.integers(0, 11), st.sampled_from(["lora", "dora", "checkpoint", "vae"]), MAYBE,
              st.none() | st.floats(allow_nan=False, allow_infinity=False), st.none() | st.integers(1, 3), MAYBE),
    max_size=12,
)  # fmt: skip


@settings(max_examples=15)
@given(IMAGES, RESOURCES)
def test_no_prompt_whatsoever_keeps_the_tables_from_being_made(
    images: list[tuple[str, str | None, dict[str, Any]]], resources: list[tuple[Any, ...]]
) -> None:
    tables = analyses(
        [image(n, prompt, author, **fields) for n, (prompt, author, fields) in enumerate(images)],
        [
            resource(n, kind, name, weight, resource_version_id=version_id, resource_hash=digest)
            for n, kind, name, weight, version_id, digest in resources
        ],
        [(n, "mood") for n in range(len(images))],
    )
    hold_invariants(tables)

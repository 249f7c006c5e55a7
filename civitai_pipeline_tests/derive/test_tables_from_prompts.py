"""The tables made from the prompts table follow it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from civitai_pipeline.derive import prompt_categories
from civitai_pipeline.derive.near_duplicate_groups import build_near_duplicate_groups
from civitai_pipeline.derive.prompt_categories import stage_categories
from civitai_pipeline.lake import schemas
from civitai_pipeline.lake.rows import HeldRows, PinnedTable, earlier_rows
from civitai_pipeline.lake.tables import Provenance, read_earlier, schema_faults, write_table
from civitai_pipeline.prompts.categories import Categorizer
from civitai_pipeline.prompts.taxonomy import load_taxonomy
from civitai_pipeline_tests.tables import build_categories, build_resources
from civitai_pipeline_tests.tables import whole as whole_table

from .landing import VERSION, Pages, column, image

TAXONOMY = load_taxonomy()
CATEGORIZER = Categorizer(TAXONOMY)


class Counting(Categorizer):
    """A categorizer that notes which prompts it was asked about."""

    def __init__(self, version: str | None = None) -> None:
        super().__init__(TAXONOMY if version is None else replace(TAXONOMY, version=version))
        self.asked: list[str] = []

    def categorize_all(self, prompts: Any) -> pa.Table:  # noqa: ANN401 - any column of texts
        self.asked += prompts.to_pylist()
        return super().categorize_all(prompts)


def resources_of(table: pa.Table, image_id: int) -> list[tuple[Any, ...]]:
    names = ("position", "resource_type", "resource_name", "weight", "source")
    return [tuple(row[name] for name in names) for row in table.to_pylist() if row["image_id"] == image_id]


def test_no_prompts_make_empty_tables_of_the_declared_schema(pages: Pages) -> None:
    prompts = pages.build().prompts
    for table, made in (
        (schemas.PROMPT_RESOURCES, build_resources(prompts)),
        (schemas.PROMPT_CATEGORIES, build_categories(prompts, None, Counting())),
        (schemas.NEAR_DUPLICATE_GROUPS, build_near_duplicate_groups(HeldRows(prompts))),
    ):
        assert len(made) == 0
        assert made.schema.equals(table.arrow_schema)


def grouped(pages: Pages, groups: dict[int, int | None], *items: dict[str, Any]) -> pa.Table:
    """The prompts table of items, with the groups given."""
    pages.land(*items)
    prompts = pages.build().prompts
    values = pa.array([groups.get(image_id) for image_id in column(prompts, "image_id")], type=schemas.BIGINT)
    return prompts.set_column(prompts.column_names.index("near_duplicate_group"), "near_duplicate_group", values)


def test_groups_count_images_prompts_and_authors(pages: Pages) -> None:
    prompts = grouped(
        pages,
        {1: 1, 2: 1, 3: 1, 4: 1, 5: 5, 6: 5, 8: 8, 9: 8},
        image(1, "a red kite", username="ann"),
        image(2, "a red kite", username="ann"),
        image(3, "a blue kite", username="ben"),
        image(4, "a (red) kite", username=" "),
        image(5, "dunes", username="unknown"),
        image(6, "dunes"),
        image(7, "alone", username="ann"),
        image(8, "sea", username="eve"),
        image(9, "the sea", username="eve"),
    )
    made = build_near_duplicate_groups(HeldRows(prompts))
    assert schema_faults(schemas.NEAR_DUPLICATE_GROUPS, made) == []
    assert [tuple(entry.values()) for entry in made.to_pylist()] == [
        (1, VERSION, 4, 2, 2, 3, 2 / 3),
        (5, VERSION, 2, 1, 0, 0, None),
        (8, VERSION, 2, 2, 1, 2, 1.0),
    ]
    assert Provenance.of(made.schema) == Provenance("1", {1: 1})


def test_each_resource_of_a_prompt_is_a_row_in_its_order(pages: Pages) -> None:
    pages.land(
        image(
            2,
            meta={
                "prompt": "a kite <lora:Wind:0.7>",
                "civitaiResources": [
                    {"type": "checkpoint", "modelVersionId": 5},
                    {"type": "lora", "modelVersionId": 6, "weight": 0.5},
                ],
            },
        ),
        image(1),
    )
    prompts = pages.build().prompts
    made = build_resources(prompts)
    assert schema_faults(schemas.PROMPT_RESOURCES, made) == []
    assert resources_of(made, 1) == []
    found = resources_of(made, 2)
    assert [entry[0] for entry in found] == list(range(len(found)))
    assert {(entry[1], entry[3]) for entry in found} == {("checkpoint", None), ("lora", 0.5), ("lora", 0.7)}
    provenance, source = Provenance.of(made.schema), Provenance.of(prompts.schema)
    assert provenance is not None
    assert source is not None
    assert provenance.covered == source.covered


def test_resources_follow_a_prompt_that_changes(pages: Pages) -> None:
    pages.land(image(1, "a kite <lora:Wind:0.7>"))
    pages.bring_up()
    pages.land(image(1, "a kite <lora:Rain:1>"))
    found = resources_of(build_resources(pages.bring_up().prompts), 1)
    assert [(entry[2], entry[3]) for entry in found] == [("Rain", 1.0)]


def test_every_image_has_exactly_one_primary_category(pages: Pages) -> None:
    pages.land(image(1, "masterpiece, oil painting, golden hour"), image(2, "xyzzy"), image(3, "XYZZY,"))
    made = build_categories(pages.build().prompts, None, Counting())
    assert schema_faults(schemas.PROMPT_CATEGORIES, made) == []
    primary = [row["image_id"] for row in made.to_pylist() if row["is_primary"]]
    assert primary == [1, 2, 3]
    assert [row["category"] for row in made.to_pylist() if row["image_id"] != 1] == ["uncategorized"] * 2
    keys = list(zip(column(made, "image_id"), column(made, "category"), strict=True))
    assert keys == sorted(set(keys))


def test_only_prompts_not_seen_before_are_categorized(pages: Pages) -> None:
    pages.land(image(1, "golden hour"), image(2, "Golden  hour"), image(3, "oil painting"))
    first = Counting()
    earlier = build_categories(pages.bring_up().prompts, None, first)
    assert sorted(first.asked) == ["golden hour", "oil painting"]
    write_table(pages.lake, schemas.PROMPT_CATEGORIES, VERSION, earlier)
    pages.land(image(3, "watercolor"), image(4, "golden hour"), image(1, None))
    prompts = pages.bring_up().prompts
    second = Counting()
    stored = read_earlier(pages.lake, schemas.PROMPT_CATEGORIES, VERSION)
    made = build_categories(prompts, stored, second)
    assert second.asked == ["watercolor"]
    assert made.equals(build_categories(prompts, None, Counting()), check_metadata=True)


def test_prompts_that_differ_by_the_end_of_a_line_alone_keep_their_own_categories(pages: Pages) -> None:
    pages.land(image(2, "golden\nhour"))
    earlier = build_categories(pages.bring_up().prompts, None, Counting())
    pages.land(image(1, "golden hour"))
    prompts = pages.bring_up().prompts
    assert column(prompts, "duplicate_of") == [None, 1]
    made = build_categories(prompts, earlier, Counting())
    assert column(made, "category") == ["lighting", "uncategorized"]
    assert made.equals(build_categories(prompts, None, Counting()))


@pytest.mark.parametrize("damage", ["taxonomy", "no provenance", "other code"])
def test_what_another_taxonomy_or_code_said_is_not_taken_over(pages: Pages, damage: str) -> None:
    pages.land(image(1, "golden hour"))
    prompts = pages.build().prompts
    earlier = build_categories(prompts, None, Counting("of last year" if damage == "taxonomy" else None))
    if damage == "no provenance":
        earlier = earlier.replace_schema_metadata(None)
    elif damage == "other code":
        earlier = Provenance("0/of old", {1: 1}).attached_to(earlier)
    again = Counting()
    made = build_categories(prompts, earlier, again)
    assert again.asked == ["golden hour"]
    assert set(column(made, "taxonomy_version")) == {TAXONOMY.version}


def test_an_earlier_table_whose_rows_are_damaged_is_made_anew(pages: Pages) -> None:
    pages.land(*(image(number, f"golden hour {number}") for number in range(1, 200)))
    prompts = HeldRows(pages.bring_up().prompts)
    stage_categories(pages.lake, VERSION, prompts, None, CATEGORIZER).put_in_place()
    path = pages.lake.table(schemas.PROMPT_CATEGORIES, VERSION)
    whole = path.read_bytes()
    path.write_bytes(whole[:4] + bytes(len(whole) // 4) + whole[4 + len(whole) // 4 :])
    assert earlier_rows(pages.lake, schemas.PROMPT_CATEGORIES, VERSION) is None
    # A disk may fail between opening and reading, too.
    earlier = PinnedTable(schemas.PROMPT_CATEGORIES, path)
    staged = stage_categories(pages.lake, VERSION, prompts, earlier, CATEGORIZER)
    assert staged.read().equals(whole_table(prompt_categories.build_categories(prompts, None, CATEGORIZER)))


@pytest.mark.parametrize("at_once", [1, 2, 3])
def test_however_many_images_pass_at_once_the_categories_are_the_same(
    pages: Pages, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    texts = ["golden hour", "oil painting", "golden hour", "xyzzy", "golden\nhour", "oil painting", "golden hour"]
    pages.land(*(image(number, text) for number, text in enumerate(texts, start=1)))
    prompts = pages.bring_up().prompts
    earlier = build_categories(prompts, None, CATEGORIZER)
    # The prompt of the first two images is now one that an image behind them had all the while.
    pages.land(image(1, "xyzzy"), image(2, "xyzzy"), image(9, "oil painting"))
    changed = pages.bring_up().prompts
    expected = build_categories(changed, None, CATEGORIZER)
    monkeypatch.setattr(prompt_categories, "_IMAGES_AT_ONCE", at_once)
    assert build_categories(prompts, None, CATEGORIZER).equals(earlier)
    assert build_categories(changed, None, CATEGORIZER).equals(expected)
    assert build_categories(changed, earlier, CATEGORIZER).equals(expected)


PHRASES = st.sampled_from(
    ["golden hour", "golden\nhour", "GOLDEN hour,", "oil painting", "(oil painting:1.2)", "xyzzy", "8k <lora:a:1>"]
)


@settings(max_examples=4)
@given(st.lists(st.lists(st.tuples(st.integers(1, 5), PHRASES | st.none()), max_size=4), min_size=1, max_size=4))
def test_following_step_by_step_equals_starting_from_nothing(
    tmp_path_factory: pytest.TempPathFactory, landings: list[list[tuple[int, str | None]]]
) -> None:
    pages, categories = Pages(tmp_path_factory.mktemp("lake")), None
    for items in landings:
        pages.land(*(image(image_id, prompt) for image_id, prompt in items))
        prompts = pages.bring_up().prompts
        categories = build_categories(prompts, categories, CATEGORIZER)
    whole = pages.build(rebuild=True).prompts
    assert categories is not None
    assert categories.equals(build_categories(whole, None, CATEGORIZER))
    assert build_resources(prompts).equals(build_resources(whole))


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
RESOURCE_KEYS = ("type", "name", "modelVersionId", "weight", "hash", "modelName", "air", "model", "versionId")
META = st.fixed_dictionaries(
    {"prompt": st.text() | st.sampled_from(["a <lora:x:1e400>", "b <lora:\x00:>", "embedding:c"])},
    optional={
        "civitaiResources": st.lists(st.dictionaries(st.sampled_from(RESOURCE_KEYS), JSON, max_size=4), max_size=2),
        "resources": st.lists(st.dictionaries(st.sampled_from(RESOURCE_KEYS), JSON, max_size=4), max_size=2) | JSON,
        "hashes": st.dictionaries(st.text(max_size=8), JSON, max_size=2) | JSON,
        "additionalResources": st.lists(st.dictionaries(st.sampled_from(RESOURCE_KEYS), JSON, max_size=4), max_size=2),
        "comfy": JSON,
        "steps": JSON,
        "seed": JSON,
        "cfgScale": JSON,
    },
)
HOSTILE = JSON | st.fixed_dictionaries(
    {"id": st.integers(1, 3), "meta": META | JSON},
    optional={"stats": JSON, "createdAt": st.text() | st.datetimes().map(str), "width": JSON, "postId": JSON,
              "username": JSON, "browsingLevel": JSON},
)  # fmt: skip


@settings(max_examples=10)
@given(st.lists(HOSTILE, min_size=1, max_size=4))
def test_no_item_whatsoever_keeps_a_table_from_being_made(
    tmp_path_factory: pytest.TempPathFactory, items: list[Any]
) -> None:
    pages = Pages(tmp_path_factory.mktemp("lake"))
    pages.land(*items)
    built = pages.build()
    resources, categories = build_resources(built.prompts), build_categories(built.prompts, None, CATEGORIZER)
    for table, made in (
        (schemas.PROMPTS, built.prompts),
        (schemas.REJECTED_IMAGES, built.rejected_images),
        (schemas.LANDED_PAGES, built.landed_pages),
        (schemas.PROMPT_RESOURCES, resources),
        (schemas.PROMPT_CATEGORIES, categories),
        (schemas.NEAR_DUPLICATE_GROUPS, build_near_duplicate_groups(HeldRows(built.prompts))),
    ):
        assert schema_faults(table, made) == []
    assert set(column(categories, "image_id")) == set(column(built.prompts, "image_id"))

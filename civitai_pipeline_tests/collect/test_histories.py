"""A version's life in any order: images come, change and go, runs of every kind collect, tables are made or lost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypothesis import given, settings
from hypothesis import strategies as st

from civitai_pipeline.civitai.listing import Sort
from civitai_pipeline.derive.prompt_tables import STEP_TABLES, load_held
from civitai_pipeline.sandbox import FaultRule, Sandbox, World

from .stage import OUTCOMES, VERSION, Stage, item, items, same

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pytest

IDS = st.integers(1, 12)
STEPS = st.one_of(
    st.tuples(st.just("insert"), st.sampled_from([1, 2])),
    st.tuples(st.just("insert odd"), st.sampled_from([None, {"meta": None}, 7])),
    st.tuples(st.just("delete"), IDS),
    st.tuples(st.just("stats"), IDS),
    st.tuples(st.just("withdraw"), IDS),
    st.tuples(st.just("meta"), IDS),
    st.tuples(st.just("build"), st.booleans()),
    st.tuples(st.just("lose"), st.integers(0, 2)),
)
FAULTS = ["server_error", "cursor_dead", "same_cursor", "restart_at_first_page", "empty_no_cursor", "cut_json"]
RUNS = st.fixed_dictionaries(
    {"page_size": st.integers(1, 6)},
    optional={
        "max_items": st.integers(1, 9),
        "browsing_level": st.sampled_from([2, 3]),
        "sort": st.sampled_from([Sort.NEWEST, Sort.MOST_REACTIONS]),
        "strict_version_match": st.just(True),
        "append_only": st.just(True),
        "restart": st.just(True),
        "fault": st.tuples(st.sampled_from(FAULTS), st.integers(1, 3)),
    },
)


def change(stage: Stage, what: str, detail: int, fresh: int) -> None:
    world = stage.world
    if what == "insert":
        world.insert(item(fresh, browsingLevel=detail), VERSION)
    elif what == "insert odd":
        world.insert(detail, VERSION)
    elif what == "build":
        stage.build(rebuild=bool(detail))
    elif what == "lose":
        stage.lake.table(STEP_TABLES[detail], VERSION).unlink(missing_ok=True)
    elif world.find(detail):
        if what == "delete":
            world.delete_image(detail)
        elif what == "stats":
            world.update_stats(detail, like=1)
        else:
            world.set_meta(detail, None if what == "withdraw" else {"prompt": f"edited {fresh}"})


@settings(max_examples=5)
@given(st.lists(st.tuples(st.lists(STEPS, max_size=3), RUNS), min_size=1, max_size=6))
def test_whatever_happens_the_sums_hold_and_tables_added_to_equal_tables_made_anew(
    tmp_path_factory: pytest.TempPathFactory, history: list[tuple[list[tuple[str, Any]], dict[str, Any]]]
) -> None:
    listed = [*items(4), item(5, ""), item(6, browsingLevel=2), {"meta": 1}, *items(3, start=7)]
    with Sandbox(World.from_items(listed, VERSION)) as server:
        stage = Stage(server, tmp_path_factory.mktemp("lake"))
        sums: dict[str, int] = dict.fromkeys(OUTCOMES, 0)
        for number, (changes, run) in enumerate(history):
            for place, (what, detail) in enumerate(changes):
                change(stage, what, detail, 100 + 10 * number + place)
            fault = run.pop("fault", None)
            server.faults.set([] if fault is None else [FaultRule(fault[0], nth=fault[1])])
            said = stage.collect(**run).as_dict()
            for outcome in OUTCOMES:
                sums[outcome] += said[outcome]
        server.faults.clear()
        check_tables(stage, sums)
        # And whatever happened before, a new walk ends complete.
        summary = stage.collect(restart=True, browsing_level=3)
        assert summary.stop_reason == "at_end"
        held = {row["image_id"] for row in stage.build().prompts.to_pylist()}
        listed_now = [image.item() for image in server.world.gallery(VERSION)]
        assert held >= {entry["id"] for entry in listed_now if isinstance(entry, dict) and prompted(entry)}


def check_tables(stage: Stage, sums: Mapping[str, int]) -> None:
    held = load_held(stage.lake, VERSION)
    built, whole = stage.build(write=False), stage.build(rebuild=True, write=False)
    assert same(built, whole)
    assert held.landed_pages.equals(whole.landed_pages)
    assert len(held.holdings) == len(whole.prompts) == sums["new"]
    for outcome in OUTCOMES:
        assert sum(whole.landed_pages.column(outcome).to_pylist()) == sums[outcome]
    ids = [row["image_id"] for row in whole.prompts.to_pylist()]
    refused = [row["image_id"] for row in whole.rejected_images.to_pylist() if row["image_id"] is not None]
    assert len(set(ids)) == len(ids)
    assert len(set(refused)) == len(refused)
    assert not set(ids) & set(refused)


def prompted(entry: dict[str, Any]) -> bool:
    meta = entry.get("meta")
    return isinstance(entry.get("id"), int) and isinstance(meta, dict) and bool(str(meta.get("prompt") or "").strip())

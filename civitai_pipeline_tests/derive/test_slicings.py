"""Adding pages in any slices, over any walks, gives what a rebuild gives, and what a plain model says."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st

from civitai_pipeline.derive import slabs
from civitai_pipeline.derive.prompt_tables import STEP_TABLES, load_held
from civitai_pipeline.lake.pages import Options
from civitai_pipeline.lake.tables import write_table

from .landing import VERSION, Json, Pages, column, image, same

if TYPE_CHECKING:
    import pytest

PROMPTS = [None, " ", "a kite", "A  kite, ", "two kites"]
ITEMS = st.one_of(
    st.builds(
        lambda image_id, prompt, like, named: image(
            image_id,
            like=like,
            meta=None
            if prompt is None
            else {"prompt": prompt}
            | ({"civitaiResources": [{"type": "checkpoint", "modelVersionId": VERSION}]} if named else {}),
        ),
        st.integers(1, 4),
        st.sampled_from(PROMPTS),
        st.integers(0, 1),
        st.booleans(),
    ),
    st.sampled_from([None, {"meta": 1}, {"id": "x"}]),
)


@dataclass(frozen=True)
class Step:
    """A page that lands, or a confirmation, and whether the tables are made after it."""

    walk: int
    items: list[Any]
    options: Options
    is_confirmation: bool
    hides: int
    builds: bool
    rolls_back: int | None


STEPS = st.lists(
    st.builds(
        Step,
        walk=st.integers(1, 3),
        items=st.lists(ITEMS, max_size=4),
        options=st.builds(Options, st.booleans(), st.booleans()),
        is_confirmation=st.integers(0, 4).map(lambda number: number == 0),
        hides=st.integers(1, 4),
        builds=st.booleans(),
        rolls_back=st.sampled_from([None] * 6 + [0, 1, 2]),
    ),
    min_size=1,
    max_size=9,
)


@dataclass
class Model:
    """What the tables should say, told in the plainest way."""

    rows: dict[int, Json] = field(default_factory=dict)
    rejected: dict[object, tuple[str, str]] = field(default_factory=dict)

    def see(self, item: object, position: int, options: Options, page: str) -> str:
        if not isinstance(item, dict) or not isinstance(item.get("id"), int):
            self.rejected[position, str(item)] = ("malformed", page)
            return "malformed"
        image_id: int = item["id"]
        meta = item["meta"] or {}
        prompt = (meta.get("prompt") or "").strip()
        row = self.rows.get(image_id)
        if options.strict_version_match and "civitaiResources" not in meta:
            if row is None:
                self.rejected[image_id] = ("version_mismatch", page)
            return "version_mismatch"
        if row is None and not prompt:
            self.rejected[image_id] = ("no_prompt", page)
            return "no_prompt"
        said = (meta, item["stats"])
        if row is None:
            self.rejected.pop(image_id, None)
            self.rows[image_id] = {"said": said, "first_page": page, "last_page": page, "withdrawn": False}
            return "new"
        if options.append_only:
            return "duplicate"
        row["last_page"] = page
        news = not row["withdrawn"] if not prompt else row["withdrawn"] or row["said"] != said
        row["withdrawn"] = not prompt
        if prompt:
            row["said"] = said
        return "updated" if news else "duplicate"


@settings(max_examples=8)
@given(steps=STEPS, pages_per_slab=st.integers(1, 4))
def test_any_slicing_equals_a_rebuild_and_the_plain_model(
    tmp_path_factory: pytest.TempPathFactory, steps: list[Step], pages_per_slab: int
) -> None:
    pages, model, counted = Pages(tmp_path_factory.mktemp("lake")), Model(), []
    whole: dict[int, list[Any]] = {}
    earlier: dict[int, bytes] = {}
    for step in steps:
        repeated = pages.ledger.last_page(step.walk) if step.is_confirmation else None
        if repeated is None or repeated.confirms is not None:
            landed = pages.land(*step.items, walk=step.walk, options=step.options)
            shown = whole[step.walk] = step.items
        else:
            landed = pages.land(walk=step.walk, options=step.options, confirms=repeated.id, absent=[step.hides])
            shown = [item for item in whole[step.walk] if not (isinstance(item, dict) and item.get("id") == step.hides)]
        outcomes = [model.see(item, n, step.options, str(landed.id)) for n, item in enumerate(shown)]
        counted.append(outcomes)
        if step.builds:
            with patch.object(slabs, "PAGES_PER_SLAB", pages_per_slab):
                built = pages.build()
            for place, table in enumerate(STEP_TABLES):
                path = pages.lake.table(table, VERSION)
                kept = path.read_bytes() if path.exists() else None
                write_table(pages.lake, table, VERSION, getattr(built, table.name))
                if kept is not None:
                    earlier[place] = kept
            if step.rolls_back in earlier:
                # As a crash between the swaps would have left it.
                pages.lake.table(STEP_TABLES[step.rolls_back], VERSION).write_bytes(earlier[step.rolls_back])
    held = load_held(pages.lake, VERSION)
    with patch.object(slabs, "PAGES_PER_SLAB", pages_per_slab):
        built = pages.build()
    assert same(built, pages.build(rebuild=True))
    assert {
        row["image_id"]: (
            row["prompt"].strip(),
            row["like_count"],
            row["first_page"],
            row["last_page"],
            row["prompt_withdrawn_at"] is not None,
        )
        for row in built.prompts.to_pylist()
    } == {
        image_id: (
            row["said"][0]["prompt"].strip(),
            row["said"][1]["likeCount"],
            row["first_page"],
            row["last_page"],
            row["withdrawn"],
        )
        for image_id, row in model.rows.items()
    }
    assert sorted((row["outcome"], row["page"]) for row in built.rejected_images.to_pylist()) == sorted(
        model.rejected.values()
    )
    for name in ("new", "updated", "duplicate", "no_prompt", "version_mismatch", "malformed"):
        assert column(built.landed_pages, name) == [outcomes.count(name) for outcomes in counted]
    assert held.landed_pages.equals(built.landed_pages)
    assert len(held.holdings) == len(built.prompts)
    assert all(row["image_id"] in held.holdings for row in built.prompts.to_pylist())

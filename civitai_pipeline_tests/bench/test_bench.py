"""The benchmark in short: that it measures what the assets make, on items that read as real ones do."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from civitai_pipeline.lake import schemas
from civitai_pipeline.lake.paths import Lake
from civitai_pipeline.lake.tables import read_table
from civitai_pipeline.prompts.items import read_item

from .__main__ import from_nothing, measure
from .items import VERSION, Items, land
from .rates import keyword_rates
from .steps import STEPS

if TYPE_CHECKING:
    from pathlib import Path


def test_equal_seeds_give_equal_items_and_others_do_not() -> None:
    assert list(Items(3).draw(20)) == list(Items(3).draw(20)) != list(Items(4).draw(20))


def test_items_read_as_those_of_several_tools() -> None:
    readings = [read_item(item) for item in Items(1).draw(2_000)]
    generators = Counter(reading.facts["generator"] for reading in readings if reading.prompt)
    assert set(generators) == {"a1111", "civitai", "comfyui"}
    assert 0.9 < sum(reading.prompt is not None for reading in readings) / len(readings) < 0.98
    assert len({reading.image_id for reading in readings}) == len(readings)


def test_every_step_is_measured_on_what_landed(tmp_path: Path) -> None:
    lake, items = Lake.at(str(tmp_path)), Items(1)
    first = from_nothing(lake, items, 300)
    # Of what with_more measures, one step: each is a process of its own.
    land(lake, items, 100)
    then = measure("prompts", lake)
    assert list(first) == list(STEPS)
    assert 260 < first["prompts"].rows < 300 < then.rows < 400
    assert all(cost.cpu_s > 0 and cost.peak_bytes > 50e6 for cost in (*first.values(), then))
    for table in (schemas.PROMPTS, schemas.PROMPT_RESOURCES, schemas.PROMPT_CATEGORIES, *schemas.ANALYSIS_TABLES):
        assert len(read_table(lake, table, VERSION)) > 0 or table.name in {"tag_pairs", "term_lift", "resource_pairs"}
    rates = keyword_rates(lake)
    assert all(rate > 0 for rate in rates.values())
    assert max(rates, key=lambda what: rates[what]).startswith(("categories", "the same"))

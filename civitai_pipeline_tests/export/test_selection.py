"""Which rows are exported: filters, maturity, repeats, caps; and every row left out has its reason."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from civitai_pipeline.export.options import ExportOptions, OptionError
from civitai_pipeline.export.run import ExportResult, export_prompts
from civitai_pipeline.export.selection import REASONS
from civitai_pipeline.lake import schemas
from civitai_pipeline.lake.paths import Lake
from civitai_pipeline_tests.export.examples import resource_row
from civitai_pipeline_tests.lake.examples import (
    THEN,
    VERSION,
    category_row,
    landed_row,
    prompt_row,
    write,
    write_prompts,
)

LEVELS = (None, 0, 1, 2, 3, 4, 8, 16, 32)
NAMES = {"PG": 1, "PG-13": 2, "R": 4, "X": 8, "XXX": 16}


def _export(
    lake: Lake,
    default_level: int = 1,
    versions: tuple[int, ...] = (),
    **choices: Any,  # noqa: ANN401 - options
) -> tuple[ExportResult, list[dict[str, Any]]]:
    output = Path(str(lake.root)) / "out.parquet"
    result = export_prompts(lake, versions, ExportOptions("parquet", **choices), output, default_level=default_level)
    return result, pq.read_table(str(output)).to_pylist()


def _ids(lake: Lake, **choices: Any) -> list[int]:  # noqa: ANN401 - options
    return [row["image_id"] for row in _export(lake, **choices)[1]]


@settings(max_examples=12)
@given(
    levels=st.lists(st.sampled_from(LEVELS), min_size=1, max_size=40),
    asked=st.sampled_from([None, *NAMES]),
    landed=st.sampled_from([None, 1, 2, 5, 31]),
    default=st.sampled_from([1, 3, 31]),
    unknown=st.booleans(),
)
def test_nothing_above_the_maturity_asked_for_is_exported(  # noqa: PLR0917 - drawn by name
    tmp_path_factory: pytest.TempPathFactory,
    levels: list[int | None],
    asked: str | None,
    landed: int | None,
    default: int,
    unknown: bool,
) -> None:
    lake = Lake.at(str(tmp_path_factory.mktemp("levels")))
    write_prompts(lake, *(prompt_row(number, browsing_level=level) for number, level in enumerate(levels, start=1)))
    if landed is not None:
        write(lake, schemas.LANDED_PAGES, [landed_row(1, 1, 1, browsing_level=landed)])
    highest = NAMES[asked] if asked else max(bit for bit in (1, 2, 4, 8, 16) if bit & (landed or default))
    result, rows = _export(lake, default, max_level=asked, include_unknown_level=unknown)
    shown = [row["browsing_level"] for row in rows]
    # A sum of bits, which the API never gives, is as mature as its highest bit.
    allowed = [level for level in levels if (level and level < 2 * highest) or (not level and unknown)]
    assert shown == allowed
    assert result.rows + sum(result.left_out.values()) == result.held == len(levels)
    assert result.left_out.get("unknown_level", 0) == (0 if unknown else sum(not level for level in levels))


def test_each_version_has_the_maturity_it_was_collected_with(lake: Lake) -> None:
    for version, mask in ((5, 1), (7, 4)):
        rows = [prompt_row(level, version=version, browsing_level=level) for level in (1, 2, 4, 8)]
        write_prompts(lake, *rows, version=version)
        write(lake, schemas.LANDED_PAGES, [landed_row(1, 1, 1, browsing_level=mask, model_version_id=version)], version)
    result, rows = _export(lake)
    assert [(row["model_version_id"], row["image_id"]) for row in rows] == [(5, 1), (7, 1), (7, 2), (7, 4)]
    assert result.left_out == {"above_level": 4}
    assert "4 rows left out: above the maturity asked for (--max-level raises it)" in result.notes()
    assert _export(lake, max_level="8")[0].rows == 8
    assert _export(lake, max_level="pg-13")[0].rows == 4
    assert _export(lake, max_level="5", versions=(5,))[0].rows == 3


def test_filters_keep_what_they_name(lake: Lake) -> None:
    write_prompts(
        lake,
        prompt_row(1, sampler="Euler a", base_model="SDXL 1.0", reaction_count=3, created_at=_day(1)),
        prompt_row(2, sampler="DPM++ 2M", base_model="SD 1.5", reaction_count=0, created_at=_day(2, 23, 59)),
        prompt_row(3, reaction_count=None, created_at=_day(3)),
        prompt_row(4),
    )
    categories = [category_row(1, "style"), category_row(1, "mood", primary=False), category_row(2, "mood")]
    write(lake, schemas.PROMPT_CATEGORIES, categories)
    resources = [
        resource_row(1, "lora", "folder/Soft Fog.safetensors"),
        resource_row(2, "lora", None, resource_version_id=77),
        resource_row(3, "lora", "77"),
    ]
    write(lake, schemas.PROMPT_RESOURCES, resources)
    cases: list[tuple[dict[str, Any], list[int]]] = [
        ({}, [1, 2, 3, 4]),
        ({"category": ("Mood",)}, [1, 2]),
        ({"primary_category": ("mood",)}, [2]),
        ({"primary_category": ("mood", "style")}, [1, 2]),
        ({"resource": ("soft fog",)}, [1]),
        ({"resource": ("77",)}, [2, 3]),
        ({"resource": ("none of them",)}, []),
        ({"sampler": ("euler A", "ddim")}, [1]),
        ({"base_model": (" sd 1.5 ",)}, [2]),
        ({"min_reactions": 0}, [1, 2]),
        ({"min_reactions": 1}, [1]),
        ({"since": "2026-01-02"}, [2, 3]),
        ({"until": "2026-01-02"}, [1, 2]),
        ({"since": "2026-01-02", "until": "2026-01-02"}, [2]),
        ({"limit": 2}, [1, 2]),
        ({"category": ("mood",), "min_reactions": 1}, [1]),
    ]
    for choices, expected in cases:
        result, rows = _export(lake, **choices)
        assert [row["image_id"] for row in rows] == expected, choices
        assert result.held == result.rows + sum(result.left_out.values()) == 4
        assert set(result.left_out) <= set(REASONS) & (set(choices) | {"withdrawn"}), choices


def test_a_row_left_out_for_two_reasons_counts_once(lake: Lake) -> None:
    write_prompts(lake, prompt_row(1, prompt_withdrawn_at=THEN, browsing_level=16), prompt_row(2, browsing_level=16))
    assert _export(lake, min_reactions=5)[0].left_out == {"withdrawn": 1, "above_level": 1}


def test_one_image_of_equal_or_near_prompts_is_kept_over_all_versions(lake: Lake) -> None:
    write_prompts(
        lake,
        prompt_row(1, prompt_hash="a"),
        prompt_row(2, prompt_hash="a"),
        prompt_row(3, prompt_hash="b", near_duplicate_group=3),
        prompt_row(4, prompt_hash="c", near_duplicate_group=3),
        prompt_row(6, prompt_hash="e"),
    )
    others = [prompt_row(1, version=5, prompt_hash="a"), prompt_row(5, version=5, prompt_hash="c")]
    write_prompts(lake, *others, version=5)
    assert _ids(lake) == [1, 5, 1, 2, 3, 4, 6]
    assert [(r["model_version_id"], r["image_id"]) for r in _export(lake, distinct="exact")[1]] == [
        (5, 1),
        (VERSION, 3),
        (VERSION, 4),
        (VERSION, 6),
    ]
    assert _ids(lake, distinct="near") == [1, 3, 6]


@settings(max_examples=10)
@given(
    authors=st.lists(st.sampled_from([None, "ann", "bob", "cy"]), min_size=1, max_size=50),
    per_author=st.integers(1, 9) | st.none(),
    per_version=st.integers(1, 20) | st.none(),
    seed=st.integers(0, 3),
)
def test_caps_hold_and_the_same_seed_draws_the_same(
    tmp_path_factory: pytest.TempPathFactory,
    authors: list[str | None],
    per_author: int | None,
    per_version: int | None,
    seed: int,
) -> None:
    lake = Lake.at(str(tmp_path_factory.mktemp("caps")))
    for version in (5, 7):
        rows = [prompt_row(n, version=version, username=author) for n, author in enumerate(authors, start=1)]
        write_prompts(lake, *rows[version % 5 :], prompt_row(99, version=version), version=version)
    choices: dict[str, Any] = {"max_per_author": per_author, "max_per_version": per_version, "seed": seed}
    result, rows = _export(lake, **choices)
    for name in ("ann", "bob", "cy"):
        assert per_author is None or sum(row["username"] == name for row in rows) <= per_author
    for version in (5, 7):
        assert per_version is None or sum(row["model_version_id"] == version for row in rows) <= per_version
    if per_version is None:
        assert sum(row["username"] is None for row in rows) == result.held - sum(
            1 for version in (5, 7) for author in authors[version % 5 :] if author
        )
        kept = sum(min(per_author or 999, _count(authors, name)) for name in ("ann", "bob", "cy"))
        assert sum(row["username"] is not None for row in rows) == kept
    assert _export(lake, **choices)[1] == rows


def _count(authors: list[str | None], name: str) -> int:
    return sum(authors[version % 5 :].count(name) for version in (5, 7))


def test_a_cap_draws_by_seed_and_not_from_the_start(lake: Lake) -> None:
    write_prompts(lake, *(prompt_row(number, username="ann") for number in range(1, 41)))
    drawn = {tuple(_ids(lake, max_per_author=5, seed=seed)) for seed in range(4)}
    assert len(drawn) == 4
    assert (1, 2, 3, 4, 5) not in drawn


@pytest.mark.parametrize(
    ("choices", "says"),
    [
        ({"max_level": "adult"}, "max_level must be one of PG, PG-13, R, X, XXX, or a sum"),
        ({"max_level": "32"}, "max_level must be one of"),
        ({"max_level": "0"}, "max_level must be one of"),
        ({"since": "yesterday"}, "since must be a day like 2026-01-31, not 'yesterday'"),
        ({"until": "20260131"}, "until must be a day like"),
        ({"until": "2026-02-30"}, "until must be a day like"),
        ({"since": "2026-02-01", "until": "2026-01-31"}, "since 2026-02-01 is later than until 2026-01-31"),
        ({"max_per_author": 0}, "max_per_author must be from 1"),
        ({"min_reactions": -1}, "min_reactions must be from 0"),
        ({"limit": 2**31}, "limit must be from 1 to 2147483647"),
        ({"distinct": "all"}, "distinct must be one of none, exact, near"),
        ({"category": (" ",)}, "must not be empty"),
        ({"bom": True}, "bom is for csv alone"),
        ({"columns": "username", "hash_authors": True}, "username is replaced by author_hash"),
        ({"format": "wildcards", "columns": "prompt"}, "wildcards hold terms"),
        ({"format": "xlsx"}, "format must be one of csv, jsonl, parquet, huggingface, wildcards"),
    ],
)
def test_an_option_that_cannot_be_is_told_in_a_sentence(
    lake: Lake, tmp_path: Path, choices: dict[str, Any], says: str
) -> None:
    write_prompts(lake, prompt_row(1))
    with pytest.raises(OptionError, match=says):
        export_prompts(lake, [], ExportOptions(**{"format": "parquet", **choices}), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_empty_lake_is_told(lake: Lake) -> None:
    assert _export(lake)[0].notes() == [
        "nothing is held of what was asked for; run civitai-pipeline collect VERSION first"
    ]


def _day(day: int, hour: int = 12, minute: int = 0) -> datetime:
    return datetime(2026, 1, day, hour, minute, tzinfo=UTC)

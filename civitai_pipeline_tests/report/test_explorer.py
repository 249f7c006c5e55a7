"""The explorer's file of prompts and its page, as text; what they do in a browser is tested beside."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from importlib import resources
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from civitai_pipeline.lake.schemas import PROMPTS
from civitai_pipeline.report import COLUMNS, VersionTables, explorer_page, explorer_script, version_page
from civitai_pipeline.report.explorer import holding_in_words
from civitai_pipeline_tests.report.examples import INFO, VERSION, make_tables
from civitai_pipeline_tests.report.reading import Page

UNKNOWN_AUTHORS = {None, "unknown"}


def pieces_of(script: bytes) -> list[dict[str, Any]]:
    """What a browser gets from the file."""
    calls = re.findall(rb'promptData\("([A-Za-z0-9+/=]*)"\);\n', script)
    assert b"".join(b'promptData("%b");\n' % call for call in calls) == script, "nothing but calls"
    return [json.loads(gzip.decompress(base64.b64decode(call))) for call in calls]


def rows_of(script: bytes) -> list[dict[str, Any]]:
    """The prompts in the file, row by row, with numbers that point into lists resolved."""
    header, *slabs = pieces_of(script)
    assert header["slabs"] == len(slabs)
    texts: list[str] = []
    rows: list[dict[str, Any]] = []
    for slab in slabs:
        texts += slab["texts"]
        used = iter(zip(slab["used"], slab["weights"], strict=True))
        for n, image_id in enumerate(slab["image_id"]):
            row = {name: column[n] for name, column in slab.items() if name not in {"texts", "used", "weights", "uses"}}
            for name, values in header["lists"].items():
                row[name] = None if row[name] is None else values[row[name]]
            row["prompt"] = texts[row["prompt"]]
            row["negative"] = None if row["negative"] is None else texts[row["negative"]]
            row["resources"] = [
                (header["resources"][number]["kind"], header["resources"][number]["name"], weight)
                for number, weight in (next(used) for _ in range(slab["uses"][n]))
            ]
            touched = {name for code, name in enumerate(header["categories"]) if row["touched"] >> code & 1}
            row["categories"] = touched
            row["main"] = None if row["mainly"] is None else header["categories"][row["mainly"]]
            assert row["image_id"] == image_id
            rows.append(row)
    assert header["rows"] == len(rows)
    return rows


def script_of(tables: VersionTables, **bounds: int) -> bytes:
    return b"".join(explorer_script(tables, **bounds))


def standing(tables: VersionTables) -> list[dict[str, Any]]:
    return [row for row in tables.prompts.to_pylist() if row["prompt_withdrawn_at"] is None]


@pytest.fixture(scope="module")
def example() -> VersionTables:
    return make_tables(300)


def test_every_standing_prompt_is_there_with_what_the_tables_say(example: VersionTables) -> None:
    rows = rows_of(script_of(example))
    told = {row["image_id"]: row for row in standing(example)}
    assert len(told) < len(example.prompts)
    assert {row["image_id"] for row in rows} == set(told)
    for row in rows:
        known = told[row["image_id"]]
        assert row["prompt"] == known["prompt"]
        assert row["negative"] == known["negative_prompt"]
        assert row["author"] == (None if known["username"] in UNKNOWN_AUTHORS else known["username"])
        assert row["minute"] == int(known["created_at"].timestamp()) // 60
        assert row["size"] == f"{known['width']} × {known['height']}"  # noqa: RUF001 - the sign for times
        for name in ("sampler", "scheduler", "generator", "base_model", "seed", "steps", "cfg_scale", "clip_skip"):
            assert row[name] == known[name]
        for name in ("browsing_level", "reaction_count", "comment_count", "prompt_length"):
            assert row[name] == known[name]
    assert [row["minute"] for row in rows] == sorted((row["minute"] for row in rows), reverse=True)


def test_categories_and_resources_are_those_of_the_image(example: VersionTables) -> None:
    rows = {row["image_id"]: row for row in rows_of(script_of(example))}
    touched: dict[int, set[str]] = {image_id: set() for image_id in rows}
    main: dict[int, str] = {}
    for label in example.prompt_categories.to_pylist():
        if label["image_id"] in rows:
            touched[label["image_id"]].add(label["category"])
            main |= {label["image_id"]: label["category"]} if label["is_primary"] else {}
    assert {image_id: row["categories"] for image_id, row in rows.items()} == touched
    assert {image_id: row["main"] for image_id, row in rows.items()} == main
    used: dict[int, list[tuple[str, str, float | None]]] = {image_id: [] for image_id in rows}
    for use in example.prompt_resources.to_pylist():
        if use["image_id"] in rows:
            # The version collected goes by the names that the site gives it.
            own = use["resource_version_id"] == VERSION
            name = f"{INFO['model_name']} · {INFO['version_name']}" if own else use["resource_name"]
            used[use["image_id"]].append((use["resource_type"], name, use["weight"]))
    assert {image_id: sorted(row["resources"], key=str) for image_id, row in rows.items()} == {
        image_id: sorted(uses, key=str) for image_id, uses in used.items()
    }


def test_how_it_is_cut_into_slabs_changes_no_row(example: VersionTables) -> None:
    whole = script_of(example, slab_rows=1000)
    cut = script_of(example, slab_rows=7)
    assert len(pieces_of(whole)) == 2
    assert len(pieces_of(cut)) == 1 + -(-len(standing(example)) // 7)
    assert rows_of(cut) == rows_of(whole)


def test_a_text_said_often_is_held_once(example: VersionTables) -> None:
    texts = [text for slab in pieces_of(script_of(example, slab_rows=10))[1:] for text in slab["texts"]]
    assert len(texts) == len(set(texts))


def test_equal_prompts_point_to_the_first_of_them(example: VersionTables) -> None:
    rows = rows_of(script_of(example))
    hashes = {row["image_id"]: row["prompt_hash"] for row in standing(example)}
    firsts: dict[str, int] = {}
    for place, row in enumerate(rows):
        first = firsts.setdefault(hashes[row["image_id"]], place)
        assert row["same_as"] == (None if first == place else first)
    assert len(firsts) < len(rows)


def test_equal_tables_give_equal_files(example: VersionTables) -> None:
    shuffled = replace(example, prompts=example.prompts.take(list(range(len(example.prompts)))[::-1]))
    assert script_of(shuffled) == script_of(example)


def test_the_columns_that_reports_name_are_all_they_need(example: VersionTables) -> None:
    narrow = VersionTables(
        info=example.info,
        prompts=example.prompts.select(COLUMNS["prompts"]),
        rejected_images=example.rejected_images.select(COLUMNS["rejected_images"]),
        prompt_resources=example.prompt_resources.select(COLUMNS["prompt_resources"]),
        prompt_categories=example.prompt_categories.select(COLUMNS["prompt_categories"]),
        collection_state=example.collection_state,
        summary=example.summary,
    )
    assert script_of(narrow) == script_of(example)
    assert version_page(narrow) == version_page(example)


def test_beyond_the_bound_the_newest_and_the_most_reacted_are_held_and_that_is_said(example: VersionTables) -> None:
    known = sorted(standing(example), key=lambda row: (row["created_at"], row["image_id"]), reverse=True)
    newest = known[:20]
    liked = sorted(known[20:], key=lambda row: -row["reaction_count"])[:20]
    rows = rows_of(script_of(example, most=40))
    assert len(rows) == 40
    held = {row["image_id"] for row in rows}
    assert {row["image_id"] for row in newest} <= held
    others = sorted(row["reaction_count"] for row in rows if row["image_id"] not in {row["image_id"] for row in newest})
    assert others == sorted(row["reaction_count"] for row in liked)
    assert [row["minute"] for row in rows] == sorted((row["minute"] for row in rows), reverse=True)
    assert all(row["same_as"] is None or row["same_as"] < place for place, row in enumerate(rows))
    assert "Of 300 prompts that stand, 40 are here" in holding_in_words(300, most=40)
    assert "the 20 newest" in holding_in_words(300, most=40)
    assert "All 300 prompts that stand are here" in holding_in_words(300, most=300)


def one_prompt(text: str, **values: Any) -> VersionTables:  # noqa: ANN401 - any column's value
    base = make_tables(1)
    row = {**base.prompts.to_pylist()[0], "prompt": text, "prompt_withdrawn_at": None, **values}
    return replace(base, prompts=pa.Table.from_pylist([row], PROMPTS.arrow_schema))


@settings(max_examples=20)
@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_any_text_comes_back_to_the_letter_from_plain_ascii(text: str) -> None:
    # To the letter, blanks at its ends included; one of nothing else is none.
    negative = text[::-1] if text.strip() else "n"
    script = script_of(one_prompt(text, negative_prompt=negative))
    script.decode("ascii")
    (row,) = rows_of(script)
    assert (row["prompt"], row["negative"]) == (text, negative)


@pytest.mark.parametrize("blank", ["", " ", "\N{IDEOGRAPHIC SPACE}"])
def test_a_negative_prompt_of_blanks_is_none(blank: str) -> None:
    assert rows_of(script_of(one_prompt("cat", negative_prompt=blank)))[0]["negative"] is None


def test_numbers_that_javascript_cannot_hold_are_written_as_text() -> None:
    assert rows_of(script_of(one_prompt("cat", seed=2**60 + 1)))[0]["seed"] == str(2**60 + 1)
    assert rows_of(script_of(one_prompt("cat", cfg_scale=float("inf"))))[0]["cfg_scale"] is None


def test_what_is_unknown_stays_unknown() -> None:
    bare = one_prompt("cat", username=None, created_at=None, sampler=None, width=None, reaction_count=None, seed=None)
    (row,) = rows_of(script_of(bare))
    assert {row[name] for name in ("author", "minute", "sampler", "size", "reaction_count", "seed")} == {None}


def test_undated_prompts_come_last() -> None:
    base = make_tables(3)
    rows = base.prompts.to_pylist()
    moment = datetime(2026, 3, 2, tzinfo=UTC)
    for n, row in enumerate(rows):
        row |= {"created_at": None if n == 1 else moment + timedelta(n), "prompt_withdrawn_at": None}
    dated = replace(base, prompts=pa.Table.from_pylist(rows, PROMPTS.arrow_schema))
    assert [row["image_id"] for row in rows_of(script_of(dated))] == [1002, 1000, 1001]


def test_the_page_names_its_file_and_lets_no_other_script_run(example: VersionTables) -> None:
    page = Page(explorer_page(example, "111222-prompts-abc.js"))
    policy = next(str(a["content"]) for _, a in page.elements if a.get("http-equiv"))
    (script,) = page.scripts
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}' 'strict-dynamic';" in policy
    assert "default-src 'none'" in policy
    assert "require-trusted-types-for 'script'; trusted-types prompt-file" in policy
    references = {value for _, a in page.elements for name, value in a.items() if name in {"src", "href"}}
    assert references == {"#results", "111222.html"}


def test_the_page_holds_no_prompt_and_no_markup_of_others(example: VersionTables) -> None:
    html = explorer_page(example, "111222-prompts-abc.js")
    page = Page(html)
    assert "lighthouse" not in html
    assert "<script>alert('model')</script>" in page.text
    assert len(html) < 80_000


def test_the_scripts_never_write_markup() -> None:
    folder = resources.files("civitai_pipeline.report.templates")
    scripts = {file.name: file.read_text("utf-8") for file in folder.iterdir() if file.name.endswith(".js")}
    assert len(scripts) >= 7
    for name, script in scripts.items():
        for writes in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function("):
            assert writes not in script, f"{name} uses {writes}"

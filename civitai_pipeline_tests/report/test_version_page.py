"""A version's page: the numbers on it, what it does with mischief, and with little or no data."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest

from civitai_pipeline.lake.schemas import (
    CATEGORY_CHANGES,
)
from civitai_pipeline.report import VersionTables, plotly_javascript, version_page
from civitai_pipeline.report.words import STOP_REASONS
from civitai_pipeline_tests.report.examples import INFO, VERSION, make_summary, make_tables
from civitai_pipeline_tests.report.reading import Page
from civitai_pipeline_tests.report.rows import category, prompt, resource, tables


@pytest.fixture(scope="module")
def example() -> VersionTables:
    return make_tables(400)


@pytest.fixture(scope="module")
def example_html(example: VersionTables) -> str:
    return version_page(example)


FIVE = [
    prompt(1, "cat, (red hat:1.2), <lora:Ink:0.5>", steps=20, sampler="Euler a", reaction_count=3),
    prompt(2, "cat, blue hat", username="ben", steps=30, reaction_count=0),
    prompt(3, "Cat, Blue Hat", username="ben", duplicate_of=2, steps=30, negative_prompt="blurry, text"),
    prompt(4, "猫、帽子", username=None, created_at=datetime(2026, 3, 16, tzinfo=UTC)),
    prompt(5, "secret", prompt_withdrawn_at=datetime(2026, 4, 1, tzinfo=UTC)),
]


def test_counts_leave_withdrawn_prompts_out_and_say_so() -> None:
    page = Page(version_page(tables(FIVE)))
    assert page.facts["prompts"] == "4"
    assert page.facts["distinct prompts"] == "3"
    assert page.facts["named authors"] == "2"
    assert page.facts["images dated"] == "2026-03-02 to 2026-03-16"
    assert "1 prompt was later withdrawn" in page.text
    assert "secret" not in page.text


def test_capture_rates_are_n_of_all() -> None:
    rates = {row[0]: row[1:] for row in Page(version_page(tables(FIVE))).tables["How often does an image tell?"]}
    assert rates["steps"] == ["3", "4", "75.0 %"]
    assert rates["sampler"] == ["1", "4", "25.0 %"]
    assert rates["negative prompt"] == ["1", "4", "25.0 %"]
    assert rates["author"] == ["3", "4", "75.0 %"]
    assert rates["seed"] == ["0", "4", "0 %"]


def test_tags_are_read_without_weights_brackets_and_lora_references() -> None:
    found = Page(version_page(tables(FIVE))).tables["Most used tags"][1:]
    assert found == [
        ["cat", "3", "75.0 %", "2", "2"],
        ["blue hat", "2", "50.0 %", "1", "1"],
        ["red hat", "1", "25.0 %", "1", "1"],
        ["帽子", "1", "25.0 %", "0", "1"],
        ["猫", "1", "25.0 %", "0", "1"],
    ]


def test_escaped_brackets_belong_to_the_tag() -> None:
    rows = [prompt(1, r"hatsune miku \(vocaloid\) BREAK ((stage))")]
    found = Page(version_page(tables(rows))).tables["Most used tags"][1:]
    assert [row[0] for row in found] == ["hatsune miku (vocaloid)", "stage"]


def test_pairs_that_go_together_more_than_chance() -> None:
    together = [prompt(n, f"sun, sea, {n}", username=f"maker {n % 4}") for n in range(10)]
    apart = [prompt(n, f"moon, {n}", username=f"maker {n % 4}") for n in range(10, 30)]
    found = Page(version_page(tables(together + apart))).tables["Which tags go together more often than chance?"]
    # 10 of 30 have both; 10/30 have each: (10/30) / (10/30 * 10/30) = 3.
    assert found[1:] == [["sea", "sun", "3", "10", "100 %", "4"]]


def test_weights_keep_unknown_apart_from_one() -> None:
    rows = [prompt(n, f"cat {n}") for n in range(1, 9)]
    used = [resource(n, "Ink", 77, weight) for n, weight in enumerate((0.2, 0.4, 0.6, 0.8, 1.0), 1)]
    used += [resource(6, "ink", None, None), resource(7, None, 77, None)]
    page = Page(version_page(tables(rows, used)))
    assert page.tables["Most used LoRAs"][1:] == [["Ink", "version 77", "7", "87.5 %", "1"]]
    assert page.tables["LoRA weights"][1:] == [["Ink", "7", "1", "5", "28.6 %", "0.24", "0.4", "0.6", "0.8", "0.96"]]


def test_a_resource_that_was_looked_up_is_called_by_model_and_version() -> None:
    rows = [prompt(n, f"cat {n}") for n in (1, 2, 3)]
    known = {"resolved_name": "Ink Wash", "resolved_version_name": "v2.0"}
    used = [resource(1, "v2.0", 77, 0.5) | known, resource(2, "inkwash", 77, 0.5), resource(3, "v2.0", 78, 0.5)]
    own = [resource(n, "harbour_v2", VERSION, None) | {"resource_type": "checkpoint", "position": 1} for n in (1, 2)]
    page = Page(version_page(tables(rows, used + own)))
    assert [row[0] for row in page.tables["Most used LoRAs"][1:]] == ["Ink Wash · v2.0", "v2.0"]
    assert page.tables["Most used checkpoints"][1][0] == f"{INFO['model_name']} · {INFO['version_name']}"


def test_numbers_close_together_are_marked_whole_and_halves_stand_over_their_number() -> None:
    page = Page(
        version_page(tables([prompt(n, f"cat {n}", cfg_scale=cfg) for n, cfg in enumerate((4, 4.5, 4.5, 7.2))]))
    )
    cfg = page.figures["settings-3"]
    assert list(zip(cfg["data"][0]["x"], cfg["data"][0]["y"], strict=True))[:2] == [(4, 1), (4.5, 2)]
    assert (cfg["data"][0]["x"][-1], cfg["data"][0]["y"][-1]) == (7, 1)
    assert cfg["layout"]["yaxis"]["dtick"] == 1


@pytest.mark.parametrize("values", [(7.0, 1.7e308), (7.0, -1.7e308), (-1.7e308, 1.7e308), (1.7e308,)])
def test_settings_at_the_ends_of_all_numbers_still_make_a_page(values: tuple[float, ...]) -> None:
    page = Page(version_page(tables([prompt(n, f"cat {n}", cfg_scale=cfg) for n, cfg in enumerate(values)])))
    assert sum(page.figures["settings-3"]["data"][0]["y"]) == len(values)


def test_the_commonest_tags_are_set_against_each_other() -> None:
    rows = [prompt(n, f"sun, sea, {n}") for n in range(10)] + [prompt(n, f"moon, night, {n}") for n in range(10, 40)]
    page = Page(version_page(tables(rows)))
    square = page.figures["tags-2"]
    names = square["layout"]["yaxis"]["ticktext"]
    cells = {(a, b): square["data"][0]["z"][y][x] for y, a in enumerate(names) for x, b in enumerate(names)}
    # 10 of 40 have sun, 10 of 40 have sea, 10 have both: four times chance, which is two doublings.
    assert cells["sun", "sea"] == cells["sea", "sun"] == pytest.approx(2)
    assert cells["sun", "sun"] is None
    # None of the 7.5 that chance would give: as far from it as the colours go.
    assert cells["sun", "moon"] == pytest.approx(-2.32, abs=0.01)
    text = square["data"][0]["hovertext"][names.index("sun")][names.index("sea")]
    assert text == "sun and sea: 10 prompts, 4 times chance"
    assert "n = 40 distinct prompts" in page.text
    few = Page(version_page(tables(rows[:20])))
    assert "seek each other" not in few.text


def test_what_another_taxonomy_changed_is_told_the_latest_first() -> None:
    def change(number: int, name: str, before: int, after: int, primary_from: str) -> dict[str, Any]:
        return {
            "model_version_id": VERSION, "change": number, "from_version": f"3/{number}/aa",
            "to_version": f"3/{number + 1}/bb", "category": name, "images": 1000, "images_before": before,
            "images_after": after, "gained": 8, "lost": 2,
            "primary_before": 0, "primary_after": 3, "primary_from": primary_from, "gained_image_ids": [11, 12],
            "lost_image_ids": [13],
        }  # fmt: skip

    rows = [change(n, "mood", 5, 11, '{"style":1200,"basic":1}') for n in range(1, 6)]
    changes = pa.Table.from_pylist(rows, CATEGORY_CHANGES.arrow_schema)
    labelled = tables(FIVE, categories=[category(1, "mood", 0.9, primary=True)])
    page = Page(version_page(replace(labelled, category_changes=changes)))
    captions = [caption for caption in page.tables if caption.startswith("What changed")]
    assert captions[0] == "What changed from taxonomy 5 (file aa, code 3) to taxonomy 6 (file bb, code 3)?"
    assert len(captions) == 3
    assert page.tables[captions[0]][1] == [
        "mood", "5", "11", "8", "2", "0", "3", "style 1,200, basic 1", "11, 12, 13"
    ]  # fmt: skip
    assert "1,201 of them have another primary category" in page.text
    assert "What changed from" not in Page(version_page(labelled)).text


def test_categories_are_counted_by_presence_and_primary() -> None:
    rows = [prompt(n, f"cat {n}") for n in (1, 2, 3)]
    labels = [
        category(1, "style", 0.9, primary=True),
        category(1, "mood", 0.2, primary=False),
        category(2, "mood", 0.4, primary=True),
        category(3, "uncategorized", 0.0, primary=True),
    ]
    page = Page(version_page(tables(rows, categories=labels)))
    presence = {row[0]: row[1:4] for row in page.tables["Images by category"]}
    assert presence["mood"] == ["2", "66.7 %", "1"]
    assert presence["style"] == ["1", "33.3 %", "1"]
    assert page.figures["categories-2"]["data"][0]["values"] == [1, 0, 0, 1, 0, 0, 0, 1]
    confidence = page.figures["categories-3"]["data"][0]["y"]
    assert [slot for slot, count in enumerate(confidence) if count] == [0, 8, 18]


def test_repetition_counts_the_first_standing_image_as_new() -> None:
    rows = [
        prompt(1, "cat", prompt_withdrawn_at=datetime(2026, 4, 1, tzinfo=UTC)),
        prompt(2, "cat", duplicate_of=1),
        prompt(3, "cat", duplicate_of=1),
        prompt(4, "a dog", near_duplicate_group=4),
        prompt(5, "the dog", near_duplicate_group=4),
    ]
    page = Page(version_page(tables(rows)))
    assert page.tables["Images by repetition"][1:] == [
        ["first of its kind", "2", "50.0 %"],
        ["near repeat", "1", "25.0 %"],
        ["exact repeat", "1", "25.0 %"],
    ]
    assert "That leaves 3 prompts that differ, 2 counting near repeats once." in page.text


def test_the_prompts_varied_most_are_shown_with_their_authors() -> None:
    rows = [
        prompt(
            1, "a cat", near_duplicate_group=1, username="ann", prompt_withdrawn_at=datetime(2026, 4, 1, tzinfo=UTC)
        ),
        prompt(2, "the cat", near_duplicate_group=1, username="ann"),
        prompt(3, "cat", near_duplicate_group=1, username="ann"),
        prompt(4, "cat", near_duplicate_group=1, username="ben"),
        prompt(5, "dog", near_duplicate_group=5, username="ann"),
        prompt(6, "dog", near_duplicate_group=5, username="ann"),
        prompt(7, "a bee", near_duplicate_group=7, username="unknown"),
        prompt(8, "the bee", near_duplicate_group=7, username=None),
        prompt(9, "alone", username="ann"),
        prompt(10, "alone too", username="ann"),
    ]
    page = Page(version_page(tables(rows)))
    assert page.tables["Which prompts are varied most?"][1:] == [
        ["the cat", "3", "2", "2", "66.7 %"],
        ["a bee", "2", "2", "0", "—"],
    ]
    assert "2 groups of near repeats with several prompts, 5 images in all." in page.text
    assert "These are few" in page.text


def test_no_table_of_varied_prompts_where_none_is_varied() -> None:
    page = Page(
        version_page(tables([prompt(1, "cat", near_duplicate_group=1), prompt(2, "cat", near_duplicate_group=1)]))
    )
    assert "Which prompts are varied most?" not in page.tables


def test_weeks_without_images_are_shown() -> None:
    page = Page(version_page(tables(FIVE)))
    assert page.tables["Images per week, the latest first"][1:] == [
        ["2026-03-16", "1", "0"],
        ["2026-03-09", "0", "0"],
        ["2026-03-02", "3", "2"],
    ]


def test_many_years_are_shown_by_month() -> None:
    rows = [
        prompt(1, "cat", created_at=datetime(2019, 1, 5, tzinfo=UTC)),
        prompt(2, "dog", created_at=datetime(2026, 1, 5, tzinfo=UTC)),
    ]
    assert "Images per month, the latest first" in Page(version_page(tables(rows))).tables


@pytest.mark.parametrize("reason", STOP_REASONS)
def test_the_last_run_is_told_in_words(reason: str) -> None:
    summary = {**make_summary(5), "stop_reason": reason}
    assert STOP_REASONS[reason] in Page(version_page(tables([], summary=summary))).text


def test_a_summary_may_lack_anything() -> None:
    page = Page(version_page(tables([], summary={"error": "<b>no</b>"})))
    assert "Why the last run stopped is unknown." in page.text
    assert "Error: <b>no</b>" in page.text


def test_listings_may_lack_anything() -> None:
    page = Page(version_page(tables([], collection_state=[{}])))
    assert page.tables["How far each listing was walked"][1] == [
        "unknown", "unknown", "unknown", "—", "—", "—", "—", "—", "—", "unknown",
    ]  # fmt: skip


def test_a_version_without_prompts_has_a_short_page() -> None:
    html = version_page(tables([]))
    page = Page(html)
    assert "No prompts are held for this version yet" in page.text
    assert not page.figures
    assert len(html) < 20_000


def test_nothing_known_of_the_version() -> None:
    empty = replace(tables([]), info={"model_version_id": 5, "model_name": None})
    assert "Model version 5" in Page(version_page(empty)).text


def test_few_prompts_are_called_thin() -> None:
    assert "Thin data." in Page(version_page(make_tables(5))).text
    assert "Thin data." not in Page(version_page(make_tables(60))).text.split("Prompt length")[0]


def test_prompts_that_tell_nothing_but_themselves() -> None:
    page = Page(version_page(tables([prompt(1, "cat", username=None, created_at=None)])))
    assert "of 1 prompt, none tells its sampler" in page.text
    assert "of 1 prompt, none has been classified" in page.text
    assert "of 1 prompt, none has a date" in page.text


def test_equal_tables_give_equal_pages(example: VersionTables, example_html: str) -> None:
    assert version_page(example) == example_html
    shuffled = replace(example, prompts=example.prompts.take(list(range(len(example.prompts)))[::-1]))
    assert version_page(shuffled) == example_html


def test_no_text_of_others_becomes_markup(example_html: str) -> None:
    page = Page(example_html)
    tags = {tag for tag, _ in page.elements}
    assert not tags & {"b", "i", "u", "img", "a:href"}
    assert sum(tag == "script" and "type" not in attributes for tag, attributes in page.elements) == 1
    assert len([script for script in page.scripts if "alert" in script]) == 0
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    assert "<script>alert('model')</script>" in page.text
    assert "<img src=x onerror=alert(1)>" in page.text


def test_plotly_gets_no_markup_but_our_line_breaks(example_html: str) -> None:
    def strings(value: object) -> list[str]:
        if isinstance(value, dict):
            return [text for part in value.values() for text in strings(part)]
        if isinstance(value, list):
            return [text for part in value for text in strings(part)]
        return [value] if isinstance(value, str) else []

    shown = strings(list(Page(example_html).figures.values()))
    assert {tag for text in shown for tag in re.findall("<[^>]*>", text)} == {"<br>"}
    assert any("&lt;i&gt;custom&lt;/i&gt;" in text for text in shown)


def test_the_page_refers_to_nothing_but_its_neighbours(example_html: str) -> None:
    page = Page(example_html)
    references = {
        value
        for _, attributes in page.elements
        for name, value in attributes.items()
        if name in {"src", "href", "srcset", "action", "data"} and value and not value.startswith("#")
    }
    images = {reference for reference in references if re.fullmatch(r"https://civitai\.com/images/\d+", reference)}
    assert images
    explored = {reference for reference in references if reference.startswith(f"{VERSION}-explorer.html#")}
    assert explored
    assert references - images - explored == {"index.html", f"{VERSION}-explorer.html"}
    own = re.sub(r"<td class=\"prompt\".*?</td>", "", example_html, flags=re.DOTALL)
    assert own.count("://") == len(images)
    assert "url(" not in example_html


def test_anchors_and_ids_meet(example_html: str) -> None:
    page = Page(example_html)
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    anchors = {
        str(attributes.get("href"))[1:] for _, attributes in page.elements if str(attributes.get("href"))[:1] == "#"
    }
    assert anchors <= set(ids)
    assert set(page.figures) <= set(ids)


def test_only_our_script_may_run(example_html: str) -> None:
    page = Page(example_html)
    policy = next(str(a["content"]) for _, a in page.elements if a.get("http-equiv"))
    assert "default-src 'none'" in policy
    (script,) = page.scripts
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy.split("script-src")[1].split(";")[0].split() == [f"'sha256-{digest}'", "'strict-dynamic'"]


def test_plotly_is_the_whole_bundle() -> None:
    assert plotly_javascript().lstrip().startswith("/**\n* plotly.js")

"""What a version's page says from the analyses, and the links that lead from it into the explorer."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from civitai_pipeline.report import version_page
from civitai_pipeline_tests.report.examples import VERSION, make_tables
from civitai_pipeline_tests.report.reading import Page
from civitai_pipeline_tests.report.rows import analysed, category, prompt, resource, tables


def checkpoint(image_id: int, name: str | None, version_id: int | None) -> dict[str, Any]:
    return resource(image_id, name, version_id, None) | {"resource_type": "checkpoint", "position": 9}


def links_of(page: Page) -> set[str]:
    return {str(attributes.get("href")) for tag, attributes in page.elements if tag == "a"}


def test_a_page_without_analyses_leaves_their_parts_out_and_says_the_rest() -> None:
    page = Page(version_page(make_tables(40)))
    assert "Which settings are used together?" not in page.text
    assert "How are the prompts written?" not in page.text
    assert "When were the images made public?" in page.text


def test_levels_are_counted_as_the_site_rates_them() -> None:
    rows = [prompt(n, f"cat {n}", browsing_level=level) for n, level in enumerate((1, 1, 4, None))]
    page = Page(version_page(tables(rows)))
    assert page.tables["Of which browsing levels are the images?"][1:] == [
        ["PG", "2", "50.0 %", "1"],
        ["R", "1", "25.0 %", "1"],
        ["unknown", "1", "25.0 %", "1"],
    ]
    assert f"{VERSION}-explorer.html#levels=4" in links_of(page)
    assert f"{VERSION}-explorer.html#levels=0" in links_of(page)


def test_structure_is_shared_out_by_side() -> None:
    rows = [
        prompt(1, "a cat, (hat:1.2)", negative_prompt="blurry, text"),
        prompt(2, "A cat sits here. 猫", negative_prompt="(blurry)"),
    ]
    found = Page(version_page(analysed(tables(rows)))).tables["How are the prompts written?"]
    marks = {row[0]: row[1:] for row in found}
    assert marks["a weight, as in (word:1.2)"] == ["1", "50.0 %", "1", "0 %"]
    assert marks["round brackets for emphasis"] == ["1", "50.0 %", "1", "50.0 %"]
    assert marks["Chinese, Japanese or Korean characters"] == ["1", "50.0 %", "1", "0 %"]


def test_recipes_are_binned_and_say_of_how_many_they_speak() -> None:
    told = {"sampler": "Euler a", "width": 512, "height": 768, "engagement": 2.0}
    rows = [prompt(n, f"cat {n}", steps=steps, cfg_scale=7.5, **told) for n, steps in enumerate((26, 28, 30))]
    rows += [prompt(9, "untold"), prompt(10, "other", steps=50, cfg_scale=3.0, **told)]
    page = Page(version_page(analysed(tables(rows))))
    assert page.tables["Which settings are used together?"][1:] == [
        ["Euler a", "26 to 30", "7 to under 8", "512x768", "3", "75.0 %", "1", "2"]
    ]
    assert "n = 4 of 5 prompts (80.0 %) tell all four" in page.text


def test_one_file_by_several_names_is_one_resource_and_one_name_of_several_is_told_apart() -> None:
    rows = [prompt(n, f"cat {n}") for n in range(1, 7)]
    uses = [
        resource(1, "ink.safetensors", None, 0.5),
        resource(2, "folder/Ink", None, 0.7),
        resource(3, "v1.0", 71, 1.0),
        resource(4, "v1.0", 72, 1.0),
        resource(5, "v1.0", 72, 1.0),
        checkpoint(6, None, VERSION),
    ]
    page = Page(version_page(tables(rows, uses)))
    used = {row[1]: (row[0], row[2]) for row in page.tables["Most used LoRAs"][1:]}
    assert used.keys() == {"name ink", "version 71", "version 72"}
    assert used["name ink"][1] == "2"
    assert used["version 71"] == ("v1.0 (version 71)", "1")
    assert used["version 72"] == ("v1.0 (version 72)", "2")
    assert page.tables["Most used checkpoints"][1][0].startswith("Harbour Light")


def test_pairs_of_resources_are_shown_with_their_lift() -> None:
    rows = [prompt(n, f"cat {n}", username=f"maker {n % 4}") for n in range(20)]
    uses = [resource(n, name, None, 0.5) | {"position": place} for n in range(10) for place, name in enumerate("ab")]
    uses += [resource(n, "c", None, 0.5) for n in range(10, 20)]
    found = Page(version_page(analysed(tables(rows, uses)))).tables["Which LoRAs are used together?"]
    # 10 of 20 have both, 10/20 have each: (10/20) / (10/20 * 10/20) = 2.
    assert found[1:] == [["a", "b", "2", "10", "100 %", "4"]]


def test_weights_are_set_side_by_side_where_there_are_several_checkpoints() -> None:
    rows = [prompt(n, f"cat {n}", username=f"maker {n}") for n in range(12)]
    uses = [resource(n, "ink", None, 0.4 if n < 6 else 0.8) for n in range(12)]
    uses += [checkpoint(n, "old" if n < 6 else "new", None) for n in range(12)]
    found = Page(version_page(analysed(tables(rows, uses)))).tables["At what weight, under which checkpoint?"]
    assert {(row[0], row[1], row[7]) for row in found[1:]} == {("ink", "old", "0.4"), ("ink", "new", "0.8")}
    one = [use for use in uses if use["resource_name"] != "old"]
    assert "At what weight, under which checkpoint?" not in Page(version_page(analysed(tables(rows, one)))).tables


def test_a_term_that_each_author_does_better_with_is_told_from_chance() -> None:
    rows = []
    for author in range(12):
        for n in range(4):
            with_it = n % 2 == 0
            noise = 1 + 0.05 * ((author * 7 + n) % 5)
            rows.append(
                prompt(
                    author * 10 + n,
                    f"{'sunset, ' if with_it else ''}cat {author} {n}, hill",
                    username=f"maker {author}",
                    engagement=(2.0 if with_it else 1.0) * noise,
                    reaction_count=3,
                )
            )
    page = Page(version_page(analysed(tables(rows))))
    (found,) = page.tables["Engagement with a term against without it"][1:]
    assert found[:2] == ["sunset", "tag"]
    assert 1.8 < float(found[2]) < 2.2
    assert found[6] == "12"
    assert "images with “\u2068sunset\u2069” have" in page.text


def test_no_term_is_praised_where_there_are_too_few_authors() -> None:
    page = Page(version_page(analysed(tables([prompt(1, "cat", engagement=1.0, reaction_count=1)]))))
    assert "Too few authors have images both with and without any term" in page.text


def two_months(authors: int, *, days: int) -> list[dict[str, Any]]:
    """Images over so many days of March and April; "sunset" comes in April, with half of the authors."""
    rows = []
    for month, start in enumerate((datetime(2026, 3, 2, tzinfo=UTC), datetime(2026, 4, 6, tzinfo=UTC))):
        for author in range(authors):
            text = "sunset, cat" if month and author % 2 else "cat"
            rows.append(
                prompt(
                    month * 1000 + author,
                    f"{text}, {month} {author}",
                    username=f"maker {author}",
                    created_at=start + timedelta(days=days * author / authors),
                )
            )
    return [*rows, prompt(5000, "cat, end", created_at=datetime(2026, 5, 2, tzinfo=UTC))]


def test_what_is_coming_is_shown_by_week() -> None:
    page = Page(version_page(analysed(tables(two_months(40, days=2)))))
    changes = page.tables["Change in the week of 2026-04-06 against up to 4 weeks before"]
    assert changes[1:] == [["sunset", "tag", "0 %", "50.0 %", "50", "20", "20"]]
    assert "n = 40 authors, in the week of 2026-04-06. “\u2068sunset\u2069” changed most" in page.text


def test_what_is_coming_is_shown_by_month_where_weeks_have_few_authors() -> None:
    page = Page(version_page(analysed(tables(two_months(40, days=20)))))
    changes = page.tables["Change in the month of 2026-04 against up to 4 months before"]
    # The last week of April has one author more, without it: 20 of 41.
    assert changes[1:] == [["sunset", "tag", "0 %", "48.8 %", "48.78", "20", "20"]]
    course = next(figure for key, figure in page.figures.items() if key == "time-2")["data"][0]
    assert (course["x"], course["y"]) == (["2026-03-01", "2026-04-01"], [0, pytest.approx(100 * 20 / 41)])


def test_no_trend_is_drawn_from_a_handful_of_authors() -> None:
    page = Page(version_page(analysed(tables(two_months(8, days=2)))))
    assert "it takes two whole months of 30 authors each" in page.text


def test_tables_lead_into_the_explorer_with_what_they_count() -> None:
    rows = [prompt(1, 'a "b" c, <i>x</i>', sampler="Euler a", negative_prompt="text")]
    page = Page(
        version_page(tables(rows, [resource(1, "Ink & Co", None, 0.5)], [category(1, "mood", 1, primary=True)]))
    )
    queries = {link.partition("#")[2] for link in links_of(page) if "-explorer.html#" in link}
    assert {
        "words=%22a++b++c%22",
        "words=%22text%22&in=negative",
        "sampler=Euler+a",
        "resource=Ink+%26+Co",
        "category=mood",
        "category=mainly%3Amood",
    } <= queries

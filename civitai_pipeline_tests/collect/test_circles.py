"""What leads a walk back, and what only looks like it."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from civitai_pipeline.collect.circles import Trail
from civitai_pipeline.sandbox import FaultRule

from .stage import VERSION, Stage, items

FIRST, SECOND = list(range(1, 11)), list(range(11, 21))


def trail(**changed: Any) -> Trail:  # noqa: ANN401 - any field
    return Trail(**{"asked": {"b", "c"}, "first_ids": FIRST, "previous_ids": SECOND, **changed})


def test_a_page_that_leads_on_is_no_circle() -> None:
    assert trail().circle(3, list(range(21, 31)), "d") is None
    assert trail().circle(3, [], "d") is None
    assert trail().circle(3, [], None) is None


def test_a_cursor_asked_for_before_leads_back() -> None:
    assert trail().circle(3, [30], "b") == "gave the cursor 'b' a second time"


def test_the_page_before_leads_back_unless_its_items_have_no_ids() -> None:
    assert trail().circle(3, SECOND, "d") == "gave the same page twice"
    assert trail(previous_ids=[None, None], first_ids=[]).circle(3, [None, None], "d") is None


def test_the_first_page_is_known_at_another_size_and_with_images_gone_from_it() -> None:
    began_again = "began again at the first page"
    assert trail().circle(3, [*FIRST, *SECOND], "d") == began_again
    assert trail().circle(3, FIRST[:4], "d") == began_again
    assert trail().circle(3, [*FIRST[4:], *SECOND[:4]], "d") == began_again
    assert trail().circle(3, [*FIRST[5:], *SECOND[:5]], "d") is None


def test_images_inserted_behind_a_walk_are_no_circle() -> None:
    assert trail(previous_ids=FIRST).circle(2, [*FIRST[2:], 11, 12], "d") is None
    assert trail(tells_changed=False).circle(50, [*FIRST[2:], 11, 12], "d") is None


@given(st.lists(st.one_of(st.none(), st.text(), st.booleans(), st.integers(), st.lists(st.integers())), max_size=8))
def test_ids_of_any_kind_are_looked_at(ids: list[Any]) -> None:
    seen = trail(first_ids=ids, previous_ids=[])
    assert seen.circle(3, list(range(100, 120)), "d") is None
    seen.go_on(3, ids, "d")
    assert "d" in seen.asked


def test_a_server_that_begins_again_is_found_though_images_of_the_first_page_are_gone(stage: Stage) -> None:
    for image in items(18, start=13):
        stage.world.insert(image, VERSION)
    stage.collect(max_items=20)
    stage.world.delete_image(2)
    stage.server.faults.set([FaultRule("restart_at_first_page", nth=1)])
    summary = stage.collect()
    assert (summary.stop_reason, summary.pages) == ("stalled", 0)
    assert "began again at the first page" in str(summary.error)
    assert stage.collect().stop_reason == "at_end"


def test_a_run_knows_the_first_page_that_it_landed_itself(stage: Stage) -> None:
    def disturb(summary: Any) -> None:  # noqa: ANN401 - the summary
        if summary.pages == 3:
            stage.world.delete_image(1)
            stage.server.faults.set([FaultRule("restart_at_first_page")])

    summary = stage.collector(page_size=3, on_page=disturb).run()
    assert (summary.stop_reason, summary.pages) == ("stalled", 3)

"""Every failure of the API: its stop reason, what landed stays, and the next run ends like a clean one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from civitai_pipeline.prompts.items import Outcome
from civitai_pipeline.sandbox import Fault, FaultRule, Sandbox, SandboxOptions, World

from .stage import VERSION, Json, Stage, items

if TYPE_CHECKING:
    from pathlib import Path

FOR_EVER = range(1, 1000)

STOPS: list[tuple[Fault, str]] = [
    (Fault("rate_limited"), "rate_limited"),
    (Fault("rate_limited", retry_after=7), "rate_limited"),
    (Fault("rate_limited", html=True), "rate_limited"),
    (Fault("server_error"), "api_unavailable"),
    (Fault("busy"), "api_unavailable"),
    (Fault("brownout"), "api_unavailable"),
    (Fault("bad_gateway_html"), "api_unavailable"),
    (Fault("timeout_html"), "api_unavailable"),
    (Fault("html_200"), "api_unavailable"),
    (Fault("invalid_json"), "api_unavailable"),
    (Fault("cut_json"), "api_unavailable"),
    (Fault("reset_before"), "api_unavailable"),
    (Fault("reset_headers"), "api_unavailable"),
    (Fault("reset_mid_body"), "api_unavailable"),
    (Fault("truncated"), "api_unavailable"),
    (Fault("slow", seconds=20), "api_unavailable"),
    (Fault("stall", seconds=20), "api_unavailable"),
    (Fault("paging_cap"), "rejected"),
    (Fault("unauthorized"), "rejected"),
    (Fault("forbidden"), "rejected"),
    (Fault("not_found"), "rejected"),
    (Fault("region_blocked"), "rejected"),
    (Fault("redirect_elsewhere"), "rejected"),
    (Fault("wrong_shape_items_missing"), "contract_changed"),
    (Fault("wrong_shape_items_not_list"), "contract_changed"),
    (Fault("wrong_shape_metadata_missing"), "contract_changed"),
    (Fault("wrong_shape_top_level_list"), "contract_changed"),
    (Fault("oversized", size=2**20), "contract_changed"),
]
NAMES = [f"{place:02d}-{fault.name}" for place, (fault, _) in enumerate(STOPS)]


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Json]]:
    """What a run without trouble leaves of the twelve images."""
    with Sandbox(World.from_items(items(12), VERSION)) as server:
        stage = Stage(server, tmp_path_factory.mktemp("clean"))
        stage.collect()
        return stage.content()


@pytest.fixture
def hasty(stage: Stage) -> Stage:
    """A stage whose client gives up soon, and takes in no answer beyond 100 kB."""
    stage.client_options = {"timeout": 0.15, "max_body_bytes": 100_000}
    return stage


@pytest.mark.parametrize(("fault", "reason"), STOPS, ids=NAMES)
def test_trouble_after_two_pages_stops_the_run_and_the_next_one_completes(
    hasty: Stage, clean: dict[str, list[Json]], fault: Fault, reason: str
) -> None:
    hasty.server.faults.set([FaultRule(fault, nth=range(3, 1000))])
    summary = hasty.collect()
    assert (summary.stop_reason, summary.pages, summary.failed) == (reason, 2, False)
    assert summary.error
    assert summary.as_dict()["more_available"] is True
    hasty.server.faults.clear()
    rest = hasty.collect()
    assert (rest.stop_reason, rest.branch, rest.pages, rest.error) == ("at_end", "additional", 1, None)
    assert hasty.content() == clean
    cursors = [cursor for _, cursor in hasty.asked()]
    assert len(set(cursors)) == 3


@pytest.mark.parametrize(
    ("fault", "reason"),
    [(Fault("server_error"), "api_unavailable"), (Fault("region_blocked"), "rejected")],
    ids=["server_error", "region_blocked"],
)
def test_trouble_before_the_first_page_fails_the_run(stage: Stage, fault: Fault, reason: str) -> None:
    stage.server.faults.set([FaultRule(fault)])
    summary = stage.collect()
    assert (summary.stop_reason, summary.pages, summary.failed) == (reason, 0, True)
    assert stage.ledger.walk_numbers() == []
    stage.server.faults.clear()
    assert stage.collect().branch == "initial"


def test_trouble_before_the_first_page_of_a_later_run_still_says_what_is_held(stage: Stage) -> None:
    stage.collect(max_items=5)
    stage.server.faults.set([FaultRule("server_error")])
    said = stage.collect().as_dict()
    expected = {"branch": "additional", "prompts_before": 5, "prompts_after": 5, "walk": 1, "last_page_number": 1}
    assert {key: said[key] for key in expected} == expected


def test_passing_trouble_is_waited_out_and_counted(stage: Stage) -> None:
    stage.client_options = {"retry_budget": 10.0}
    stage.server.faults.set([FaultRule("server_error", nth=2)])
    summary = stage.collect()
    assert (summary.stop_reason, summary.retries, summary.requests) == ("at_end", 1, 5)
    assert 0.5 <= summary.waited_s <= summary.elapsed_s


@pytest.mark.parametrize("name", ["same_cursor", "repeat_previous_page", "restart_at_first_page"])
def test_a_walk_that_turns_in_circles_is_stalled_and_the_page_is_not_landed(
    stage: Stage, clean: dict[str, list[Json]], name: str
) -> None:
    stage.server.faults.set([FaultRule(name, nth=2)])
    summary = stage.collect()
    assert (summary.stop_reason, summary.pages, summary.tally.attempted) == ("stalled", 1, 5)
    assert "not landed" in str(summary.error)
    rest = stage.collect()
    assert (rest.stop_reason, rest.pages) == ("at_end", 2)
    assert stage.content() == clean


def test_a_restart_at_the_first_page_is_found_however_late_it_comes(stage: Stage) -> None:
    stage.server.faults.set([FaultRule("restart_at_first_page", nth=5)])
    assert stage.collect(page_size=2).pages == 4
    assert stage.collect(page_size=2).stop_reason == "at_end"


def test_a_server_that_keeps_restarting_ends_every_run(stage: Stage) -> None:
    stage.collect(max_items=10)
    stage.server.faults.set([FaultRule("restart_at_first_page")])
    for _ in range(3):
        assert stage.collect().stop_reason == "stalled"
    stage.server.faults.clear()
    assert stage.collect().stop_reason == "at_end"
    assert len(stage.content()["prompts"]) == 12


@pytest.mark.parametrize("name", ["cursor_dead", "cursor_filters"])
def test_a_lost_cursor_starts_the_walk_anew_once(stage: Stage, clean: dict[str, list[Json]], name: str) -> None:
    stage.collect(max_items=10)
    stage.server.faults.set([FaultRule(name, nth=1)])
    summary = stage.collect()
    assert (summary.stop_reason, summary.walk, summary.pages) == ("at_end", 2, 3)
    assert (summary.tally.outcomes[Outcome.NEW], summary.tally.outcomes[Outcome.DUPLICATE]) == (2, 10)
    assert stage.content() == clean


def test_a_cursor_lost_in_the_middle_of_a_run_counts_both_walks(stage: Stage, clean: dict[str, list[Json]]) -> None:
    stage.server.faults.set([FaultRule("cursor_dead", nth=3)])
    summary = stage.collect()
    assert (summary.stop_reason, summary.walk, summary.pages, summary.tally.attempted) == ("at_end", 2, 5, 22)
    assert stage.content() == clean


def test_a_cursor_lost_twice_is_rejected_and_what_landed_stays(stage: Stage) -> None:
    stage.server.faults.set([FaultRule("cursor_dead", nth=[2, 4])])
    summary = stage.collect()
    assert (summary.stop_reason, summary.walk, summary.pages) == ("rejected", 2, 2)
    assert "cursor" in str(summary.error).lower()
    assert stage.collect().stop_reason == "at_end"


def test_a_lost_cursor_of_a_walk_at_its_end_is_walked_anew_too(stage: Stage) -> None:
    stage.collect()
    stage.server.faults.set([FaultRule("cursor_dead", nth=1)])
    summary = stage.collect()
    assert (summary.stop_reason, summary.walk, summary.tally.outcomes) == ("at_end", 2, {"duplicate": 12})


def test_trouble_at_the_start_of_the_new_walk_leaves_the_old_one_in_place(stage: Stage) -> None:
    stage.collect(max_items=5)
    stage.server.faults.set([FaultRule("cursor_dead", nth=1), FaultRule("server_error", nth=2)])
    summary = stage.collect()
    assert (summary.stop_reason, summary.walk, summary.next_cursor) == ("api_unavailable", 2, None)
    assert stage.collect().walk == 1


def test_max_items_holds_over_both_walks(stage: Stage) -> None:
    stage.server.faults.set([FaultRule("cursor_dead", nth=2)])
    summary = stage.collect(max_items=10)
    assert (summary.stop_reason, summary.tally.attempted, summary.pages) == ("max_items", 10, 2)


def test_an_empty_end_amid_a_walk_is_asked_for_again_before_it_is_believed(
    stage: Stage, clean: dict[str, list[Json]]
) -> None:
    stage.server.faults.set([FaultRule("empty_no_cursor", nth=2)])
    summary = stage.collect()
    assert (summary.stop_reason, summary.pages, summary.requests) == ("at_end", 3, 5)
    assert stage.content() == clean


def test_an_empty_end_that_lasts_is_believed_and_healed_by_the_next_run(
    stage: Stage, clean: dict[str, list[Json]]
) -> None:
    stage.server.faults.set([FaultRule("empty_no_cursor", nth=[2, 3])])
    assert stage.collect().stop_reason == "at_end"
    assert stage.collect().tally.outcomes == {"new": 7}
    assert stage.content() == clean


def test_trouble_while_an_empty_end_is_confirmed_is_no_end(stage: Stage, clean: dict[str, list[Json]]) -> None:
    stage.server.faults.set([FaultRule("empty_no_cursor", nth=2), FaultRule("server_error", nth=3)])
    summary = stage.collect()
    assert (summary.stop_reason, summary.pages) == ("api_unavailable", 1)
    assert stage.collect().stop_reason == "at_end"
    assert stage.content() == clean


@pytest.mark.parametrize(
    "options", [SandboxOptions(short_pages=True), SandboxOptions(empty_pages=True), SandboxOptions(nested_meta=True)],
    ids=["short", "empty", "nested"],
)  # fmt: skip
def test_short_and_empty_pages_and_nested_metadata_lose_nothing(
    tmp_path: Path, clean: dict[str, list[Json]], options: SandboxOptions
) -> None:
    with Sandbox(World.from_items(items(12), VERSION), options) as server:
        stage = Stage(server, tmp_path)
        assert stage.collect().stop_reason == "at_end"
        assert stage.content() == clean


def test_a_version_that_does_not_exist_is_rejected_with_the_reason(stage: Stage) -> None:
    summary = stage.collector(version=5).run()
    assert (summary.stop_reason, summary.pages, summary.failed) == ("rejected", 0, True)
    assert "no model version 5" in str(summary.error)
    assert stage.asked() == []


def test_a_version_unpublished_later_is_rejected_and_the_summary_says_what_is_held(stage: Stage) -> None:
    stage.collect()
    stage.world.remove_version(VERSION)
    said = stage.collect().as_dict()
    expected = {
        "stop_reason": "rejected", "branch": "additional", "prompts_before": 12, "prompts_after": 12,
        "more_available": False, "last_page_number": 3,
    }  # fmt: skip
    assert {key: said[key] for key in expected} == expected


@pytest.mark.parametrize("fault", ["server_error", "rate_limited", "unauthorized", "invalid_json", "stall"])
def test_names_that_cannot_be_looked_up_stay_unknown_and_stop_nothing(hasty: Stage, fault: str) -> None:
    hasty.server.faults.set([FaultRule(Fault(fault, seconds=5), on="model-versions")])
    said = hasty.collect().as_dict()
    expected: dict[str, Any] = {"stop_reason": "at_end", "new": 12, "model_id": None, "model_name": None, "error": None}
    assert {key: said[key] for key in expected} == expected


def test_a_soak_with_a_fault_on_one_request_in_three_ends_like_a_clean_run(
    stage: Stage, clean: dict[str, list[Json]]
) -> None:
    rules = [
        FaultRule(name, probability=0.06, seed=seed)
        for seed, name in enumerate(
            ["server_error", "busy", "cut_json", "reset_mid_body", "html_200", "rate_limited", "same_cursor"]
        )
    ]
    stage.server.faults.set(rules)
    reasons = [stage.collect(page_size=1).stop_reason for _ in range(8)]
    assert "at_end" in reasons
    assert len(set(reasons)) > 2
    stage.server.faults.clear()
    assert stage.collect(page_size=1).stop_reason == "at_end"
    assert stage.content() == clean

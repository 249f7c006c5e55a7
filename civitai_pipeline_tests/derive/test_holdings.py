"""What becomes of an item, given what is held."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from civitai_pipeline.derive.holdings import Effect, Holdings, Receipt, Sighting, Tally, receive_items
from civitai_pipeline.lake.pages import Options
from civitai_pipeline.prompts.items import Outcome, read_item

from .landing import VERSION, image

PLAIN, STRICT, APPEND = Options(), Options(strict_version_match=True), Options(append_only=True)
NAMED = {"prompt": "a kite", "civitaiResources": [{"type": "Checkpoint", "modelVersionId": VERSION}]}
BARE = {"civitaiResources": [{"type": "Checkpoint", "modelVersionId": VERSION}]}


def receive(holdings: Holdings, item: object, options: Options) -> Receipt:
    return holdings.receive(Sighting.of(read_item(item), VERSION, options), VERSION, options)


def outcomes(*steps: tuple[object, Options]) -> list[str]:
    """What becomes of items seen one after the other."""
    holdings = Holdings()
    return [receive(holdings, item, options).outcome.value for item, options in steps]


@pytest.mark.parametrize(
    ("item", "options", "outcome"),
    [
        # Everything is wrong with it: malformed goes first.
        ({"id": None, "meta": None}, STRICT, "malformed"),
        ({"id": "7", "meta": NAMED}, PLAIN, "malformed"),
        ({"id": 0, "meta": NAMED}, PLAIN, "malformed"),
        ({"id": True, "meta": NAMED}, PLAIN, "malformed"),
        (None, PLAIN, "malformed"),
        ([image(1)], PLAIN, "malformed"),
        # Without a prompt and without the version: the version goes first.
        (image(1, None), STRICT, "version_mismatch"),
        (image(1, "a kite"), STRICT, "version_mismatch"),
        (image(1, meta={**NAMED, "civitaiResources": [{"type": "lora", "modelVersionId": VERSION}]}), STRICT,
         "version_mismatch"),
        (image(1, meta={**NAMED, "civitaiResources": [{"type": "checkpoint", "modelVersionId": VERSION + 1}]}), STRICT,
         "version_mismatch"),
        (image(1, meta=BARE), STRICT, "no_prompt"),
        (image(1, meta=NAMED), STRICT, "new"),
        (image(1, None), PLAIN, "no_prompt"),
        (image(1, None), APPEND, "no_prompt"),
        (image(1, " \n\t"), PLAIN, "no_prompt"),
        (image(1, meta={"prompt": 7}), PLAIN, "no_prompt"),
        (image(1), APPEND, "new"),
    ],
)  # fmt: skip
def test_an_item_of_an_image_not_held(item: object, options: Options, outcome: str) -> None:
    assert outcomes((item, options)) == [outcome]


HELD = image(1, meta={**NAMED, "steps": 20}, like=3)


@pytest.mark.parametrize(
    ("again", "plain", "append", "strict"),
    [
        (HELD, "duplicate", "duplicate", "duplicate"),
        ({**HELD, "meta": {"id": 1, "meta": HELD["meta"]}}, "duplicate", "duplicate", "duplicate"),
        ({**HELD, "meta": dict(reversed(HELD["meta"].items()))}, "duplicate", "duplicate", "duplicate"),
        ({**HELD, "username": "renamed"}, "duplicate", "duplicate", "duplicate"),
        ({**HELD, "stats": {"likeCount": 4}}, "updated", "duplicate", "updated"),
        ({**HELD, "stats": {"likeCount": 3, "commentCount": 1}}, "updated", "duplicate", "updated"),
        ({**HELD, "browsingLevel": 2}, "updated", "duplicate", "updated"),
        ({**HELD, "meta": {**HELD["meta"], "prompt": "another"}}, "updated", "duplicate", "updated"),
        ({**HELD, "meta": {**HELD["meta"], "steps": 21}}, "updated", "duplicate", "updated"),
        ({**HELD, "meta": {**HELD["meta"], "new key": None}}, "updated", "duplicate", "updated"),
        ({**HELD, "meta": None}, "updated", "duplicate", "version_mismatch"),
        ({**HELD, "meta": {**HELD["meta"], "prompt": " "}}, "updated", "duplicate", "updated"),
        ({**HELD, "meta": {"prompt": "no version"}}, "updated", "duplicate", "version_mismatch"),
    ],
)
def test_an_item_of_an_image_held_already(again: object, plain: str, append: str, strict: str) -> None:
    assert [outcomes((HELD, PLAIN), (again, options))[1] for options in (PLAIN, APPEND, STRICT)] == [
        plain,
        append,
        strict,
    ]


def test_a_withdrawn_prompt_is_news_once_and_again_when_it_comes_back() -> None:
    gone = {**HELD, "meta": None}
    seen = [(HELD, PLAIN), (gone, APPEND), (gone, PLAIN), (gone, PLAIN), (gone, APPEND), (HELD, APPEND), (HELD, PLAIN)]
    assert outcomes(*seen, (HELD, PLAIN), (gone, PLAIN)) == [
        "new", "duplicate", "updated", "duplicate", "duplicate", "duplicate", "updated", "duplicate", "updated",
    ]  # fmt: skip


def test_only_news_and_sightings_touch_a_row() -> None:
    holdings = Holdings()
    effects = [
        receive(holdings, item, options).effect
        for item, options in [
            (HELD, PLAIN), (HELD, PLAIN), (HELD, APPEND), ({**HELD, "meta": None}, PLAIN), (image(2, None), PLAIN),
        ]
    ]  # fmt: skip
    assert effects == [Effect.CONTENT, Effect.SIGHTING, Effect.NOTHING, Effect.WITHDRAWAL, Effect.NOTHING]


def test_every_refusal_says_why() -> None:
    for item, options in [(None, PLAIN), (image(1), STRICT), (image(1, None), PLAIN), (image(1, " "), PLAIN)]:
        assert receive(Holdings(), item, options).reason


ITEMS: st.SearchStrategy[list[Any]] = st.lists(
    st.one_of(
        st.builds(image, st.integers(1, 4), st.sampled_from([None, "", "a", "b"]), like=st.integers(0, 1)),
        st.sampled_from([None, 3, "text", [], {}, {"id": None}]),
    ),
    max_size=12,
)
OPTIONS = st.builds(Options, strict_version_match=st.booleans(), append_only=st.booleans())


@given(st.lists(st.tuples(ITEMS, OPTIONS), max_size=6))
def test_the_six_outcomes_add_up_and_new_is_what_the_holdings_grew_by(runs: list[tuple[list[Any], Options]]) -> None:
    holdings, total = Holdings(), Tally()
    for items, options in runs:
        before, tally = len(holdings), Tally()
        receipts = [receipt for _, receipt in receive_items(holdings, items, VERSION, options, tally)]
        assert tally.attempted == len(items) == len(receipts)
        assert tally.outcomes == Counter(receipt.outcome for receipt in receipts)
        assert len(holdings) - before == tally.outcomes[Outcome.NEW]
        total.add(tally)
    assert total.attempted == sum(len(items) for items, _ in runs)
    assert len(holdings) == total.outcomes[Outcome.NEW]


@given(st.lists(ITEMS, max_size=6))
def test_append_only_and_strict_runs_never_update_more_than_a_plain_one(runs: list[list[Any]]) -> None:
    everything = [item for items in runs for item in items]
    plain, append = Tally(), Tally()
    receive_items(Holdings(), everything, VERSION, PLAIN, plain)
    receive_items(Holdings(), everything, VERSION, APPEND, append)
    assert append.outcomes[Outcome.UPDATED] == 0
    assert append.outcomes[Outcome.NEW] == plain.outcomes[Outcome.NEW]
    assert append.outcomes[Outcome.MALFORMED] == plain.outcomes[Outcome.MALFORMED]

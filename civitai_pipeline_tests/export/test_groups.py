"""Connected rows and splits: no group is divided, and the shares are about right."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from civitai_pipeline.export.groups import SPLITS, components, deal_out


def _codes(values: list[int]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.array(values, dtype=np.int64)


@settings(max_examples=200)
@given(st.lists(st.tuples(st.integers(-1, 8), st.integers(-1, 8), st.integers(-1, 3)), max_size=30))
def test_rows_are_together_exactly_if_a_chain_of_shared_values_links_them(rows: list[tuple[int, int, int]]) -> None:
    found = components(len(rows), [_codes([row[key] for row in rows]) for key in range(3)])
    # The slow way: merge sets until nothing is left to merge.
    groups = [{n} for n in range(len(rows))]
    for a in range(len(rows)):
        for b in range(a):
            if any(x == y != -1 for x, y in zip(rows[a], rows[b], strict=True)):
                of_a, of_b = (next(group for group in groups if n in group) for n in (a, b))
                if of_a is not of_b:
                    of_a |= of_b
                    groups.remove(of_b)
    assert found.tolist() == [min(next(group for group in groups if n in group)) for n in range(len(rows))]


def test_a_long_chain_is_one_group_and_quickly_found() -> None:
    rows = 100_000
    shuffled = np.random.default_rng(1).permutation(rows)
    # Row n shares one value with the row before it and another with the one after.
    started = time.process_time()
    group = components(rows, [shuffled // 2, (shuffled + 1) // 2])
    assert not group.any()
    assert time.process_time() - started < 5


@settings(max_examples=100)
@given(st.lists(st.integers(0, 20), max_size=60), st.integers(0, 5))
@example([1, 2, 1, 1, 0], 5)  # Both small groups are drawn for test, and train has but the large one to give.
def test_no_group_is_divided_and_no_split_is_empty_that_could_be_filled(groups: list[int], seed: int) -> None:
    group = components(len(groups), [_codes(groups)])
    ids = _codes(list(range(1000, 1000 + len(groups))))
    split = deal_out(group, ids, seed)
    for number in set(group.tolist()):
        assert len(set(split[group == number].tolist())) == 1
    assert len(set(split.tolist())) == min(3, len(set(groups)))
    assert deal_out(group, ids, seed).tolist() == split.tolist()


@pytest.mark.parametrize("groups", [1, 2, 3, 4])
def test_few_groups_fill_train_first_and_then_as_many_splits_as_they_can(groups: int) -> None:
    # One draw in a thousand puts three groups all into test.
    for seed in range(3_000):
        split = deal_out(np.arange(groups), np.arange(groups), seed).tolist()
        assert 0 in split
        assert len(set(split)) == min(3, groups)


def test_shares_are_those_promised_and_the_seed_changes_who_is_where() -> None:
    rows = 20_000
    group, ids = np.arange(rows), np.arange(rows) + 5
    split = deal_out(group, ids, 0)
    shares = np.bincount(split, minlength=3) / rows
    assert shares.tolist() == pytest.approx([0.8, 0.1, 0.1], abs=0.01)
    assert (deal_out(group, ids, 1) != split).any()


def test_a_group_keeps_its_split_when_other_rows_come() -> None:
    ids = np.arange(1, 2001)
    before = deal_out(np.arange(1000), ids[:1000], 0)
    after = deal_out(np.arange(2000), ids, 0)
    assert after[:1000].tolist() == before.tolist()


def test_a_large_group_goes_to_train() -> None:
    group = np.where(np.arange(1000) < 300, 0, np.arange(1000))
    for seed in range(20):
        assert SPLITS[deal_out(group, np.arange(1000), seed)[0]] == "train"

"""Histograms and quantiles against numbers counted by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from civitai_pipeline.report.binning import Bin, binned, nice_width, quantile

pairs = st.lists(
    st.tuples(st.floats(min_value=-1e6, max_value=1e6), st.integers(min_value=1, max_value=1000)),
    min_size=1,
    unique_by=lambda pair: pair[0],
)


def test_quantiles_are_values_that_occur() -> None:
    counted = [(10.0, 1), (20.0, 2), (30.0, 1)]
    assert [quantile(counted, q) for q in (0.25, 0.5, 0.75, 1.0)] == [10, 20, 20, 30]
    assert quantile([], 0.5) is None


@pytest.mark.parametrize(
    ("span", "whole", "width"), [(100, True, 5), (29, True, 1), (3, False, 0.1), (10, False, 0.5), (0.5, True, 1)]
)
def test_widths_are_round(span: float, whole: bool, width: float) -> None:
    assert nice_width(span, 30, whole=whole) == pytest.approx(width)


def test_whole_numbers_close_together_get_a_bin_each() -> None:
    assert binned([(20, 3), (22, 1)], whole=True) == [Bin(20, 21, 3), Bin(21, 22, 0), Bin(22, 23, 1)]


def test_outliers_share_an_open_bin() -> None:
    bins = binned([(1, 990), (2, 5), (5000, 5)], whole=True)
    assert bins[-1] == Bin(2, None, 10)
    assert bins[-1].label(whole=True) == "2 and more"


def test_labels_say_what_a_bin_holds() -> None:
    assert Bin(20, 21, 1).label(whole=True) == "20"
    assert Bin(20, 25, 1).label(whole=True) == "20 to 24"
    assert Bin(0.5, 0.6, 1).label(whole=False) == "0.5 to under 0.6"


@given(pairs)
def test_no_observation_is_lost(counted: list[tuple[float, int]]) -> None:
    bins = binned(counted)
    assert sum(bin_.count for bin_ in bins) == sum(count for _, count in counted)
    assert len(bins) < 70

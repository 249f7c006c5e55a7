"""Student's distribution against closed forms and published tables."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from civitai_pipeline.derive.analyses.student import benjamini_hochberg, critical_value, two_sided_p

# Two-sided 5 % points as printed in any table of the distribution.
PRINTED = {1: 12.706, 2: 4.303, 4: 2.776, 5: 2.571, 10: 2.228, 30: 2.042, 120: 1.980, 1_000_000: 1.960}


def p(t: float, degrees: float) -> float:
    return float(two_sided_p(np.array([t]), np.array([degrees]))[0])


def test_the_critical_values_are_the_printed_ones() -> None:
    found = critical_value(np.array(list(PRINTED), dtype=float), 0.95)
    assert found.round(3).tolist() == list(PRINTED.values())


@given(st.floats(0, 1e6))
def test_one_two_and_three_degrees_have_closed_forms(t: float) -> None:
    assert p(t, 1) == pytest.approx(1 - 2 * math.atan(t) / math.pi, abs=1e-12)
    assert p(t, 2) == pytest.approx(1 - t / math.sqrt(2 + t * t), abs=1e-12)
    root = math.sqrt(3)
    three = 2 / math.pi * (math.atan(t / root) + (t / root) / (1 + t * t / 3))
    assert p(t, 3) == pytest.approx(1 - three, abs=1e-12)


@given(st.floats(-50, 50), st.floats(0.5, 1e5))
def test_a_p_is_a_probability_and_falls_with_distance(t: float, degrees: float) -> None:
    assert 0 <= p(t, degrees) <= 1
    assert p(t, degrees) == p(-t, degrees)
    assert p(abs(t) + 1, degrees) <= p(t, degrees)
    assert p(0, degrees) == 1


@given(st.floats(1, 1e5))
def test_a_critical_value_has_its_p(degrees: float) -> None:
    value = critical_value(np.array([degrees]), 0.95)
    assert p(float(value[0]), degrees) == pytest.approx(0.05, abs=1e-9)


def test_q_values_as_worked_out_by_hand() -> None:
    # In order: .01*4/1, .02*4/2, .03*4/3, .50*4/4; the least of what follows counts.
    assert benjamini_hochberg(np.array([0.5, 0.01, 0.03, 0.02])).tolist() == pytest.approx([0.5, 0.04, 0.04, 0.04])
    assert benjamini_hochberg(np.array([0.9, 0.9])).tolist() == pytest.approx([0.9, 0.9])
    assert benjamini_hochberg(np.array([])).tolist() == []

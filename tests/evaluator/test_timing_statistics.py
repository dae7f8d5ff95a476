"""Intervals, decisions and charges, on made-up numbers."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from vegtts_core.evaluator import Decision
from vegtts_core.evaluator.timing_statistics import (
    Interval,
    charged,
    decide,
    decide_published,
    estimate,
    published_speedup,
    three_digits,
)

ratios = st.lists(st.floats(-5, 5), min_size=6, max_size=40)
seconds = st.lists(st.floats(1e-6, 10), min_size=1, max_size=20)


@given(ratios)
def test_interval_holds_its_estimate_and_lies_within_the_data(values: list[float]) -> None:
    interval = estimate(values)
    assert min(values) <= interval.low <= interval.center <= interval.high <= max(values)


@given(ratios, st.floats(-3, 3))
def test_estimate_moves_with_a_shift_and_turns_with_the_sign(values: list[float], shift: float) -> None:
    interval = estimate(values)
    moved = estimate([value + shift for value in values])
    assert np.allclose(
        [moved.center, moved.low, moved.high], [interval.center + shift, interval.low + shift, interval.high + shift]
    )
    turned = estimate([-value for value in values])
    assert np.allclose([turned.low, turned.center, turned.high], [-interval.high, -interval.center, -interval.low])


@given(st.lists(st.floats(-5, 5), max_size=5))
def test_too_few_pairs_bound_nothing(values: list[float]) -> None:
    interval = estimate(values)
    assert (interval.low, interval.high) == (-math.inf, math.inf)
    assert decide(interval, 0.02) is Decision.UNDECIDED


def test_interval_is_the_inverted_signed_rank_test() -> None:
    """A value is outside the interval exactly where scipy's exact test rejects it."""
    values = np.random.default_rng(0).normal(0.1, 1, 15)
    interval = estimate(values.tolist())
    for value in np.linspace(-2, 2, 201):
        rejected = np.asarray(stats.wilcoxon(values - value, method="exact"))[1] <= 0.05
        assert rejected == (not interval.low <= value <= interval.high)


def test_one_disturbed_call_in_eight_changes_little() -> None:
    calm = [0.001, -0.002, 0.0, 0.002, -0.001, 0.0, 0.001]
    assert abs(estimate([*calm, 5.0]).center - estimate(calm).center) < 0.002


def test_identical_code_is_hardly_ever_called_faster_and_the_interval_covers() -> None:
    """The stopping rule of the sound protocol on noise of 3%, 400 times."""
    generator = np.random.default_rng(1)
    faster = covered = 0
    for _ in range(400):
        values = generator.normal(0, 0.03, 48).tolist()
        count = next((n for n in range(8, 48) if estimate(values[:n]).half_width <= 0.01), 48)
        interval = estimate(values[:count])
        faster += decide(interval, 0.02) is Decision.FASTER
        covered += interval.low <= 0 <= interval.high
    assert faster == 0
    assert covered >= 0.91 * 400


@given(st.floats(-1, 1), st.floats(0, 1), st.floats(0, 0.5))
def test_decision_follows_the_bounds(low: float, width: float, effect: float) -> None:
    interval = Interval(low + width / 2, low, low + width)
    decision = decide(interval, effect)
    assert (decision is Decision.FASTER) == (math.exp(interval.low) > 1 + effect or interval.low > math.log1p(effect))
    assert (decision is Decision.SLOWER) == (interval.high < -math.log1p(effect))
    opposite = decide(Interval(-interval.center, -interval.high, -interval.low), effect)
    pairs = {Decision.FASTER: Decision.SLOWER, Decision.SLOWER: Decision.FASTER}
    assert opposite is pairs.get(decision, decision)


@given(seconds)
def test_equal_writing_is_not_charged(calls: list[float]) -> None:
    writing = [1e-3] * len(calls)
    assert charged(calls, writing, writing) == tuple(calls)


def test_work_put_off_until_after_the_clock_is_charged() -> None:
    reference_writing = [0.001, 0.0011, 0.0009, 0.001]
    always = charged([0.002] * 4, [0.011] * 4, reference_writing)
    assert all(math.isclose(call, 0.012) for call in always)
    once = charged([0.002] * 4, [0.001, 0.001, 0.021, 0.001], reference_writing)
    assert once[0] == 0.002 and math.isclose(once[2], 0.0219)


@given(st.floats(1e-3, 1e5))
def test_three_digits_are_within_half_a_percent(value: float) -> None:
    assert abs(three_digits(value) / value - 1) <= 0.005 + 1e-12


def test_published_rule() -> None:
    assert published_speedup([0.0100049], [0.01]) == 1.0  # 10.0049 ms is reported as 10.0 ms
    assert decide_published(1.0) is Decision.SAME
    assert published_speedup([0.0101], [0.01]) == 10.1 / 10.0
    assert decide_published(1.01) is Decision.FASTER
    assert decide_published(0.99) is Decision.SLOWER

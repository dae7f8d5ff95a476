"""Power: it rises with n and with the effect, is alpha at no effect, and agrees with simulation."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from vegtts_core.statistics import (
    count_power,
    equality_power,
    least_spread,
    mean_effect,
    mean_power,
    of_interval,
    t_interval,
    tasks_needed,
)
from vegtts_core.statistics.bootstrap import Interval
from vegtts_core.statistics.power import ALPHA

EFFECTS = st.floats(0.01, 1.0)
SPREADS = st.floats(0.05, 2.0)
SIZES = st.integers(2, 60)


@given(EFFECTS, SPREADS, SIZES)
def test_power_rises_with_n_and_with_the_effect(effect: float, spread: float, n: int) -> None:
    here = mean_power(effect, spread, n)
    assert ALPHA - 1e-9 <= here <= 1
    assert mean_power(effect, spread, n + 1) >= here - 1e-6
    assert mean_power(effect * 1.5, spread, n) >= here - 1e-6
    assert mean_power(-effect, spread, n) == pytest.approx(here)
    assert mean_power(effect, spread * 1.5, n) <= here + 1e-6


@given(SPREADS, SIZES)
def test_power_at_no_effect_is_alpha(spread: float, n: int) -> None:
    assert mean_power(0.0, spread, n) == ALPHA
    assert mean_power(1e-9, spread, n) == pytest.approx(ALPHA, abs=1e-4)


@pytest.mark.parametrize(("effect", "n"), [(0.3, 5), (0.3, 16), (0.0, 8)])
def test_power_agrees_with_simulated_t_tests(effect: float, n: int) -> None:
    rng = np.random.default_rng(0)
    draws = effect + 0.4 * rng.normal(size=(20000, n))
    found = np.asarray(stats.ttest_1samp(draws, 0, axis=1).pvalue) < ALPHA
    assert mean_power(effect, 0.4, n) == pytest.approx(float(found.mean()), abs=0.01)


def test_no_test_without_two_tasks_or_a_spread() -> None:
    assert math.isnan(mean_power(0.3, 0.4, 1)) and math.isnan(mean_power(0.3, math.nan, 5))
    assert mean_power(0.3, 0.0, 5) == 1.0
    assert math.isnan(equality_power(0.1, 0.4, 1)) and math.isnan(count_power(0.5, 0, lambda _: True))


@given(st.floats(0.02, 0.5), SPREADS, SIZES)
def test_equality_is_easier_to_show_with_more_tasks_and_wider_margins(margin: float, spread: float, n: int) -> None:
    here = equality_power(margin, spread, n)
    assert 0 <= here <= 1
    assert equality_power(margin, spread, 40 * math.ceil((4 * spread / margin) ** 2)) > 0.99
    assert equality_power(2 * margin, spread, n) >= here - 1e-9
    assert equality_power(margin, spread, n, truth=margin) <= here + 1e-9


def test_equality_agrees_with_simulated_intervals() -> None:
    rng = np.random.default_rng(1)
    draws = 0.15 * rng.normal(size=(20000, 16))
    half = stats.t.ppf(0.975, 15) * draws.std(axis=1, ddof=1) / 4
    inside = np.abs(draws.mean(axis=1)) + half < 0.1
    assert equality_power(0.1, 0.15, 16) == pytest.approx(float(inside.mean()), abs=0.01)


@given(st.integers(0, 100).map(lambda v: v / 100), st.integers(1, 30))
def test_counts_that_always_or_never_decide(share: float, n: int) -> None:
    assert count_power(share, n, lambda _: True) == pytest.approx(1)
    assert count_power(share, n, lambda _: False) == 0


def test_three_of_three_is_a_count_with_a_known_chance() -> None:
    assert count_power(0.8, 3, lambda k: k == 3) == pytest.approx(0.512)


def test_an_effect_has_a_sign_only_where_both_intervals_agree() -> None:
    tasks = [f"t{i}" for i in range(8) for _ in range(3)]
    strong = mean_effect(np.tile([0.5, 0.6, 0.4], 8) + np.repeat(np.linspace(0, 0.1, 8), 3), tasks)
    assert strong.sign == 1 and strong.n == 8 and strong.groups == 24
    # Four of five tasks alike: the bootstrap excludes 0, the t-test over five tasks does not.
    narrow = mean_effect([0.0, 0.1, 0.1, 1.0, 0.2], list("abcde"))
    assert narrow.interval.low > 0 and narrow.test.low < 0 and narrow.sign == 0


def test_equal_values_are_no_evidence_where_they_are_few() -> None:
    assert math.isnan(t_interval([0.5] * 5).low) and t_interval([0.5] * 6).low == 0.5
    assert mean_effect([1.0] * 5, list("abcde")).sign == 0
    nothing = mean_effect([0.0] * 5, list("abcde"))
    assert nothing.sign == 0 and not nothing.within(0.1)
    assert mean_effect([0.0] * 60, range(60)).within(0.1)


def test_the_floor_of_the_spread_is_that_of_a_success() -> None:
    assert least_spread(0.3) == pytest.approx(math.sqrt(0.21)) and least_spread(0) == 0
    nothing = mean_effect([0.0] * 5, list("abcde"))
    assert nothing.power(0.3) == pytest.approx(mean_power(0.3, math.sqrt(0.21), 5)) and nothing.power(0.3) < 0.3
    assert nothing.power(0.3, tasks=1) != nothing.power(0.3, tasks=1)


def test_a_bootstrap_alone_is_widened_by_the_t_quantile() -> None:
    found = of_interval(Interval(0.3, 0.1, 0.5, 5))
    assert found.test.low < 0.1 and found.spread == pytest.approx(0.2 / 1.959964 * math.sqrt(5))
    assert of_interval(Interval(0.3, 0.1, 0.5, 3)).sign == 0 and of_interval(Interval(0.3, 0.1, 0.5, 30)).sign == 1
    assert of_interval(Interval(0.3, math.nan, math.nan, 1)).sign == 0


@given(EFFECTS, SPREADS)
def test_tasks_needed_are_just_enough(effect: float, spread: float) -> None:
    n = tasks_needed(effect, spread)
    if n is None:
        assert mean_power(effect, spread, 1000) < 0.8
    else:
        assert mean_power(effect, spread, n) >= 0.8 and (n == 2 or mean_power(effect, spread, n - 1) < 0.8)


def test_tasks_needed_of_nothing_known() -> None:
    assert tasks_needed(0.0, 0.3) is None and tasks_needed(0.3, math.nan) is None
    assert mean_effect([0.3], ["a"]).needed(0.3) is None


def test_a_design_with_power_misses_what_its_interval_excludes() -> None:
    rng = np.random.default_rng(2)
    none = mean_effect(0.1 * rng.normal(size=30), range(30))
    assert none.power(0.5) >= 0.8 and none.misses(0.5) and not none.misses(0.01)
    assert not mean_effect(0.1 * rng.normal(size=3), range(3)).misses(0.5)


def test_a_rho_has_no_floor_of_a_success() -> None:
    found = of_interval(Interval(-0.02, -0.04, -0.001, 16))
    assert (
        found.within(0.1) and found.equality(0.1) > 0.9 and math.isnan(of_interval(Interval(0, 0, 0, 1)).equality(0.1))
    )

"""The part of an interval for what differs between evaluations: found from repeats, on made-up numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from vegtts_core.evaluator import BetweenEvaluations, Decision, Reach, SoundSettings
from vegtts_core.evaluator.repeats import noise_part, reach_between, reach_of_tasks, reach_to_truth
from vegtts_core.evaluator.runner import Call
from vegtts_core.evaluator.sound_result import enough, measurement_of, spanning, summary
from vegtts_core.evaluator.timing_statistics import Interval, decide, estimate, widened

logs = st.floats(-3, 3)
widths = st.floats(0, 0.5)
TASKS = 12


@given(logs, widths, widths, widths, st.floats(0, 0.5))
def test_widening_takes_decisions_back_and_makes_none(
    center: float, below: float, above: float, reach: float, effect: float
) -> None:
    interval = Interval(center, center - below, center + above)
    wide = widened(interval, reach)
    assert wide.center == center and wide.low <= interval.low and wide.high >= interval.high
    assert wide.half_width == pytest.approx(math.hypot(interval.half_width, reach))
    assert decide(wide, effect) in (decide(interval, effect), Decision.UNDECIDED)


def test_no_bounds_stay_no_bounds() -> None:
    assert widened(Interval(0.1, -math.inf, math.inf), 0.1) == Interval(0.1, -math.inf, math.inf)


@given(logs, widths, widths)
def test_the_reach_needed_is_the_least_that_holds_the_truth(error: float, noise: float, more: float) -> None:
    needed = float(reach_to_truth(error, noise))
    assert math.hypot(noise, needed + more) >= abs(error) - 1e-9
    if needed > 1e-6:
        assert math.hypot(noise, needed * 0.99) < abs(error)


@given(logs, widths, widths)
def test_the_reach_between_two_holds_their_difference(difference: float, noise: float, other: float) -> None:
    needed = float(reach_between(difference, noise, other))
    both = math.hypot(math.hypot(noise, needed), math.hypot(other, needed))
    assert both >= abs(difference) - 1e-9
    assume(needed > 1e-6)
    assert both == pytest.approx(abs(difference))


@given(widths, widths)
def test_the_noise_is_what_widening_added_to(half: float, reach: float) -> None:
    assert noise_part(math.hypot(half, reach), reach) == pytest.approx(half, abs=1e-7)


def test_a_task_that_varies_more_decides_where_it_refutes_the_others() -> None:
    calm, odd = [0.001] * 100, [0.0] * 80 + [0.05] * 20
    names = [name for name in range(9) for _ in calm]
    reach, task = reach_of_tasks([*calm * 9, *odd], [*names, *(["odd"] * 100)])
    assert (reach, task) == (0.05, "odd")
    reach, task = reach_of_tasks(calm, ["calm"] * 100)
    assert (reach, task) == (0.001, None)
    assert math.isnan(reach_of_tasks([], [])[0])


def _evaluation(generator: np.random.Generator, truth: float, between: float, noise: float) -> Interval:
    """The sound protocol's stopping rule around a centre that differs from evaluation to evaluation."""
    values = truth + between + generator.normal(0, noise, 48)
    count = next((n for n in range(8, 48) if estimate(values[:n].tolist()).half_width <= 0.01), 48)
    return estimate(values[:count].tolist())


def _errors(generator: np.random.Generator, heavy: bool, scale: float, count: int) -> np.ndarray:
    """Normal errors, or such as are ten times as large once in ten times: both of median size ``scale``."""
    errors = generator.normal(0, scale, count)
    return errors * np.where(generator.random(count) < 0.1, 10, 1) if heavy else errors


@pytest.mark.parametrize("heavy", [False, True])
@pytest.mark.parametrize(("noise", "scale"), [(0.002, 0.003), (0.03, 0.01), (0.01, 0.0)])
def test_intervals_cover_as_often_as_they_say(heavy: bool, noise: float, scale: float) -> None:
    """Calibrated on A/A of some tasks, they hold the truth of others, where those without the part do not."""
    generator = np.random.default_rng(5)
    per_task = 50
    tasks = [task for task in range(TASKS) for _ in range(per_task)]
    known = [_evaluation(generator, 0, e, noise) for e in _errors(generator, heavy, scale, TASKS * per_task)]
    sides = [i.center - i.low if i.center > 0 else i.high - i.center for i in known]
    reach, _ = reach_of_tasks(reach_to_truth([i.center for i in known], sides), tasks)
    truth, count = math.log(1.3), 400
    fresh = [_evaluation(generator, truth, e, noise) for e in _errors(generator, heavy, scale, count)]
    honest = [widened(interval, reach) for interval in fresh]
    covered = np.mean([i.low <= truth <= i.high for i in honest])
    assert covered >= 0.93
    apart = np.mean([a.high < b.low or b.high < a.low for a, b in zip(honest[::2], honest[1::2], strict=True)])
    # Of normal errors 0.6% are; of heavy-tailed ones at most those of which one or the other fails, 1 - 0.95^2.
    assert apart <= (0.0975 if heavy else 0.015)
    if scale > noise:
        assert np.mean([i.low <= truth <= i.high for i in fresh]) < 0.6


@pytest.mark.parametrize("truth", [-0.06, 0.0, 0.06])
def test_decisions_hold_in_a_repeat(truth: float) -> None:
    """Slower, same and faster alike: hardly ever does a repeat decide otherwise, however tight the noise is."""
    generator, scale = np.random.default_rng(6), 0.012
    pairs = [[_evaluation(generator, truth, e, 0.001) for e in generator.normal(0, scale, 2)] for _ in range(300)]

    def contradicting(reach: float) -> float:
        both = [[decide(widened(each, reach), 0.02) for each in pair] for pair in pairs]
        return float(np.mean([one is not two and Decision.UNDECIDED not in (one, two) for one, two in both]))

    assert contradicting(1.96 * scale) == 0
    wrong = Decision.FASTER, Decision.SLOWER
    if truth == 0:
        decided = [decide(widened(one, 1.96 * scale), 0.02) for one, _ in pairs]
        assert sum(each in wrong for each in decided) == 0


def test_a_second_pair_of_processes_alone_would_not_do() -> None:
    """Where evaluations differ more than calls do, the span of two holds the truth every other time."""
    generator = np.random.default_rng(7)
    spans = [[_evaluation(generator, 0, e, 0.0005) for e in generator.normal(0, 0.02, 2)] for _ in range(300)]
    held = np.mean([min(a.low, b.low) <= 0 <= max(a.high, b.high) for a, b in spans])
    assert 0.4 < held < 0.62


def test_a_measurement_says_which_part_of_its_interval_it_is() -> None:
    reference = [Call(0.010 + 1e-5 * n, 0.0) for n in range(8)]
    candidate = [Call(0.005 + 1e-5 * n, 0.0) for n in range(8)]
    settings = SoundSettings()
    result = summary(reference, candidate, False)
    found = measurement_of(*result, reference, 0, (), settings, Reach(share=0.03, seconds=2e-4))
    assert found.between_evaluations == pytest.approx(math.hypot(0.03, 2e-4 / 0.005035))
    assert math.log(found.speedup / found.speedup_low) > found.between_evaluations
    assert found.decision is Decision.FASTER and found.speedup == pytest.approx(math.exp(result[0].center))
    both = spanning(found, found, settings.minimum_effect)
    assert (both.speedup_low, both.between_evaluations) == (found.speedup_low, found.between_evaluations)
    slower = measurement_of(*summary(candidate, reference, False), candidate, 0, (), settings, Reach(share=0.8))
    assert slower.decision is Decision.UNDECIDED


def test_timing_goes_on_until_more_pairs_would_hardly_narrow_the_interval() -> None:
    interval = Interval(0.0, -0.03, 0.02)
    assert not enough(interval, 0.0, 0.01) and not enough(interval, 0.05, 0.01)
    assert enough(interval, 0.06, 0.01) and enough(interval, 0.0, 0.03)
    assert widened(Interval(0, -0.03, 0.03), 0.06).half_width < 1.12 * 0.06


def test_each_way_of_timing_has_its_own() -> None:
    between = BetweenEvaluations()
    assert between.reach("cpu", "template") is between.reach("cpu", "kernel") is between.cpu
    assert between.reach("cpu", "module") is between.reach("cpu", "forward") is between.cpu_modules
    assert between.reach("cpu", "template", workers=2) is between.side_by_side
    assert between.reach("cuda", "kernel") is between.reach("cuda", "template") is between.events
    assert between.reach("cuda", "forward") is between.modules
    assert between.modules.of(3e-4) > 0.1 and between.modules.of(1.0) == pytest.approx(between.modules.share, rel=1e-3)

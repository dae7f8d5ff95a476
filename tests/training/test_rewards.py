"""Rewards: the baseline's arithmetic by hand, what each parameter changes and leaves, and a history that resumes."""

import json
import math
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vegtts_core.errors import UserError
from vegtts_core.training.rewards import BaselineHistory, Outcome, RewardParameters, compute_rewards

SPEEDUPS = st.floats(1e-3, 1e3)
ROLLOUTS = st.lists(
    st.builds(
        lambda task, speedup: Outcome(task, speedup is not None, speedup),
        st.sampled_from(["level1/4", "level1/5", "level1/12"]),
        st.none() | SPEEDUPS,
    ),
    max_size=24,
)
STEPS = st.lists(ROLLOUTS, max_size=5)


def rewards_of(*speedups, history=None, **parameters):
    rollouts = [Outcome("t", speedup is not None, speedup) for speedup in speedups]
    chosen = RewardParameters(**parameters)
    return compute_rewards(rollouts, chosen, history or BaselineHistory(chosen.window), seed=0, step=0)


def test_the_first_visit_is_held_against_the_groups_own_median():
    assert rewards_of(0.5, 1.0, None, 4.0) == [0.5, 1.0, 0.0, 4.0]
    assert rewards_of(2.0, None, 8.0) == [0.4, 0.0, 1.6]


def test_later_visits_are_held_against_earlier_steps_alone():
    history = BaselineHistory(window=3)
    rewards_of(1.0, 2.0, 3.0, 4.0, history=history, window=3)
    assert history.median("t") == 3.0  # 2, 3, 4: the window has forgotten 1
    assert rewards_of(6.0, None, 1.5, history=history, window=3) == [2.0, 0.0, 0.5]
    assert history.median("t") == 4.0  # 4, 6, 1.5


def test_tasks_of_very_different_speedups_are_rewarded_alike():
    rollouts = [Outcome(task, True, scale * s) for task, scale in (("a", 1.0), ("b", 512.0)) for s in (0.5, 1.0, 2.0)]
    rewards = compute_rewards(rollouts, RewardParameters(), BaselineHistory(), seed=0, step=0)
    assert rewards[:3] == rewards[3:] == [0.5, 1.0, 2.0]


def test_parameters():
    assert rewards_of(0.5, None, 3.0, measure="raw") == [0.5, 0.0, 3.0]
    assert rewards_of(0.5, None, 3.0, measure="raw", correctness_bonus=0.25) == [0.75, 0.0, 3.25]
    assert rewards_of(0.5, None, 3.0, measure="raw", transform="log") == [math.log(1.5), 0.0, math.log(4.0)]
    assert rewards_of(0.5, None, 1.0, 3.0, threshold=1.0) == [0.0, 0.0, 0.0, 1.0]
    assert rewards_of(0.5, None, 3.0, threshold=1.0, correctness_bonus=0.5) == [0.5, 0.0, 1.5]


@pytest.mark.parametrize("speedup", [None, math.nan, math.inf, 0.0, -1.0])
def test_a_correct_rollout_that_was_not_timed_is_an_error(speedup):
    with pytest.raises(ValueError, match="time it first"):
        Outcome("level1/4", True, speedup)
    assert Outcome("level1/4", False, speedup).speedup is speedup


def test_another_window_than_the_historys_is_refused():
    with pytest.raises(UserError, match="resume with the window"):
        rewards_of(1.0, history=BaselineHistory(8), window=32)
    with pytest.raises(UserError, match="window"):
        RewardParameters.checked({"window": 0})


@given(STEPS, st.integers(1, 6))
def test_rewards_and_history_by_definition(steps, window):
    parameters, history = RewardParameters(window=window), BaselineHistory(window)
    seen = {}
    for number, rollouts in enumerate(steps):
        found = compute_rewards(rollouts, parameters, history, seed=1, step=number)
        fresh = {}
        for rollout in rollouts:
            if rollout.correct:
                fresh.setdefault(rollout.task, []).append(rollout.speedup)
        for rollout, reward in zip(rollouts, found, strict=True):
            if not rollout.correct:
                assert reward == 0
                continue
            baseline = statistics.median(seen.get(rollout.task, [])[-window:] or fresh[rollout.task])
            assert reward == pytest.approx(rollout.speedup / baseline)
        for task, speedups in fresh.items():
            seen[task] = seen.get(task, []) + speedups


@given(STEPS, st.integers(0, 4), st.booleans())
def test_a_resumed_run_rewards_bit_for_bit_as_the_unbroken_one(steps, cut, shuffle):
    parameters = RewardParameters(window=5, shuffle=shuffle)

    def run(history, numbers):
        return [compute_rewards(steps[n], parameters, history, seed=7, step=n) for n in numbers if n < len(steps)]

    unbroken = BaselineHistory(5)
    whole = run(unbroken, range(5))
    first = BaselineHistory(5)
    begun = run(first, range(cut))
    resumed = BaselineHistory.from_json(json.loads(json.dumps(first.to_json())))
    assert resumed == first
    assert begun + run(resumed, range(cut, 5)) == whole
    assert resumed == unbroken


@given(ROLLOUTS, st.integers(0, 2**40), st.integers(0, 1000))
def test_shuffled_rewards_are_the_same_ones_elsewhere(rollouts, seed, step):
    honest = compute_rewards(rollouts, RewardParameters(), BaselineHistory(), seed, step)
    histories = BaselineHistory(), BaselineHistory()
    shuffled = [compute_rewards(rollouts, RewardParameters(shuffle=True), h, seed, step) for h in histories]
    assert shuffled[0] == shuffled[1]
    assert sorted(shuffled[0]) == sorted(honest)


def test_the_permutation_crosses_tasks_and_depends_on_seed_and_step():
    rollouts = [Outcome("a", True, 1.0 + i / 64) for i in range(32)] + [Outcome("b", False)] * 32
    parameters = RewardParameters(measure="raw", shuffle=True)
    found = {key: compute_rewards(rollouts, parameters, BaselineHistory(), *key) for key in ((0, 0), (0, 1), (1, 0))}
    assert len({tuple(rewards) for rewards in found.values()}) == 3
    assert all(any(rewards[32:]) for rewards in found.values())


@given(ROLLOUTS, st.sampled_from(["raw", "normalised"]), st.sampled_from(["none", "log"]))
def test_faster_is_never_worth_less_and_correct_never_less_than_incorrect(rollouts, measure, transform):
    parameters = RewardParameters(measure=measure, transform=transform)
    rewards = compute_rewards(rollouts, parameters, BaselineHistory(), 0, 0)
    for a, x in zip(rollouts, rewards, strict=True):
        assert (x > 0) == a.correct
        for b, y in zip(rollouts, rewards, strict=True):
            if a.task == b.task and a.correct and b.correct and a.speedup <= b.speedup:
                assert x <= y

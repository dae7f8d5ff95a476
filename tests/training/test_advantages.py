"""Advantages: TRL's numbers for TRL's settings, exact zeros, and the entropic objective against its definition."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vegtts_core.errors import UserError
from vegtts_core.training.advantages import AdvantageParameters, advantages, entropic_weights, signal

REWARDS = st.floats(0, 100).map(lambda value: round(value, 6))


@st.composite
def batches(draw, smallest=2):
    """Rewards of some groups of equal size, group after group, as TRL has them."""
    size, count = draw(st.integers(smallest, 8)), draw(st.integers(1, 5))
    rewards = draw(st.lists(REWARDS, min_size=size * count, max_size=size * count))
    return np.array(rewards), np.repeat(np.arange(count), size).tolist(), size


def trl(rewards, size, scale_rewards):
    """`GRPOTrainer._generate_and_score_completions` of TRL 1.16, in torch; its `nanstd` is Bessel's without NaNs."""
    rewards = torch.as_tensor(rewards)
    mean = torch.nanmean(rewards.view(-1, size), dim=1).repeat_interleave(size, dim=0)
    if scale_rewards in ("group", "none"):
        std = rewards.view(-1, size).std(dim=1).repeat_interleave(size, dim=0)
    else:
        std = rewards.std().expand_as(rewards)
    result = rewards - mean
    if scale_rewards != "none":
        result = result / (std + 1e-4)
    return torch.nan_to_num(result, nan=0.0).numpy()


@given(batches(), st.sampled_from([("std", "group"), ("batch_std", "batch"), ("none", "none")]))
def test_equal_to_trl(batch, names):
    rewards, groups, size = batch
    scale, scale_rewards = names
    found = advantages(rewards, groups, AdvantageParameters(scale=scale))
    assert found.dtype == np.float64
    # TRL divides the rounding error of a mean by 1e-4 where all rewards are equal; zeros here.
    assert found == pytest.approx(trl(rewards, size, scale_rewards), rel=1e-9, abs=1e-8)


@given(batches())
def test_the_whole_batch_is_trls_group_of_all(batch):
    rewards, groups, _ = batch
    found = advantages(rewards, groups, AdvantageParameters(scope="batch"))
    assert found == pytest.approx(trl(rewards, len(rewards), "group"), rel=1e-9, abs=1e-8)


def test_over_the_batch_a_task_with_large_speedups_drowns_the_others():
    rewards, groups = [0.0, 800.0, 0.0, 1.0], ["a", "a", "b", "b"]
    batch = advantages(rewards, groups, AdvantageParameters(scope="batch"))
    assert batch[3] < 0 < batch[1]  # the best rollout of b is pushed down
    group = advantages(rewards, groups, AdvantageParameters())
    assert group[3] == pytest.approx(group[1], rel=1e-3) and group[3] > 0


@given(batches(), st.randoms(use_true_random=False), st.sampled_from(["mean", "entropic"]))
def test_members_of_a_group_need_not_be_neighbours(batch, random, objective):
    rewards, groups, _ = batch
    order = list(range(len(groups)))
    random.shuffle(order)
    parameters = AdvantageParameters(objective=objective)
    found = advantages(rewards[order], [groups[i] for i in order], parameters)
    assert found == pytest.approx(advantages(rewards, groups, parameters)[order], rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("objective", ["mean", "entropic"])
@pytest.mark.parametrize("scope", ["group", "batch"])
@pytest.mark.parametrize("value", [0.0, 0.1, 1 / 3, 859.8])
def test_equal_rewards_give_exact_zeros(objective, scope, value):
    parameters = AdvantageParameters(scope=scope, objective=objective)
    assert (advantages([value] * 6, list("aabbcc"), parameters) == 0).all()


def test_one_rollout_has_no_baseline():
    with pytest.raises(UserError, match=r"level1/4 has no others.*scope batch"):
        advantages([1.0, 0.0, 2.0], ["level1/4", "level1/5", "level1/5"], AdvantageParameters())
    assert advantages([1.0, 0.0], ["level1/4", "level1/5"], AdvantageParameters(scope="batch")).tolist() != [0, 0]
    with pytest.raises(UserError, match="sample more"):
        advantages([1.0], ["level1/4"], AdvantageParameters(scope="batch"))
    assert advantages([], [], AdvantageParameters()).shape == (0,)


def test_wrong_input():
    with pytest.raises(ValueError, match="shape"):
        advantages([1.0, 2.0], ["a"], AdvantageParameters())
    with pytest.raises(ValueError, match="finite"):
        advantages([1.0, math.nan], ["a", "a"], AdvantageParameters())


@given(st.lists(REWARDS, min_size=2, max_size=40).filter(lambda r: max(r) > min(r)), st.floats(0.01, 3.0))
def test_entropic_weights_are_exponential_and_as_far_from_uniform_as_asked(rewards, kl):
    rewards = np.array(rewards)
    weights = entropic_weights(rewards, kl)
    assert weights.mean() == pytest.approx(1.0) and (weights >= 0).all()
    q = weights / len(weights)
    divergence = (q[q > 0] * np.log(q[q > 0] * len(q))).sum()
    best = rewards == rewards.max()
    most = math.log(len(rewards) / best.sum())
    assert divergence == pytest.approx(min(kl, most), abs=1e-7)
    if kl < most:
        # log w is a straight line in r: one beta for all, found from the extremes and held against the rest.
        positive = weights > 1e-250
        line = np.log(weights[positive]) - np.log(weights.max())
        below = rewards[positive] - rewards.max()
        if below.min() < 0:
            beta = line[below.argmin()] / below.min()
            assert beta > 0 and line == pytest.approx(beta * below, rel=1e-6, abs=1e-6)
    else:
        assert (weights[~best] == 0).all()


@given(batches(), st.floats(0.1, 10))
def test_entropic_advantages_sum_to_zero_and_do_not_change_with_the_rewards_unit(batch, unit):
    rewards, groups, _ = batch
    parameters = AdvantageParameters(objective="entropic")
    found = advantages(rewards, groups, parameters)
    for name in set(groups):
        assert found[np.array(groups) == name].sum() == pytest.approx(0.0, abs=1e-9)
    assert (found >= -1).all()
    scaled = advantages(rewards * unit + 3.0, groups, parameters)
    assert scaled == pytest.approx(found, rel=1e-3, abs=1e-3)


def test_entropic_by_hand():
    # One of 32 is right: the others share a weight, and the best takes what makes it one bit.
    found = advantages([1.0] + [0.0] * 31, ["t"] * 32, AdvantageParameters(objective="entropic"))
    best, rest = 1 + found[0], 1 + found[1]
    assert (best * math.log(best) + 31 * rest * math.log(rest)) / 32 == pytest.approx(math.log(2))
    # Half of them are: a bit is all there is, and the limit of large beta is taken.
    assert advantages([2.0, 0.0, 2.0, 1.0], ["t"] * 4, AdvantageParameters(objective="entropic")).tolist() == [
        1.0,
        -1.0,
        1.0,
        -1.0,
    ]


def test_a_small_divergence_is_the_mean_objective_again():
    rewards = np.array([0.0, 1.0, 2.0, 5.0, 0.0])
    tilted = advantages(rewards, ["t"] * 5, AdvantageParameters(objective="entropic", entropic_kl=1e-8))
    linear = advantages(rewards, ["t"] * 5, AdvantageParameters(scale="none"))
    assert tilted / np.abs(tilted).max() == pytest.approx(linear / np.abs(linear).max(), abs=1e-3)


def test_signal():
    groups = ["a", "a", "b", "b", "a"]
    one = signal([0.5, -0.5, 0.0, 0.0, 0.0], groups)
    assert one and one.groups == {"a": True, "b": False} and one.silent == 1
    assert one.sentence == "1 of 2 groups give no gradient (b)."
    none = signal(advantages([0.0] * 5, groups, AdvantageParameters()), groups)
    assert not none and none.silent == 2 and "skipped" in none.sentence
    all_of_them = signal([1.0, -1.0], ["a", "b"])
    assert all_of_them and not all_of_them.sentence
    with pytest.raises(ValueError):
        signal([1.0], ["a", "b"])

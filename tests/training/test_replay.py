"""The replay buffer: the best distinct rollouts, drawn fairly and kept to the bit; truncated importance weights."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vegtts_core.training.replay import ReplayBuffer, Replayed, importance_weights


@st.composite
def rollouts(draw):
    tokens = draw(st.lists(st.integers(0, 50_000), max_size=4))
    logprobs = draw(st.lists(st.floats(-30, 0), min_size=len(tokens), max_size=len(tokens)))
    return Replayed(
        task=draw(st.sampled_from(["level1/4", "level1/5"])),
        fingerprint=draw(st.sampled_from("abcdefgh")),
        prompt_id="p",
        step=draw(st.integers(0, 5)),
        token_ids=tuple(tokens),
        sampling_logprobs=tuple(logprobs),
        reward=draw(st.floats(1e-3, 1e3)),
    )


BATCHES = st.lists(st.lists(rollouts(), max_size=12), max_size=4)


def made(fingerprint, reward, step=0, task="t"):
    return Replayed(task, fingerprint, "p", step, (1, 2), (-0.5, -1.5), reward)


def filled(size, batches):
    buffer = ReplayBuffer(size)
    for batch in batches:
        buffer.add(batch)
    return buffer


@given(st.integers(1, 5), BATCHES)
def test_what_is_kept_is_distinct_and_best_first(size, batches):
    buffer = filled(size, batches)
    everything = [rollout for batch in batches for rollout in batch]
    for task in {rollout.task for rollout in everything}:
        kept = buffer.rollouts(task)
        assert 1 <= len(kept) <= size
        assert all(rollout in everything and rollout.task == task for rollout in kept)
        assert len({rollout.fingerprint for rollout in kept}) == len(kept)
        assert [r.reward for r in kept] == sorted((r.reward for r in kept), reverse=True)


def test_the_best_stay_and_of_equal_candidates_the_latest():
    buffer = filled(2, [[made("a", 1.0), made("b", 3.0), made("c", 2.0)]])
    assert [r.fingerprint for r in buffer.rollouts("t")] == ["b", "c"]
    buffer.add([made("b", 2.5, step=1)])
    assert [(r.fingerprint, r.reward, r.step) for r in buffer.rollouts("t")] == [("b", 2.5, 1), ("c", 2.0, 0)]
    assert buffer.rollouts("another") == ()


@given(st.integers(1, 5), BATCHES, st.integers(0, 8), st.integers(0, 2**32))
def test_json_keeps_every_bit_and_every_later_draw(size, batches, count, seed):
    buffer = filled(size, batches)
    again = ReplayBuffer.from_json(json.loads(json.dumps(buffer.to_json())))
    assert again == buffer
    draws = [b.draw("level1/4", count, np.random.default_rng(seed)) for b in (buffer, again)]
    assert draws[0] == draws[1]
    assert len(set(draws[0])) == len(draws[0]) == min(count, len(buffer.rollouts("level1/4")))


def test_every_rollout_is_drawn_as_often_as_another():
    buffer = filled(4, [[made(name, reward) for name, reward in zip("abcd", (1.0, 5.0, 20.0, 900.0), strict=True)]])
    rng = np.random.default_rng(0)
    drawn = [rollout.fingerprint for _ in range(2000) for rollout in buffer.draw("t", 2, rng)]
    for name in "abcd":
        assert drawn.count(name) == pytest.approx(1000, abs=100)


def test_an_empty_buffer_draws_nothing_and_no_random_numbers():
    rng = np.random.default_rng(3)
    assert ReplayBuffer(2).draw("t", 4, rng) == []
    assert rng.random() == np.random.default_rng(3).random()


@pytest.mark.parametrize("reward", [0.0, -1.0, math.nan, math.inf])
def test_only_correct_rollouts_are_replayed(reward):
    with pytest.raises(ValueError, match="only correct ones"):
        made("a", reward)
    with pytest.raises(ValueError, match="2 tokens have 1"):
        Replayed("t", "a", "p", 0, (1, 2), (-0.5,), 1.0)
    with pytest.raises(ValueError, match="at least one"):
        ReplayBuffer(0)


LOGPROBS = st.lists(st.tuples(st.floats(-500, 0), st.floats(-500, 0)), max_size=20)


@given(LOGPROBS, st.floats(0.1, 10), st.sampled_from(["token", "sequence"]))
def test_weights_are_truncated_ratios(pairs, clip, level):
    current, sampling = np.array(pairs).reshape(-1, 2).T
    weights = importance_weights(current, sampling, clip, level)
    assert weights.dtype == np.float64 and weights.shape == current.shape
    assert (weights >= 0).all() and (weights <= clip).all()
    total = sum(current - sampling)
    for weight, difference in zip(weights, current - sampling, strict=True):
        ratio = math.exp(min(difference if level == "token" else total, 100.0))
        assert weight == pytest.approx(min(ratio, clip), rel=1e-9)


def test_weights_of_the_policy_that_sampled_are_one():
    assert importance_weights([-0.1, -7.0], [-0.1, -7.0], 2.0).tolist() == [1.0, 1.0]
    with pytest.raises(ValueError, match="shapes"):
        importance_weights([-0.1], [-0.1, -0.2], 2.0)
    with pytest.raises(ValueError, match="finite"):
        importance_weights([-math.inf], [-0.1], 2.0)

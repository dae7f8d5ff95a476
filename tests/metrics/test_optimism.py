"""Split halves against enumeration, and the winner's curse of the paper's own trajectory."""

from itertools import combinations, product

import numpy as np
import pytest
from adaptation_tables import PAPER_K, adapted, papers_counts
from made_tables import table

from vegtts_core import metrics
from vegtts_core.metrics import Redrawn


def test_split_halves_are_the_mean_over_every_split():
    hits, k = [[1, 3], [2, 2]], 4
    rollouts = [[np.arange(k) < count for count in counts] for counts in hits]
    halves = list(combinations(range(k), 2))
    inside, outside, own_inside, own_outside, base = [], [], [], [], []
    for picks in product(halves, repeat=4):
        mask = np.zeros((2, 2, k), dtype=bool)
        for (s, t), pick in zip(product(range(2), range(2)), picks, strict=True):
            mask[s, t, list(pick)] = True
        one = np.array([[rollouts[s][t][mask[s, t]].mean() for t in range(2)] for s in range(2)])
        other = np.array([[rollouts[s][t][~mask[s, t]].mean() for t in range(2)] for s in range(2)])
        step, own = int(np.argmax(one.mean(axis=1))), np.argmax(one, axis=0)
        inside.append(one.mean(axis=1)[step])
        outside.append(other.mean(axis=1)[step])
        base.append(other.mean(axis=1)[0])
        own_inside.append(one[own, [0, 1]].mean())
        own_outside.append(other[own, [0, 1]].mean())
    found = metrics.split_half_optimism(adapted(hits, k), "published", splits=40_000).iloc[0]
    names = ["in_sample", "held_out", "base", "oracle_in_sample", "oracle_held_out"]
    expected = [np.mean(v) for v in (inside, outside, base, own_inside, own_outside)]
    assert found[names].to_numpy(dtype=float) == pytest.approx(expected, abs=0.004)
    assert (found["step"], found["naive"]) == (0, 0.5)
    assert found["optimism"] == found["in_sample"] - found["held_out"] > 0.1


def test_equal_checkpoints_have_optimism_and_no_gain():
    # 5 tasks, 6 steps, all with a true share of one half: argmax of noise.
    rng = np.random.default_rng(1)
    found = []
    for _ in range(40):
        counts = rng.binomial(32, 0.5, size=(6, 5)).tolist()
        found.append(metrics.split_half_optimism(adapted(counts, 32), "published", splits=50).iloc[0])
    naive, held_out = np.mean([f["naive"] for f in found]), np.mean([f["held_out"] for f in found])
    assert naive > 0.53, "what the argmax reports"
    assert held_out == pytest.approx(0.5, abs=0.015)
    assert np.mean([f["gain"] for f in found]) == pytest.approx(0, abs=0.02)
    assert np.mean([f["oracle_held_out"] for f in found]) == pytest.approx(0.5, abs=0.02)


def test_a_clear_peak_has_no_optimism():
    found = metrics.split_half_optimism(adapted([[0, 0], [8, 8], [0, 0]], 8), "published").iloc[0]
    assert (found["step"], found["in_sample"], found["held_out"], found["optimism"]) == (1, 1, 1, 0)
    assert (found["same_step"], found["gain"]) == (1, 1)


def test_the_papers_peak_is_optimistic_and_not_settled():
    samples = adapted(papers_counts(), PAPER_K)
    found = metrics.split_half_optimism(samples, "published").iloc[0]
    assert found["naive"] == 0.425 and found["optimism"] > 0.02
    assert found["same_step"] < 0.8
    assert 0 < found["gain"] < 0.02, "against the 5 points of 42.5% over 37.5%"
    assert found["oracle_held_out"] < 0.45, "against the printed 48.8%"
    optimum = metrics.step_optimum(samples, "published").set_index("step")
    assert optimum["probability"].sum() == pytest.approx(1)
    assert optimum.loc[2, "chosen"] and 0.2 < optimum.loc[2, "probability"] < 0.8
    assert optimum.loc[2, "at_least"] == 1 and optimum.loc[5, "at_least"] > 0.2


def test_a_second_evaluation_that_takes_the_luck_back_shows():
    samples = adapted([[1, 1], [8, 8]], 8)
    samples["retimed_correct"] = [True if step == 1 else None for step in samples["step"]]
    samples["retimed_published_speedup"] = 0.9
    found = metrics.split_half_optimism(samples, "published").iloc[0]
    assert (found["step"], found["held_out"], found["held_out_fresh"]) == (1, 1, 0)


def test_step_optimum_is_the_exact_bootstrap_of_two_steps():
    # One task, K = 2: step 0 has 1 hit, step 1 has 1: resampled counts are Binomial(2, 1/2).
    chance = np.array([0.25, 0.5, 0.25])
    first = sum(chance[a] * chance[b] for a in range(3) for b in range(3) if a >= b)
    found = metrics.step_optimum(adapted([[1], [1]], 2), "published", resamples=40_000).set_index("step")
    assert found["probability"].tolist() == pytest.approx([first, 1 - first], abs=0.01)
    assert found.loc[1, "at_least"] == pytest.approx(first, abs=0.01)


def test_drawing_tasks_as_well_needs_two_and_matters():
    samples = adapted([[8, 0], [0, 8]], 8)
    fixed = metrics.step_optimum(samples, "published")
    assert fixed["probability"].tolist() == [1, 0]
    drawn = metrics.step_optimum(samples, "published", redrawn=Redrawn.TASKS, resamples=20_000)
    assert drawn["probability"].tolist() == pytest.approx([0.75, 0.25], abs=0.02)
    alone = metrics.step_optimum(adapted([[1], [2]]), "published", redrawn=Redrawn.TASKS)
    assert alone["probability"].isna().all() and alone["chosen"].tolist() == [False, True]


def test_nothing_to_split_is_nan(recwarn):
    one = metrics.split_half_optimism(adapted([[1], [0]], 1), "published").iloc[0]
    assert one["naive"] == 1 and np.isnan(one["held_out"])
    assert metrics.split_half_optimism(table([]), "published").empty and metrics.step_optimum(table([]), "sound").empty
    with pytest.raises(ValueError, match="same tasks"):
        metrics.step_optimum(adapted([[1, 1], [1, 1]]).iloc[:-4], "published")
    assert not recwarn.list

"""Coverage against benefit: by hand, and figure 5's rule on the paper's own table."""

import numpy as np
import pandas as pd
import pytest
from adaptation_tables import adapted
from scipy import stats

from vegtts_core import metrics
from vegtts_core.book import published


def test_the_papers_rule_fails_on_its_own_tasks():
    printed = published.table("5.4-tasks")
    benefit = printed["boa_step_1"] - printed["best_of_n"]
    counts = metrics.classify_regimes(printed["best_of_n"], benefit)
    # Above 30% adaptation should gain: it does on task 18 alone, and 28, 29 and 32 lose.
    assert counts.to_numpy().tolist() == [[1, 3], [0, 1]]
    assert (benefit.abs() - printed["margin"]).abs().max() < 1e-9
    # "BoA" is argmax(fast_1), and step 0 scores higher than the step 1 in the table.
    scores = [published.value(f"5.4-budget/boa-step-{s}/fast_1") for s in (0, 1)]
    assert scores[0] > scores[1] == pytest.approx(printed["boa_step_1"].mean(), abs=5e-4)


def test_equal_rollouts_and_classes_by_hand():
    # 8 rollouts a task pay for steps 0 and 1 of 4 each; step 2 would be better and is not affordable.
    many = adapted([[8, 2, 4]], 8)
    run = adapted([[4, 1, 0], [4, 2, 1], [4, 4, 4]], 4, seeds=(1, 2))
    found = metrics.compare_regimes(many, run, "published", resamples=50)
    assert found.steps.to_dict() == {1: 1, 2: 1}
    tasks = found.tasks.set_index("task")
    assert tasks["coverage"].tolist() == [1, 0.25, 0.5] and tasks["base"].tolist() == [1, 0.25, 0]
    assert tasks["adapted"].tolist() == [1, 0.5, 0.25] and tasks["benefit"].tolist() == [0, 0.25, -0.25]
    assert found.counts.to_numpy().tolist() == [[0, 2], [1, 0]]
    # Of the task that everything is fast in, before and after, the rule is neither right nor wrong.
    assert (found.agreement.estimate, found.agreement.n) == (0, 2)
    assert np.isnan(found.correlation.rho), "two tasks have no rank correlation"
    # Newcombe's interval, scores of 4 of 8 and 2 of 8.
    a, b = (stats.binomtest(c, 8).proportion_ci(method="wilson") for c in (4, 2))
    expected = 0.25 - np.hypot(0.5 - a.low, b.high - 0.25), 0.25 + np.hypot(a.high - 0.5, 0.25 - b.low)
    assert tasks.loc["level1/1", ["low", "high"]].tolist() == pytest.approx(expected)


def test_noise_alone_correlates_until_halves_are_independent():
    rng = np.random.default_rng(0)
    naive, split = [], []
    for _ in range(60):
        searched, adapting = (rng.binomial(k, 0.5, size=8).tolist() for k in (32, 16))
        many, run = adapted([searched], 32), adapted([[0] * 8, adapting], 16)
        found = metrics.compare_regimes(many, run, "published", resamples=40)
        naive.append(found.correlation.rho)
        split.append(found.rho_split)
    assert np.mean(naive) < -0.4
    assert abs(np.mean(split)) < 0.15


def test_what_cannot_be_compared_is_said():
    with pytest.raises(ValueError, match="only one has level1/1"):
        metrics.compare_regimes(adapted([[1]]), adapted([[1, 1]]), "published")
    with pytest.raises(ValueError, match="Step 1 of the adaptation run costs more than Best-of-N's 4 rollouts"):
        metrics.compare_regimes(adapted([[1]], 4), adapted([[1], [1]], 4), "published")
    one = metrics.compare_regimes(adapted([[1]], 2), adapted([[1], [1]], 1), "published", resamples=5)
    assert np.isnan(one.rho_split) and np.isnan(one.correlation.rho)


def test_values_that_are_missing_count_nowhere():
    counts = metrics.classify_regimes(pd.Series([0.3, 0.31, np.nan]), pd.Series([0.1, np.nan, 0.1]))
    assert counts.to_numpy().tolist() == [[0, 0], [1, 0]], "30% is not above 30%"


def test_a_rule_is_told_only_by_tasks_in_which_something_can_happen():
    tasks = pd.DataFrame({"coverage": [0, 0, 1, 1, 0.5], "benefit": [0, 0.1, 0, -0.1, 0]})
    assert metrics.informative(tasks).tolist() == [False, True, False, True, True]


def test_tasks_in_which_nothing_happens_make_no_correlation():
    hits = [[0, 0, 0, 8], [0, 0, 0, 8], [0, 0, 0, 8]]
    found = metrics.compare_regimes(adapted(hits[:1], 16), adapted(hits, 8), "published", resamples=20)
    assert found.agreement.n == 1 and np.isnan(found.correlation.rho) and np.isnan(found.rho_split)

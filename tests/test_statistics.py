"""Effect sizes, tests, correlations, quartiles; what can be recomputed of the paper's own numbers is."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_tables import random_table, sample, table
from scipy import stats

from vegtts_core import metrics, statistics
from vegtts_core.book import published
from vegtts_core.statistics import Alternative, Population
from vegtts_core.statistics.quartiles import quartile_weights

# --- the paper's numbers (section 5.2, statistical strength) --------------------------------------------------------


def test_cohens_h_of_80_against_50_percent():
    found = statistics.cohens_h(0.8, 0.5, 10, 10)
    assert found.estimate == pytest.approx(published.value("5.2-strength/cohens-h/statistic"), abs=0.005)
    assert found.low < 0 < found.high, "which the paper does not say"
    assert found.n == 10


def test_three_discordant_pairs_in_favour_are_p_0_125():
    surprisal, confidence = [1] * 8 + [0] * 2, [1] * 5 + [0] * 5
    found = statistics.sign_test(surprisal, confidence, Alternative.GREATER)
    assert (found.statistic, found.n, found.zeros) == (3, 3, 7)
    assert found.p_value == found.smallest_p == published.value("5.2-strength/sign-one-sided/p_value")
    assert "cannot give p < 0.125" in found.note


def test_a_rank_sum_of_10_among_10_pairs_is_p_0_084():
    # Ranks 1 to 4 negative sum to 10.
    logs = np.array([-1, -2, -3, -4, 5, 6, 7, 8, 9, 10]) / 10
    found = statistics.wilcoxon_log_ratio(np.exp(logs), np.ones(10))
    assert found.statistic == published.value("5.2-strength/wilcoxon/statistic")
    assert found.p_value == pytest.approx(published.value("5.2-strength/wilcoxon/p_value"), abs=5e-4)


def test_550_samples_give_the_papers_naive_p_values():
    n = int(published.value("5.2-length/raw/n"))
    for row, free in (("raw", n - 2), ("partial", n - 3)):
        rho = published.value(f"5.2-length/{row}/rho")
        p = 2 * stats.t.sf(abs(rho) * np.sqrt(free / (1 - rho**2)), free)
        assert p == pytest.approx(published.value(f"5.2-length/{row}/p_value"), abs=0.01)


# --- pairs ----------------------------------------------------------------------------------------------------------


def test_few_pairs_and_equal_pairs_are_reported():
    found = statistics.wilcoxon_log_ratio([2, 3, 4, 5, 1], [1, 1, 1, 1, 1])
    assert (found.n, found.zeros, found.p_value) == (4, 1, 0.125) == (4, 1, found.smallest_p)
    assert "cannot give p < 0.125" in found.note and "1 equal pairs left out" in found.note
    assert statistics.wilcoxon_log_ratio([2, 3, 4, 5, 6, 7], np.ones(6)).p_value == pytest.approx(0.03125)


def test_missing_pairs_are_left_out():
    found = statistics.wilcoxon_log_ratio([2, np.nan, 3, 0], [1, 1, np.nan, 1])
    assert (found.n, found.zeros) == (1, 0)


@settings(deadline=None)
@given(st.integers(1, 200), st.data())
def test_wilson_is_scipys(n, data):
    k = data.draw(st.integers(0, n))
    expected = stats.binomtest(k, n).proportion_ci(method="wilson")
    found = statistics.wilson(k, n)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert found.low <= found.estimate <= found.high


@settings(deadline=None)
@given(st.floats(0, 1), st.floats(0, 1))
def test_cohens_h_is_antisymmetric(a, b):
    assert statistics.cohens_h(a, b).estimate == pytest.approx(-statistics.cohens_h(b, a).estimate)


# --- bootstrap ------------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.floats(0, 1), min_size=1, max_size=4), min_size=1, max_size=6), st.sampled_from(Population))
def test_interval_holds_the_mean_of_task_means(tasks, population):
    values = np.concatenate([np.array(t) for t in tasks])
    labels = np.concatenate([[i] * len(t) for i, t in enumerate(tasks)])
    found = statistics.mean_interval(values, labels, population, resamples=500)
    assert found.estimate == pytest.approx(np.mean([np.mean(t) for t in tasks]))
    enough = len(tasks) > 1 if population is Population.TASKS else max(map(len, tasks)) > 1
    if enough:
        assert found.low - 1e-9 <= found.estimate <= found.high + 1e-9
    else:
        assert np.isnan(found.low) and np.isnan(found.high)
    weights, draws = statistics.cluster_weights(labels, population, resamples=50)
    assert weights.sum() == pytest.approx(1) and np.allclose(draws.sum(axis=1), 1)


def test_bootstrap_of_tasks_has_the_variance_of_two_levels():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(30, 4)) + rng.normal(size=(30, 1)) * 2
    _, draws = statistics.cluster_weights(np.repeat(np.arange(30), 4), resamples=4000)
    between = values.mean(axis=1).var() / 30
    within = values.var(axis=1).mean() / (30 * 4)
    assert (draws @ values.ravel()).var() == pytest.approx(between + within, rel=0.1)


# --- correlation ----------------------------------------------------------------------------------------------------


def test_spearman_is_scipys_and_partial_is_the_textbook_formula():
    rng = np.random.default_rng(2)
    z = rng.integers(5, 15, 300)
    x, y = z + rng.normal(0, 3, 300), -z + rng.normal(0, 3, 300)
    tasks = np.arange(300) % 6
    raw = statistics.spearman(x, y, tasks, resamples=200)
    expected = stats.spearmanr(x, y)
    assert (raw.rho, raw.p_naive) == pytest.approx((expected.statistic, expected.pvalue))
    xy, xz, yz = (stats.spearmanr(*pair).statistic for pair in ((x, y), (x, z), (y, z)))
    partial = statistics.spearman(x, y, tasks, z, resamples=200)
    assert partial.rho == pytest.approx((xy - xz * yz) / np.sqrt((1 - xz**2) * (1 - yz**2)))
    assert raw.rho < -0.3 and abs(partial.rho) < 0.15
    assert raw.p_within_task == pytest.approx(1 / 201) and raw.low < raw.rho < raw.high


def test_differences_between_tasks_fool_the_naive_p_but_not_the_permutation():
    rng = np.random.default_rng(3)
    tasks = np.repeat(np.arange(5), 60)
    x, y = tasks + rng.normal(0, 0.3, 300), tasks + rng.normal(0, 0.3, 300)
    found = statistics.spearman(x, y, tasks, resamples=500)
    assert found.rho > 0.8 and found.p_naive < 1e-50
    assert found.p_within_task > 0.05
    assert abs(statistics.within_task_spearman(x, y, tasks, resamples=500).rho) < 0.2


def test_relations_within_tasks_are_found_though_they_cancel_between():
    rng = np.random.default_rng(4)
    tasks = np.repeat(np.arange(5), 60)
    x = rng.normal(0, 1, 300) + tasks * 3
    y = x - tasks * 6 + rng.normal(0, 0.1, 300)
    pooled = statistics.spearman(x, y, tasks, resamples=200)
    within = statistics.within_task_spearman(x, y, tasks, resamples=200)
    assert pooled.rho < 0 and within.rho > 0.9
    # Shuffling within tasks makes the pooled rho stronger, not weaker: as telling as the other way round.
    assert pooled.p_within_task < 0.01
    assert within.p_within_task < 0.01 and within.tasks == 5 and within.low > 0.9


@pytest.mark.parametrize(
    ("x", "y", "tasks"),
    [
        ([], [], []),
        ([1.0], [2.0], ["a"]),
        ([1, 1, 1, 1], [1, 2, 3, 4], list("aabb")),
        ([np.nan] * 4, [1] * 4, list("aabb")),
    ],
)
def test_degenerate_correlations_are_nan_and_silent(x, y, tasks, recwarn):
    for found in (
        statistics.spearman(x, y, tasks, resamples=20),
        statistics.spearman(x, y, tasks, y, resamples=20),
        statistics.within_task_spearman(x, y, tasks, resamples=20),
    ):
        assert np.isnan(found.rho) and np.isnan(found.p_naive) and np.isnan(found.low)
    assert not recwarn.list


def test_one_task_has_a_rho_but_no_interval():
    found = statistics.spearman([1, 2, 3, 4, 5], [2, 1, 4, 3, 5], ["a"] * 5, resamples=100)
    assert found.rho == pytest.approx(0.8) and np.isnan(found.low) and found.tasks == 1
    perfect = statistics.spearman([1, 2, 3, 4], [1, 2, 3, 4], ["a"] * 4, resamples=100)
    assert perfect.rho == 1 and perfect.p_naive == 0
    explained = statistics.spearman([1, 2, 3, 4, 5], [2, 1, 4, 3, 5], ["a"] * 5, [1, 2, 3, 4, 5], resamples=10)
    assert np.isnan(explained.rho), "nothing is left of x once x is controlled for"


def test_length_control_has_the_papers_rows_and_can_collapse_copies():
    view = metrics.under(random_table(5), "published")
    rows = statistics.length_control(view, resamples=50)
    assert rows["analysis"].tolist()[:3] == [
        "log-probability and speedup",
        "log-probability and speedup, controlling for length",
        "length and speedup",
    ]
    assert (rows["n"] == view["correct"].sum()).all()
    distinct = statistics.length_control(view, distinct=True, resamples=50)
    correct = view[view["correct"]]
    assert distinct["n"][0] == len(correct.drop_duplicates(["task", "fingerprint"]))


# --- quartiles ------------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.lists(st.sampled_from([0.1, 0.2, 0.3, 0.7]), min_size=1, max_size=30))
def test_quartiles_share_everything_evenly(surprisal):
    weights = quartile_weights(surprisal)
    assert np.allclose(weights.sum(axis=1), 1) and np.allclose(weights.sum(axis=0), len(surprisal) / 4)
    for level in set(surprisal):
        block = weights[np.array(surprisal) == level]
        assert np.allclose(block, block[0]), "ties are treated alike"


def quartile_view():
    rows = [
        sample(
            sample=i,
            task=f"level1/{i % 2}",
            mean_logprob=-float(i),
            speedup=2.0 if i >= 12 else 0.5,
            tokens=i,
            fingerprint=f"f{i}",
        )
        for i in range(16)
    ]
    return metrics.under(table(rows), "published")


def test_quartiles_put_the_most_surprising_first():
    rows = statistics.surprisal_quartiles(quartile_view())
    assert rows["quartile"][0] == "Q1 (highest surprisal)"
    assert rows["fast"].tolist() == [1, 0, 0, 0] and rows["n"].tolist() == [4] * 4
    assert rows["mean_speedup"].tolist() == [2, 0.5, 0.5, 0.5]
    assert rows["mean_tokens"].tolist() == [13.5, 9.5, 5.5, 1.5] and rows["tasks"].tolist() == [2] * 4


def test_pooled_quartiles_can_be_tasks_in_disguise():
    view = quartile_view()
    # Task 1 is more surprising throughout, and fast throughout.
    one = view["task"] == "level1/1"
    view.loc[one, "surprisal"] += 100
    view["fast_limit"] = np.where(one, 2.0, 0.5)
    assert statistics.surprisal_quartiles(view)["fast"].tolist() == [1, 1, 0, 0]
    assert statistics.surprisal_quartiles(view, within_task=True)["fast"].tolist() == [0.5] * 4


def test_quartiles_hold_their_estimate_and_do_not_depend_on_row_order():
    view = metrics.under(random_table(9), "sound")
    for within in (False, True):
        rows = statistics.surprisal_quartiles(view, within_task=within)
        assert rows["fast"].between(rows["low"], rows["high"]).all()
        shuffled = statistics.surprisal_quartiles(view.sample(frac=1, random_state=0), within_task=within)
        pd.testing.assert_frame_equal(rows, shuffled)


def test_quartiles_of_nothing_are_nan_and_silent(recwarn):
    rows = statistics.surprisal_quartiles(metrics.under(table([]), "sound"))
    assert rows["n"].tolist() == [0] * 4 and rows["fast"].isna().all()
    one = statistics.surprisal_quartiles(metrics.under(table([sample()]), "sound"))
    assert one["n"].tolist() == [0.25] * 4 and one["low"].isna().all()
    assert not recwarn.list

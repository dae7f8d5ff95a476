"""Trajectories and which checkpoint they choose; the paper's seed-42 trajectory recomputed from counts."""

import numpy as np
import pandas as pd
import pytest
from adaptation_tables import PAPER_K, PAPER_TASKS, adapted, papers_counts
from hypothesis import given, settings
from hypothesis import strategies as st
from made_tables import sample, table

from vegtts_core import metrics, statistics
from vegtts_core.book import published
from vegtts_core.metrics.checkpoints import first_best

SCORES = st.lists(st.integers(0, 8).map(lambda n: n / 8), min_size=1, max_size=8)


@pytest.fixture(scope="module")
def papers():
    return metrics.trajectory(adapted(papers_counts(), PAPER_K), "published")


# --- the paper's trajectory (section 5.3) -----------------------------------------------------------------------------


def test_the_printed_shares_are_whole_numbers_of_32_and_average_to_the_printed_aggregate(papers):
    printed = published.table("5.3-trajectory")
    for step, counts in enumerate(papers_counts()):
        shares = np.array(counts) / PAPER_K
        assert np.abs(shares - [printed.at[str(step), f"task_{t}"] for t in PAPER_TASKS]).max() <= 5.01e-4
    found = papers.seeds.set_index("step")
    assert found["sample_fast_p"].to_numpy() == pytest.approx(printed["fast_1"].to_numpy(), abs=5.01e-4)
    assert found["rollouts"].tolist() == printed["rollouts"].tolist()


def test_boa_of_the_paper_is_step_2_and_its_oracle_per_task_is_its_own(papers):
    best = metrics.best_of_adaptation(papers).iloc[0]
    assert (best["step"], best["sample_fast_p"]) == (2, 0.425)
    assert (best["rollouts_to_step"], best["rollouts"]) == (480, 960)
    assert best["margin"] * 160 == pytest.approx(2), "the peak is 2 rollouts of 160 above step 5"
    oracle = metrics.per_task_oracle(papers).iloc[0]
    assert oracle["oracle"] == 0.4875, "printed as 48.8%"
    assert oracle["gap"] == pytest.approx(0.0625)
    assert metrics.best_steps(papers)["step"].tolist() == [2, 1, 0, 5, 2]  # level1/0..4 are tasks 4, 5, 12, 14, 15


def test_patience_1_finds_the_papers_step_and_misses_its_own_isolated_task_14(papers):
    scores = papers.seeds.set_index("step")["sample_fast_p"]
    assert metrics.early_stopping(scores) == metrics.EarlyStop(2, 0.425, 3, True)
    isolated = published.table("5.3-isolated").loc["14"]
    series = pd.Series({s: isolated[f"step_{s}"] for s in range(6)})
    stop = metrics.early_stopping(series)
    assert (stop.step, stop.stopped) == (0, 1)
    assert int(isolated["boa_step"]) == series.idxmax() == 4


# --- trajectories -----------------------------------------------------------------------------------------------------


def test_one_group_by_hand():
    found = metrics.trajectory(adapted([[1, 2], [3, 0]], k=4, wrong=1), "sound")
    row = found.tasks.set_index(["step", "task"]).loc[(1, "level1/0")]
    wilson = statistics.wilson(3, 4)
    assert row[["samples", "rollouts", "correct"]].tolist() == [4, 8, 3]
    assert row[["sample_fast_p", "low", "high"]].tolist() == [wilson.estimate, wilson.low, wilson.high]
    assert row["correctness"] == 0.75 and row["mean_speedup"] == 2.0
    step = found.seeds.set_index("step").loc[0]
    assert step[["samples", "rollouts", "tasks", "seeds"]].tolist() == [8, 8, 2, 1]
    assert step["sample_fast_p"] == pytest.approx(3 / 8) and step["task_fast_p"] == 1
    assert step["mean_speedup"] == pytest.approx((3 * 2 + 3 * 0.5) / 6)
    # Task 0: one 2x and two 0.5x, task 1 the other way round: as means of tasks, no speedup at all.
    assert step["geometric_speedup"] == pytest.approx(1)
    assert found.seeds.set_index("step").loc[1, "task_fast_p"] == 0.5


@settings(deadline=None, max_examples=30)
@given(st.lists(st.lists(st.integers(0, 4), min_size=3, max_size=3), min_size=1, max_size=4), st.integers(1, 3))
def test_aggregates_are_the_shares_of_samples_and_bounds_are_the_shared_bootstrap(hits, seeds):
    samples = adapted(hits, k=4, seeds=tuple(range(seeds)))
    found = metrics.trajectory(samples, "sound", resamples=50)
    view = metrics.under(samples, "sound")
    for row in found.steps.itertuples():
        part = view[view["step"] == row.step]
        assert row.sample_fast_p == pytest.approx(metrics.sample_fast_p(part))
        assert row.task_fast_p == pytest.approx(metrics.task_fast_p(part))
        assert row.correctness == pytest.approx(metrics.correctness(part))
        assert row.mean_speedup == pytest.approx(metrics.summary(part).loc["all", "mean_speedup"])
        assert row.rollouts == (view["step"] <= row.step).sum() and row.seeds == seeds
        groups = part.assign(fast=part["fast_limit"] > 1).groupby(["seed", "task"], as_index=False)["fast"].mean()
        same = statistics.mean_interval(groups["fast"], groups["task"], resamples=50)
        assert (row.low, row.high) == pytest.approx((same.low, same.high))


def test_fast_follows_p_and_the_protocol():
    rows = [sample(sample=0, speedup=1.5), sample(sample=1, speedup=1.01), sample(sample=2, correct=False)]
    scores = {
        (name, p): metrics.trajectory(table(rows), name, p).seeds["sample_fast_p"].iloc[0]
        for name in ("published", "sound")
        for p in (1.0, 1.45)
    }
    assert [round(3 * score) for score in scores.values()] == [2, 1, 1, 1]
    assert round(3 * metrics.trajectory(table(rows), "sound", 1.47).seeds["sample_fast_p"].iloc[0]) == 0


def test_a_step_without_a_task_is_refused_and_nothing_is_empty(recwarn):
    samples = adapted([[1, 1], [1, 1]])
    short = samples[(samples["step"] == 0) | (samples["task"] == "level1/0")]
    with pytest.raises(ValueError, match="seed 42 do not hold the same tasks"):
        metrics.trajectory(short, "published")
    nothing = metrics.trajectory(table([]), "published")
    assert nothing.tasks.empty and nothing.seeds.empty and metrics.best_of_adaptation(nothing).empty
    assert metrics.per_task_oracle(nothing).empty
    failed = metrics.trajectory(adapted([[0]], k=2, wrong=2), "published").seeds.iloc[0]
    assert failed["sample_fast_p"] == 0 and np.isnan(failed["mean_speedup"]) and np.isnan(failed["low"])
    assert not recwarn.list


# --- choosing ---------------------------------------------------------------------------------------------------------


def test_ties_go_to_the_earliest_step_even_where_sums_round():
    assert 0.1 + 0.2 > 0.3 and first_best([[0.3, 0.1 + 0.2], [0.2, 0.3]]).tolist() == [0, 1]
    # 0.1 + 0.2 against 0.3: means over tasks that are equal in exact arithmetic only.
    found = metrics.trajectory(adapted([[1, 2, 0], [3, 0, 0], [0, 0, 0]], k=10), "published")
    best = metrics.best_of_adaptation(found).iloc[0]
    assert (best["step"], best["ties"], best["margin"], best["gain"]) == (0, 2, 0, 0)
    assert (best["last_step"], best["last"]) == (2, 0)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.lists(st.integers(0, 4), min_size=2, max_size=2), min_size=1, max_size=5))
def test_best_and_oracle_are_the_maxima(hits):
    found = metrics.trajectory(adapted(hits), "published", resamples=1)
    shares = np.array(hits) / 4
    best = metrics.best_of_adaptation(found).iloc[0]
    assert best["sample_fast_p"] == shares.mean(axis=1).max()
    assert best["step"] == int(np.argmax(shares.mean(axis=1)))
    oracle = metrics.per_task_oracle(found).iloc[0]
    assert oracle["oracle"] == shares.max(axis=0).mean() >= best["sample_fast_p"]
    assert metrics.best_steps(found)["step"].tolist() == np.argmax(shares, axis=0).tolist()


@settings(deadline=None)
@given(SCORES)
def test_patience_1_stops_at_the_first_fall(scores):
    falls = [i for i in range(1, len(scores)) if scores[i] < scores[i - 1]]
    stop = metrics.early_stopping(pd.Series(scores))
    assert stop.stopped == (falls[0] if falls else len(scores) - 1) and stop.regressed == bool(falls)
    assert stop.step == int(np.argmax(scores[: stop.stopped + 1])) and stop.score == scores[stop.step]


@settings(deadline=None)
@given(SCORES, st.integers(1, 4))
def test_patience_by_brute_force(scores, patience):
    def stops(end):
        tail = range(end - patience + 1, end + 1)
        return tail[0] > 0 and all(scores[i] < max(scores[:i]) for i in tail)

    expected = next((end for end in range(len(scores)) if stops(end)), None)
    found = metrics.early_stopping(pd.Series(scores), patience)
    assert (found.stopped, found.regressed) == ((len(scores) - 1, False) if expected is None else (expected, True))
    assert found.step == int(np.argmax(scores[: found.stopped + 1]))


@pytest.mark.parametrize(("scores", "patience"), [([], 1), ([0.1, np.nan], 1), ([0.1], 0)])
def test_early_stopping_refuses_what_has_no_answer(scores, patience):
    with pytest.raises(ValueError, match="Early stopping needs"):
        metrics.early_stopping(pd.Series(scores, dtype=float), patience)

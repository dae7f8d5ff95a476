"""The five strategies: exact weights against enumeration, ties, copies, and table 5.3's arithmetic."""

from itertools import combinations, product

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_tables import grid, groups, random_table, sample, table

from vegtts_core import metrics, selection
from vegtts_core.selection import (
    BEST_CORRECT,
    CONFIDENCE_GUIDED,
    RANDOM_CORRECT,
    STRATEGIES,
    SURPRISAL_GUIDED,
    SURPRISAL_GUIDED_TOP3,
    Signal,
    surprisal_guided_top,
)


def view_of(*rows):
    return metrics.under(table([sample(sample=i, **row) for i, row in enumerate(rows)]), "published")


def by_hand_top(view, m):
    """The expected weight of speed levels of the fastest of the top m, by drawing every tie-break."""
    rows = view[view["correct"]]
    order = sorted(rows.index, key=lambda i: -rows["surprisal"][i])
    outcomes = []
    levels = sorted(set(rows["surprisal"]), reverse=True)
    kept, border = [], []
    for level in levels:
        block = [i for i in order if rows["surprisal"][i] == level]
        if len(kept) + len(block) <= m:
            kept += block
        else:
            border = block
            break
    for extra in combinations(border, max(0, min(m - len(kept), len(border)))):
        chosen = [rows["speedup"][i] for i in (*kept, *extra)]
        outcomes.append(max(chosen))
    return outcomes


@settings(deadline=None)
@given(groups(), st.integers(1, 5))
def test_top_m_is_the_expectation_over_all_ways_to_break_ties(view, m):
    weights = surprisal_guided_top(m).weights(view)
    if not view["correct"].any():
        assert (weights == 0).all()
        return
    expected = pd.Series(by_hand_top(view, m)).value_counts(normalize=True)
    found = pd.Series(weights, index=view.index).groupby(view["speedup"]).sum()
    for speed, weight in found.items():
        assert weight == pytest.approx(expected.get(speed, 0.0), abs=1e-12)


@settings(deadline=None)
@given(groups(), st.sampled_from(STRATEGIES), st.booleans(), st.sampled_from(list(Signal)))
def test_weights_sum_to_one_or_nothing_is_correct(view, strategy, distinct, signal):
    weights = strategy.weights(view, signal, distinct)
    assert weights.shape == (len(view),) and (weights >= 0).all()
    assert weights.sum() == pytest.approx(1.0 if view["correct"].any() else 0.0)
    assert (weights[~view["correct"]] == 0).all()


@settings(deadline=None)
@given(groups(), st.sampled_from(STRATEGIES), st.booleans(), st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(view, strategy, distinct, random):
    order = list(range(len(view)))
    random.shuffle(order)
    weights = strategy.weights(view, distinct=distinct)
    assert strategy.weights(view.iloc[order], distinct=distinct) == pytest.approx(weights[order])


@settings(deadline=None)
@given(groups(), st.sampled_from(STRATEGIES), st.booleans())
def test_copies_of_one_candidate_share_its_weight_evenly(view, strategy, distinct):
    weights = pd.Series(strategy.weights(view, distinct=distinct))
    spread = weights.groupby(view["fingerprint"]).agg(lambda w: w.max() - w.min())
    assert (spread < 1e-12).all()


@settings(deadline=None)
@given(groups(maximum=1), st.booleans())
def test_all_strategies_agree_where_there_is_one_sample(view, distinct):
    for strategy in STRATEGIES:
        assert strategy.weights(view, distinct=distinct).tolist() == [float(view["correct"].iloc[0])]


@settings(deadline=None)
@given(groups(protocol="published"), st.integers(1, 6), st.booleans())
def test_more_places_never_lose_success_or_speedup_and_the_oracle_bounds_them(view, m, distinct):
    few, many = surprisal_guided_top(m), surprisal_guided_top(m + 1)
    strategies = [few, many, BEST_CORRECT]
    rows = selection.evaluate_strategies(view, 1.0, strategies, distinct=distinct)
    for column in ("success", "speedup", "log_speedup"):
        values = rows[column].to_numpy()
        if not np.isnan(values).any():
            assert (np.diff(values) >= -1e-12).all(), column


@settings(deadline=None)
@given(groups())
def test_enough_places_are_the_oracle_and_the_oracle_is_pass_at_n(view):
    everything = surprisal_guided_top(len(view) + 1).weights(view)
    oracle = BEST_CORRECT.weights(view)
    fast = (view["fast_limit"] > 1).to_numpy(dtype=float)
    assert everything @ fast == pytest.approx(oracle @ fast) == pytest.approx(metrics.task_fast_p(view))


@settings(deadline=None)
@given(groups())
def test_random_correct_is_the_mean_over_correct_samples(view):
    weights = RANDOM_CORRECT.weights(view)
    if view["correct"].any():
        assert weights @ view["speedup"].fillna(0) == pytest.approx(view.loc[view["correct"], "speedup"].mean())


def test_strategies_choose_what_section_4_5_says():
    view = view_of(
        {"mean_logprob": -0.9, "speedup": 0.9, "fingerprint": "a"},
        {"mean_logprob": -0.8, "speedup": 2.0, "fingerprint": "b"},
        {"mean_logprob": -0.7, "speedup": 1.5, "fingerprint": "c"},
        {"mean_logprob": -0.6, "speedup": 5.0, "fingerprint": "d"},
        {"mean_logprob": -0.1, "speedup": 0.5, "fingerprint": "e"},
        {"mean_logprob": -2.0, "correct": False, "fingerprint": "f"},
    )
    chosen = {s.name: s.weights(view).argmax() for s in STRATEGIES if s is not RANDOM_CORRECT}
    assert chosen == {"best-correct": 3, "surprisal-guided-top3": 1, "surprisal-guided": 0, "confidence-guided": 4}
    assert RANDOM_CORRECT.weights(view).tolist() == [0.2] * 5 + [0]


def test_distinct_counts_a_candidate_once():
    copy = {"mean_logprob": -0.9, "speedup": 0.5, "fingerprint": "copy"}
    view = view_of(copy, copy, copy, {"mean_logprob": -0.5, "speedup": 2.0, "fingerprint": "other"})
    assert SURPRISAL_GUIDED_TOP3.weights(view) == pytest.approx([1 / 3, 1 / 3, 1 / 3, 0])
    assert SURPRISAL_GUIDED_TOP3.weights(view, distinct=True).tolist() == [0, 0, 0, 1]
    assert RANDOM_CORRECT.weights(view)[3] == 0.25
    assert RANDOM_CORRECT.weights(view, distinct=True)[3] == 0.5


def test_rounding_between_batches_is_a_tie():
    view = view_of(
        {"mean_logprob": -0.9, "speedup": 0.5, "fingerprint": "a"},
        {"mean_logprob": -0.9 - 2e-7, "speedup": 0.5, "fingerprint": "a"},
        {"mean_logprob": -0.8, "speedup": 0.5, "fingerprint": "b"},
    )
    assert SURPRISAL_GUIDED.weights(view).tolist() == [0.5, 0.5, 0]


def test_the_other_log_probability_can_choose_otherwise():
    view = view_of(
        {"mean_logprob": -0.9, "sampling_mean_logprob": -0.1, "fingerprint": "a"},
        {"mean_logprob": -0.5, "sampling_mean_logprob": -0.2, "fingerprint": "b"},
    )
    assert SURPRISAL_GUIDED.weights(view).tolist() == [1, 0]
    assert SURPRISAL_GUIDED.weights(view, Signal.SAMPLING).tolist() == [0, 1]
    assert CONFIDENCE_GUIDED.weights(view, Signal.SAMPLING).tolist() == [1, 0]


def test_correct_but_untimed_or_unscored_samples_cannot_be_chosen():
    view = view_of({"published_speedup": None}, {"mean_logprob": None}, {"fingerprint": None})
    for strategy, distinct in product(STRATEGIES, (False, True)):
        assert strategy.weights(view, distinct=distinct).tolist() == [0, 0, 1]


def test_under_sound_the_oracle_goes_by_the_lower_bound():
    rows = [
        sample(sample=0, speedup=9.0, sound_speedup_low=0.5, sound_decision="undecided", fingerprint="a"),
        sample(sample=1, speedup=1.5, sound_speedup_low=1.4, sound_decision="faster", fingerprint="b"),
        sample(sample=2, speedup=3.0, sound_speedup_low=None, sound_decision="undecided", fingerprint="c"),
    ]
    view = metrics.under(table(rows), "sound")
    assert BEST_CORRECT.weights(view).tolist() == [0, 1, 0]


def test_the_top_0_is_refused_and_the_top_1_is_surprisal_guided():
    with pytest.raises(ValueError, match="at least 1"):
        surprisal_guided_top(0)
    assert surprisal_guided_top(1) is SURPRISAL_GUIDED
    assert surprisal_guided_top(5).name == "surprisal-guided-top5"


# --- tables -------------------------------------------------------------------------------------------------------


def test_evaluation_is_tidy_and_aggregation_says_what_it_rests_on():
    samples = grid([4, 0, 8])
    samples.loc[samples["task"] == "level1/1", ["published_correct", "sound_correct"]] = False
    outcomes = selection.evaluate_strategies(metrics.under(samples, "published"))
    assert len(outcomes) == 5 * 3 * 2
    assert not outcomes.duplicated(["strategy", "task", "seed", "step"]).any()
    rows = selection.aggregate_strategies(outcomes).set_index("strategy")
    assert list(rows.index) == [s.name for s in STRATEGIES]
    assert (rows["groups"] == 6).all() and (rows["groups_with_correct"] == 4).all()
    assert rows.loc["best-correct", "success"] == pytest.approx(2 / 3), "nothing correct is a failure"
    assert rows.loc["best-correct", "mean_speedup"] == pytest.approx(2.0), "but has no speedup"
    # In this table the surprising half of task 0 is fast.
    assert rows.loc["surprisal-guided", "success"] == pytest.approx(2 / 3)
    assert rows.loc["confidence-guided", "success"] == pytest.approx(1 / 3)
    assert rows.loc["random-correct", "success"] == pytest.approx(1.5 / 3)
    for column in (("low", "high"), ("wilson_low", "wilson_high")):
        assert rows["success"].between(rows[column[0]] - 1e-9, rows[column[1]] + 1e-9).all()


def test_std_over_seeds_is_the_papers():
    # Table 5.3: confidence-guided succeeded on 2 and 3 of 5 tasks: 50% with a deviation of 14.1%.
    outcomes = pd.DataFrame(
        [
            ("confidence-guided", f"t{t}", seed, 0, float(t < wins), 1.0, 0.0, 9)
            for seed, wins in ((42, 2), (43, 3))
            for t in range(5)
        ],
        columns=["strategy", "task", "seed", "step", "success", "speedup", "log_speedup", "eligible"],
    )
    row = selection.aggregate_strategies(outcomes).iloc[0]
    assert row["success"] == pytest.approx(0.5) and row["std"] == pytest.approx(0.1414, abs=1e-4)


def test_comparison_pairs_by_group():
    outcomes = selection.evaluate_strategies(metrics.under(grid([4, 0, 8, 4]), "published"))
    found = selection.compare_strategies(outcomes)
    assert found.difference.estimate == pytest.approx(0.5) and found.difference.n == 4
    assert found.difference.low <= 0.5 <= found.difference.high
    assert (found.sign.statistic, found.sign.n, found.sign.zeros) == (4, 4, 4)
    assert found.sign.p_value == pytest.approx(0.125) and found.sign_one_sided.p_value == pytest.approx(0.0625)
    assert found.wilcoxon.n == 4 and "cannot give" in found.wilcoxon.note
    same = selection.compare_strategies(outcomes, SURPRISAL_GUIDED, SURPRISAL_GUIDED)
    assert same.difference.estimate == 0 and same.sign.n == same.wilcoxon.n == 0


def test_unrelated_surprisal_is_no_better_than_random():
    view = metrics.under(random_table(7, tasks=60, seeds=(1, 2, 3)), "published")
    outcomes = selection.evaluate_strategies(view, distinct=True)
    found = selection.compare_strategies(outcomes, SURPRISAL_GUIDED, CONFIDENCE_GUIDED)
    assert found.difference.low < 0 < found.difference.high


def test_empty_and_hopeless_tables_give_nan_without_warnings(recwarn):
    empty = selection.evaluate_strategies(metrics.under(table([]), "sound"))
    assert empty.empty and selection.aggregate_strategies(empty).empty
    assert np.isnan(selection.compare_strategies(empty).difference.estimate)
    hopeless = selection.evaluate_strategies(view_of({"correct": False}, {"correct": False}))
    rows = selection.aggregate_strategies(hopeless)
    assert (rows["success"] == 0).all() and rows[["mean_speedup", "geometric_speedup", "low"]].isna().all(axis=None)
    assert not recwarn.list


def test_what_a_strategy_chose_is_read_from_the_second_evaluation():
    lucky = {"retimed_correct": True, "retimed_published_speedup": 1.0}
    view = view_of(
        {"speedup": 3.0, "mean_logprob": -2.0, "fingerprint": "lucky", **lucky},
        {"speedup": 1.5, "mean_logprob": -1.0, "fingerprint": "steady"},
    )
    best = selection.evaluate_strategies(view, strategies=[BEST_CORRECT]).iloc[0]
    assert (best["success"], best["speedup"]) == (0.0, 1.0)
    guided = selection.evaluate_strategies(view, strategies=[CONFIDENCE_GUIDED]).iloc[0]
    assert (guided["success"], guided["speedup"]) == (1.0, 1.5)  # evaluated once: what is known


def test_a_choice_that_was_wrong_on_fresh_data_is_no_success():
    view = view_of({"speedup": 3.0, "retimed_correct": False})
    outcome = selection.evaluate_strategies(view, strategies=[BEST_CORRECT]).iloc[0]
    assert outcome["success"] == 0 and np.isnan(outcome["speedup"])

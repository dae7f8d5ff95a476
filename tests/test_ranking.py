"""Ranking before evaluation: exact expectations against enumeration of every order, and cases with known answers."""

from itertools import pairwise, permutations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_tables import groups, random_table, sample, table

from vegtts_core import metrics, ranking, selection
from vegtts_core.ranking import Order, Unit


def view_of(rows):
    return metrics.under(table(rows), "sound")


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3)), min_size=1, max_size=6))
def test_best_so_far_is_the_mean_over_all_orders(pairs):
    rank = np.unique([p[0] for p in pairs], return_inverse=True)[1]
    limit = np.array([float(p[1]) for p in pairs])
    values = np.column_stack([limit**2, limit > 1])
    found = ranking.best_so_far(rank, limit, values)
    n = len(pairs)
    every = [o for o in permutations(range(n)) if all(rank[a] <= rank[b] for a, b in pairwise(o))]
    for m in range(1, n + 1):
        means = np.mean([values[max(o[:m], key=lambda i: limit[i])] for o in every], axis=0)
        assert found[m - 1] == pytest.approx(means)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 2), st.booleans()), min_size=1, max_size=6))
def test_first_hit_is_the_mean_over_all_orders(pairs):
    rank = np.unique([p[0] for p in pairs], return_inverse=True)[1]
    hit = np.array([p[1] for p in pairs])
    found = ranking.first_hit(rank, hit)
    if not hit.any():
        assert np.isnan(found)
        return
    n = len(pairs)
    every = [o for o in permutations(range(n)) if all(rank[a] <= rank[b] for a, b in pairwise(o))]
    assert found == pytest.approx(np.mean([1 + next(i for i, x in enumerate(o) if hit[x]) for o in every]))


def test_many_items_do_not_overflow():
    n = 2000
    found = ranking.best_so_far(np.zeros(n, dtype=np.int64), np.arange(n, dtype=float), np.ones((n, 1)))
    assert found == pytest.approx(1.0)


def test_random_order_of_samples_solves_as_pass_at_k():
    view = metrics.under(random_table(1), "sound")
    curves = ranking.curves(view, Unit.SAMPLES, [Order.RANDOM])
    for (task, seed), part in view.groupby(["task", "seed"]):
        fast = int((part["fast_limit"] > 1).sum())
        own = curves[(curves["task"] == task) & (curves["seed"] == seed)]
        expected = metrics.pass_at_k(len(part), fast, own["m"].to_numpy())
        assert own["solved"].to_numpy() == pytest.approx(expected)


@settings(deadline=None, max_examples=80)
@given(groups(minimum=1, protocol="sound"))
def test_after_the_filter_it_agrees_with_the_selection_rules(view):
    rules = {
        (Order.RANDOM, 1): selection.RANDOM_CORRECT,
        (Order.SURPRISAL, 1): selection.SURPRISAL_GUIDED,
        (Order.SURPRISAL, 3): selection.SURPRISAL_GUIDED_TOP3,
        (Order.CONFIDENCE, 1): selection.CONFIDENCE_GUIDED,
        (Order.RANDOM, None): selection.BEST_CORRECT,
    }
    ours = ranking.after_filter(view, list(rules))
    theirs = selection.evaluate_strategies(view, strategies=list(rules.values()), distinct=True)
    for position, strategy in enumerate(rules.values()):
        row = theirs[theirs["strategy"] == strategy.name].iloc[0]
        assert ours["success"][position] == pytest.approx(row["success"])
        assert ours["log_speedup"][position] == pytest.approx(row["log_speedup"], nan_ok=True)


def copies_and_a_fast_one():
    """Three copies of a slow, surprising candidate, one fast and sure one, one refused text."""
    rows = [sample(sample=i, fingerprint="slow", speedup=0.5, mean_logprob=-2.0, tokens=9) for i in range(3)]
    rows += [sample(sample=3, fingerprint="fast", speedup=3.0, mean_logprob=-0.1, tokens=4)]
    return [*rows, sample(sample=4, fingerprint=None, correct=False, mean_logprob=-3.0, tokens=30)]


def test_copies_are_one_candidate_and_refused_texts_none():
    view = view_of(copies_and_a_fast_one())
    once, every = ranking.items(view), ranking.items(view, Unit.SAMPLES)
    assert sorted(once["copies"]) == [1, 3] and sorted(every["copies"]) == [0, 1, 3, 3, 3]
    wait = {unit: ranking.waiting(view, unit).set_index("order")["first_fast"] for unit in Unit}
    expected = {Order.RANDOM: (1.5, 3.0), Order.SURPRISAL: (2, 5), Order.CONFIDENCE: (1, 1), Order.SHORTEST: (1, 1)}
    expected |= {Order.LONGEST: (2, 5), Order.MAJORITY: (2, 4)}
    for order, (candidates, samples) in expected.items():
        assert wait[Unit.CANDIDATES][str(order)] == pytest.approx(candidates)
        assert wait[Unit.SAMPLES][str(order)] == pytest.approx(samples)


def test_a_failure_counts_as_the_reference_and_a_slow_find_too():
    curve = ranking.curves(view_of(copies_and_a_fast_one()), orders=[Order.SURPRISAL])
    assert list(np.exp(curve["log_reached"][:2])) == pytest.approx([1.0, 3.0])
    assert list(curve["solved"]) == [0, 1, 1, 1, 1]  # once everything is evaluated it stays
    nothing = view_of([sample(correct=False), sample(sample=1, fingerprint=None, correct=False)])
    found = ranking.curves(nothing)
    assert (found["solved"] == 0).all() and (found["log_reached"] == 0).all()
    refused = view_of([sample(fingerprint=None, correct=False)])
    assert (ranking.curves(refused)["log_reached"] == 0).all() and ranking.waiting(refused).empty


def test_what_is_kept_is_read_on_fresh_data():
    lucky = sample(fingerprint="lucky", speedup=4.0, mean_logprob=-1.0, retimed_correct=True)
    lucky |= {"retimed_sound_speedup": 0.8, "retimed_sound_speedup_low": 0.79}
    wrong = sample(sample=1, fingerprint="wrong", speedup=9.0, mean_logprob=-0.5, retimed_correct=False)
    found = ranking.curves(view_of([lucky, wrong]), orders=[Order.SURPRISAL])
    assert list(np.exp(found["log_reached"])) == pytest.approx([0.8, 1.0])
    assert (found["solved"] == 0).all()


def test_unknown_surprisal_comes_last_and_ties_within_rounding_are_ties():
    assert list(ranking.classes(np.array([0.5, np.nan, 0.5 + 1e-7, 0.9]))) == [1, 2, 1, 0]
    assert list(ranking.classes(np.array([np.nan, np.nan]))) == [0, 0]


def test_rows_may_come_in_any_order():
    samples = random_table(3, tasks=2)
    shuffled = samples.sample(frac=1, random_state=1)
    for unit in Unit:
        one, two = (
            ranking.curves(metrics.under(t, "sound"), unit).sort_values(["order", "task", "seed", "m"])
            for t in (samples, shuffled)
        )
        pd.testing.assert_frame_equal(one.reset_index(drop=True), two.reset_index(drop=True))

"""Expectations from what was written, against enumeration of everything that could have been drawn."""

from __future__ import annotations

from itertools import combinations, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vegtts_core.plan.writing import Sampled, best_match, pooled, writing_of


def row(task, tokens, mark="a", correct=True, scaffold="template", seed=1, step=0, reason=""):
    return {
        "task": task,
        "scaffold": scaffold,
        "seed": seed,
        "step": step,
        "tokens": len(tokens),
        "token_ids": list(tokens),
        "logprobs": [0.0] * len(tokens),
        "fingerprint": mark,
        "sound_correct": correct,
        "reason": reason,
    }


GIVEN = {"protocol": "sound", "temperature": 1.0, "max_new_tokens": 8}


def written(rows, policy="embedded", adapter=None, **changes):
    found = writing_of(rows, "made", policy, adapter, GIVEN | changes)
    assert found is not None
    return found


@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(st.integers(0, 3), min_size=1, max_size=7),
    n=st.integers(1, 7),
    weights=st.tuples(*[st.integers(1, 9)] * 4),
)
def test_rarefaction_is_the_mean_over_all_subsets(values, n, weights):
    n = min(n, len(values))
    names = sorted(set(values))
    sampled = Sampled(len(values), tuple(values.count(v) for v in names), tuple(float(weights[v]) for v in names))
    subsets = [sum(weights[v] for v in set(chosen)) for chosen in combinations(values, n)]
    assert sampled.distinct(n) == pytest.approx(sum(subsets) / len(subsets), abs=1e-9)


def test_beyond_what_was_recorded_growth_goes_on_as_it_did():
    every_one_new = Sampled(16, (1,) * 16, (1.0,) * 16)
    always_the_same = Sampled(16, (16,), (1.0,))
    assert every_one_new.distinct(64) == pytest.approx(64)
    assert always_the_same.distinct(64) == pytest.approx(1)
    between = Sampled(16, (8, 4, 1, 1, 1, 1), (1.0,) * 6)
    assert 6 < between.distinct(32) < 12
    assert between.distinct(16) == pytest.approx(6)


@settings(max_examples=40, deadline=None)
@given(
    first=st.lists(st.integers(1, 6), min_size=1, max_size=3),
    second=st.lists(st.integers(1, 6), min_size=1, max_size=3),
    counts=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    bound=st.integers(1, 8),
)
def test_the_longest_of_a_batch(first, second, counts, bound):
    rows = [row("a", range(n)) for n in first] + [row("b", range(n)) for n in second]
    writing = written(rows)
    draws = list(product(*([first] * counts[0] + [second] * counts[1])))
    expected = sum(min(bound, max(draw)) for draw in draws) / len(draws)
    assert writing.longest([("template", "a", counts[0]), ("template", "b", counts[1])], bound) == pytest.approx(
        expected
    )


def test_what_is_known_of_a_task_and_of_its_scaffold():
    rows = [row("a", [1, 2]), row("a", [1, 2]), row("b", [1, 2, 3, 4], mark=None), row("b", [5] * 6, mark="c")]
    writing = written(rows)
    assert writing.mean("template", "a", 8) == 2
    assert writing.mean("template", "b", 8) == 5
    assert writing.mean("template", "unheard of", 8) == pytest.approx(3.5)
    assert writing.mean("template", "b", 4) == 4  # never beyond what the run allows
    assert writing.distinct_tokens("template", "a", 2) == 2
    assert writing.distinct_candidates("template", "b", 2) == 1  # a refused completion is no candidate
    assert writing.distinct_outcomes("template", "b", 2) == 2
    assert not writing.knows(["forward"]) and writing.knows(["template"])


def test_rows_that_nobody_sampled_say_nothing():
    answer = row("a", [1]) | {"logprobs": []}
    assert writing_of([answer], "made", "embedded", None, GIVEN) is None


def test_the_closest_policy_is_asked_and_a_difference_is_said():
    own = written([row("a", [1])], adapter="embedded")
    other_temperature = written([row("a", [1] * 3)], adapter="embedded", temperature=0.25)
    other_policy = written([row("a", [1] * 5)], policy="another", adapter="embedded")
    found, note = best_match([other_policy, other_temperature, own], "embedded", "embedded", 1.0, ["template"])
    assert found is not None and found.mean("template", "a", 8) == 1 and note == ""
    found, note = best_match([other_policy, other_temperature], "embedded", "embedded", 1.0, ["template"])
    assert found is not None and found.mean("template", "a", 8) == 3
    assert "temperature 0.25" in note and note.endswith(".")
    assert best_match([own], "embedded", "embedded", 1.0, ["forward"]) == (None, "")


def test_pooled_runs_weigh_alike():
    both = pooled([written([row("a", [1])]), written([row("a", [1] * 3)])])
    assert both.mean("template", "a", 8) == 2

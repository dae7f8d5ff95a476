"""Entropies, distances and self-BLEU against plain definitions."""

from collections import Counter
from functools import cache
from itertools import combinations
from math import exp, log

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_tables import sample, table
from scipy import stats

from vegtts_core import metrics, statistics
from vegtts_core.metrics.diversity import MEASURES
from vegtts_core.metrics.sequences import edit_distances, mean_edit_distance, self_bleu

TEXTS = st.lists(st.lists(st.integers(0, 3), max_size=7).map(tuple), min_size=2, max_size=6)


def levenshtein(a, b):
    @cache
    def d(i, j):
        if i == 0 or j == 0:
            return i + j
        return min(d(i - 1, j) + 1, d(i, j - 1) + 1, d(i - 1, j - 1) + (a[i - 1] != b[j - 1]))

    return d(len(a), len(b))


def bleu(text, references):
    """Sentence BLEU-4 as Papineni et al. define it, add-one smoothed for n > 1."""
    if not text:
        return 0.0
    logs = 0.0
    for n in range(1, 5):
        grams = [text[i : i + n] for i in range(len(text) - n + 1)]
        clipped = 0
        for gram, count in Counter(grams).items():
            held = [[r[i : i + n] for i in range(len(r) - n + 1)].count(gram) for r in references]
            clipped += min(count, max(held))
        if n == 1 and clipped == 0:
            return 0.0
        logs += log((clipped + (n > 1)) / (len(grams) + (n > 1))) / 4
    closest = min(references, key=lambda r: (abs(len(r) - len(text)), len(r)))
    return min(1.0, exp(1 - len(closest) / len(text))) * exp(logs)


@settings(deadline=None)
@given(TEXTS)
def test_edit_distance_is_levenshtein(texts):
    assert edit_distances(texts[0], texts[1:]).tolist() == [levenshtein(texts[0], other) for other in texts[1:]]
    pairs = [levenshtein(a, b) / max(len(a), len(b), 1) for a, b in combinations(texts, 2)]
    assert mean_edit_distance(texts) == pytest.approx(np.mean(pairs))


def test_edit_distance_of_words():
    kitten, sitting = tuple(map(ord, "kitten")), tuple(map(ord, "sitting"))
    assert edit_distances(kitten, [sitting, kitten, ()]).tolist() == [3, 0, 6]
    assert edit_distances((), [(), (1,)]).tolist() == [0, 1]
    assert edit_distances((1,), []).tolist() == []


@settings(deadline=None)
@given(TEXTS)
def test_self_bleu_is_the_mean_over_all_rollouts(texts):
    plain = [bleu(text, texts[:i] + texts[i + 1 :]) for i, text in enumerate(texts)]
    assert self_bleu(texts) == pytest.approx(np.mean(plain))


def test_bleu_by_hand():
    # Against (1,2,3,5): 3/4 unigrams, (2+1)/(3+1), (1+1)/(2+1), (0+1)/(1+1); the other way round the same.
    assert self_bleu([(1, 2, 3, 4), (1, 2, 3, 5)]) == pytest.approx((3 / 4 * 3 / 4 * 2 / 3 * 1 / 2) ** 0.25)
    assert self_bleu([(1, 2), (3, 4)]) == 0
    assert self_bleu([(7,)] * 3) == 1
    assert np.isnan(self_bleu([(1,)])) and np.isnan(mean_edit_distance([]))


@settings(deadline=None)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=6).filter(any))
def test_entropy_is_scipys_and_the_correction_is_millers(counts):
    expected = stats.entropy([c for c in counts if c])
    assert metrics.entropy(counts) == pytest.approx(expected, abs=1e-12)
    kinds = sum(c > 0 for c in counts)
    assert metrics.miller_madow(counts) == pytest.approx(expected + (kinds - 1) / (2 * sum(counts)))


def test_the_correction_is_nearer_to_the_truth():
    rng = np.random.default_rng(0)
    draws = rng.multinomial(32, [1 / 8] * 8, size=400)
    plain, corrected = (np.mean([f(d) for d in draws]) for f in (metrics.entropy, metrics.miller_madow))
    assert plain < log(8) - 0.08 and corrected == pytest.approx(log(8), abs=0.02)


def group(step=0, task=4, rows=()):
    return [sample(task=f"level1/{task}", task_id=task, step=step, sample=i, **row) for i, row in enumerate(rows)]


FOUR = (
    {"fingerprint": "a", "token_ids": [1, 2, 3, 4], "mean_logprob": -0.1},
    {"fingerprint": "a", "token_ids": [1, 2, 3, 4], "mean_logprob": -0.1},
    {"fingerprint": "b", "token_ids": [1, 2, 3, 5], "mean_logprob": -0.5, "correct": False},
    {"fingerprint": None, "token_ids": [9, 9], "mean_logprob": -0.9, "correct": False},
)


def test_a_group_by_hand():
    row = metrics.group_diversity(table(group(rows=FOUR)), "published").iloc[0]
    assert row[["samples", "parsed", "distinct", "distinct_correct"]].tolist() == [4, 3, 2, 1]
    assert row["distinct_share"] == pytest.approx(2 / 3)
    assert row["entropy"] == pytest.approx(stats.entropy([2, 1]))
    assert row["entropy_miller_madow"] == pytest.approx(stats.entropy([2, 1]) + 1 / 6)
    # Pairs: copies 0; two of (1234, 1235) at 1/4; three with (9, 9) at 1.
    assert row["edit_distance"] == pytest.approx((0 + 2 * 0.25 + 3 * 1) / 6)
    assert row["self_bleu_4"] == pytest.approx((1 + 1 + bleu((1, 2, 3, 5), [(1, 2, 3, 4)]) + 0) / 4)
    assert row["surprisal"] == pytest.approx(0.4)


def test_a_collapse_shows_in_every_measure():
    wide = [{"fingerprint": f"f{i}", "token_ids": [i, i + 1, i + 2, 99]} for i in range(4)]
    narrow = [{"fingerprint": "f", "token_ids": [1, 2, 3, 99]} for _ in range(4)]
    samples = table([r for task in (4, 5) for s, rows in enumerate((wide, narrow)) for r in group(s, task, rows)])
    found = metrics.diversity_by_step(metrics.group_diversity(samples, "sound")).set_index(["step", "measure"])
    assert set(found.loc[0].index) == set(MEASURES)
    for measure, sign in {"distinct": -1, "entropy": -1, "edit_distance": -1, "self_bleu_4": 1}.items():
        assert sign * (found.loc[(1, measure), "estimate"] - found.loc[(0, measure), "estimate"]) > 0
    assert found.loc[(1, "entropy"), "estimate"] == 0 and found.loc[(1, "self_bleu_4"), "estimate"] == 1
    assert found.loc[(0, "distinct"), ["tasks", "seeds"]].tolist() == [2, 1]


def test_summary_is_the_shared_bootstrap_and_leaves_nan_out(recwarn):
    refused = [{"fingerprint": None, "token_ids": None, "correct": False}] * 2
    samples = table(group(0, 4, FOUR) + group(0, 5, FOUR[1:]) + group(0, 6, refused))
    groups = metrics.group_diversity(samples, "published")
    assert groups.loc[2, ["entropy", "edit_distance", "self_bleu_4", "distinct_share"]].isna().all()
    found = metrics.diversity_by_step(groups).set_index("measure")
    same = statistics.mean_interval(groups["entropy"], groups["task"])
    assert found.loc["entropy", ["estimate", "low", "high"]].tolist() == [same.estimate, same.low, same.high]
    assert (found.loc["entropy", "tasks"], found.loc["distinct", "tasks"]) == (2, 3)
    assert metrics.group_diversity(table([]), "published").empty
    with pytest.raises(ValueError, match="token_ids"):
        metrics.group_diversity(samples.drop(columns="token_ids"), "published")
    assert not recwarn.list

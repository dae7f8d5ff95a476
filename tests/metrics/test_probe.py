"""The probe of fixed samples: rhos against scipy, quarters by hand, the paired test against enumeration."""

from itertools import product

import numpy as np
import pandas as pd
import pytest
from made_tables import random_table, sample, table
from scipy import stats

from vegtts_core import metrics
from vegtts_core.book import published
from vegtts_core.metrics import Nll, Quarter, Unit


def naive_p(rho, n):
    return 2 * stats.t.sf(abs(rho) * np.sqrt((n - 2) / (1 - rho**2)), n - 2)


def nlls(by_step, lengths=None):
    """``by_step[step]``: mean NLL of each row."""
    rows = [
        {"row": row, "step": step, "nll_mean": value, "nll_sum": value * (lengths[row] if lengths else 10)}
        for step, values in by_step.items()
        for row, value in enumerate(values)
    ]
    return pd.DataFrame(rows, columns=["row", "step", "nll_mean", "nll_sum"])


def fixed(speedups, tasks=None, wrong=()):
    tasks = tasks or [0] * len(speedups)
    return table(
        [
            sample(task=f"level1/{t}", sample=i, speedup=s, correct=i not in wrong, fingerprint=f"f{i}")
            for i, (s, t) in enumerate(zip(speedups, tasks, strict=True))
        ]
    )


# --- the paper's numbers (section 5.3b) -------------------------------------------------------------------------------


@pytest.mark.parametrize("row", ["all-step-0", "all-step-8"])
def test_the_pooled_p_values_are_those_of_320_samples(row):
    rho, p = (published.value(f"5.3b-probe/{row}/{name}") for name in ("rho", "p_value"))
    # rho is printed to three digits, p to two.
    assert naive_p(abs(rho) + 5e-4, 320) <= p * 1.03 and naive_p(abs(rho) - 5e-4, 320) >= p * 0.97


def test_the_bottom_quartiles_p_value_is_not_that_of_a_quarter():
    rho, p = (published.value(f"5.3b-probe/bottom-quartile-step-3/{name}") for name in ("rho", "p_value"))
    assert naive_p(rho, 80) > 1e-5, "80 samples"
    assert naive_p(abs(rho) + 5e-4, 320) <= p * 1.03 and naive_p(abs(rho) - 5e-4, 320) >= p * 0.97, "320 samples"


# --- the probe --------------------------------------------------------------------------------------------------------


def test_joining_keeps_rows_and_says_what_is_wrong():
    samples = fixed([1.0, 2.0, 3.0], wrong={1})
    nll = nlls({0: [0.1, 0.2, 0.3], 1: [0.3, 0.2, 0.1]})
    probe = metrics.join_probe(nll.sample(frac=1, random_state=0), samples, "published")
    assert probe["row"].tolist() == [0, 1, 2, 0, 1, 2] and probe["step"].tolist() == [0, 0, 0, 1, 1, 1]
    assert probe["speedup"].isna().tolist() == [False, True, False] * 2
    assert metrics.join_probe(nll, samples, "sound", True)["speedup"].tolist() == [1, 0, 3] * 2
    for broken, words in (
        (nll.drop(columns="nll_sum"), "lacks the columns nll_sum"),
        (pd.concat([nll, nll]), "scored twice"),
        (nll.assign(row=nll["row"] + 1), "outside 0..2"),
    ):
        with pytest.raises(ValueError, match=words):
            metrics.join_probe(broken, samples, "published")


def probed(seed=0, steps=2):
    samples = random_table(seed, tasks=4, seeds=(42,), k=12)
    rng = np.random.default_rng(seed)
    by_step = {step: rng.exponential(0.5, len(samples)).round(3) for step in range(steps)}
    return metrics.join_probe(nlls(by_step), samples, "published"), samples


def test_rho_is_scipys_pooled_and_within_tasks():
    probe, _ = probed()
    found = metrics.probe_correlations(probe, resamples=20).set_index(["step", "analysis"])
    for step, part in probe[probe["speedup"].notna()].groupby("step"):
        pooled = stats.spearmanr(part["nll_mean"], part["speedup"])
        row = found.loc[(step, "pooled")]
        assert (row["rho"], row["p_naive"]) == pytest.approx((pooled.statistic, pooled.pvalue))
        assert row["n"] == len(part) and row["low"] <= row["high"]
        own = [stats.spearmanr(t["nll_mean"], t["speedup"]).statistic for _, t in part.groupby("task")]
        assert found.loc[(step, "within task"), "rho"] == pytest.approx(np.mean(own))


def test_differences_between_tasks_make_a_pooled_rho_out_of_nothing():
    samples = fixed([1, 1.1, 1.2, 9, 9.1, 9.2], [0, 0, 0, 1, 1, 1])
    probe = metrics.join_probe(nlls({0: [0.11, 0.12, 0.13, 0.91, 0.92, 0.93]}), samples, "published")
    rho = metrics.probe_correlations(probe, resamples=10).set_index("analysis")["rho"]
    assert rho["pooled"] == pytest.approx(1) and rho["within task"] == pytest.approx(1)
    probe = metrics.join_probe(nlls({0: [0.13, 0.12, 0.11, 0.93, 0.92, 0.91]}), samples, "published")
    rho = metrics.probe_correlations(probe, resamples=10).set_index("analysis")["rho"]
    assert rho["pooled"] > 0.5 and rho["within task"] == pytest.approx(-1)


def test_the_sum_ranks_length_and_copies_collapse():
    samples = fixed([1.0, 2.0, 3.0, 3.0])
    samples.loc[3, "fingerprint"] = "f2"
    by_mean = {0: [0.1, 0.2, 0.3, 0.3 + 1e-7]}
    probe = metrics.join_probe(nlls(by_mean, lengths=[90, 10, 1, 1]), samples, "published")
    rho = {signal: metrics.probe_correlations(probe, signal=signal, resamples=5)["rho"].iloc[0] for signal in Nll}
    assert rho[Nll.MEAN] == pytest.approx(1), "copies that differ by rounding tie"
    assert rho[Nll.SUM] == pytest.approx(-1)
    assert metrics.probe_correlations(probe, distinct=True, resamples=5)["n"].iloc[0] == 3


def test_quarters_are_fixed_by_the_first_step_and_keep_ties():
    speedups = [1, 1, 3, 4, 5, 6, 7, 8]
    nll = nlls({0: [1, 2, 3, 4, 5, 6, 8, 8], 1: [8, 7, 6, 5, 4, 3, 2, 1]})
    probe = metrics.join_probe(nll, fixed(speedups), "published")
    rows = {which: sorted(set(metrics.probe_quarter(probe, which)["row"])) for which in Quarter}
    assert rows == {
        Quarter.ALL: list(range(8)),
        Quarter.SLOWEST: [0, 1],
        Quarter.MOST_SURPRISING: [6, 7],
        Quarter.LEAST_SURPRISING: [0, 1],
    }
    assert len(metrics.probe_quarter(probe, Quarter.MOST_SURPRISING)) == 4
    tied = metrics.join_probe(nlls({0: [1] * 8}), fixed(speedups), "published")
    assert len(metrics.probe_quarter(tied, Quarter.MOST_SURPRISING)) == 8


def test_mean_nll_is_the_mean_of_tasks_and_its_change_is_paired():
    samples = fixed([1.0] * 6, [0, 0, 0, 0, 1, 1])
    first = np.array([1.0, 1, 1, 1, 9, 9])
    probe = metrics.join_probe(nlls({0: first, 3: first + 0.25}), samples, "published")
    found = metrics.probe_nll(probe).set_index("step")
    assert found["nll_mean"].tolist() == [5, 5.25] and found["nll_sum"].tolist() == [50, 52.5]
    assert found.loc[3, ["change", "change_low", "change_high"]].tolist() == pytest.approx([0.25] * 3)
    assert found.loc[3, "nll_mean_low"] == pytest.approx(1.25) and found.loc[3, ["tasks", "n"]].tolist() == [2, 6]


# --- the change of rho ------------------------------------------------------------------------------------------------


def by_enumeration(before, after, y):
    x0, x1, order = (stats.rankdata(v) for v in (before, after, y))

    def change(swap):
        a, b = np.where(swap, x1, x0), np.where(swap, x0, x1)
        return np.corrcoef(b, order)[0, 1] - np.corrcoef(a, order)[0, 1]

    draws = np.array([change(np.array(swap)) for swap in product([False, True], repeat=len(y))])
    return draws[0], float(np.mean(np.abs(draws) >= abs(draws[0]) - 1e-12))


def test_the_paired_test_is_the_enumeration():
    rng = np.random.default_rng(3)
    before, after, y = rng.random(8).round(2), rng.random(8).round(2), rng.random(8).round(2) + 1
    probe = metrics.join_probe(nlls({0: before, 2: after}), fixed(y), "published")
    found = metrics.rho_change(probe, 2)
    change, p = by_enumeration(before, after, y)
    assert found.base == pytest.approx(stats.spearmanr(before, y).statistic)
    assert found.later == pytest.approx(stats.spearmanr(after, y).statistic)
    assert (found.change, found.p_value) == pytest.approx((change, p))
    assert (found.n, found.tasks, found.smallest_p) == (8, 1, 2 / 256)
    sampled = metrics.rho_change(probe, 2, permutations=200)
    assert sampled.p_value == pytest.approx(p, abs=0.12) and sampled.smallest_p == 1 / 201


def test_five_tasks_cannot_give_less_than_one_sixteenth():
    y = np.tile(np.arange(1, 9), 5).astype(float)
    before, after = -y + np.repeat(np.arange(5), 8), y + np.repeat(np.arange(5), 8)
    tasks = list(np.repeat(np.arange(5), 8))
    probe = metrics.join_probe(nlls({0: before, 1: after}), fixed(y, tasks), "published")
    for within in (False, True):
        found = metrics.rho_change(probe, 1, unit=Unit.TASKS, within_task=within, permutations=300)
        assert found.p_value == found.smallest_p == 2 / 32 and found.change > 1
        assert found.low <= found.change <= found.high
        assert metrics.rho_change(probe, 1, within_task=within, permutations=300).p_value == 1 / 301
    inside = metrics.rho_change(probe, 1, within_task=True, permutations=300)
    assert (inside.base, inside.later, inside.change) == pytest.approx((-1, 1, 2))


def test_the_null_is_kept():
    ps = []
    for seed in range(30):
        probe, _ = probed(seed)
        ps.append(metrics.rho_change(probe, 1, permutations=99).p_value)
    assert 0.3 < np.mean(ps) < 0.7 and np.mean(np.array(ps) <= 0.1) < 0.25


def test_what_has_no_rho_is_nan(recwarn):
    probe = metrics.join_probe(nlls({0: [1, 2, 3], 1: [1, 1, 1]}), fixed([1.0, 2.0, 3.0]), "published")
    found = metrics.rho_change(probe, 1)
    assert found.base == pytest.approx(1) and np.isnan([found.later, found.change, found.p_value]).all()
    assert metrics.rho_change(probe, 7).n == 0
    nothing = metrics.join_probe(nlls({}), table([]), "published")
    assert metrics.probe_correlations(nothing).empty and metrics.probe_nll(nothing).empty
    assert metrics.rho_change(nothing, 1).n == 0
    assert not recwarn.list

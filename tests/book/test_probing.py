"""Chapter 5.3b's helpers: signs, the paper's p-values recomputed, and sentences for any data."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_tables import sample, table

from vegtts_core import metrics
from vegtts_core.book import probing, probing_charts
from vegtts_core.book import probing_words as words
from vegtts_core.book.figures import draw, specification
from vegtts_core.book.probing import Material
from vegtts_core.book.tables import Table
from vegtts_core.metrics import Quarter
from vegtts_core.runs import Run
from vegtts_core.statistics import Interval
from vegtts_core.training.probe import Probe

FIRST, SECOND = tuple(probing.READINGS)


def material(turn=0.0, tasks=6, k=8, steps=3, correct=lambda i: i % 4 > 0, speed=lambda t, i: 1 + i / 10):
    """A probe in which the last checkpoint adds ``turn`` x speedup to the NLL of a sample; the base knows nothing."""
    rng = np.random.default_rng(0)
    rows = [
        sample(
            task=f"level1/{t}",
            task_id=t,
            sample=i,
            correct=bool(correct(i)),
            speedup=speed(t, i),
            mean_logprob=-float(rng.uniform(0.3, 0.5)),
            fingerprint=f"f{t}{i}",
            completion=f"c{t}{i}",
            token_ids=[1, 2, 3, i],
            tokens=4,
        )
        for t in range(tasks)
        for i in range(k)
    ]
    fixed = table(rows)
    nll = []
    for step in range(steps):
        share = step / max(steps - 1, 1)
        for row, each in enumerate(rows):
            mean = -each["mean_logprob"] + share * turn * (each["sound_speedup"] or 0.0)
            key = {name: each[name] for name in ("task", "seed", "sample")}
            nll.append({"row": row, "step": step} | key | {"nll_mean": mean, "nll_sum": 4 * mean, "tokens": 4})
    own = pd.concat([fixed.assign(step=s) for s in range(steps)], ignore_index=True)
    parameters = {"protocol": "sound", "seed": 42, "adapter": None}
    manifest = {
        "parameters": parameters,
        "policy": {"name": "embedded", "adapter_sha256": None},
        "machine": {"cores": 2, "cpu": "X"},
    }
    origin = {"parameters": {"origin": {"run": "a", "samples": "a"}}, "largest_difference_to_recorded": 1e-6}
    run = Run(Path("a"), manifest, own, {}, pd.DataFrame())
    return Material(run, Probe(Path("p"), origin, fixed, pd.DataFrame(nll)), "sound")


def test_the_paper_s_p_is_that_of_all_samples():
    found = probing.paper_rhos().set_index(["quantity", "step"])
    quarter = found.loc[("bottom quartile", 3)]
    assert quarter["whole"] == pytest.approx(quarter["printed"], rel=0.05)
    assert quarter["quarter"] > 1e10 * quarter["printed"]
    everything = found.loc[("all samples", 8)]
    assert everything["whole"] == pytest.approx(everything["printed"], rel=0.05)


@pytest.mark.parametrize(("turn", "expected"), [(-2.0, "better than before"), (2.0, "worse than before")])
def test_a_policy_that_learns_to_rank_has_a_falling_rho(turn, expected):
    """Speedup lowers the NLL: surprising samples become slower, and confidence ranks better, not worse."""
    found = material(turn)
    changes = probing.changes(found, permutations=500)
    row = changes[(changes["set"] == Quarter.ALL.value) & (changes["analysis"] == "within task")].iloc[0]
    assert np.sign(row["change"].estimate) == np.sign(turn) and row["samples"] < 0.01
    spread = probing.diversity_changes(probing.diversity(found), resamples=50)
    assert expected in words.two_claims(spread, changes)
    rhos = probing.correlations(found, resamples=200)
    assert ("confidence ranks rightly" in words.sign_verdict(rhos)) == (turn < 0)


def test_nothing_moved_is_not_a_change():
    changes = probing.changes(material(0.0), permutations=200)
    assert "fell" not in words.deepening_verdict(changes) and "rose" not in words.deepening_verdict(changes)
    assert "did not move" in words.deepening_verdict(changes)


def test_failures_as_zero_turn_the_sign():
    """Surprising samples fail, and among correct ones surprising is faster: the two readings disagree."""
    found = material(0.0, correct=lambda i: i < 5)
    nll = found.probe.nll.copy()
    nll["nll_mean"] = 0.2 + nll["sample"] * 0.1
    moved = Material(found.run, Probe(Path("p"), found.probe.manifest, found.probe.samples, nll), "sound")
    table = probing.correlations(moved, resamples=50)
    rho = table[(table["set"] == "all") & (table["analysis"] == "within task") & (table["step"] == 0)]
    assert rho.set_index("reading")["rho"][FIRST] < 0 < rho.set_index("reading")["rho"][SECOND]


def test_turns_and_their_chance():
    assert words.turns(pd.Series([6.71, 6.66, 6.75, 6.86])) == 1
    assert words.turns(pd.Series([1.0, 1.0, 2.0, 3.0])) == 0 and words.turns(pd.Series([1, 2, 1, 2])) == 2
    nll = pd.DataFrame({"step": range(4), "nll_mean": [6.71, 6.66, 6.75, 6.86], "change": [0, -0.05, 0.04, 0.15]})
    nll = nll.assign(change_low=0.1, change_high=0.2, tasks=5, n=40)
    text = words.nll_verdict(nll)
    assert "rose" in text and "turning once" in text and "92%" in text


def changes_of(**estimates):
    rows = [
        (m, label, sign, 1.0, 1.0, Interval(0.0, -0.1, 0.1, 5), 5) for m, (label, sign) in probing.DIVERSITY.items()
    ]
    frame = pd.DataFrame(rows, columns=["measure", "label", "sign", "first", "last", "change", "tasks"])
    for name, (low, high) in estimates.items():
        at = frame.index[frame["measure"] == name][0]
        frame.at[at, "change"] = Interval((low + high) / 2, low, high, 5)
    return frame


@pytest.mark.parametrize(
    ("estimates", "expected"),
    [
        ({}, "No measure"),
        ({"entropy": (-0.2, -0.1)}, "Diversity fell"),
        ({"entropy": (-0.2, -0.1), "self_bleu_4": (0.1, 0.2)}, "Diversity fell"),
        ({"self_bleu_4": (-0.2, -0.1)}, "Diversity rose"),
        ({"entropy": (-0.2, -0.1), "distinct_share": (0.1, 0.2)}, "contradict"),
        ({"surprisal": (-0.2, -0.1)}, "No measure"),
    ],
)
def test_collapse_is_read_from_diversity(estimates, expected):
    assert expected in words.two_claims(changes_of(**estimates), probing.changes(material(), permutations=50))


DEGENERATE = {
    "ordinary": {},
    "nothing correct": {"correct": lambda i: False},
    "one task": {"tasks": 1},
    "one sample": {"tasks": 1, "k": 1},
    "one checkpoint": {"steps": 1},
    "equal speeds": {"speed": lambda t, i: 1.0},
}


@pytest.mark.parametrize("given", DEGENERATE.values(), ids=DEGENERATE)
def test_every_table_figure_and_sentence_stands_any_data(given):
    found = material(**given)
    rhos, changes = probing.correlations(found, resamples=20), probing.changes(found, permutations=20)
    nll, groups, seen = probing.nlls(found, 20), probing.diversity(found), probing.seen(found)
    spread = probing.diversity_changes(groups, 20)
    for frame, columns in (
        (changes, probing.CHANGE_COLUMNS),
        (spread, probing.DIVERSITY_COLUMNS),
        (probing.paper_rhos(), probing.PAPER_COLUMNS),
    ):
        text = Table(frame, "tab-any", "Any.", columns).text()
        assert "nan" not in text and "inf" not in text
    for chart in (
        probing_charts.rhos(rhos),
        probing_charts.nlls(nll),
        probing_charts.diversity(metrics.diversity_by_step(groups, resamples=20)),
    ):
        assert "<svg" in draw(specification(chart), "fig-any")
    sentences = [
        words.saw(pd.Series([True]), seen),
        words.saw(pd.Series([False]), seen),
        words.rho_text(changes, Quarter.ALL),
        words.rho_text(changes, Quarter.SLOWEST),
        words.deepening_verdict(changes),
        words.sign_verdict(rhos),
        words.quarters_verdict(changes),
        words.nll_text(nll),
        words.nll_verdict(nll),
        words.diversity_text(spread),
        words.two_claims(spread, changes),
    ]
    for sentence in sentences:
        assert sentence and "nan" not in sentence and "inf" not in sentence

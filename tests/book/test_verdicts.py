"""The intro's claims on made tables: what is supported, contradicted, undecided."""

import math

import numpy as np
import pandas as pd
import pytest

from vegtts_core import metrics
from vegtts_core.book import published, verdicts
from vegtts_core.book.verdicts import Outcome
from vegtts_core.book.verdicts_measured import measured
from vegtts_core.book.walking import Walk
from vegtts_core.runs.schema import SAMPLES
from vegtts_core.statistics import Interval
from vegtts_core.tasks import get_task


def table(surprising_is_fast: bool, tasks: int = 8, k: int = 20, correct: bool = True) -> pd.DataFrame:
    rows = []
    for task in range(1, tasks + 1):
        for seed in (1, 2, 3):
            for sample in range(k):
                fast = (sample < 4) == surprising_is_fast
                row = dict.fromkeys(SAMPLES.names)
                row |= {"task": f"level1/{task}", "task_id": task, "seed": seed, "step": 0, "sample": sample}
                row |= {
                    "tokens": 8,
                    "mean_logprob": -2.0 + 0.05 * sample,
                    "sampling_mean_logprob": -1.0 + 0.05 * sample,
                }
                row |= {"fingerprint": f"{task}-{sample}", "published_correct": correct, "sound_correct": correct}
                speedup = 2.0 if fast else 0.5
                row |= {"published_speedup": speedup, "sound_speedup": speedup}
                row |= {"sound_speedup_low": speedup * 0.99, "sound_speedup_high": speedup * 1.01}
                row |= {"sound_decision": "faster" if fast else "slower"}
                rows.append(row)
    return pd.DataFrame(rows)


def outcomes(samples: pd.DataFrame) -> dict[str, Outcome]:
    return {name: finding.outcome for name, finding in verdicts.findings(metrics.under(samples, "sound")).items()}


def test_a_world_in_which_surprise_is_speed() -> None:
    found = outcomes(table(surprising_is_fast=True))
    assert found["search-solves-all"] is Outcome.SUPPORTED
    assert found["surprisal-beats-confidence"] is Outcome.SUPPORTED
    assert found["inverse-confidence"] is Outcome.SUPPORTED
    assert found["huge-speedups"] is Outcome.CONTRADICTED


def test_a_world_in_which_confidence_is_speed() -> None:
    found = outcomes(table(surprising_is_fast=False))
    assert found["surprisal-beats-confidence"] is Outcome.CONTRADICTED
    assert found["inverse-confidence"] is Outcome.CONTRADICTED


@pytest.mark.parametrize("samples", [table(True, correct=False), table(True, tasks=1), table(True, tasks=1, k=1)])
def test_poor_data_decide_nothing_about_selection(samples: pd.DataFrame) -> None:
    found = outcomes(samples)
    assert found["surprisal-beats-confidence"] in (Outcome.UNDECIDED, Outcome.CONTRADICTED, Outcome.SUPPORTED)
    if samples["task"].nunique() == 1:
        assert found["surprisal-beats-confidence"] is Outcome.UNDECIDED


def test_every_claim_has_a_row_and_the_tally_adds_up() -> None:
    rows = verdicts.claims_table(metrics.under(table(True), "sound"))
    assert len(rows) == len(published.claims())
    assert sum(verdicts.tally(rows).values()) == len(rows)
    needs = {claim.sentence: claim.needs for claim in published.claims()}
    for row in rows.itertuples():
        assert (row.outcome == "not run") == (needs[row.claim] is not published.Needs.BEST_OF_N)


def test_figure_one_has_the_paper_beside_both_protocols() -> None:
    views = {name: metrics.under(table(True), name) for name in ("published", "sound")}
    frame = verdicts.figure_one(views)
    assert set(frame["source"]) == {"paper", "here, published", "here, sound"}
    assert frame.loc[frame["strategy"] == "TTT, per sample", "value"].item() == 0.306


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [(0.1, 0.3, "above"), (-0.3, -0.1, "below"), (-0.1, 0.1, "includes"), (math.nan, math.nan, "too few")],
)
def test_sentences_follow_the_interval(low: float, high: float, word: str) -> None:
    assert word in verdicts.say(Interval(0.0, low, high, 5), "A", "B")


def test_a_wrong_candidate_that_is_paid_contradicts_the_claim() -> None:
    honest, wrong = (
        {"name": name, "published": {"reward": 1.2}, "sound": {"reward": reward}}
        for name, reward in (("honest", 1.1), ("wrong", 0.0))
    )
    walks = {n: Walk(get_task(25), "cpu", {}, tuple(e)) for n, e in (("good", [honest]), ("bad", [honest, wrong]))}
    samples = twice(np.random.default_rng(0).normal(size=60), noise=0.0)
    assert measured(samples, [walks["good"]])["no-reward-hacking"].outcome is Outcome.UNDECIDED
    found = measured(samples, [walks["good"], walks["bad"]])["no-reward-hacking"]
    assert found.outcome is Outcome.CONTRADICTED and "wrong" in found.here and "honest" not in found.here
    rows = verdicts.claims_table(metrics.under(samples, "sound"), measured(samples, [walks["bad"]]))
    assert (rows["outcome"] == "contradicted").any()


def twice(logs: np.ndarray, noise: float) -> pd.DataFrame:
    """Sixty candidates of six tasks, evaluated twice: log-speedups ``logs``, the second time with noise."""
    samples = table(True, tasks=6, k=10).drop_duplicates(["task", "sample"]).reset_index(drop=True)
    again = logs + noise * np.random.default_rng(1).normal(size=60)
    return samples.assign(published_speedup=np.exp(logs), retimed_published_speedup=np.exp(again), retimed_correct=True)


@pytest.mark.parametrize(("noise", "outcome"), [(0.0, Outcome.SUPPORTED), (30.0, Outcome.CONTRADICTED)])
def test_a_ranking_is_consistent_if_it_repeats(noise: float, outcome: Outcome) -> None:
    samples = twice(np.random.default_rng(0).normal(size=60), noise)
    assert measured(samples, [])["fast-proxy"].outcome is outcome

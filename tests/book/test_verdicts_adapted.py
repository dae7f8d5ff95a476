"""What runs that move weights say of the paper's claims, on made runs and numbers with known answers."""

import math

import pandas as pd
import pytest
from adapted_runs import family, made_run

from vegtts_core.book.regimes import measured_rules
from vegtts_core.book.verdict_rules import (
    adaptation,
    adaptation_benefit,
    diversity,
    over_sharpening,
    probe,
    regime_threshold,
)
from vegtts_core.book.verdicts import Outcome
from vegtts_core.metrics import Quarter
from vegtts_core.statistics import Interval, mean_effect

NONE = Interval(math.nan, math.nan, math.nan, 0)


@pytest.mark.parametrize(
    ("values", "outcome"),
    [
        ([-0.3, -0.2, -0.25, -0.3, -0.2, -0.28], Outcome.REPLICATED),
        ([0.3, 0.2, 0.25, 0.3, 0.2, 0.28], Outcome.NOT_REPLICATED),
        ([-0.3, 0.2, -0.25, 0.3, -0.2, 0.28], Outcome.UNDECIDED),
        ([-0.3], Outcome.UNDECIDED),
        ([], Outcome.UNDECIDED),
    ],
)
def test_search_against_adaptation_follows_the_intervals(values: list[float], outcome: Outcome) -> None:
    effect = mean_effect(values, range(len(values)))
    assert adaptation_benefit.beats(effect, NONE).outcome is outcome
    assert adaptation_benefit.worth_a_sample(effect).outcome is outcome
    assert (adaptation_benefit.beats(effect, NONE).power == 0) == (len(values) < 2)


@pytest.mark.parametrize(
    ("steps", "outcome"),
    [([1] * 12, Outcome.REPLICATED), ([4] * 12, Outcome.NOT_REPLICATED), ([1, 4, 0], Outcome.UNDECIDED)],
)
def test_peaks_are_early_or_late_beyond_chance(steps: list[int], outcome: Outcome) -> None:
    assert over_sharpening.peaks(pd.DataFrame({"step": steps, "flat": False})).outcome is outcome


def test_three_runs_cannot_show_an_early_peak() -> None:
    found = over_sharpening.peaks(pd.DataFrame({"step": [1, 1, 2], "flat": False}))
    assert found.outcome is Outcome.UNDECIDED and found.power == 0
    assert over_sharpening.peaks(pd.DataFrame({"step": [1] * 60, "flat": False})).power > 0.9
    assert over_sharpening.peaks(pd.DataFrame({"step": [0], "flat": [True]})).power == 0


def test_best_steps_and_flat_runs() -> None:
    runs = {"rises": made_run([[0], [1], [2]]), "flat": made_run([[1], [1], [1]])}
    assert over_sharpening.best_steps(runs).to_numpy().tolist() == [[2, False], [0, True]]


def test_the_headline_compares_tasks_with_samples() -> None:
    found = adaptation_benefit.headline()
    assert found.outcome is Outcome.ARTEFACT and "5 of 5 tasks" in found.here and "39.8% against 30.6%" in found.why


@pytest.mark.parametrize(
    ("less", "more", "outcome"),
    [(2, 0, Outcome.REPLICATED), (0, 1, Outcome.NOT_REPLICATED), (3, 1, Outcome.UNDECIDED), (0, 0, Outcome.UNDECIDED)],
)
def test_measures_of_diversity_that_disagree_decide_nothing(less: int, more: int, outcome: Outcome) -> None:
    rows = [(i < less, less <= i < less + more) for i in range(6)]
    assert diversity.collapse(pd.DataFrame(rows, columns=["less", "more"])).outcome is outcome


def changes(bounds: list[tuple[float, float]], tasks: int = 20) -> pd.DataFrame:
    places = [(reading, analysis) for reading in ("first", "second") for analysis in ("pooled", "within task")]
    rows = [
        {"reading": reading, "set": Quarter.ALL.value, "analysis": analysis, "samples": 0.001, "tasks": 0.1}
        | {"change": Interval((low + high) / 2, low, high, tasks)}
        for (reading, analysis), (low, high) in zip(places, bounds, strict=True)
    ]
    return pd.DataFrame(rows)


@pytest.mark.parametrize(
    ("bounds", "deepens", "anti"),
    [
        ([(0.2, 0.6)] * 4, Outcome.NOT_REPLICATED, Outcome.REPLICATED),
        ([(-0.6, -0.2)] * 4, Outcome.REPLICATED, Outcome.ARTEFACT),
        ([(-0.6, 0.2)] * 4, Outcome.UNDECIDED, Outcome.ARTEFACT),
    ],
)
def test_a_falling_rho_is_the_opposite_of_anti_calibration(
    bounds: list[tuple[float, float]], deepens: Outcome, anti: Outcome
) -> None:
    assert probe.deepens(changes(bounds)).outcome is deepens
    assert probe.anti_calibration(changes(bounds)).outcome is anti


def test_a_family_of_runs_has_a_finding_for_each_claim() -> None:
    runs = family([[[1, 2], [2, 2], [0, 1]], [[0, 2], [2, 3], [1, 1]]])
    assert set(adaptation.of_runs(runs)) == {"search-beats-adaptation", "equivalent-k", "over-sharpening", "regimes"}
    assert adaptation.of_runs(family([[[1, 2], [2, 2], [0, 1]]]))["search-beats-adaptation"].power == 0


def test_adaptation_is_held_against_other_seeds_start() -> None:
    # Three seeds of two tasks, K = 4: at step 1 each run has 4 of 4, the others' step 0 has 1 of 4.
    runs = family([[[1, 1], [4, 4]]] * 3)
    effect = adaptation_benefit.benefit(runs)
    assert effect.interval.estimate == pytest.approx(0.75) and effect.n == 2 and effect.groups == 6
    assert adaptation_benefit.benefit(family([[[1, 1], [4, 4]]])).n == 0


def test_the_rule_of_regimes_needs_tasks_on_both_sides() -> None:
    rules_of = measured_rules(family([[[1, 1], [4, 4]]] * 3))
    found = regime_threshold.regimes(rules_of)
    assert found.outcome is Outcome.UNDECIDED and found.power == 0 and "separates nothing" in found.why
    assert regime_threshold.regimes([]).power == 0


def test_sparse_rewards_are_held_against_dense_ones() -> None:
    dense = made_run([[0, 0], [4, 4], [1, 1]])
    sparse = made_run([[0, 0], [1, 1], [4, 4]], rewards={"threshold": 1.0})
    found = over_sharpening.compression({"pair": {"dense": dense, "sparse": sparse}})
    assert found.outcome is Outcome.UNDECIDED and found.power == 0 and "+1.0" in found.here

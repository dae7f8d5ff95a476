"""Chapter 1's checklist: what decides a claim of the introduction, and what a claim without a run says."""

import math

import pandas as pd
import pytest
from adapted_runs import family

from vegtts_core.book import introducing, published
from vegtts_core.book import introducing_adapted as adapted
from vegtts_core.book.runs import best_of_n_run
from vegtts_core.book.verdicts import Finding, Outcome
from vegtts_core.metrics import Quarter
from vegtts_core.statistics import Interval

OWN = {"unambiguous", "sparse-rewards", "matched-budgets", "collapse", "zero-cost"}
"""Findings that only this chapter has."""


def test_every_quotation_belongs_to_a_table_and_names_a_known_finding() -> None:
    items = introducing.quotations()
    assert {item.part for item in items} == set(introducing.PARTS)
    assert len({item.id for item in items}) == len(items)
    known = {claim.id for claim in published.claims()} | OWN
    for item in items:
        assert item.claim is None or item.claim in known, item.id
        assert item.decide and item.needs and item.quote, item.id


def test_without_findings_nothing_is_measured_and_each_row_says_by_what_it_would_be() -> None:
    table = introducing.checklist({})
    assert set(table["outcome"]) == {introducing.NOT_YET}
    assert all(text.startswith("would need ") for text in table["here"])
    assert introducing.listed(table, Outcome.CONTRADICTED) == "nothing"


def test_findings_fill_their_rows_and_the_tally_adds_up() -> None:
    table = introducing.checklist({"saturation": Finding("flat", Outcome.SUPPORTED)})
    row = table.set_index("id").loc["saturates"]
    assert (row["outcome"], row["here"]) == ("supported", "flat")
    assert "5.1 <sec-saturation>" in row["home"] and "no chapter yet" in set(table["home"])
    counts = introducing.tally(table)
    total = int(counts.pop("claims"))
    assert sum(map(int, counts.values())) == total == len(table)
    assert "saturates at K=16" in introducing.listed(table, Outcome.SUPPORTED)


def test_a_claim_that_is_not_run_is_not_measured_yet() -> None:
    table = introducing.checklist({"saturation": Finding("needs a run", Outcome.NOT_RUN)})
    assert set(table["outcome"]) == {introducing.NOT_YET}


def test_the_quoted_step_costs_more_than_the_search_it_is_compared_with() -> None:
    found = introducing.settings(best_of_n_run("recorded", "cpu"))
    assert found["matched-budgets"].outcome is Outcome.CONTRADICTED
    assert "1,440" in found["matched-budgets"].here and "320" in found["matched-budgets"].here
    assert "%" in found["zero-cost"].here


@pytest.mark.parametrize(
    ("low", "high", "outcome"),
    [
        (-0.3, -0.1, Outcome.SUPPORTED),
        (0.1, 0.3, Outcome.CONTRADICTED),
        (-0.1, 0.1, Outcome.UNDECIDED),
        (math.nan, math.nan, Outcome.UNDECIDED),
    ],
)
def test_search_against_adaptation_follows_the_interval(low: float, high: float, outcome: Outcome) -> None:
    value = Interval((low + high) / 2, low, high, 5)
    assert adapted.beats(value).outcome is outcome
    assert adapted.worth_a_sample(value).outcome is outcome


@pytest.mark.parametrize(
    ("steps", "outcome"),
    [([1] * 12, Outcome.SUPPORTED), ([4] * 12, Outcome.CONTRADICTED), ([1, 4, 0], Outcome.UNDECIDED)],
)
def test_peaks_are_early_or_late_beyond_chance(steps: list[int], outcome: Outcome) -> None:
    assert adapted.peaks(pd.DataFrame({"step": steps, "flat": False})).outcome is outcome


@pytest.mark.parametrize(
    ("less", "more", "outcome"),
    [(2, 0, Outcome.SUPPORTED), (0, 1, Outcome.CONTRADICTED), (3, 1, Outcome.UNDECIDED), (0, 0, Outcome.UNDECIDED)],
)
def test_measures_of_diversity_that_disagree_decide_nothing(less: int, more: int, outcome: Outcome) -> None:
    rows = [(i < less, less <= i < less + more) for i in range(6)]
    assert adapted.collapse(pd.DataFrame(rows, columns=["less", "more"])).outcome is outcome


@pytest.mark.parametrize(
    ("changes", "outcome"),
    [
        ([(0.2, 0.6)] * 4, Outcome.SUPPORTED),
        ([(-0.6, -0.2)] * 4, Outcome.CONTRADICTED),
        ([(-0.6, -0.2)] * 3 + [(-0.6, 0.2)], Outcome.UNDECIDED),
    ],
)
def test_anti_calibration_is_a_rising_rho_in_all_readings(changes: list[tuple[float, float]], outcome: Outcome) -> None:
    places = [(reading, analysis) for reading in ("first", "second") for analysis in ("pooled", "within task")]
    rows = [
        {"reading": reading, "set": Quarter.ALL.value, "analysis": analysis, "samples": 0.001, "tasks": 0.1}
        | {"change": Interval((low + high) / 2, low, high, 5)}
        for (reading, analysis), (low, high) in zip(places, changes, strict=True)
    ]
    assert adapted.anti_calibration(pd.DataFrame(rows)).outcome is outcome


def test_a_family_of_runs_has_a_finding_for_each_claim() -> None:
    found = adapted.of_runs(family([[[1, 2], [2, 2], [0, 1]], [[0, 2], [2, 3], [1, 1]]]))
    assert set(found) == {"search-beats-adaptation", "equivalent-k", "over-sharpening", "collapse"}


def test_parameters_without_adaptation_runs_have_no_findings(tmp_path) -> None:
    path = tmp_path / "bare.yaml"
    path.write_text("best_of_n: {policy: embedded}\nrecorded: {best_of_n: best_of_n_cpu}\n")
    assert adapted.findings("recorded", path) == {}
    assert adapted.findings("live", path) == {}

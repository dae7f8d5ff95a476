"""Chapter 1's checklist: what decides a claim of the introduction, and what a claim without a run says."""

import pandas as pd
import pytest

from vegtts_core.book import introducing, published
from vegtts_core.book.runs import best_of_n_run
from vegtts_core.book.verdict_rules import diversity
from vegtts_core.book.verdicts import Finding, Outcome

OWN = {"unambiguous", "matched-budgets", "collapse", "zero-cost"}
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
    assert introducing.listed(table, Outcome.NOT_REPLICATED) == "nothing"


def test_findings_fill_their_rows_and_the_tally_adds_up() -> None:
    table = introducing.checklist({"saturation": Finding("flat", Outcome.REPLICATED)})
    row = table.set_index("id").loc["saturates"]
    assert (row["outcome"], row["here"]) == ("replicated", "flat")
    assert "5.1 <sec-saturation>" in row["home"] and "no chapter yet" in set(table["home"])
    counts = introducing.tally(table)
    total = int(counts.pop("claims"))
    assert sum(map(int, counts.values())) == total == len(table)
    assert "saturates at K=16" in introducing.listed(table, Outcome.REPLICATED)


def test_a_claim_that_is_not_run_is_not_measured_yet() -> None:
    table = introducing.checklist({"saturation": Finding("needs a run", Outcome.NOT_RUN)})
    assert set(table["outcome"]) == {introducing.NOT_YET}


def test_the_quoted_step_costs_more_than_the_search_it_is_compared_with() -> None:
    found = introducing.settings(best_of_n_run("recorded", "cpu"))
    assert found["matched-budgets"].outcome is Outcome.NOT_REPLICATED
    assert "1,440" in found["matched-budgets"].here and "320" in found["matched-budgets"].here
    assert "%" in found["zero-cost"].here


@pytest.mark.parametrize(
    ("less", "more", "outcome"),
    [(2, 0, Outcome.REPLICATED), (0, 1, Outcome.NOT_REPLICATED), (3, 1, Outcome.UNDECIDED), (0, 0, Outcome.UNDECIDED)],
)
def test_measures_of_diversity_that_disagree_decide_nothing(less: int, more: int, outcome: Outcome) -> None:
    rows = [(i < less, less <= i < less + more) for i in range(6)]
    assert diversity.collapse(pd.DataFrame(rows, columns=["less", "more"])).outcome is outcome

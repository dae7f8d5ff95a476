"""Chapter 1: the claims of the paper's introduction, each with what would decide it, where, and what stands now.

The quotations and what would decide them are data (``data/published/introduction.json``); outcomes come from the
study's table of claims (``verdicts_study``), so that a claim has one verdict in the whole book. It measures nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources

import pandas as pd

from vegtts_core.book import configuration_open, measurement_aa
from vegtts_core.book.prose import number
from vegtts_core.book.tables import Column
from vegtts_core.book.verdicts import Finding, Outcome
from vegtts_core.runs import Run

NOT_YET = "not measured yet here"

PARTS = ("setting", "search", "selection")
"""The chapter's three tables, in the order of the paper's argument."""

COLUMNS = {
    "outcome": Column("here"),
    "quote": Column("section 1 says"),
    "decide": Column("what would decide it"),
    "home": Column("measured in"),
    "here": Column("measured here"),
}


@dataclass(frozen=True)
class Quotation:
    """One claim of section 1. ``claim`` names the finding that decides it; None where no rule here could.

    ``home``: where it is measured, each as a chapter's number and a label.
    """

    id: str
    part: str
    quote: str
    paragraph: str
    claim: str | None
    decide: str
    home: tuple[str, ...]
    needs: str

    @property
    def text(self) -> str:
        """The quotation with its place, as the table writes it."""
        return f"“{self.quote}” (¶ {self.paragraph})"

    @property
    def chapters(self) -> str:
        """Cross-references to where it is measured (MyST)."""
        places = (place.split(maxsplit=1) for place in self.home)
        return ", ".join(f"{{ref}}`{number} <{label}>`" for number, label in places) or "no chapter yet"


def quotations() -> list[Quotation]:
    """The claims of section 1 in the order of its argument."""
    text = (resources.files("vegtts_core.book") / "data" / "published" / "introduction.json").read_text("utf-8")
    return [Quotation(**entry | {"home": tuple(entry["home"])}) for entry in json.loads(text)]


def checklist(findings: Mapping[str, Finding]) -> pd.DataFrame:
    """One row per quotation: id, part, outcome, quote, decide, home, here. Without a finding it is not measured yet."""
    rows = []
    for item in quotations():
        found = findings.get(item.claim or "", Finding("", Outcome.NOT_RUN))
        if found.outcome is Outcome.NOT_RUN:
            outcome, here = NOT_YET, f"would need {item.needs}"
        else:
            outcome, here = found.outcome.value, found.here
        rows.append((item.id, item.part, outcome, item.text, item.decide, item.chapters, here))
    return pd.DataFrame(rows, columns=["id", "part", "outcome", "quote", "decide", "home", "here"])


def tally(table: pd.DataFrame) -> dict[str, str]:
    """How many quotations have each outcome, all of them named, and how many there are (``claims``)."""
    names = (*(outcome.value for outcome in Outcome if outcome is not Outcome.NOT_RUN), NOT_YET)
    return {"claims": str(len(table))} | {name: str(int((table["outcome"] == name).sum())) for name in names}


def listed(table: pd.DataFrame, outcome: Outcome) -> str:
    """The quotations with this outcome, with their places; ``nothing`` if there are none."""
    return "; ".join(table.loc[table["outcome"] == outcome.value, "quote"]) or "nothing"


def settings(run: Run) -> dict[str, Finding]:
    """Findings on the clock, the budget and the price of a choice: by the recordings, the paper's table and ``run``."""
    found = {"matched-budgets": _matched(), "zero-cost": _price(run)}
    signal = _signal(measurement_aa.calibrations())
    return found | ({"unambiguous": signal} if signal else {})


def _signal(recorded: list[measurement_aa.Calibration]) -> Finding | None:
    """A signal is ambiguous if identical code is called faster more often than the sound protocol may (1%)."""
    shares = [measurement_aa.called(rows, "faster") for each in recorded if len(rows := each.under("published"))]
    if not shares:
        return None
    text = f"identical code is called faster in {measurement_aa.everywhere(recorded, 'published')} of measurements"
    if all(share.low > measurement_aa.TARGET for share in shares):
        return Finding(text, Outcome.NOT_REPLICATED)
    settled = all(share.high <= measurement_aa.TARGET for share in shares)
    return Finding(text, Outcome.REPLICATED if settled else Outcome.UNDECIDED)


def _matched() -> Finding:
    """The score that section 1 quotes is that of a late step, which the paper's own count prices."""
    costs = configuration_open.step_costs()
    text = (
        f"by the paper's own count the quoted step {costs['named-step']} costs {costs['named-cost']} rollouts, "
        f"search {costs['budget']}"
    )
    equal = costs["named-cost"].replace(",", "") == costs["budget"]
    return Finding(text, Outcome.REPLICATED if equal else Outcome.NOT_REPLICATED)


def _price(run: Run) -> Finding:
    """No further tokens; but a rule among correct samples has every one of them compiled, run and checked first."""
    seconds = run.compute["sampling_seconds"] + run.compute["evaluation_seconds"]
    share = number(run.compute["evaluation_seconds"] / seconds, ".0%")
    text = (
        f"no further token, but of all {len(run.samples):,} samples it had to be known whether they are correct; "
        f"evaluating took {share} of the time"
    )
    return Finding(text, Outcome.UNDECIDED)

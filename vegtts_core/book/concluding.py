"""Chapter 8: what to do now, chosen by the table of claims. Every line is picked by a verdict, none is typed in as one.

It knows the entries of that table and the A/A recordings, and no run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from vegtts_core.book import measurement_aa as aa
from vegtts_core.book.prose import number
from vegtts_core.book.tables import Column
from vegtts_core.book.verdicts import Entries, Entry, Outcome
from vegtts_core.book.verdicts_words import told, weakest


@dataclass(frozen=True)
class Question:
    """What a practitioner asks, what the paper advises, and what to do by the verdict on ``claim``."""

    claim: str
    asks: str
    paper: str
    replicated: str
    not_replicated: str
    open: str
    """Where it is undecided or was not run; an artefact leaves it open as well."""

    def now(self, outcome: Outcome) -> str:
        """The advice for an outcome."""
        if outcome is Outcome.REPLICATED:
            return self.replicated
        return self.not_replicated if outcome is Outcome.NOT_REPLICATED else self.open


QUESTIONS = (
    Question(
        "search-beats-adaptation",
        "Search or adapt?",
        "Sample; do not adapt.",
        "Sample first: at equal rollouts search is ahead.",
        "Do not rule adaptation out: with the rollouts of two steps search was not ahead of it here.",
        "Undecided: run both on a few of your tasks, count both in the same unit, at equal rollouts.",
    ),
    Question(
        "saturation",
        "How many samples per task?",
        "16 are enough.",
        "16, and more only where nothing was fast so far.",
        "More than 16: the curve still rises there.",
        "Draw in batches and look at the curve: that 16 are enough is not shown.",
    ),
    Question(
        "surprisal-beats-confidence",
        "Which correct sample?",
        "The most surprising one.",
        "The most surprising one, where no clock is at hand.",
        "Not the most surprising one: time them.",
        "Time the distinct correct ones: copies make them few, and no rule is shown to beat another.",
    ),
    Question(
        "top3-is-oracle",
        "Time three, or all?",
        "The three most surprising.",
        "The three most surprising.",
        "All distinct correct ones: three miss what the others hold.",
        "All distinct correct ones, and the winner once more on fresh data.",
    ),
    Question(
        "over-sharpening",
        "When to stop adapting?",
        "After one or two steps.",
        "After one or two steps.",
        "Not by a fixed number: choose the step on rollouts that you hold out.",
        "Choose the step on rollouts that you hold out; a peak chosen by its own score flatters itself.",
    ),
    Question(
        "transfer",
        "Use an adapted policy on other tasks?",
        "No, it loses.",
        "No: start from the base policy again.",
        "No loss was seen; still sample the base beside it.",
        "Sample the base twice beside it, to see what no adaptation at all differs by.",
    ),
    Question(
        "feedback-no-lift",
        "Show a teacher the feedback?",
        "No lift.",
        "No: it costs tokens and lifts nothing.",
        "Yes: it lifts.",
        "Leave it out while tokens are dear: a lift is neither shown nor excluded.",
    ),
)


def advice(entries: Entries) -> pd.DataFrame:
    """Columns asks, paper, now, because (verdict with power)."""
    rows = []
    for question in QUESTIONS:
        entry = entries[question.claim]
        rows.append((question.asks, question.paper, question.now(entry.outcome), because(entry)))
    return pd.DataFrame(rows, columns=["asks", "paper", "now", "because"])


ADVICE_COLUMNS = {
    "asks": Column("question"),
    "paper": Column("the paper concludes"),
    "now": Column("do now"),
    "because": Column("because"),
}


def because(entry: Entry) -> str:
    """``undecided at this n, power 20%``."""
    power = entry.finding.power
    known = entry.outcome is not Outcome.NOT_RUN and power == power
    return f"{entry.outcome.value}, power {number(power, '.0%')}" if known else entry.outcome.value


def clock(found: Sequence[aa.Calibration]) -> str:
    """What holds whatever the strategy: the clock."""
    if not found:
        return "The clock was not calibrated in this edition."
    return (
        "Whatever the strategy: time in interleaved pairs, say “faster” only with a bound, time the winner again. "
        f"Timed one after the other, identical code was called faster in {aa.everywhere(found, 'published')}."
    )


def decided(entries: Entries) -> str:
    """How the main claims stand, in two sentences."""
    main = [entry for entry in entries.values() if entry.claim.main]
    counts = {outcome: sum(entry.outcome is outcome for entry in main) for outcome in Outcome}
    parts = ", ".join(
        f"{count} {outcome.value}" for outcome, count in counts.items() if count and outcome is not Outcome.UNDECIDED
    )
    return f"Of {len(main)} main claims: {parts}. {weakest(entries)[0].upper()}{weakest(entries)[1:]}."


def summary(entries: Entries) -> Mapping[str, str]:
    """The claims by outcome, for the takeaway."""
    return {outcome.value: told(entries, outcome) for outcome in Outcome}

"""What one Best-of-N run says of the claims, by claim id, and which of it only the published protocol finds."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd

from vegtts_core.book.verdict_rules import searching, selecting, surprisal
from vegtts_core.book.verdict_rules.evidence import Evidence, Rule
from vegtts_core.book.verdicts import Finding, Outcome, sizes

RULES: dict[str, Rule] = searching.RULES | selecting.RULES | surprisal.RULES
"""By claim id."""


def findings(view: pd.DataFrame) -> dict[str, Finding]:
    """For each claim that a Best-of-N run can check, by claim id; ``view`` from ``metrics.under``."""
    evidence, n = Evidence(view), sizes(view)
    return {name: replace(found, n=found.n or n) for name, rule in RULES.items() for found in [rule(evidence)]}


def with_artefacts(sound: dict[str, Finding], paper: dict[str, Finding]) -> dict[str, Finding]:
    """The sound protocol's findings; an *artefact* where only the published protocol finds the claim in these samples.

    That is: replicated under the published protocol, and under the sound one either not, or nothing is left to test.
    """
    found = dict(sound)
    for name, ours in sound.items():
        gone = ours.outcome is Outcome.NOT_REPLICATED or (ours.outcome is Outcome.UNDECIDED and ours.empty)
        if paper[name].outcome is Outcome.REPLICATED and gone:
            why = f"The published protocol finds it in the same samples ({paper[name].here}), the sound one does not."
            found[name] = replace(ours, outcome=Outcome.ARTEFACT, why=why)
    return found

"""What the evaluator's own measurements say of the paper's claims about measuring; the intro's table takes it over.

It knows the walk of chapter 3.1 and the second evaluations of a run; chapter 9 has the tables behind it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from vegtts_core.book.measurement_run import repeatability, repeatability_text
from vegtts_core.book.selecting_words import ENOUGH_TASKS
from vegtts_core.book.verdicts import Finding, Outcome
from vegtts_core.book.walking import Walk, only_published

#: A ranking is called consistent if the rank correlation of two evaluations is at least this.
CONSISTENT = 0.8


def measured(samples: pd.DataFrame, walks: Sequence[Walk]) -> Mapping[str, Finding]:
    """By claim id. ``samples``: a run's table with second evaluations; ``walks``: chapter 3.1's."""
    return {"no-reward-hacking": _only_right_and_fast(walks), "fast-proxy": _ranks(samples)}


def _only_right_and_fast(walks: Sequence[Walk]) -> Finding:
    paid = sorted({name for walk in walks for name in only_published(walk)})
    if not paid:
        return Finding("no wrong candidate of chapter 3.1 was paid", Outcome.UNDECIDED, "What was not tried may work.")
    why = "Wrong candidates are paid, so right and fast is not the only way."
    return Finding(f"the published protocol pays: {', '.join(paid)} (chapter 3.1)", Outcome.NOT_REPLICATED, why)


def _ranks(samples: pd.DataFrame) -> Finding:
    rho = repeatability(samples, "published")
    text = f"two evaluations, within tasks: {repeatability_text(rho)}"
    if np.isnan(rho.rho) or np.isnan(rho.low):
        return Finding(text, Outcome.UNDECIDED, "The interval is unknown.")
    if rho.tasks < ENOUGH_TASKS and rho.high - rho.low < 1e-9:
        return Finding(text, Outcome.UNDECIDED, f"{rho.tasks} tasks that agree have an interval without width.")
    why = f"A ranking is called consistent from ρ = {CONSISTENT:g} on."
    if rho.low >= CONSISTENT:
        return Finding(text, Outcome.REPLICATED, why)
    return Finding(text, Outcome.NOT_REPLICATED if rho.high < CONSISTENT else Outcome.UNDECIDED, why)

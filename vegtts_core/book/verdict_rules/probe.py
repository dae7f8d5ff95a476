"""The probe of section 5.3b: whether rho deepens along the checkpoints, and whether that is anti-calibration."""

from __future__ import annotations

import pandas as pd

from vegtts_core.book import probing, published, selecting_words
from vegtts_core.book.probing_words import ALPHA, moved
from vegtts_core.book.prose import number
from vegtts_core.book.verdict_rules.deciding import known_power
from vegtts_core.book.verdicts import Finding, Outcome, because, by_sign, sizes
from vegtts_core.metrics import Quarter
from vegtts_core.statistics import of_interval


def of_probe(found: probing.Material) -> dict[str, Finding]:
    """What one probe says: whether rho deepens, and whether that is anti-calibration.

    By samples that the first update was not made from: the others were moved by their own reward.
    """
    fresh = found.probe.samples[~probing.trained_on(found)]
    if fresh.empty:
        why = "Every sample was in the first update, which moved it by its own reward."
        none = Finding("no sample but the training data", Outcome.UNDECIDED, why, power=0.0)
        return {"rho-deepens": none, "anti-calibration": none}
    changes, n = probing.changes(probing.untrained(found)), sizes(fresh)
    return {"rho-deepens": deepens(changes, n), "anti-calibration": anti_calibration(changes, n)}


def deepens(changes: pd.DataFrame, n: str = "") -> Finding:
    """``changes``: ``probing.changes``. Pooled over all samples with failures as 0, the paper's way."""
    mask = (changes["set"] == Quarter.ALL.value) & (changes["analysis"] == probing.ANALYSES[0])
    row = changes[mask].iloc[0]
    effect = of_interval(row["change"])
    size = published.number("5.3b-probe/all-step-8/rho") - published.number("5.3b-probe/all-step-0/rho")
    outcome = by_sign(effect, -1, size)
    if row["samples"] >= ALPHA:
        outcome = Outcome.UNDECIDED
    power = known_power(effect.power(size))
    why = f"{because(outcome, 'ρ falls', 'ρ does not fall', power)} One run."
    text = f"change of ρ: {number(row['change'], '+.2f')}"
    return Finding(text, outcome, why, n, power, effect, size, claimed=-1)


def anti_calibration(changes: pd.DataFrame, n: str = "") -> Finding:
    """``changes``: ``probing.changes``. Confidence in slow samples is a rising rho; all readings have to agree.

    The paper's rho falls, which says the opposite of its sentence: without a rise here the claim is a misread sign.
    """
    rows = changes[changes["set"] == Quarter.ALL.value]
    states = {moved(row) for _, row in rows.iterrows()}
    within = rows[rows["analysis"] == "within task"]
    told = "; ".join(f"{row['reading']} {number(row['change'], '+.2f')}" for _, row in within.iterrows())
    text = f"change of ρ within tasks: {told}"
    if states == {selecting_words.Finding.MORE}:
        return Finding(text, Outcome.REPLICATED, "ρ rises in every reading.", n)
    if published.number("5.3b-probe/all-step-8/rho") < published.number("5.3b-probe/all-step-0/rho"):
        why = "A ρ(NLL, speedup) that falls means that confidence ranks better: the paper's numbers say the opposite."
        return Finding(text, Outcome.ARTEFACT, why, n)
    against = states == {selecting_words.Finding.LESS}
    return Finding(text, Outcome.NOT_REPLICATED if against else Outcome.UNDECIDED, "", n)

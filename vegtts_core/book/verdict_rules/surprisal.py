"""Surprisal and speed: quartiles, halves, the rank correlation within tasks, and with length held fixed."""

from __future__ import annotations

import math

import numpy as np

from vegtts_core.book import published
from vegtts_core.book.prose import interval, number
from vegtts_core.book.selecting_words import points
from vegtts_core.book.verdict_rules.deciding import known_power
from vegtts_core.book.verdict_rules.evidence import NO_CONTEST_TASKS, NOTHING_FAST, RESAMPLES, Evidence, Rule
from vegtts_core.book.verdicts import MARGIN, Finding, Outcome, because, by_sign
from vegtts_core.selection import eligible
from vegtts_core.statistics import Interval, of_interval, spearman, within_task_spearman


def _length(evidence: Evidence) -> Finding:
    rows = evidence.view[eligible(evidence.view)]
    values = [rows[name].to_numpy() for name in ("mean_logprob", "speedup", "task")]
    raw, partial = (spearman(*values, control, RESAMPLES) for control in (None, rows["tokens"].to_numpy()))
    text = "; ".join(
        f"{name} {interval(rho.rho, rho.low, rho.high, '+.2f')}"
        for name, rho in (("ρ =", raw), ("length fixed", partial))
    )
    effect = of_interval(Interval(partial.rho, partial.low, partial.high, partial.tasks))
    outcome = Outcome.REPLICATED if effect.within(MARGIN) else Outcome.UNDECIDED
    if outcome is Outcome.UNDECIDED and effect.sign:
        outcome = Outcome.NOT_REPLICATED
    power = known_power(effect.equality(MARGIN, published.number("5.2-length/partial/rho")))
    why = because(outcome, f"ρ is within ±{MARGIN:g}", "ρ is not 0 with length held fixed", power)
    return Finding(text, outcome, why, power=power)


_SECOND, _FOURTH, _HALVES = [-1 / 3, 1.0, -1 / 3, -1 / 3], [1 / 3, 1 / 3, 1 / 3, -1.0], [0.5, 0.5, -0.5, -0.5]
"""The second quartile against the others; the others against the fourth; the surprising half against the other."""


def _quartiles(evidence: Evidence) -> Finding:
    fast = evidence.quarters["fast"].to_numpy()
    text = "Q1 to Q4: " + ", ".join(number(float(value), ".0%") for value in fast)
    if evidence.nothing_fast:
        return Finding(text, Outcome.UNDECIDED, NOTHING_FAST, power=0.0, empty=True)
    if evidence.contested_tasks < 2:
        return Finding(text, Outcome.UNDECIDED, NO_CONTEST_TASKS, power=0.0)
    paper = np.array([published.number(f"5.2-quartiles/Q{i}/fast_1") for i in (1, 2, 3, 4)])
    found = [evidence.contrast(weights) for weights in (_SECOND, _FOURTH)]
    sizes_of = [float(paper @ np.array(weights)) for weights in (_SECOND, _FOURTH)]
    powers = [effect.power(size) for effect, size in zip(found, sizes_of, strict=True)]
    power = 0.0 if any(math.isnan(value) for value in powers) else min(powers)
    said = {by_sign(effect, 1, size) for effect, size in zip(found, sizes_of, strict=True)}
    outcome = said.pop() if len(said) == 1 else Outcome.UNDECIDED
    if Outcome.NOT_REPLICATED in said:
        outcome = Outcome.NOT_REPLICATED
    text += f"; Q2 less the others {points(found[0].interval)}, the others less Q4 {points(found[1].interval)}"
    why = because(outcome, "Q2 leads and Q4 trails", "Q2 does not lead or Q4 does not trail", power)
    return Finding(text, outcome, why, power=power, effect=found[0], size=sizes_of[0])


def _halves(evidence: Evidence) -> Finding:
    if evidence.nothing_fast:
        return Finding("nothing is fast in either", Outcome.UNDECIDED, NOTHING_FAST, power=0.0, empty=True)
    if evidence.contested_tasks < 2:
        return Finding("one task has fast samples", Outcome.UNDECIDED, NO_CONTEST_TASKS, power=0.0)
    effect = evidence.contrast(_HALVES)
    size = published.number("5.2-halves/high-surprisal/fast_1") - published.number("5.2-halves/low-surprisal/fast_1")
    power = effect.power(size)
    outcome = by_sign(effect, 1)
    why = because(outcome, "the surprising half leads", "the surprising half does not lead", power)
    text = f"surprising half less the other {points(effect.interval)}"
    return Finding(text, outcome, why, power=power, effect=effect, claimed=1)


def _inverse(evidence: Evidence) -> Finding:
    rows = evidence.view[eligible(evidence.view)]
    rho = within_task_spearman(rows["surprisal"], rows["speedup"], rows["task"], RESAMPLES)
    effect = of_interval(Interval(rho.rho, rho.low, rho.high, rho.tasks))
    text = f"ρ(surprisal, speedup) within {rho.tasks} tasks: {interval(rho.rho, rho.low, rho.high, '+.2f')}"
    outcome = by_sign(effect, 1)
    why = because(outcome, "surprising samples are faster", "surprising samples are slower")
    return Finding(text, outcome, why, effect=effect, claimed=1)


RULES: dict[str, Rule] = {
    "not-length": _length,
    "quartiles": _quartiles,
    "surprising-half": _halves,
    "inverse-confidence": _inverse,
}

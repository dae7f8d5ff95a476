"""What one Best-of-N run says of the paper's claims: one rule per claim, over one protocol's view.

A selection rule can differ from another only in groups that hold a fast correct sample and another correct one
(*contested*), so claims about selection are decided, and their power is computed, over the tasks that have such groups.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd

from vegtts_core import metrics, selection
from vegtts_core.book import published
from vegtts_core.book.measurement_run import claimed_shares
from vegtts_core.book.prose import interval, number
from vegtts_core.book.selecting_words import points
from vegtts_core.book.verdicts import MARGIN, Finding, Outcome, because, by_sign, sample_share, sizes
from vegtts_core.metrics import GROUP
from vegtts_core.selection import CONFIDENCE_GUIDED, RANDOM_CORRECT, SURPRISAL_GUIDED, Strategy, eligible
from vegtts_core.statistics import (
    Effect,
    Interval,
    mean_effect,
    of_interval,
    quartile_contrast,
    spearman,
    surprisal_quartiles,
    wilson,
    within_task_spearman,
)

RESAMPLES = 300
"""Of bootstraps that resample samples, in place of the chapters' thousand or more."""

NOTHING_FAST = "Nothing that this policy wrote is fast under the sound protocol."
NO_CONTEST_TASKS = "Fewer than two tasks hold fast correct samples and others."
NO_CONTEST = "No group holds a fast correct sample and another one, so no rule can differ from another."


@dataclass(frozen=True)
class Evidence:
    """What the rules look at: one protocol's view (``metrics.under``), and what follows from it."""

    view: pd.DataFrame

    @cached_property
    def outcomes(self) -> pd.DataFrame:
        """``selection.evaluate_strategies``, with ``contested``: whether rules can differ in the group."""
        rows = self.view[eligible(self.view)]
        fast = (rows["fresh_limit"] > 1).groupby([rows[name] for name in GROUP]).agg(["any", "all"])
        fast["contested"] = fast["any"] & ~fast["all"]
        found = selection.evaluate_strategies(self.view).merge(fast["contested"], on=GROUP, how="left")
        return found.assign(contested=found["contested"].eq(True).fillna(False))

    @property
    def contested_tasks(self) -> int:
        """Tasks in which rules can differ."""
        return int(self.outcomes.loc[self.outcomes["contested"], "task"].nunique())

    @cached_property
    def nothing_fast(self) -> bool:
        """Whether no sample is fast."""
        return not bool((self.view["fast_limit"] > 1).any())

    @cached_property
    def quarters(self) -> pd.DataFrame:
        """Pooled quartiles, the paper's way."""
        return surprisal_quartiles(self.view, resamples=2)

    def difference(self, first: Strategy, second: Strategy) -> Effect:
        """Success of ``first`` minus ``second`` over contested groups."""
        rows = self.outcomes[self.outcomes["contested"]]
        table = rows.pivot(index=["task", "seed", "step"], columns="strategy", values="success")
        if table.empty:
            return mean_effect([], [])
        return mean_effect(table[first.name] - table[second.name], table.index.get_level_values("task"))

    def contrast(self, weights: list[float]) -> Effect:
        """A contrast of the quartiles' shares of fast samples."""
        return of_interval(quartile_contrast(self.view, weights, resamples=RESAMPLES))


Rule = Callable[[Evidence], Finding]


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
        gone = ours.outcome is Outcome.NOT_REPLICATED or (ours.outcome is Outcome.UNDECIDED and ours.power == 0)
        if paper[name].outcome is Outcome.REPLICATED and gone:
            why = f"The published protocol finds it in the same samples ({paper[name].here}), the sound one does not."
            found[name] = replace(ours, outcome=Outcome.ARTEFACT, why=why)
    return found


def _tasks(effect: Effect) -> str:
    return f" in the {effect.n} task{'s' * (effect.n != 1)} where rules can differ"


def _share(path: str) -> float:
    return float(published.value(path))


# -- search ------------------------------------------------------------------------------------------------------


def _solves_all(evidence: Evidence) -> Finding:
    hits = evidence.view.assign(hit=evidence.view["fast_limit"] > 1).groupby(GROUP)["hit"].any()
    share = wilson(float(hits.sum()), len(hits))
    outcome = Outcome.REPLICATED if hits.all() else Outcome.NOT_REPLICATED
    why = f"{int((~hits).sum())} of {len(hits)} task and seed pairs have no fast sample; by Wilson's interval."
    return Finding(f"{number(share, '.0%')} of task and seed pairs", outcome, why)


def _saturation(evidence: Evidence) -> Finding:
    hits = evidence.view.assign(hit=evidence.view["fast_limit"] > 1).groupby(GROUP)["hit"].agg(["size", "sum"])
    last = int(hits["size"].min()) if len(hits) else 0
    if last <= 16:
        return Finding(f"K goes to {last} only", Outcome.UNDECIDED, "There are no samples beyond K = 16.", power=0.0)
    # A task in which nothing is fast has no curve that could saturate.
    hits = hits[hits.groupby("task")["sum"].transform("sum") > 0]
    if hits.empty:
        return Finding("nothing is fast at any K", Outcome.UNDECIDED, NOTHING_FAST, power=0.0)
    at = [metrics.pass_at_k(hits["size"].to_numpy(), hits["sum"].to_numpy(), k) for k in (16, last)]
    gain = mean_effect(at[1] - at[0], hits.index.get_level_values("task"))
    text = f"K = 16 to {last}: {points(gain.interval)}, {gain.n} task{'s' * (gain.n != 1)} with a fast sample"
    outcome = Outcome.REPLICATED if gain.below(MARGIN) else Outcome.UNDECIDED
    if gain.low > MARGIN:
        outcome = Outcome.NOT_REPLICATED
    size = MARGIN - (_share("5.1/64/pass_at_k") - _share("5.1/16/pass_at_k"))
    power = gain.power(size)
    power = 0.0 if math.isnan(power) else power
    limit = number(MARGIN, ".0%")
    yes, no = f"more than 16 samples bring less than {limit}", f"more than 16 samples still bring over {limit}"
    return Finding(text, outcome, because(outcome, yes, no, power), power=power, effect=gain, size=size)


def _one_sample(evidence: Evidence) -> Finding:
    share = sample_share(evidence.view)
    text = f"{interval(share.estimate, share.low, share.high, '.0%')} of samples"
    both = [_share(path) for path in ("4.4/1/best_of_n_fast_1", "5.1/1/pass_at_k")]
    if math.isnan(share.low):
        return Finding(text, Outcome.UNDECIDED, "One task allows no interval.")
    inside = share.low <= max(both) and share.high >= min(both)
    why = "The interval includes a published value." if inside else "The interval excludes both published values."
    return Finding(text, Outcome.UNDECIDED if inside else Outcome.NOT_REPLICATED, why)


# -- selection ---------------------------------------------------------------------------------------------------


def _beats(first: Strategy, second: Strategy) -> Rule:
    def rule(evidence: Evidence) -> Finding:
        effect = evidence.difference(first, second)
        if not effect.n:
            return Finding("rules cannot differ", Outcome.UNDECIDED, NO_CONTEST, power=0.0)
        size = _share(f"5.3/{first.name}/fast_1") - _share(f"5.3/{second.name}/fast_1")
        power = effect.power(size)
        power = 0.0 if math.isnan(power) else power
        outcome = by_sign(effect, 1, size)
        why = because(outcome, f"{first.name} is the better one", f"{first.name} is not the better one", power)
        text = f"{points(effect.interval)}{_tasks(effect)}"
        return Finding(text, outcome, why, power=power, effect=effect, size=size)

    return rule


def _oracle(evidence: Evidence) -> Finding:
    effect = evidence.difference(selection.BEST_CORRECT, selection.SURPRISAL_GUIDED_TOP3)
    if not effect.n:
        return Finding("rules cannot differ", Outcome.UNDECIDED, NO_CONTEST, power=0.0)
    outcome = Outcome.REPLICATED if effect.within(MARGIN) else Outcome.UNDECIDED
    if outcome is Outcome.UNDECIDED and effect.sign > 0:
        outcome = Outcome.NOT_REPLICATED
    power = effect.equality(MARGIN)
    power = 0.0 if math.isnan(power) else power
    limit = number(100 * MARGIN, ".0f")
    yes, no = f"the two differ by less than {limit} points", "the oracle finds fast samples that the top 3 miss"
    text = f"oracle less top 3: {points(effect.interval)}{_tasks(effect)}"
    return Finding(text, outcome, because(outcome, yes, no, power), power=power)


def _steady(evidence: Evidence) -> Finding:
    by_seed = evidence.outcomes.groupby(["strategy", "seed"])["success"].mean()
    if evidence.nothing_fast or evidence.outcomes["seed"].nunique() < 2:
        why = NOTHING_FAST if evidence.nothing_fast else "One seed has no spread."
        return Finding("no spread to compare", Outcome.UNDECIDED, why)
    ours, theirs = (float(by_seed[s.name].std(ddof=1)) for s in (SURPRISAL_GUIDED, CONFIDENCE_GUIDED))
    outcome = Outcome.NOT_REPLICATED if ours > theirs + 1e-9 else Outcome.UNDECIDED
    why = f"A standard deviation of {evidence.outcomes['seed'].nunique()} seeds is known to a factor of two at best."
    return Finding(f"std {number(ours, '.1%')} and {number(theirs, '.1%')}", outcome, why)


def _effect(evidence: Evidence) -> Finding:
    compared = selection.compare_strategies(evidence.outcomes)
    h, sign = compared.effect, compared.sign_one_sided
    p = f", sign test p = {number(sign.p_value, '.3f')}" if sign.n else ", no pair differs"
    text = f"h = {interval(h.estimate, h.low, h.high, '+.2f')}{p}"
    outcome = Outcome.REPLICATED if h.low > 0 else Outcome.NOT_REPLICATED if h.high < 0 else Outcome.UNDECIDED
    return Finding(text, outcome, "Its interval takes pairs as independent, which seeds of one task are not.")


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
    power = effect.equality(MARGIN, _share("5.2-length/partial/rho"))
    power = 0.0 if math.isnan(power) else power
    why = because(outcome, f"ρ is within ±{MARGIN:g}", "ρ is not 0 with length held fixed", power)
    return Finding(text, outcome, why, power=power)


_SECOND, _FOURTH, _HALVES = [-1 / 3, 1.0, -1 / 3, -1 / 3], [1 / 3, 1 / 3, 1 / 3, -1.0], [0.5, 0.5, -0.5, -0.5]
"""The second quartile against the others; the others against the fourth; the surprising half against the other."""


def _quartiles(evidence: Evidence) -> Finding:
    fast = evidence.quarters["fast"].to_numpy()
    text = "Q1 to Q4: " + ", ".join(number(float(value), ".0%") for value in fast)
    if evidence.nothing_fast:
        return Finding(text, Outcome.UNDECIDED, NOTHING_FAST, power=0.0)
    if evidence.contested_tasks < 2:
        return Finding(text, Outcome.UNDECIDED, NO_CONTEST_TASKS, power=0.0)
    paper = np.array([_share(f"5.2-quartiles/Q{i}/fast_1") for i in (1, 2, 3, 4)])
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
        return Finding("nothing is fast in either", Outcome.UNDECIDED, NOTHING_FAST, power=0.0)
    if evidence.contested_tasks < 2:
        return Finding("one task has fast samples", Outcome.UNDECIDED, NO_CONTEST_TASKS, power=0.0)
    effect = evidence.contrast(_HALVES)
    size = _share("5.2-halves/high-surprisal/fast_1") - _share("5.2-halves/low-surprisal/fast_1")
    power = effect.power(size)
    outcome = by_sign(effect, 1)
    why = because(outcome, "the surprising half leads", "the surprising half does not lead", power)
    return Finding(f"surprising half less the other {points(effect.interval)}", outcome, why, power=power)


def _inverse(evidence: Evidence) -> Finding:
    rows = evidence.view[eligible(evidence.view)]
    rho = within_task_spearman(rows["surprisal"], rows["speedup"], rows["task"], RESAMPLES)
    effect = of_interval(Interval(rho.rho, rho.low, rho.high, rho.tasks))
    text = f"ρ(surprisal, speedup) within {rho.tasks} tasks: {interval(rho.rho, rho.low, rho.high, '+.2f')}"
    outcome = by_sign(effect, 1)
    why = because(outcome, "surprising samples are faster", "surprising samples are slower")
    return Finding(text, outcome, why)


def _huge(evidence: Evidence) -> Finding:
    beyond = claimed_shares()
    rows = evidence.view[evidence.view["task_id"].isin([4, 5]) & evidence.view["correct"]]
    best = rows.groupby("task_id")["speedup"].max()
    here = ", ".join(f"task {task}: {number(float(value), '.2f')}× at most" for task, value in best.items())
    both = [float(beyond[task]) for task in (4, 5)]
    excess = " and ".join(number(value, "{:,.0f}×") for value in both)
    if min(both) > 1:
        why = f"They exceed an H100's memory bandwidth by {excess}; copies in another's timing make such numbers."
        return Finding(here or "no correct sample there", Outcome.ARTEFACT, why)
    return Finding(here or "no correct sample there", Outcome.UNDECIDED)


RULES: dict[str, Rule] = {
    "saturation": _saturation,
    "surprisal-beats-confidence": _beats(SURPRISAL_GUIDED, CONFIDENCE_GUIDED),
    "top3-is-oracle": _oracle,
    "not-length": _length,
    "quartiles": _quartiles,
    "search-solves-all": _solves_all,
    "one-sample": _one_sample,
    "surprisal-beats-random": _beats(SURPRISAL_GUIDED, RANDOM_CORRECT),
    "confidence-below-random": _beats(RANDOM_CORRECT, CONFIDENCE_GUIDED),
    "surprisal-is-steady": _steady,
    "effect-size": _effect,
    "surprising-half": _halves,
    "inverse-confidence": _inverse,
    "huge-speedups": _huge,
}

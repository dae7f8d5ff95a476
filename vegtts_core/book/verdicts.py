"""The paper's claims, each with what a Best-of-N run says of it: the intro's table. It decides by intervals.

A claim is *supported* or *contradicted* only where the interval of the quantity excludes the other; everything else
is *undecided*. Claims that no run at hand speaks to are *not run*; what adaptation runs say is added by the caller.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

import pandas as pd

from vegtts_core import metrics, selection
from vegtts_core.book import published
from vegtts_core.book.prose import interval, number
from vegtts_core.statistics import Interval, length_control, mean_interval, surprisal_quartiles


class Outcome(StrEnum):
    """What a run says of a claim."""

    SUPPORTED = "supported"
    CONTRADICTED = "contradicted"
    UNDECIDED = "undecided"
    NOT_RUN = "not run"


@dataclass(frozen=True)
class Finding:
    """What was measured (text with numbers), and what follows."""

    here: str
    outcome: Outcome


@dataclass(frozen=True)
class _Evidence:
    """What the rules below look at: one protocol's view, and what follows from it."""

    view: pd.DataFrame
    curve: pd.DataFrame
    outcomes: pd.DataFrame
    table: pd.DataFrame

    @property
    def nothing_fast(self) -> bool:
        return not bool((self.view["fast_limit"] > 1).any())


def sample_share(view: pd.DataFrame) -> Interval:
    """Per-sample fast_1 with its bootstrap interval over tasks (and seeds within them)."""
    groups = view.assign(fast=(view["fast_limit"] > 1).astype(float)).groupby(["task", "seed", "step"])["fast"].mean()
    return mean_interval(groups.to_numpy(), groups.index.get_level_values("task").to_numpy())


def findings(view: pd.DataFrame) -> dict[str, Finding]:
    """For each claim that a Best-of-N run can check, by claim id; ``view`` from ``metrics.under``."""
    outcomes = selection.evaluate_strategies(view)
    table = selection.aggregate_strategies(outcomes).set_index("strategy")
    evidence = _Evidence(view, metrics.scaling_curve(view), outcomes, table)
    return {name: rule(evidence) for name, rule in _RULES.items()}


def claims_table(view: pd.DataFrame, measured: Mapping[str, Finding] | None = None) -> pd.DataFrame:
    """Every claim of the paper: columns claim, section, published, here, outcome.

    ``measured``: findings that do not come from a run's samples alone (`vegtts_core.book.verdicts_measured`).
    """
    found = findings(view) | dict(measured or {})
    rows = []
    for claim in published.claims():
        finding = found.get(claim.id, Finding(f"needs {claim.needs.value.replace('_', '-')}", Outcome.NOT_RUN))
        values = ", ".join(shown(value) for value in claim.published().values())
        rows.append((claim.sentence, claim.section, values, finding.here, finding.outcome.value))
    return pd.DataFrame(rows, columns=["claim", "section", "published", "here", "outcome"])


def shown(value: float | str) -> str:
    """A published value as the tables write it."""
    return value if isinstance(value, str) else number(value, ".4g")


def tally(table: pd.DataFrame) -> Mapping[str, int]:
    """How many claims have each outcome, all outcomes named."""
    counts = table["outcome"].value_counts()
    return {outcome.value: int(counts.get(outcome.value, 0)) for outcome in Outcome}


# -- rules -------------------------------------------------------------------------------------------------------


def _sign(value: Interval, text: str) -> Finding:
    """Supported if the whole interval is above 0, contradicted if it is below."""
    if not math.isfinite(value.low):
        return Finding(text, Outcome.UNDECIDED)
    if value.low > 0:
        return Finding(text, Outcome.SUPPORTED)
    return Finding(text, Outcome.CONTRADICTED if value.high < 0 else Outcome.UNDECIDED)


def _points(value: Interval) -> str:
    return interval(value.estimate, value.low, value.high, "+.2f")


def _difference(first: selection.Strategy, second: selection.Strategy) -> Callable[[_Evidence], Finding]:
    def rule(evidence: _Evidence) -> Finding:
        difference = selection.compare_strategies(evidence.outcomes, first, second).difference
        return _sign(difference, f"difference {_points(difference)}")

    return rule


def _solves_all(evidence: _Evidence) -> Finding:
    last = evidence.curve.iloc[-1]
    share = metrics.task_fast_p(evidence.view)
    text = f"{number(share, '.0%')} of {last['groups']:.0f} task and seed pairs at K = {last['k']:.0f}"
    return Finding(text, Outcome.SUPPORTED if share == 1 else Outcome.CONTRADICTED)


def _saturation(evidence: _Evidence) -> Finding:
    curve = evidence.curve.set_index("k")["pass_at_k"]
    last = int(curve.index[-1])
    if last <= 16 or 16 not in curve.index:
        return Finding(f"K goes to {last} only", Outcome.UNDECIDED)
    if evidence.nothing_fast:
        return Finding("nothing is fast at any K", Outcome.UNDECIDED)
    gain = float(curve.iloc[-1] - curve.loc[16])
    text = f"from K = 16 to {last}: {number(gain, '+.3f')}"
    return Finding(text, Outcome.SUPPORTED if gain <= 0.01 else Outcome.CONTRADICTED)


def _one_sample(evidence: _Evidence) -> Finding:
    share = sample_share(evidence.view)
    text = f"{interval(share.estimate, share.low, share.high, '.2f')} of samples"
    if not math.isfinite(share.low):
        return Finding(text, Outcome.UNDECIDED)
    both = [float(published.value(path)) for path in ("4.4/1/best_of_n_fast_1", "5.1/1/pass_at_k")]
    inside = share.low <= max(both) and share.high >= min(both)
    return Finding(text, Outcome.UNDECIDED if inside else Outcome.CONTRADICTED)


def _oracle(evidence: _Evidence) -> Finding:
    difference = selection.compare_strategies(
        evidence.outcomes, selection.BEST_CORRECT, selection.SURPRISAL_GUIDED_TOP3
    ).difference
    text = f"oracle minus top 3: {_points(difference)}"
    if evidence.nothing_fast or not math.isfinite(difference.low):
        return Finding(text, Outcome.UNDECIDED)
    return Finding(text, Outcome.CONTRADICTED if difference.low > 0 else Outcome.UNDECIDED)


def _steady(evidence: _Evidence) -> Finding:
    stds = {
        name: float(evidence.table["std"].get(name, math.nan)) for name in ("surprisal-guided", "confidence-guided")
    }
    text = f"std over seeds {number(stds['surprisal-guided'], '.3f')} and {number(stds['confidence-guided'], '.3f')}"
    if not all(math.isfinite(value) for value in stds.values()) or evidence.nothing_fast:
        return Finding(text, Outcome.UNDECIDED)
    return Finding(text, Outcome.CONTRADICTED if stds["surprisal-guided"] > 1e-9 else Outcome.UNDECIDED)


def _effect(evidence: _Evidence) -> Finding:
    compared = selection.compare_strategies(evidence.outcomes)
    text = f"h = {_points(compared.effect)}, sign test p = {number(compared.sign_one_sided.p_value, '.3f')}"
    return _sign(compared.effect, text)


def _length(evidence: _Evidence) -> Finding:
    raw, partial = (length_control(evidence.view).iloc[row] for row in (0, 1))
    text = "; ".join(f"ρ = {interval(row['rho'], row['low'], row['high'], '+.2f')}" for row in (raw, partial))
    if not all(math.isfinite(row["low"]) for row in (raw, partial)):
        return Finding(text, Outcome.UNDECIDED)
    apart = any(row["low"] > 0 or row["high"] < 0 for row in (raw, partial))
    return Finding(text, Outcome.CONTRADICTED if apart else Outcome.UNDECIDED)


def _quartiles(evidence: _Evidence) -> Finding:
    fast = surprisal_quartiles(evidence.view)["fast"].to_numpy()
    text = ", ".join(f"Q{i + 1} {number(value, '.2f')}" for i, value in enumerate(fast))
    if not all(math.isfinite(value) for value in fast) or evidence.nothing_fast:
        return Finding(text, Outcome.UNDECIDED)
    order = fast[1] == max(fast) and fast[3] == min(fast)
    return Finding(text, Outcome.UNDECIDED if order else Outcome.CONTRADICTED)


def _halves(evidence: _Evidence) -> Finding:
    fast = surprisal_quartiles(evidence.view)["fast"].to_numpy()
    high, low = float(fast[:2].mean()), float(fast[2:].mean())
    text = f"{number(high, '.2f')} and {number(low, '.2f')} of correct samples (no interval)"
    if not math.isfinite(high + low) or evidence.nothing_fast:
        return Finding(text, Outcome.UNDECIDED)
    return Finding(text, Outcome.CONTRADICTED if high < low else Outcome.UNDECIDED)


def _inverse(evidence: _Evidence) -> Finding:
    row = length_control(evidence.view).iloc[3]
    rho = Interval(-row["rho"], -row["high"], -row["low"], int(row["tasks"]))
    return _sign(rho, f"ρ(surprisal, speedup) within {rho.n} tasks: {_points(rho)}")


def _huge(evidence: _Evidence) -> Finding:
    rows = evidence.view[evidence.view["task_id"].isin([4, 5]) & evidence.view["correct"]]
    if rows.empty:
        return Finding("no correct sample of tasks 4 and 5", Outcome.UNDECIDED)
    best = rows.groupby("task_id")["speedup"].max()
    text = ", ".join(f"task {task}: {number(float(value), '.2f')}× at most" for task, value in best.items())
    return Finding(text, Outcome.CONTRADICTED if best.max() < 100 else Outcome.UNDECIDED)


_RULES: dict[str, Callable[[_Evidence], Finding]] = {
    "search-solves-all": _solves_all,
    "saturation": _saturation,
    "one-sample": _one_sample,
    "surprisal-beats-confidence": _difference(selection.SURPRISAL_GUIDED, selection.CONFIDENCE_GUIDED),
    "surprisal-beats-random": _difference(selection.SURPRISAL_GUIDED, selection.RANDOM_CORRECT),
    "confidence-below-random": _difference(selection.RANDOM_CORRECT, selection.CONFIDENCE_GUIDED),
    "top3-is-oracle": _oracle,
    "surprisal-is-steady": _steady,
    "effect-size": _effect,
    "not-length": _length,
    "quartiles": _quartiles,
    "surprising-half": _halves,
    "inverse-confidence": _inverse,
    "huge-speedups": _huge,
}


# -- figure 1 ----------------------------------------------------------------------------------------------------


def figure_one(views: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Long table for the intro's figure: columns strategy, source, value, low, high (NaN where nothing is known)."""
    paper = published.table("5.3")["fast_1"]
    rows: list[tuple[str, str, float, float, float]] = [
        (str(name), "paper", float(value), math.nan, math.nan) for name, value in paper.items()
    ]
    extra = {
        "TTT, per sample": "headline/ttt-best-3-seeds/value",
        "Best-of-N, per sample": "headline/subset-1-best-of-n-per-sample/value",
    }
    rows += [(name, "paper", float(published.value(path)), math.nan, math.nan) for name, path in extra.items()]
    for protocol, view in views.items():
        table = selection.aggregate_strategies(selection.evaluate_strategies(view))
        for row in table.to_dict("records"):
            rows.append((row["strategy"], f"here, {protocol}", row["success"], row["low"], row["high"]))
        share = sample_share(view)
        rows.append(("Best-of-N, per sample", f"here, {protocol}", share.estimate, share.low, share.high))
    return pd.DataFrame(rows, columns=["strategy", "source", "value", "low", "high"])


def say(difference: Interval, above: str, below: str) -> str:
    """One sentence on which side of 0 an interval lies."""
    if not math.isfinite(difference.low):
        return "There are too few tasks for an interval, so nothing can be said of other tasks."
    if difference.low > 0:
        return f"The interval lies above 0: on tasks like these, {above}."
    if difference.high < 0:
        return f"The interval lies below 0: on tasks like these, {below}."
    if difference.low == difference.high:
        return "Both do equally well on every task and seed, so this run cannot tell them apart."
    return "The interval includes 0: this run does not tell which of the two is better."

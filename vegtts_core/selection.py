"""Choosing one sample of a group: the five strategies of section 4.5, as pure functions of a protocol's view.

A strategy does not return a row but **weights** over the group's samples: they sum to 1, or are all 0 where nothing is
correct (a failure). So random-correct is its exact expectation and needs no seed, and samples that a strategy cannot
tell apart (at T = 0.25 most samples are copies of a few completions, with one surprisal) share the weight evenly
instead of being told apart by the order of rows. This module knows nothing of how a sample was evaluated.

"Fastest" means the highest ``fast_limit``: the speedup under ``published``, its lower bound under ``sound``, so that
the oracle succeeds exactly where a fast sample exists. The best of K measured by the same clock that chose it is also
the luckiest of K: a selected speedup is biased upward until it is timed again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import comb

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import rankdata

from vegtts_core.metrics.shares import GROUP
from vegtts_core.statistics.bootstrap import RESAMPLES, Interval, Population, mean_interval
from vegtts_core.statistics.paired import Alternative, Test, cohens_h, sign_test, wilcoxon_log_ratio, wilson

Array = NDArray[np.float64]

#: Mean log-probabilities (nats per token) closer than this are the same: copies of one completion, scored in different
#: batches, differ by float32 rounding.
TIE = 1e-5


class Signal(StrEnum):
    """Which log-probability says how surprising a sample is. Values are columns of the view."""

    UNTEMPERED = "mean_logprob"
    """Under the model itself (default)."""
    SAMPLING = "sampling_mean_logprob"
    """Under the tempered distribution that the tokens were drawn from."""


Rule = Callable[[Array, Array], Array]
"""(surprisal in nats per token, rank of speed from 1 = slowest) of a group's correct options -> weights that sum to 1.

All of shape (n,), n >= 1.
"""


def _even(chosen: NDArray[np.bool_]) -> Array:
    return chosen / chosen.sum()


def tie_classes(values: Array) -> NDArray[np.int64]:
    """Rank classes, 0 for the highest: neighbours within ``TIE`` share one."""
    order = np.argsort(-values, kind="stable")
    classes = np.empty(len(values), dtype=np.int64)
    classes[order] = np.concatenate([[0], np.cumsum(-np.diff(values[order]) > TIE)])
    return classes


def _fastest(_: Array, limit: Array) -> Array:
    return _even(limit == limit.max())


def _any(surprisal: Array, _: Array) -> Array:
    return np.full(len(surprisal), 1 / len(surprisal))


def _least_surprising(surprisal: Array, _: Array) -> Array:
    return _even(tie_classes(-surprisal) == 0)


def _fastest_of_top(m: int) -> Rule:
    """The fastest of the m most surprising; where ties straddle place m, the expectation over which of them get in."""

    def rule(surprisal: Array, limit: Array) -> Array:
        classes = tie_classes(surprisal)
        sizes = np.bincount(classes)
        before = np.concatenate([[0], np.cumsum(sizes)[:-1]])[classes]
        certain = before + sizes[classes] <= m
        border = np.flatnonzero((before < m) & ~certain)
        if not len(border):
            return _even(certain & (limit == limit[certain].max()))
        places, size = m - int(before[border[0]]), len(border)
        floor = limit[certain].max() if certain.any() else 0.0
        falling = np.argsort(-limit[border], kind="stable")
        weights = np.zeros(len(limit))
        for position, option in enumerate(border[falling]):
            # This one is drawn and nothing faster is: choose the other places from those behind it.
            if limit[option] > floor:
                weights[option] = comb(size - position - 1, places - 1) / comb(size, places)
        if certain.any():
            weights[certain & (limit == floor)] = (1 - weights.sum()) / np.sum(certain & (limit == floor))
        # Among equally fast border options the formula favours whichever comes first: share what they got.
        for value in np.unique(limit[border]):
            same = border[limit[border] == value]
            weights[same] = weights[same].mean()
        return weights

    return rule


def eligible(view: pd.DataFrame, signal: Signal = Signal.UNTEMPERED) -> pd.Series:
    """Which samples can be chosen: correct, timed, and with a log-probability. Boolean, indexed like ``view``."""
    return view["correct"].astype(bool) & view["speedup"].notna() & view[signal.value].notna()


@dataclass(frozen=True)
class Strategy:
    """A way of choosing among a group's correct samples. ``evaluations``: timings it needs (None: of every sample)."""

    name: str
    description: str
    evaluations: int | None
    rule: Rule

    def weights(self, group: pd.DataFrame, signal: Signal = Signal.UNTEMPERED, distinct: bool = False) -> Array:
        """Weights over the rows of ``group`` (rows of one (task, seed, step) of a view), shape (n,), float64.

        They sum to 1, or are all 0 if no sample is ``eligible``. ``distinct`` collapses equal candidates first:
        each then counts once, with the mean surprisal of its copies, and its weight is spread evenly over them. Without
        it, "the 3 most surprising samples" are often three copies of one candidate, and random-correct chooses what the
        policy wrote most often.
        """
        weights = np.zeros(len(group))
        usable = np.flatnonzero(eligible(group, signal).to_numpy())
        if not len(usable):
            return weights
        rows = group.iloc[usable]
        surprisal = -rows[signal.value].to_numpy(dtype=float)
        # Only the order of speeds matters; as ranks, a missing bound is simply the slowest.
        limit = rankdata(rows["fast_limit"].fillna(-np.inf), method="dense").astype(float)
        if not distinct:
            weights[usable] = self.rule(surprisal, limit)
            return weights
        own = pd.Series([f"row {i}" for i in range(len(rows))], index=rows.index)
        codes, names = pd.factorize(rows["fingerprint"].astype(object).where(rows["fingerprint"].notna(), own))
        copies = np.bincount(codes)
        mean = np.bincount(codes, weights=surprisal) / copies
        best = np.zeros(len(names))
        np.maximum.at(best, codes, limit)
        weights[usable] = (self.rule(mean, best) / copies)[codes]
        return weights


def surprisal_guided_top(m: int) -> Strategy:
    """The fastest of the m most surprising correct samples; m = 1 needs no timing. Raises ValueError for m < 1."""
    if m < 1:
        raise ValueError(f"A selection of the top {m} is empty: m must be at least 1.")
    if m == 1:
        return SURPRISAL_GUIDED
    return Strategy(
        f"surprisal-guided-top{m}", f"Fastest of the {m} highest-surprisal correct samples", m, _fastest_of_top(m)
    )


BEST_CORRECT = Strategy("best-correct", "Fastest correct sample (oracle)", None, _fastest)
RANDOM_CORRECT = Strategy("random-correct", "Any correct sample, in expectation", 0, _any)
CONFIDENCE_GUIDED = Strategy("confidence-guided", "Lowest-surprisal correct sample", 0, _least_surprising)
SURPRISAL_GUIDED = Strategy("surprisal-guided", "Highest-surprisal correct sample", 0, _fastest_of_top(1))
SURPRISAL_GUIDED_TOP3 = surprisal_guided_top(3)

#: In the order of table 5.3.
STRATEGIES = (BEST_CORRECT, SURPRISAL_GUIDED_TOP3, SURPRISAL_GUIDED, RANDOM_CORRECT, CONFIDENCE_GUIDED)


def evaluate_strategies(
    view: pd.DataFrame,
    p: float = 1.0,
    strategies: Sequence[Strategy] = STRATEGIES,
    signal: Signal = Signal.UNTEMPERED,
    distinct: bool = False,
) -> pd.DataFrame:
    """What each strategy gets in each group: one row per (strategy, task, seed, step).

    ``success``: probability that the chosen sample is correct and faster than p, 0 where nothing is correct.
    ``speedup`` and ``log_speedup``: expectation of the speedup and of its natural logarithm over the weights, NaN where
    nothing is correct. ``eligible``: samples that could be chosen. A strategy chooses by the first evaluation, what it
    got is read from the second one, on fresh data, where the run has one.
    """
    columns = ["strategy", *GROUP, "success", "speedup", "log_speedup", "eligible"]
    rows = []
    for key, group in view.groupby(GROUP, sort=True):
        fast = (group["fresh_limit"] > p).to_numpy(dtype=float)
        speedup = group["fresh_speedup"].to_numpy(dtype=float)
        count = int(eligible(group, signal).sum())
        for strategy in strategies:
            weights = strategy.weights(group, signal, distinct)
            chosen = (weights > 0) & ~np.isnan(speedup)  # a second evaluation may have found an error
            values, share = speedup[chosen], weights[chosen] / max(weights[chosen].sum(), 1e-300)
            rows.append(
                (
                    strategy.name,
                    *key,  # type: ignore[misc]
                    float(weights @ fast),
                    float(share @ values) if len(values) else np.nan,
                    float(share @ np.log(values)) if len(values) else np.nan,
                    count,
                )
            )
    return pd.DataFrame(rows, columns=columns)


def aggregate_strategies(
    outcomes: pd.DataFrame,
    population: Population = Population.TASKS,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> pd.DataFrame:
    """Table 5.3: one row per strategy of ``evaluate_strategies``' frame, in its order.

    ``success`` with the bootstrap bounds ``low``, ``high`` (over tasks and seeds; NaN for one task) and with
    ``wilson_low``, ``wilson_high`` (groups as if independent, but not of width 0 where every group succeeds); ``std``
    over seeds of the mean over tasks (n - 1), as in the paper; ``mean_speedup`` (arithmetic, the paper's) and
    ``geometric_speedup`` with ``geometric_low``, ``geometric_high``, over groups with a correct sample; ``groups``,
    ``groups_with_correct``, ``tasks``, ``seeds``.
    """
    columns = "strategy success low high wilson_low wilson_high std mean_speedup geometric_speedup geometric_low "
    columns += "geometric_high groups groups_with_correct tasks seeds"
    rows = []
    for name, part in outcomes.groupby("strategy", sort=False):
        success = mean_interval(part["success"], part["task"], population, resamples, seed=seed)
        score = wilson(float(part["success"].sum()), len(part))
        logs = mean_interval(part["log_speedup"], part["task"], population, resamples, seed=seed)
        arithmetic = mean_interval(part["speedup"], part["task"], population, 1)
        by_seed = part.groupby("seed")["success"].mean()
        rows.append(
            {
                "strategy": name,
                "success": success.estimate,
                "low": success.low,
                "high": success.high,
                "wilson_low": score.low,
                "wilson_high": score.high,
                "std": float(by_seed.std(ddof=1)) if len(by_seed) > 1 else float("nan"),
                "mean_speedup": arithmetic.estimate,
                "geometric_speedup": float(np.exp(logs.estimate)),
                "geometric_low": float(np.exp(logs.low)),
                "geometric_high": float(np.exp(logs.high)),
                "groups": len(part),
                "groups_with_correct": int(part["speedup"].notna().sum()),
                "tasks": part["task"].nunique(),
                "seeds": part["seed"].nunique(),
            }
        )
    return pd.DataFrame(rows, columns=columns.split())


@dataclass(frozen=True)
class Comparison:
    """Two strategies on the same groups (section 5.2, statistical strength). First minus second throughout.

    ``difference``: of success, bootstrap over tasks and seeds. ``effect``: Cohen's h of the two mean successes.
    ``wilcoxon``: two-sided, on log speedups. ``sign`` and ``sign_one_sided``: exact, on success.
    """

    difference: Interval
    effect: Interval
    wilcoxon: Test
    sign: Test
    sign_one_sided: Test


def compare_strategies(
    outcomes: pd.DataFrame,
    first: Strategy = SURPRISAL_GUIDED,
    second: Strategy = CONFIDENCE_GUIDED,
    population: Population = Population.TASKS,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Comparison:
    """Compare two strategies of ``evaluate_strategies``' frame, paired by group."""
    parts = [outcomes[outcomes["strategy"] == s.name] for s in (first, second)]
    pairs = parts[0].merge(parts[1], on=GROUP, suffixes=("_first", "_second"))
    a, b = pairs["success_first"], pairs["success_second"]
    means = [float(v.mean()) if len(v) else float("nan") for v in (a, b)]
    return Comparison(
        difference=mean_interval(a - b, pairs["task"], population, resamples, seed=seed),
        effect=cohens_h(means[0], means[1], len(a), len(b)),
        wilcoxon=wilcoxon_log_ratio(np.exp(pairs["log_speedup_first"]), np.exp(pairs["log_speedup_second"])),
        sign=sign_test(a, b),
        sign_one_sided=sign_test(a, b, Alternative.GREATER),
    )

"""What K samples are worth: pass@k, the scaling curve with its intervals, equivalent K (section 5.1).

It works on a protocol's view (``shares.under``) and knows nothing of how samples were chosen or paid for. Every value
on the curve is a share of tasks; compare only shares of tasks with it (``task_fast_p``, or a strategy's success).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from vegtts_core.metrics.shares import GROUP
from vegtts_core.statistics.bootstrap import LEVEL, RESAMPLES, Population, cluster_weights, percentiles
from vegtts_core.statistics.paired import wilson

Array = NDArray[np.float64]

DEFAULT_KS = (1, 2, 4, 8, 16, 32, 64)


def pass_at_k(n: ArrayLike, c: ArrayLike, k: ArrayLike) -> Array:
    """Probability that k of n samples, drawn without replacement, hold at least one of the c good ones.

    The unbiased estimator of Chen et al. (2021), 1 - C(n - c, k) / C(n, k), as a product that neither overflows nor
    cancels. Arguments broadcast; returns float64 of their common shape. NaN where k > n (n samples cannot say), k < 1
    or c is not within 0..n.
    """
    n, c, k = np.broadcast_arrays(np.asarray(n, float), np.asarray(c, float), np.asarray(k, float))
    valid = (k >= 1) & (k <= n) & (c >= 0) & (c <= n)
    miss = np.ones(n.shape)
    for drawn in range(int(k[valid].max()) if valid.any() else 0):
        here = valid & (drawn < k)
        factor = np.clip(n - c - drawn, 0.0, None) / np.where(here, n - drawn, 1.0)
        miss = np.where(here, miss * factor, miss)
    return np.where(valid, 1.0 - miss, np.nan)


def _curves(view: pd.DataFrame, ks: Sequence[int], p: float) -> tuple[pd.DataFrame, Array]:
    """Groups (task, seed, step, n, c) and their pass@k, shape (groups, len(ks))."""
    hits = view.assign(hit=view["fast_limit"] > p)
    groups = hits.groupby(GROUP, as_index=False).agg(n=("hit", "size"), c=("hit", "sum"))
    values = pass_at_k(groups["n"].to_numpy()[:, None], groups["c"].to_numpy()[:, None], np.asarray(ks)[None, :])
    return groups, values.reshape(len(groups), len(ks))


def _usable(view: pd.DataFrame, ks: Sequence[int] | None) -> list[int]:
    """The given ks, or the paper's; only those that every group can answer."""
    least = int(view.groupby(GROUP).size().min()) if len(view) else 0
    return [k for k in (DEFAULT_KS if ks is None else ks) if 1 <= k <= least]


def scaling_curve(
    view: pd.DataFrame,
    ks: Sequence[int] | None = None,
    p: float = 1.0,
    population: Population = Population.TASKS,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> pd.DataFrame:
    """Table 5.1: the share of tasks with a fast correct sample among K, for each K.

    ``pass_at_k`` is the mean over tasks of the mean over their seeds of the unbiased estimator; it never falls with k.
    ``low`` and ``high`` come from the two-level bootstrap over tasks and seeds and speak of ``population``; NaN for a
    single task. ``wilson_low`` and ``wilson_high`` take the groups as independent, but do not close up where each is
    solved. ``std`` is the standard deviation over seeds of the mean over tasks (n - 1), as in the paper; it holds
    no uncertainty about tasks. ``tasks``, ``seeds``, ``groups`` count what the row rests on. Values of k that exceed
    the smallest group are left out. ``k`` = 1 is exactly the per-sample share (in a balanced table).
    """
    usable = _usable(view, ks)
    groups, values = _curves(view, usable, p)
    weights, draws = cluster_weights(groups["task"].to_numpy(), population, resamples, seed)
    means, resampled = weights @ values, draws @ values
    by_seed = pd.DataFrame(values).groupby(groups["seed"].to_numpy()).mean()
    rows = []
    for i, k in enumerate(usable):
        low, high = percentiles(resampled[:, i], level)
        score = wilson(float(values[:, i].sum()), len(groups), level)
        rows.append(
            {
                "k": k,
                "pass_at_k": float(means[i]),
                "std": float(by_seed[i].std(ddof=1)) if len(by_seed) > 1 else float("nan"),
                "low": low,
                "high": high,
                "wilson_low": score.low,
                "wilson_high": score.high,
                "tasks": int(groups["task"].nunique()),
                "seeds": int(groups["seed"].nunique()),
                "groups": len(groups),
            }
        )
    columns = ["k", "pass_at_k", "std", "low", "high", "wilson_low", "wilson_high", "tasks", "seeds", "groups"]
    return pd.DataFrame(rows, columns=columns)


def subset_resampling(
    view: pd.DataFrame,
    ks: Sequence[int] | None = None,
    p: float = 1.0,
    draws: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> pd.DataFrame:
    """What the paper's table 5.1 appears to do, for comparison only.

    Its interval at K = 1, [20%, 100%] with 5 tasks, is a multiple of one fifth: the percentiles of the share of tasks
    solved when K of the samples of each task are drawn at random, one seed at a time. Such an interval says how much
    one draw of K samples varies on these tasks; it is not an interval for the mean, does not shrink with more draws,
    and becomes [100%, 100%] as soon as these tasks are solved. Columns: k, mean, low, high, draws.
    """
    usable = _usable(view, ks)
    groups, values = _curves(view, usable, p)
    rng = np.random.default_rng(seed)
    # A group's subset holds a fast sample with probability pass@k, independently of the other groups.
    solved = rng.random((draws, *values.shape)) < values
    seeds, codes = np.unique(groups["seed"].to_numpy(), return_inverse=True)
    rows = []
    for i, k in enumerate(usable):
        shares = np.concatenate([solved[:, codes == s, i].mean(axis=1) for s in range(len(seeds))])
        low, high = percentiles(shares, level)
        rows.append({"k": k, "mean": float(shares.mean()), "low": low, "high": high, "draws": len(shares)})
    return pd.DataFrame(rows, columns=["k", "mean", "low", "high", "draws"])


class Bound(StrEnum):
    """Where a value lies relative to a scaling curve."""

    BELOW = "below"
    """Under the curve's first point: fewer samples than it measured."""
    WITHIN = "within"
    ABOVE = "above"
    """Over the curve's maximum: more samples than it measured."""
    UNKNOWN = "unknown"
    """No curve, or no value."""


@dataclass(frozen=True)
class EquivalentK:
    """The number of samples at which Best-of-N reaches a value.

    ``k`` is the curve's first or last K where the value lies outside (``bound`` says so), NaN if unknown. ``low`` and
    ``high`` are bootstrap bounds (0 stands for below the curve, infinity for above it), NaN where not computed.
    """

    k: float
    bound: Bound
    low: float = float("nan")
    high: float = float("nan")

    @property
    def label(self) -> str:
        """For tables: ``< 1``, ``3.4``, ``> 64`` or ``unknown``."""
        if self.bound is Bound.UNKNOWN:
            return "unknown"
        return {Bound.BELOW: "< ", Bound.ABOVE: "> ", Bound.WITHIN: ""}[self.bound] + f"{self.k:.3g}"


def equivalent_k(curve: pd.DataFrame, value: float) -> EquivalentK:
    """The K at which ``curve`` (columns ``k``, ``pass_at_k``) reaches ``value``, linear in log K between its points.

    Where the curve is flat, the smallest such K. The value must be a share of tasks, like the curve: a per-sample share
    belongs at K = 1 by definition.
    """
    ordered = curve.sort_values("k")
    return _crossing(ordered["k"].to_numpy(dtype=float), ordered["pass_at_k"].to_numpy(dtype=float), value)


def _crossing(ks: Array, values: Array, value: float) -> EquivalentK:
    if len(ks) == 0 or not np.isfinite(value) or not np.isfinite(values).all():
        return EquivalentK(float("nan"), Bound.UNKNOWN)
    # A curve of exact shares meets an exact share up to rounding.
    slack = 1e-12
    if value < values[0] - slack:
        return EquivalentK(float(ks[0]), Bound.BELOW)
    if value > values.max() + slack:
        return EquivalentK(float(ks[-1]), Bound.ABOVE)
    at = int(np.argmax(values >= value - slack))
    if at == 0:
        return EquivalentK(float(ks[0]), Bound.WITHIN)
    share = min(1.0, (value - values[at - 1]) / (values[at] - values[at - 1]))
    log_k = np.log(ks[at - 1]) + share * (np.log(ks[at]) - np.log(ks[at - 1]))
    return EquivalentK(float(np.exp(log_k)), Bound.WITHIN)


def equivalent_k_interval(
    view: pd.DataFrame,
    value: float,
    ks: Sequence[int] | None = None,
    p: float = 1.0,
    population: Population = Population.TASKS,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> EquivalentK:
    """``equivalent_k`` of the view's own curve, with bounds from resampled curves.

    ``value`` is held fixed: its own uncertainty is not in the interval. Bounds are NaN where the curve has none.
    """
    usable = _usable(view, ks)
    groups, values = _curves(view, usable, p)
    weights, draws = cluster_weights(groups["task"].to_numpy(), population, resamples, seed)
    grid = np.asarray(usable, dtype=float)
    found = _crossing(grid, weights @ values, value)
    if found.bound is Bound.UNKNOWN or len(draws) == 0:
        return found
    outside = {Bound.BELOW: 0.0, Bound.ABOVE: float("inf")}
    crossings = [_crossing(grid, curve, value) for curve in draws @ values]
    ordered = np.sort([outside.get(c.bound, c.k) for c in crossings])
    tail = (1 - level) / 2
    # Order statistics, not interpolation: infinity has no midpoint with a number.
    low, high = np.quantile(ordered, [tail, 1 - tail], method="inverted_cdf")
    return EquivalentK(found.k, found.bound, float(low), float(high))

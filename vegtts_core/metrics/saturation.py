"""When more samples stop paying: the fewest that reach a share of what all of them reach (section 5.1).

It works on a protocol's view, like ``scaling``. A curve measured with n samples cannot say where it would end: "its
last value" is pass@n, not a limit, so the answer grows with n unless the curve is flat.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vegtts_core.metrics.scaling import pass_at_k
from vegtts_core.metrics.shares import GROUP
from vegtts_core.statistics.bootstrap import LEVEL, NAN, RESAMPLES, Interval, Population, cluster_weights

SHARE = 0.95
"""Of the curve's last value."""

#: Shares that are equal in exact arithmetic may differ by this.
_SLACK = 1e-12


def saturation(
    view: pd.DataFrame,
    share: float = SHARE,
    p: float = 1.0,
    population: Population = Population.TASKS,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> Interval:
    """The fewest samples K with pass@K >= ``share`` * pass@n, n being the size of the smallest group.

    Bounds are percentiles over resampled curves (order statistics, so whole numbers), each held against its own last
    value; resamples in which nothing is fast have no answer and are left out. The estimate is NaN where nothing is
    fast, or n < 2 (one sample cannot show a curve); the bounds are NaN where ``population`` cannot be resampled. ``n``
    counts tasks.
    """
    if not len(view):
        return Interval(NAN, NAN, NAN, 0, level)
    hits = view.assign(hit=view["fast_limit"] > p)
    groups = hits.groupby(GROUP, as_index=False).agg(n=("hit", "size"), c=("hit", "sum"))
    tasks, n = int(groups["task"].nunique()), int(groups["n"].min())
    ks = np.arange(1, n + 1)
    curves = pass_at_k(groups["n"].to_numpy()[:, None], groups["c"].to_numpy()[:, None], ks[None, :])
    weights, draws = cluster_weights(groups["task"].to_numpy(), population, resamples, seed)
    found = _fewest(np.atleast_2d(weights @ curves), share)
    if n < 2 or not len(found):
        return Interval(NAN, NAN, NAN, tasks, level)
    resampled = _fewest(draws @ curves, share)
    if not len(resampled):
        return Interval(float(found[0]), NAN, NAN, tasks, level)
    tail = (1 - level) / 2
    low, high = np.quantile(resampled, [tail, 1 - tail], method="inverted_cdf")
    return Interval(float(found[0]), float(low), float(high), tasks, level)


def _fewest(curves: NDArray[np.float64], share: float) -> NDArray[np.int64]:
    """For each row (pass@1, pass@2, ...) that ends above 0, the first K that reaches ``share`` of its end."""
    ends = curves[:, -1] if curves.size else np.zeros(0)
    rows = curves[ends > _SLACK]
    if not len(rows):
        return np.zeros(0, dtype=np.int64)
    return np.argmax(rows >= share * rows[:, -1:] - _SLACK, axis=1) + 1

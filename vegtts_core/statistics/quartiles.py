"""Quartiles of surprisal among correct samples: which part of the distribution holds the fast ones (section 5.2).

Samples of equal surprisal (mostly copies of one completion) that straddle a boundary are shared between the quartiles
in proportion, so that the result does not depend on the order of rows. This module does not know why a sample is fast.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from vegtts_core.statistics.bootstrap import RESAMPLES, Interval, percentiles, weighted_means

QUARTILES = ("Q1 (highest surprisal)", "Q2", "Q3", "Q4 (lowest surprisal)")


def quartile_weights(surprisal: ArrayLike) -> NDArray[np.float64]:
    """Membership of each sample in each quartile, highest surprisal first.

    ``surprisal``: shape (n,), nats per token. Returns shape (n, 4); rows sum to 1, columns to n / 4.
    """
    falling = -np.asarray(surprisal, dtype=float)
    n = len(falling)
    if n == 0:
        return np.zeros((0, 4))
    # A block of ties occupies the ranks (low, high]; each of its members spreads evenly over that stretch.
    low, high = stats.rankdata(falling, method="min") - 1.0, stats.rankdata(falling, method="max").astype(float)
    edges = np.arange(5) * n / 4
    overlap = np.minimum(high[:, None], edges[1:]) - np.maximum(low[:, None], edges[:-1])
    return np.clip(overlap, 0.0, None) / (high - low)[:, None]


def _memberships(rows: pd.DataFrame, within_task: bool) -> NDArray[np.float64]:
    if not within_task:
        return quartile_weights(rows["surprisal"])
    weights = np.zeros((len(rows), 4))
    for positions in rows.groupby("task").indices.values():
        weights[positions] = quartile_weights(rows["surprisal"].to_numpy()[positions])
    return weights


def surprisal_quartiles(
    view: pd.DataFrame, p: float = 1.0, within_task: bool = False, resamples: int = RESAMPLES // 4, seed: int = 0
) -> pd.DataFrame:
    """fast_p, speedup and length per quartile of surprisal, over correct, timed samples.

    Pooled (the paper's way) a quartile is largely a choice of tasks, since tasks differ in surprisal; ``within_task``
    cuts each task into quartiles of its own and pools those. One row per quartile: ``quartile``, ``n`` (samples, may be
    fractional where ties straddle), ``fast`` (share with fast_p), ``low`` and ``high`` (95% percentile bootstrap over
    tasks), ``mean_speedup`` (arithmetic), ``geometric_speedup``, ``mean_tokens``, ``tasks`` (that have a part in it).
    """
    rows = view[view["correct"] & view["speedup"].notna() & view["surprisal"].notna()]
    fast = (rows["fast_limit"] > p).to_numpy(dtype=float)
    speedup, tokens = rows["speedup"].to_numpy(dtype=float), rows["tokens"].to_numpy(dtype=float)
    weights = _memberships(rows, within_task)
    draws = _draws(rows, fast, within_task, resamples, seed)
    table = []
    for q, label in enumerate(QUARTILES):
        w = weights[:, q]
        low, high = percentiles(draws[:, q])
        table.append(
            {
                "quartile": label,
                "n": float(w.sum()),
                "fast": float(weighted_means(w, fast)),
                "low": low,
                "high": high,
                "mean_speedup": float(weighted_means(w, speedup)),
                "geometric_speedup": float(np.exp(weighted_means(w, np.log(speedup)))),
                "mean_tokens": float(weighted_means(w, tokens)),
                "tasks": int(rows.loc[w > 0, "task"].nunique()),
            }
        )
    return pd.DataFrame(table)


def quartile_contrast(
    view: pd.DataFrame,
    weights: ArrayLike,
    p: float = 1.0,
    within_task: bool = False,
    resamples: int = RESAMPLES // 4,
    seed: int = 0,
) -> Interval:
    """``weights`` (shape (4,), from the most surprising quartile on) times the quartiles' shares with fast_p.

    Bounds: 95% percentile bootstrap over tasks, whose resamples make quartiles anew; NaN for one task. ``n``: tasks.
    """
    rows = view[view["correct"] & view["speedup"].notna() & view["surprisal"].notna()]
    fast, contrast = (rows["fast_limit"] > p).to_numpy(dtype=float), np.asarray(weights, dtype=float)
    shares = weighted_means(_memberships(rows, within_task).T, fast)
    low, high = percentiles(_draws(rows, fast, within_task, resamples, seed) @ contrast)
    return Interval(float(shares @ contrast), low, high, int(rows["task"].nunique()))


def _draws(
    rows: pd.DataFrame, fast: NDArray[np.float64], within_task: bool, resamples: int, seed: int
) -> NDArray[np.float64]:
    """Share of fast samples per quartile in each resample of tasks, shape (resamples, 4); no rows for one task."""
    members = list(rows.groupby("task").indices.values())
    if len(members) < 2:
        return np.zeros((0, 4))
    rng = np.random.default_rng(seed)
    surprisal = rows["surprisal"].to_numpy(dtype=float)
    own = [quartile_weights(surprisal[m]) for m in members]
    draws = []
    for _ in range(resamples):
        chosen = rng.integers(len(members), size=len(members))
        positions = np.concatenate([members[t] for t in chosen])
        weights = np.concatenate([own[t] for t in chosen]) if within_task else quartile_weights(surprisal[positions])
        draws.append(weighted_means(weights.T, fast[positions]))
    return np.array(draws)

"""Checkpoints adapted on one subset of tasks, evaluated on another (section 5.5, cross-subset transfer).

Base policy and Best-of-N are the same policy with the same sampling: their fast_p **per sample** estimates one number,
and a gap between them (the paper's 17.5% and 36.9% on subset 2) is noise or a fault, not search against no search.
The table shows that difference too, as a control.
"""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from vegtts_core.metrics.shares import under
from vegtts_core.statistics.bootstrap import LEVEL, RESAMPLES, mean_interval
from vegtts_core.statistics.paired import sign_test


@dataclass(frozen=True)
class Transfer:
    """Tables of ``measure_transfer``: by task, by condition, and the paired differences."""

    tasks: pd.DataFrame
    conditions: pd.DataFrame
    differences: pd.DataFrame


def measure_transfer(
    adapted: pd.DataFrame,
    base: pd.DataFrame,
    best_of_n: pd.DataFrame | None,
    protocol: str,
    p: float = 1.0,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> Transfer:
    """Per-sample fast_p of an adapted checkpoint on tasks that it was not adapted to.

    Each argument is a samples table (``schema.SAMPLES``) over the same tasks; of ``adapted`` only the rollouts of the
    checkpoint in question (one step per seed). A task's share is the mean over its (seed, step) groups.
    ``tasks``: indexed by task, one column per condition (``adapted``, ``base``, ``best_of_n``).
    ``conditions``: ``condition, sample_fast_p, low, high`` (bootstrap over tasks and seeds), ``samples, tasks, seeds``.
    ``differences``: ``first, second, difference, low, high`` (bootstrap over tasks, paired), ``better``, ``worse``
    (tasks in which first is above or below second), ``p_value`` and ``smallest_p`` (exact sign test over tasks, which
    5 tasks cannot bring below 0.06), ``tasks``. Raises ValueError where the tables do not hold the same tasks.
    """
    tables = {"adapted": adapted, "base": base} | ({} if best_of_n is None else {"best_of_n": best_of_n})
    shares, rows = {}, []
    for name, samples in tables.items():
        view = under(samples, protocol)
        view["fast"] = view["fast_limit"] > p
        groups = view.groupby(["task", "seed", "step"], as_index=False)["fast"].mean()
        shares[name] = groups.groupby("task")["fast"].mean()
        found = mean_interval(groups["fast"], groups["task"], resamples=resamples, level=level, seed=seed)
        row = {"condition": name, "sample_fast_p": found.estimate, "low": found.low, "high": found.high}
        rows.append(row | {"samples": len(view), "tasks": found.n, "seeds": view["seed"].nunique()})
    for name, share in shares.items():
        if set(share.index) != set(shares["adapted"].index):
            unlike = sorted(set(share.index) ^ set(shares["adapted"].index))
            raise ValueError(f"'adapted' and {name!r} must hold the same tasks; only one has {', '.join(unlike)}.")
    tasks = pd.DataFrame(shares)
    pairs = [("adapted", "base"), ("adapted", "best_of_n"), ("best_of_n", "base")]
    differences = [
        _difference(tasks, first, second, resamples, level, seed)
        for first, second in pairs
        if first in tasks and second in tasks
    ]
    columns = ["first", "second", "difference", "low", "high", "better", "worse", "p_value", "smallest_p", "tasks"]
    return Transfer(tasks, pd.DataFrame(rows), pd.DataFrame(differences, columns=columns))


def _difference(
    tasks: pd.DataFrame, first: str, second: str, resamples: int, level: float, seed: int
) -> dict[str, float | str]:
    a, b = tasks[first], tasks[second]
    found = mean_interval(a - b, tasks.index, resamples=resamples, level=level, seed=seed)
    sign = sign_test(a, b)
    better = int(sign.statistic) if sign.n else 0
    return {
        "first": first,
        "second": second,
        "difference": found.estimate,
        "low": found.low,
        "high": found.high,
        "better": better,
        "worse": sign.n - better,
        "p_value": sign.p_value,
        "smallest_p": sign.smallest_p,
        "tasks": found.n,
    }

"""Rank correlations between log-probability, speedup and length, with samples grouped by task.

It knows only arrays and their task labels. The usual p-value treats samples as independent, which samples of one task
are not: beside it stands a permutation p-value that shuffles within tasks only, and a bootstrap over tasks. Copies of
one completion are still several samples to a permutation; ``length_control(distinct=True)`` collapses them first.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from vegtts_core.statistics.bootstrap import NAN, RESAMPLES, mean_interval, percentiles

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Correlation:
    """Spearman's rho.

    ``p_naive``: two-sided, as if the n samples were independent (what the paper gives). ``p_within_task``: two-sided,
    from permutations within tasks: a departure from what the differences between tasks alone produce. ``low`` and
    ``high``: 95% percentile bootstrap over tasks. NaN where undefined.
    """

    rho: float
    p_naive: float
    p_within_task: float
    low: float
    high: float
    n: int
    tasks: int


def _unit(values: Array) -> Array:
    """Centred and scaled to length 1; all NaN where constant, so that a dot product of two is a correlation."""
    centred = values - values.mean()
    length = float(np.sqrt(centred @ centred))
    scale = float(np.abs(values).max()) * np.sqrt(len(values))
    return centred / length if length > 1e-12 * scale else np.full_like(centred, np.nan)


def _prepared(x: Array, y: Array, control: Array | None) -> tuple[Array, Array]:
    """Unit vectors of the ranks of x and y, with the ranks of the control regressed out."""
    ranks = [_unit(stats.rankdata(v)) for v in (x, y)]
    if control is None:
        return ranks[0], ranks[1]
    c = _unit(stats.rankdata(control))
    if np.isnan(c).any():
        # A constant control explains nothing.
        return ranks[0], ranks[1]
    residuals = [r - (r @ c) * c for r in ranks]
    # What the control explains entirely leaves rounding, not a residual.
    return tuple(  # type: ignore[return-value]
        _unit(r) if r @ r > 1e-18 else np.full_like(r, np.nan) for r in residuals
    )


def _within_task_p(a: Array, b: Array, codes: NDArray[np.int64], permutations: int, seed: int) -> float:
    """Two-sided p of ``a @ b`` under permutations of ``a`` within tasks, about the permutations' own mean."""
    rng = np.random.default_rng(seed)
    order = np.argsort(codes, kind="stable")
    target, source = b[order], codes
    draws = np.array([a[np.lexsort((rng.random(len(a)), source))] @ target for _ in range(permutations)])
    if np.ptp(draws) < 1e-12:
        return NAN
    centre = draws.mean()
    extreme = np.abs(draws - centre) >= abs(a @ b - centre) - 1e-12
    return float((1 + extreme.sum()) / (1 + permutations))


def _clean(
    x: ArrayLike, y: ArrayLike, tasks: ArrayLike, control: ArrayLike | None
) -> tuple[Array, Array, NDArray[np.int64], Array | None]:
    a, b = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    c = None if control is None else np.asarray(control, dtype=float)
    keep = np.isfinite(a) & np.isfinite(b)
    if c is not None:
        keep &= np.isfinite(c)
    codes, _ = pd.factorize(np.asarray(tasks)[keep])
    return a[keep], b[keep], codes.astype(np.int64), None if c is None else c[keep]


def spearman(
    x: ArrayLike,
    y: ArrayLike,
    tasks: ArrayLike,
    control: ArrayLike | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Correlation:
    """Spearman's rho over pooled samples; with ``control``, the partial one (residuals of ranks).

    All of shape (n,). Pooled, the differences between tasks dominate: ``within_task_spearman`` leaves them out.
    """
    a, b, codes, c = _clean(x, y, tasks, control)
    n, count = len(a), int(codes.max()) + 1 if len(a) else 0
    free = n - 2 - (0 if c is None else 1)
    if free < 1:
        return Correlation(NAN, NAN, NAN, NAN, NAN, n, count)
    u, v = _prepared(a, b, c)
    rho = float(np.clip(u @ v, -1.0, 1.0))
    if np.isnan(rho):
        return Correlation(NAN, NAN, NAN, NAN, NAN, n, count)
    t = np.inf if 1 - rho * rho < 1e-15 else rho * np.sqrt(free / (1 - rho * rho))
    low, high = _task_bootstrap(a, b, codes, c, resamples, seed) if count > 1 else (NAN, NAN)
    return Correlation(
        rho, float(2 * stats.t.sf(abs(t), free)), _within_task_p(u, v, codes, resamples, seed), low, high, n, count
    )


def _task_bootstrap(
    a: Array, b: Array, codes: NDArray[np.int64], c: Array | None, resamples: int, seed: int
) -> tuple[float, float]:
    rng = np.random.default_rng(seed)
    members = [np.flatnonzero(codes == task) for task in range(int(codes.max()) + 1)]
    draws = []
    for _ in range(resamples):
        rows = np.concatenate([members[t] for t in rng.integers(len(members), size=len(members))])
        u, v = _prepared(a[rows], b[rows], None if c is None else c[rows])
        draws.append(float(u @ v))
    return percentiles(draws)


def within_task_spearman(
    x: ArrayLike, y: ArrayLike, tasks: ArrayLike, resamples: int = RESAMPLES, seed: int = 0
) -> Correlation:
    """Mean over tasks of Spearman's rho within the task: what selection within a task could use.

    Tasks in which x or y is constant have no rho and are left out; ``tasks`` counts the others, ``n`` their samples.
    ``p_naive`` is NaN.
    """
    a, b, codes, _ = _clean(x, y, tasks, None)
    kept_a, kept_b, kept_codes, rhos = [], [], [], []
    for task in range(int(codes.max()) + 1 if len(a) else 0):
        rows = codes == task
        u, v = _prepared(a[rows], b[rows], None)
        if np.isfinite(u @ v):
            rhos.append(float(u @ v))
            kept_a.append(u)
            kept_b.append(v)
            kept_codes.append(codes[rows])
    if not rhos:
        return Correlation(NAN, NAN, NAN, NAN, NAN, 0, 0)
    u, v, labels = np.concatenate(kept_a), np.concatenate(kept_b), np.concatenate(kept_codes)
    interval = mean_interval(rhos, np.arange(len(rhos)), resamples=resamples, seed=seed)
    p = _within_task_p(u, v, labels, resamples, seed)
    return Correlation(interval.estimate, NAN, p, interval.low, interval.high, len(u), len(rhos))


def length_control(
    view: pd.DataFrame,
    signal: str = "mean_logprob",
    distinct: bool = False,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> pd.DataFrame:
    """The length-controlled analysis of section 5.2 over correct, timed samples, and the same within tasks.

    ``signal`` is ``mean_logprob`` or ``sampling_mean_logprob``: rho < 0 means that more surprising samples are faster.
    ``distinct`` collapses equal candidates of a task into one (means of signal, speedup and tokens). One row per
    analysis, columns ``analysis`` and the fields of ``Correlation``.
    """
    rows = view[view["correct"] & view["speedup"].notna()]
    columns = ["task", "fingerprint", signal, "speedup", "tokens"]
    rows = rows[columns]
    if distinct:
        rows = rows.groupby(["task", "fingerprint"], as_index=False).mean()
    logprob, speedup, tokens, tasks = (rows[c].to_numpy() for c in (signal, "speedup", "tokens", "task"))
    found = {
        "log-probability and speedup": spearman(logprob, speedup, tasks, None, resamples, seed),
        "log-probability and speedup, controlling for length": spearman(
            logprob, speedup, tasks, tokens, resamples, seed
        ),
        "length and speedup": spearman(tokens, speedup, tasks, None, resamples, seed),
        "log-probability and speedup, within task": within_task_spearman(logprob, speedup, tasks, resamples, seed),
    }
    return pd.DataFrame([{"analysis": name, **asdict(value)} for name, value in found.items()])

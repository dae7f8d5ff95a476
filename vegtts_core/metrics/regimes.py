"""Does adaptation help where the base policy already succeeds? (section 5.4, figure 5)

The paper's rule: tasks with more than 30% base coverage gain from adaptation, the others from search. Coverage and
benefit share Best-of-N's number (benefit = adapted - Best-of-N), so that its noise alone gives a negative correlation:
``rho_split`` takes coverage from one half of its rollouts and the benefit from the other. The adapted share is
optimistic as well, since its step was chosen by the same rollouts (``split_half_optimism``).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from vegtts_core.metrics.adaptation import trajectory
from vegtts_core.metrics.checkpoints import DIGITS, best_of_adaptation
from vegtts_core.metrics.shares import under
from vegtts_core.statistics.bootstrap import LEVEL, RESAMPLES, Interval, percentiles
from vegtts_core.statistics.correlation import Correlation, spearman
from vegtts_core.statistics.paired import wilson

THRESHOLD = 0.3
"""Of base coverage (section 5.4)."""


@dataclass(frozen=True)
class Regimes:
    """Described in ``compare_regimes``."""

    tasks: pd.DataFrame
    steps: pd.Series
    counts: pd.DataFrame
    agreement: Interval
    correlation: Correlation
    rho_split: float
    rho_split_low: float
    rho_split_high: float


def classify_regimes(coverage: pd.Series, benefit: pd.Series, threshold: float = THRESHOLD) -> pd.DataFrame:
    """Counts of tasks: index ``above`` (coverage > threshold) and ``below``, columns ``benefits`` (> 0), ``does_not``.

    ``coverage``, ``benefit``: one value per task, fractions of 1; NaN counts nowhere.
    """
    known = coverage.notna() & benefit.notna()
    above, gains = coverage[known] > threshold, benefit[known] > 0
    cells = [[int((a & g).sum()) for g in (gains, ~gains)] for a in (above, ~above)]
    return pd.DataFrame(cells, index=["above", "below"], columns=["benefits", "does_not"])


def informative(tasks: pd.DataFrame) -> pd.Series:
    """Per task, whether a rule can be right or wrong of it: not where nothing is fast either way, or everything.

    ``tasks`` with columns ``coverage`` and ``benefit``, fractions of 1.
    """
    before = tasks["coverage"]
    still = tasks["benefit"].abs() < 1e-12
    return ~(still & ((before < 1e-12) | (before > 1 - 1e-12)))


def compare_regimes(
    best_of_n: pd.DataFrame,
    adaptation: pd.DataFrame,
    protocol: str,
    p: float = 1.0,
    threshold: float = THRESHOLD,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> Regimes:
    """Per task, base coverage against what adaptation gains over Best-of-N at equal rollouts.

    Both arguments are samples tables (``schema.SAMPLES``) over the same tasks. Each adaptation seed is cut to the steps
    whose rollouts so far do not exceed Best-of-N's per seed (section 4.1), then the best of those after an update is
    taken.
    ``tasks``: one row per task: ``coverage`` (Best-of-N's per-sample fast_p), ``base`` (step 0 of the adaptation run:
    the same policy), ``adapted`` (at the chosen step), means over seeds; ``benefit`` = adapted - coverage with ``low``,
    ``high`` (Newcombe's interval, rollouts independent), ``above``, ``benefits``.
    ``steps``: the step chosen, indexed by seed. ``counts``: ``classify_regimes``'s table. ``agreement``: share of the
    `informative` tasks that the paper's rule gets right, with Wilson bounds. ``correlation``: Spearman's rho(coverage,
    benefit) over them, bootstrap over tasks. ``rho_split``: the same with independent halves, mean over random halves,
    with the halves' percentiles (not a confidence interval).
    Raises ValueError where tasks differ or not even step 1 fits the budget.
    """
    view = under(best_of_n, protocol)
    view["fast"] = view["fast_limit"] > p
    if set(view["task"]) != set(adaptation["task"]):
        unlike = sorted(set(view["task"]) ^ set(adaptation["task"]))
        raise ValueError(f"Best-of-N and adaptation must hold the same tasks; only one has {', '.join(unlike)}.")
    budget = int(view.groupby("seed").size().max())
    whole = trajectory(adaptation, protocol, p, resamples=1)
    affordable = whole.seeds[(whole.seeds["rollouts"] <= budget) & (whole.seeds["step"] > 0)]
    if set(affordable["seed"]) != set(whole.seeds["seed"]):
        raise ValueError(f"Step 1 of the adaptation run costs more than Best-of-N's {budget} rollouts per seed.")
    best = best_of_adaptation(type(whole)(whole.tasks, affordable, whole.steps))
    chosen = whole.tasks.merge(best[["seed", "step"]], on=["seed", "step"])
    start = whole.tasks[whole.tasks["step"] == 0].groupby("task")["sample_fast_p"].mean()
    groups = view.groupby(["task", "seed"], as_index=False)["fast"].agg(["sum", "size"])
    shares = groups.assign(share=groups["sum"] / groups["size"]).groupby("task")
    tasks = pd.DataFrame({"coverage": shares["share"].mean()})
    tasks["base"] = start.reindex(tasks.index)
    tasks["adapted"] = chosen.groupby("task")["sample_fast_p"].mean()
    tasks["benefit"] = tasks["adapted"] - tasks["coverage"]
    sizes = shares["size"].sum(), chosen.groupby("task")["samples"].sum()
    bounds = [
        _newcombe(after, int(sizes[1][task]), before, int(sizes[0][task]), level)
        for task, after, before in zip(tasks.index, tasks["adapted"], tasks["coverage"], strict=True)
    ]
    tasks["low"], tasks["high"] = np.array(bounds).reshape(-1, 2).T
    tasks["above"], tasks["benefits"] = tasks["coverage"] > threshold, tasks["benefit"] > 0
    told = tasks[informative(tasks)]
    right = int((told["above"] == told["benefits"]).sum())
    rho = spearman(told["coverage"], told["benefit"], told.index, None, resamples, seed)
    split = _split(groups[groups["task"].isin(told.index)], told["adapted"], resamples, seed)
    return Regimes(
        tasks=tasks.reset_index(),
        steps=best.set_index("seed")["step"],
        counts=classify_regimes(tasks["coverage"], tasks["benefit"], threshold),
        agreement=wilson(right, len(told), level),
        correlation=rho,
        rho_split=float(split.mean()) if len(split) else float("nan"),
        rho_split_low=percentiles(split, level)[0],
        rho_split_high=percentiles(split, level)[1],
    )


def _newcombe(first: float, n_first: int, second: float, n_second: int, level: float) -> tuple[float, float]:
    """Newcombe's (1998, method 10) interval for a difference of two independent shares."""
    a, b = wilson(first * n_first, n_first, level), wilson(second * n_second, n_second, level)
    low = first - second - float(np.hypot(first - a.low, b.high - second))
    return low, first - second + float(np.hypot(a.high - first, second - b.low))


def _split(groups: pd.DataFrame, adapted: pd.Series, splits: int, seed: int) -> np.ndarray:
    """rho(coverage on one half, adapted - coverage on the other half) for random halves; undefined ones left out."""
    rng = np.random.default_rng(seed)
    sizes, hits = groups["size"].to_numpy(), groups["sum"].to_numpy()
    if not len(groups) or sizes.min() < 2:
        return np.zeros(0)
    half = sizes // 2
    drawn = rng.hypergeometric(hits, sizes - hits, half, size=(splits, len(groups)))
    codes, names = pd.factorize(groups["task"], sort=True)
    mean = np.eye(len(names))[codes] / np.bincount(codes)[codes][:, None]
    coverage, other = (drawn / half) @ mean, ((hits - drawn) / (sizes - half)) @ mean
    x = stats.rankdata(coverage.round(DIGITS), axis=1)
    y = stats.rankdata((adapted.loc[names].to_numpy() - other).round(DIGITS), axis=1)
    x, y = x - x.mean(axis=1, keepdims=True), y - y.mean(axis=1, keepdims=True)
    scale = np.sqrt((x * x).sum(axis=1) * (y * y).sum(axis=1))
    return (x * y).sum(axis=1)[scale > 0] / scale[scale > 0]

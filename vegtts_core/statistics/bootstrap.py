"""A two-level bootstrap: tasks are drawn with replacement, then seeds within each drawn task.

It works on one number per (task, seed) and knows nothing of what the number means. Samples of one task are not
independent of each other, so tasks, not samples, are what is drawn.

The percentile interval is too narrow where the tasks are few: with 5 tasks a nominal 95% covers nearer 80 to 90%. And
where every value is equal its width is 0, which is a property of the method and not evidence: five successes out of
five are compatible with a success rate of 57% (``wilson``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

RESAMPLES = 2000
LEVEL = 0.95

NAN = float("nan")


class Population(StrEnum):
    """What an interval speaks of."""

    TASKS = "tasks"
    """Other tasks like these, each with new seeds."""
    SEEDS = "seeds"
    """These very tasks, with new seeds."""

    @property
    def sentence(self) -> str:
        """For captions."""
        if self is Population.TASKS:
            return "Intervals: percentile bootstrap over tasks and, within a task, over seeds (other tasks like these)."
        return "Intervals: percentile bootstrap over seeds within each task (these tasks, other seeds)."


@dataclass(frozen=True)
class Interval:
    """An estimate with bounds; ``n`` is the number of clusters (tasks, or pairs) that it rests on.

    Bounds are NaN where n does not allow any.
    """

    estimate: float
    low: float
    high: float
    n: int
    level: float = LEVEL

    def __str__(self) -> str:
        return f"{self.estimate:.3g} [{self.low:.3g}, {self.high:.3g}] (n = {self.n})"


def cluster_weights(
    clusters: ArrayLike,
    population: Population = Population.TASKS,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weights that turn one number per (task, seed) into its mean over tasks, for the data and for every resample.

    ``clusters``: shape (g,), the task of each number. Returns ``(weights, draws)``: shape (g,), summing to 1 (each task
    weighs the same, however many seeds it has), and shape (resamples, g), each row summing to 1. ``draws`` has no rows
    where nothing can be resampled: fewer than two tasks (``TASKS``), or no task with two seeds (``SEEDS``).
    """
    codes, names = pd.factorize(np.asarray(clusters))
    tasks, groups = len(names), len(codes)
    if groups == 0:
        return np.zeros(0), np.zeros((0, 0))
    seeds = np.bincount(codes, minlength=tasks)
    weights = 1.0 / (tasks * seeds[codes])
    if (population is Population.TASKS and tasks < 2) or (population is Population.SEEDS and seeds.max() < 2):
        return weights, np.zeros((0, groups))
    rng = np.random.default_rng(seed)
    # Groups sorted by task: a task's groups are order[start : start + seeds].
    order = np.argsort(codes, kind="stable")
    start = np.concatenate([[0], np.cumsum(seeds)[:-1]])
    if population is Population.TASKS:
        drawn = rng.integers(tasks, size=(resamples, tasks))
    else:
        drawn = np.broadcast_to(np.arange(tasks), (resamples, tasks))
    draws = np.zeros((resamples, groups))
    rows = np.broadcast_to(np.arange(resamples)[:, None], drawn.shape)
    for slot in range(int(seeds.max())):
        used = slot < seeds[drawn]
        pick = (rng.random(drawn.shape) * seeds[drawn]).astype(np.int64)
        group = order[start[drawn] + pick]
        np.add.at(draws, (rows[used], group[used]), 1.0 / (tasks * seeds[drawn][used]))
    return weights, draws


def weighted_means(weights: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weighted means that leave out missing values; NaN where nothing is left.

    ``weights``: shape (g,) or (resamples, g); ``values``: shape (g,) or (g, m). Returns ``weights @ values`` over the
    finite values, renormalised.
    """
    present = np.isfinite(values)
    total = weights @ present
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(total > 0, (weights @ np.where(present, values, 0.0)) / total, np.nan)


def percentiles(draws: ArrayLike, level: float = LEVEL) -> tuple[float, float]:
    """Lower and upper percentile of the finite draws (last axis dropped); NaN if there are none."""
    finite = np.asarray(draws, dtype=float)
    finite = finite[np.isfinite(finite)]
    if finite.size == 0:
        return NAN, NAN
    tail = (1 - level) / 2
    low, high = np.quantile(finite, [tail, 1 - tail])
    return float(low), float(high)


def mean_interval(
    values: ArrayLike | Sequence[float],
    clusters: ArrayLike,
    population: Population = Population.TASKS,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> Interval:
    """Mean over tasks of the mean over seeds, with its bootstrap interval.

    ``values``: shape (g,), one per (task, seed), NaN where missing; ``clusters``: shape (g,), its task.
    ``n`` counts the tasks with a value.
    """
    numbers = np.asarray(values, dtype=float)
    keep = np.isfinite(numbers)
    numbers, names = numbers[keep], np.asarray(clusters)[keep]
    weights, draws = cluster_weights(names, population, resamples, seed)
    if numbers.size == 0:
        return Interval(NAN, NAN, NAN, 0, level)
    low, high = percentiles(draws @ numbers, level)
    return Interval(float(weights @ numbers), low, high, len(np.unique(names.astype(str))), level)

"""What a design could have found: power of a t-test over tasks, of a claim of equality, of a count; and that t-test.

It knows a number of tasks, their spread and an effect, and nothing of what was measured. The formulas are exact for
normal task means (`mean_power`, `equality_power`) and for independent cases (`count_power`).

The bootstrap over tasks (``bootstrap.mean_interval``) is too narrow where tasks are few, so it alone would call too
much an effect. ``Effect`` puts the t-interval over task means beside it, and has a sign only where both agree; the
power given here is that of the t-test, which is the stricter of the two wherever the bootstrap is too narrow.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats

from vegtts_core.statistics.bootstrap import LEVEL, NAN, Interval, mean_interval

ALPHA = 0.05
"""Level of every test, two-sided."""

_CERTAIN = 35.0
"""An effect in standard errors beyond which power is not computed: a test of three tasks or more cannot miss it."""

_GRID = (np.arange(400) + 0.5) / 400


def task_means(values: ArrayLike, clusters: ArrayLike) -> np.ndarray:
    """Mean of the finite values of each task, shape (tasks,)."""
    frame = pd.DataFrame({"value": np.asarray(values, dtype=float), "task": np.asarray(clusters)}).dropna()
    return frame.groupby("task")["value"].mean().to_numpy()


def mean_power(effect: float, spread: float, n: int, alpha: float = ALPHA) -> float:
    """Probability that a two-sided t-test over n task means finds a true mean ``effect``; ``alpha`` at no effect.

    ``spread``: standard deviation over task means. NaN for fewer than two tasks or an unknown spread.
    """
    if n < 2 or not np.isfinite(effect) or not np.isfinite(spread) or spread < 0:
        return NAN
    if effect == 0:
        return alpha
    shift = abs(effect) * np.sqrt(n) / spread if spread > 0 else np.inf
    if shift > _CERTAIN and (n > 2 or np.isinf(shift)):
        return 1.0
    # The square of a noncentral t is a noncentral F, whose tails scipy has right.
    limit = float(stats.t.ppf(1 - alpha / 2, n - 1)) ** 2
    return float(np.clip(stats.ncf.sf(limit, 1, n - 1, shift**2), alpha, 1.0))


def tasks_needed(effect: float, spread: float, power: float = 0.8, most: int = 1000) -> int | None:
    """The fewest tasks with which `mean_power` reaches ``power``; None if ``most`` do not, or nothing is known."""
    if not np.isfinite(effect) or not np.isfinite(spread) or effect == 0:
        return None
    low, high = 2, most
    if mean_power(effect, spread, most) < power:
        return None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if mean_power(effect, spread, middle) >= power else (middle + 1, high)
    return low


def equality_power(margin: float, spread: float, n: int, truth: float = 0.0, alpha: float = ALPHA) -> float:
    """Probability that the t-interval of n task means lies inside ±``margin`` if their true mean is ``truth``.

    What a claim of "no difference" needs. NaN for fewer than two tasks or an unknown spread.
    """
    if n < 2 or not np.isfinite(spread) or spread < 0 or not np.isfinite(truth):
        return NAN
    if spread == 0:
        return float(abs(truth) < margin)
    error = spread / np.sqrt(n)
    # The estimated spread varies: average over its distribution.
    estimated = error * np.sqrt(stats.chi2.ppf(_GRID, n - 1) / (n - 1))
    room = margin - stats.t.ppf(1 - alpha / 2, n - 1) * estimated
    inside = stats.norm.cdf((room - truth) / error) - stats.norm.cdf((-room - truth) / error)
    return float(np.where(room > 0, inside, 0.0).mean())


def count_power(share: float, n: int, decides: Callable[[int], bool]) -> float:
    """Probability that ``decides`` accepts the number of successes among n independent cases of probability ``share``.

    NaN for no cases.
    """
    if n < 1 or not 0 <= share <= 1:
        return NAN
    chances = stats.binom.pmf(np.arange(n + 1), n, share)
    return float(sum(chance for k, chance in enumerate(chances) if decides(k)))


@dataclass(frozen=True)
class Effect:
    """A mean over tasks: ``interval`` is the hierarchical bootstrap's, ``test`` the t-interval over task means.

    ``spread``: standard deviation over task means; ``groups``: values (task and seed) behind it; ``floor``: whether the
    values are differences of success, whose spread `least_spread` bounds from below.
    """

    interval: Interval
    test: Interval
    spread: float
    groups: int
    floor: bool = True

    @property
    def n(self) -> int:
        """Tasks."""
        return self.interval.n

    @property
    def sign(self) -> int:
        """1 or -1 where both intervals lie on one side of 0, else 0."""
        if self.low > 0:
            return 1
        return -1 if self.high < 0 else 0

    def among(self, tests: int) -> Effect:
        """The same with both intervals as wide as so many tests at once ask for (Bonferroni, Student's quantiles)."""
        if tests < 2 or self.n < 2:
            return self
        first, each = (float(stats.t.ppf(1 - ALPHA / 2 / count, self.n - 1)) for count in (1, tests))
        return replace(self, interval=_wider(self.interval, each / first), test=_wider(self.test, each / first))

    @property
    def low(self) -> float:
        """The lower of the two lower bounds; NaN where either is unknown."""
        return float(np.minimum(self.interval.low, self.test.low))

    @property
    def high(self) -> float:
        """The higher of the two upper bounds; NaN where either is unknown."""
        return float(np.maximum(self.interval.high, self.test.high))

    @property
    def widest(self) -> Interval:
        """The estimate between `low` and `high`: what decides."""
        return replace(self.interval, low=self.low, high=self.high)

    def within(self, margin: float) -> bool:
        """Whether both intervals lie inside ±``margin``; a floor of the spread keeps the test's from closing up."""
        return self.below(margin) and self._floored(margin)[0] > -margin

    def below(self, margin: float) -> bool:
        """Whether both intervals lie below ``margin``, as in `within`."""
        return bool(self._floored(margin)[1] < margin)

    def _floored(self, margin: float) -> tuple[float, float]:
        """Bounds that do not close up where nothing moved."""
        if self.n < 2:
            return NAN, NAN
        half = float(stats.t.ppf(1 - ALPHA / 2, self.n - 1)) * self._spread(margin) / float(np.sqrt(self.n))
        middle = self.interval.estimate
        return float(np.fmin(self.low, middle - half)), float(np.fmax(self.high, middle + half))

    def misses(self, effect: float, power: float = 0.8) -> bool:
        """Whether the wider interval excludes ``effect``, by a design that finds it with this power."""
        return bool(self.power(effect) >= power and (effect < self.low or effect > self.high))

    def power(self, effect: float, tasks: int | None = None) -> float:
        """`mean_power` for ``effect`` with the spread measured, but no less than its floor.

        ``tasks``: how many could show it at all, where not every task can.
        """
        n = self.n if tasks is None else tasks
        return mean_power(effect, self._spread(effect), n)

    def needed(self, effect: float, power: float = 0.8) -> int | None:
        """`tasks_needed` with the spread that `power` takes."""
        return tasks_needed(effect, self._spread(effect), power) if self.n > 1 else None

    def equality(self, margin: float, truth: float = 0.0) -> float:
        """`equality_power` with the spread measured, but no less than its floor for the margin."""
        return equality_power(margin, self._spread(margin), self.n, truth)

    def _spread(self, effect: float) -> float:
        if not self.floor:
            return self.spread
        # Seeds of one task may all do alike: they are not taken to narrow what tasks differ by.
        return float(np.fmax(self.spread, least_spread(effect)))


def _wider(found: Interval, factor: float) -> Interval:
    middle = found.estimate
    low, high = middle - factor * (middle - found.low), middle + factor * (found.high - middle)
    return replace(found, low=low, high=high)


def least_spread(effect: float, groups: float = 1.0) -> float:
    """The spread of a difference of success that holds in a share ``effect`` of groups and is 0 in the others.

    ``groups``: groups per task, taken as independent. A floor for data in which nothing moved: an effect of this size
    would have brought at least this spread with it.
    """
    share = min(abs(effect), 1.0)
    return float(np.sqrt(share * (1 - share) / max(groups, 1.0)))


def mean_effect(values: ArrayLike, clusters: ArrayLike, seed: int = 0) -> Effect:
    """Bootstrap and t-interval of one number per (task, seed); ``clusters``: its task."""
    numbers, names = np.asarray(values, dtype=float), np.asarray(clusters)
    interval = mean_interval(numbers, names, seed=seed)
    means = task_means(numbers, names)
    return Effect(interval, t_interval(means), _spread(means), int(np.isfinite(numbers).sum()))


def of_interval(interval: Interval) -> Effect:
    """An effect of which only the bootstrap is known (a rho, a contrast): its half-width stands for the spread.

    The t-interval is the bootstrap's, widened by the quantile of t over that of the normal.
    """
    half = (interval.high - interval.low) / 2
    error = half / float(stats.norm.ppf((1 + interval.level) / 2))
    if interval.n < 2 or not np.isfinite(half):
        return Effect(interval, Interval(interval.estimate, NAN, NAN, interval.n), NAN, interval.n, floor=False)
    wide = error * float(stats.t.ppf((1 + interval.level) / 2, interval.n - 1))
    test = Interval(interval.estimate, interval.estimate - wide, interval.estimate + wide, interval.n)
    return Effect(interval, test, error * float(np.sqrt(interval.n)), interval.n, floor=False)


def t_interval(means: ArrayLike, level: float = LEVEL) -> Interval:
    """Mean of independent values with Student's interval; bounds NaN for fewer than two.

    Values that are all equal have no width, which is no evidence: below six of them the bounds are NaN unless they
    are 0.
    """
    found = np.asarray(means, dtype=float)
    n = len(found)
    if n == 0:
        return Interval(NAN, NAN, NAN, 0, level)
    mean, spread = float(found.mean()), _spread(found)
    if n < 2 or (spread < 1e-12 and n < 6 and abs(mean) > 1e-12):
        return Interval(mean, NAN, NAN, n, level)
    half = float(stats.t.ppf((1 + level) / 2, n - 1)) * spread / float(np.sqrt(n))
    return Interval(mean, mean - half, mean + half, n, level)


def _spread(means: np.ndarray) -> float:
    return float(means.std(ddof=1)) if len(means) > 1 else NAN

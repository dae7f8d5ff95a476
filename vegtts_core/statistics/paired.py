"""Two strategies on the same (task, seed) pairs: effect size, tests, and the interval of a share.

The tests treat pairs as independent. Two seeds of one task are not, so with several seeds the p-values are too small;
the bootstrap over tasks (``bootstrap.mean_interval`` of the differences) does not have this fault.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from vegtts_core.statistics.bootstrap import LEVEL, NAN, Interval


class Alternative(StrEnum):
    """What the test looks for in first minus second."""

    TWO_SIDED = "two-sided"
    GREATER = "greater"
    LESS = "less"


@dataclass(frozen=True)
class Test:
    """A test's result.

    ``n`` counts the pairs that carry information (neither missing nor equal), ``zeros`` the equal ones. ``smallest_p``
    is the least p-value that n pairs can give: below it no data could have been significant.
    """

    statistic: float
    p_value: float
    n: int
    zeros: int
    smallest_p: float
    note: str

    # pytest collects classes called Test*; this is not a test case.
    __test__ = False


def cohens_h(first: float, second: float, n_first: int = 0, n_second: int = 0, level: float = LEVEL) -> Interval:
    """Cohen's h of two shares, ``2 asin(sqrt(first)) - 2 asin(sqrt(second))`` (section 5.2).

    The interval is the normal approximation for independent shares of ``n_first`` and ``n_second`` cases, bounds NaN
    where a count is 0; for paired cases it is somewhat too wide. ``n`` is the smaller count.
    """
    n = min(n_first, n_second)
    if not (0 <= first <= 1 and 0 <= second <= 1):
        return Interval(NAN, NAN, NAN, n, level)
    h = float(2 * np.arcsin(np.sqrt(first)) - 2 * np.arcsin(np.sqrt(second)))
    if n <= 0:
        return Interval(h, NAN, NAN, 0, level)
    half = float(stats.norm.ppf((1 + level) / 2)) * float(np.sqrt(1 / n_first + 1 / n_second))
    return Interval(h, h - half, h + half, n, level)


def wilson(successes: float, n: float, level: float = LEVEL) -> Interval:
    """A share with Wilson's score interval, which does not collapse where all or none succeed.

    ``successes`` may be fractional (expected successes of a strategy that shares ties). NaN for n = 0.
    """
    if n <= 0 or not 0 <= successes <= n:
        return Interval(NAN, NAN, NAN, 0, level)
    z = float(stats.norm.ppf((1 + level) / 2))
    share = successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * float(np.sqrt(share * (1 - share) / n + z * z / (4 * n * n)))
    # The exact bound at 0 or n is the share itself; rounding must not push it outside.
    return Interval(share, min(share, max(0.0, centre - half)), max(share, min(1.0, centre + half)), int(n), level)


def _smallest_p(n: int, alternative: Alternative) -> float:
    if n == 0:
        return NAN
    return min(1.0, (2.0 if alternative is Alternative.TWO_SIDED else 1.0) * 0.5**n)


def _note(n: int, zeros: int, smallest: float) -> str:
    notes = []
    if n == 0:
        notes.append("no pair differs: nothing can be tested")
    elif smallest > 0.05:
        notes.append(f"{n} differing pairs cannot give p < {smallest:.3g}")
    if zeros:
        notes.append(f"{zeros} equal pairs left out")
    return "; ".join(notes)


def wilcoxon_log_ratio(first: ArrayLike, second: ArrayLike, alternative: Alternative = Alternative.TWO_SIDED) -> Test:
    """Wilcoxon's signed-rank test on log(first / second) of paired speedups (section 5.2).

    Both of shape (pairs,). Pairs with a missing or non-positive speedup are left out; pairs of equal speedup (both
    strategies chose the same sample) carry no sign and are dropped, counted in ``zeros``. Exact for few pairs. A
    two-sided p below 0.05 needs at least 6 differing pairs.
    """
    a, b = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    keep = np.isfinite(a) & np.isfinite(b) & (a > 0) & (b > 0)
    # Expected log speedups differ by rounding where two strategies share the same samples.
    ratio = np.round(np.log(a[keep]) - np.log(b[keep]), 12)
    differing = ratio[ratio != 0]
    n, zeros = len(differing), int(len(ratio) - len(differing))
    smallest = _smallest_p(n, alternative)
    if n == 0:
        return Test(NAN, NAN, 0, zeros, NAN, _note(0, zeros, NAN))
    result = stats.wilcoxon(differing, alternative=alternative.value)
    statistic, p = np.asarray(result, dtype=float)
    return Test(float(statistic), float(p), n, zeros, smallest, _note(n, zeros, smallest))


def sign_test(first: ArrayLike, second: ArrayLike, alternative: Alternative = Alternative.TWO_SIDED) -> Test:
    """Exact sign test: of the pairs that differ, how many favour ``first`` (section 5.2).

    Both of shape (pairs,), for example success of two strategies per (task, seed). ``statistic`` is the number of
    pairs in favour of ``first``, ``n`` the number of discordant pairs.
    """
    a, b = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    keep = np.isfinite(a) & np.isfinite(b)
    # Expected successes of equal selections differ by rounding.
    a, b = np.round(a[keep], 12), np.round(b[keep], 12)
    wins, n = int(np.sum(a > b)), int(np.sum(a != b))
    zeros = int(len(a) - n)
    smallest = _smallest_p(n, alternative)
    if n == 0:
        return Test(NAN, NAN, 0, zeros, NAN, _note(0, zeros, NAN))
    p = float(stats.binomtest(wins, n, 0.5, alternative=alternative.value).pvalue)
    return Test(float(wins), p, n, zeros, smallest, _note(n, zeros, smallest))

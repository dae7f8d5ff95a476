"""From timed calls to a speedup, an interval and a decision: pure functions of numbers.

The log-ratios of pairs (reference, candidate) are summarised by the Hodges-Lehmann estimate, the median of all
pairwise averages, with the interval that belongs to it by inverting the Wilcoxon signed-rank test. The interval is
exact for any distribution of log-ratios that is symmetric about the true one, without assuming that they are normal;
swapping the order within pairs at random makes it symmetric where the two sides are alike. Single calls that another
process disturbed move the estimate little (more than a quarter of the pairs would have to be off).

That interval holds the noise within one pair of processes and nothing else. What differs from evaluation to evaluation
(where memory came to lie, which core a thread got, which card it was) is the same in all its pairs, so no number of
them shows it. It is measured on repeated evaluations and added (`widened`).

Timing stops by the interval's width, never by where it lies; the width is looked at after every pair from
``min_pairs`` on, which costs some coverage: simulated in tests/evaluator, the interval that is called 95% here covers
at least 93% of the time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from vegtts_core.evaluator.types import Decision

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """An estimate of a log-ratio (natural logarithm) with the bounds of its 95% interval."""

    center: float
    low: float
    high: float

    @property
    def half_width(self) -> float:
        """The larger distance from the estimate to a bound."""
        return max(self.high - self.center, self.center - self.low)


@cache
def _signed_rank_critical(n: int) -> int:
    """The largest k such that the k-th smallest and k-th largest pairwise averages bound a 95% interval; 0 if none."""
    probabilities = np.ones(1)
    for rank in range(1, n + 1):  # distribution of the sum of a random subset of the ranks 1..n
        longer = np.zeros(len(probabilities) + rank)
        longer[: len(probabilities)] += probabilities / 2
        longer[rank:] += probabilities / 2
        probabilities = longer
    return int(np.searchsorted(np.cumsum(probabilities), (1 - CONFIDENCE) / 2, side="right"))


def estimate(log_ratios: Sequence[float]) -> Interval:
    """Hodges-Lehmann estimate and 95% signed-rank interval. Fewer than 6 values bound nothing: infinite bounds."""
    values = np.asarray(log_ratios, dtype=float)
    if not len(values):
        return Interval(math.nan, -math.inf, math.inf)
    rows, columns = np.triu_indices(len(values))
    averages = np.sort((values[rows] + values[columns]) / 2)
    center = float(np.median(averages))
    k = _signed_rank_critical(len(values))
    if k == 0:
        return Interval(center, -math.inf, math.inf)
    return Interval(center, float(averages[k - 1]), float(averages[-k]))


def widened(interval: Interval, reach: float) -> Interval:
    """The interval with a part of half-width ``reach`` for what differs between evaluations, added in quadrature.

    Both parts reach as far as 95% of their errors; independent errors' variances add. No bound comes closer.
    """
    return Interval(
        interval.center,
        interval.center - math.hypot(interval.center - interval.low, reach),
        interval.center + math.hypot(interval.high - interval.center, reach),
    )


def decide(interval: Interval, minimum_effect: float) -> Decision:
    """Faster or slower if the whole interval is beyond the minimum effect; the same if all of it is within."""
    bound = math.log1p(minimum_effect)
    if interval.low > bound:
        return Decision.FASTER
    if interval.high < -bound:
        return Decision.SLOWER
    if -bound <= interval.low and interval.high <= bound:
        return Decision.SAME
    return Decision.UNDECIDED


def charged(
    seconds: Sequence[float], writing: Sequence[float], reference_writing: Sequence[float]
) -> tuple[float, ...]:
    """The candidate's timed calls with the work charged to them that it may have put off until after the clock.

    Writing down equal results takes the two sides equal times. What the candidate needs longer than the reference, in
    the median over all pairs, is added to each of its calls, and so is what a single call needs beyond the slowest of
    the reference's. All arguments are in seconds, one per pair.
    """
    if not len(seconds):
        return ()
    usual = max(0.0, float(np.median(writing)) - float(np.median(reference_writing)))
    slowest = max(reference_writing)
    return tuple(call + max(usual, write - slowest) for call, write in zip(seconds, writing, strict=True))


def three_digits(milliseconds: float) -> float:
    """A time as KernelBench reports it: rounded to three significant digits."""
    return float(f"{milliseconds:.3g}")


def published_speedup(reference_seconds: Sequence[float], candidate_seconds: Sequence[float]) -> float:
    """The published point estimate: ratio of mean times (ms), each rounded to three digits first.

    The paper's text speaks of medians; KernelBench at the commit that it used reports means, rounded so. Rounding is
    off by up to 0.5% and makes ties, which count as not faster; the sound protocol keeps full precision.
    """
    reference = three_digits(1e3 * float(np.mean(reference_seconds)))
    candidate = three_digits(1e3 * float(np.mean(candidate_seconds)))
    return reference / candidate


def decide_published(speedup: float) -> Decision:
    """The published rule: faster if and only if the point estimate exceeds 1."""
    if speedup > 1:
        return Decision.FASTER
    return Decision.SAME if speedup == 1 else Decision.SLOWER

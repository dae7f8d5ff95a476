"""How far repeated evaluations of one candidate lie apart, beyond the noise within each: pure functions of numbers.

An interval of the log-ratio has two parts, added in quadrature (`vegtts_core.evaluator.timing_statistics.widened`): the
noise within one evaluation, and a *reach* for what differs between evaluations. Here the reach is found from
evaluations that were repeated, or of identical code, whose truth is known. It is calibrated as conformal prediction
calibrates (Vovk, Gammerman and Shafer, *Algorithmic Learning in a Random World*, 2005): for each evaluation, the least
reach with which its interval would have held; of these, a quantile. So nothing is assumed about the distribution, which
has heavy tails. Tasks differ, and what is odd about one is odd in all its repeats. So the reach is such that over all
tasks, each weighing alike, 95% of the intervals hold, and that no single task refutes its 95%: as many of its intervals
fail as 95% intervals may (binomial test at 5%), and no more.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binom

from vegtts_core.evaluator.timing_statistics import CONFIDENCE

Array = NDArray[np.float64]


def noise_part(half: ArrayLike, reach: ArrayLike) -> Array:
    """The noise within an evaluation from an interval's half-width and the reach that it was widened by."""
    whole, between = np.asarray(half, dtype=float), np.asarray(reach, dtype=float)
    return np.sqrt(np.maximum(whole**2 - between**2, 0))


def reach_to_truth(errors: ArrayLike, noise: ArrayLike) -> Array:
    """Per evaluation, the least reach with which its interval holds the truth.

    ``errors``: estimates minus truth; ``noise``: the noise's half-width on the truth's side; natural logarithms.
    """
    return noise_part(np.abs(np.asarray(errors, dtype=float)), noise)


def reaches_of_identical(rows: Sequence[Mapping[str, Any]]) -> Array:
    """`reach_to_truth` of A/A measurements: rows of ``calibration.parquet`` that have bounds, whose truth is 1."""

    def logs(name: str) -> Array:
        return np.log(np.array([row[name] for row in rows], dtype=float))

    center, low, high = logs("speedup"), logs("speedup_low"), logs("speedup_high")
    half = np.where(center > 0, center - low, high - center)
    return reach_to_truth(center, noise_part(half, [row.get("between_evaluations") or 0.0 for row in rows]))


def reach_between(differences: ArrayLike, noise: ArrayLike, other_noise: ArrayLike) -> Array:
    """Per pair of evaluations, the least reach with which their difference is within both intervals in quadrature.

    ``differences``: of the two estimates; both noises are half-widths on the side where the other estimate lies.
    """
    both = np.hypot(np.asarray(noise, dtype=float), np.asarray(other_noise, dtype=float))
    return noise_part(np.abs(np.asarray(differences, dtype=float)), both) / math.sqrt(2)


def reach_of_tasks(needed: ArrayLike, tasks: Sequence[object]) -> tuple[float, object]:
    """The least reach that holds over all tasks and that no task refutes, and the task that decides; NaN without data.

    ``needed``: one number per evaluation or pair; ``tasks``: the task of each. The task is None where all together
    decide. Pairs of one candidate share evaluations, which makes the test of a single task a little milder than it is
    for independent ones.
    """
    values, names = np.asarray(needed, dtype=float), np.asarray(tasks, dtype=object)
    parts = {name: np.sort(values[names == name])[::-1] for name in dict.fromkeys(names)}
    if not parts:
        return math.nan, None
    best, decides = _over_all(parts), None
    for name, part in parts.items():
        allowed = int(binom.ppf(CONFIDENCE, len(part), 1 - CONFIDENCE))
        if allowed < len(part) and part[allowed] > best:
            best, decides = float(part[allowed]), name
    return best, decides


def _over_all(parts: Mapping[object, Array]) -> float:
    """The quantile at 95%, every task weighing alike."""
    values = np.concatenate(list(parts.values()))
    weights = np.concatenate([np.full(len(part), 1 / len(part) / len(parts)) for part in parts.values()])
    order = np.argsort(values)
    place = int(np.searchsorted(np.cumsum(weights[order]), CONFIDENCE - 1e-9))
    return float(values[order][place])

"""Whether rho(NLL, speedup) changed between two checkpoints: a paired permutation test (section 5.3b).

Two p-values against 0, one per step, do not compare two rhos of the same samples: the paper's "deepens" needs this.
It works on ``probe.join_probe``'s table.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from vegtts_core.metrics.probe import Nll, Quarter, probe_quarter, settled
from vegtts_core.statistics.bootstrap import NAN, RESAMPLES, percentiles

Array = NDArray[np.float64]


class Unit(StrEnum):
    """What is exchanged between the two checkpoints as one."""

    SAMPLES = "samples"
    """Each sample by itself: as if samples of one task moved independently."""
    TASKS = "tasks"
    """All samples of a task together: what a claim about other tasks needs. 5 tasks cannot give p < 0.06."""


@dataclass(frozen=True)
class Change:
    """rho at ``base`` and ``later``, ``change`` = later - base with its bootstrap bounds over tasks.

    ``p_value``: two-sided; ``smallest_p``: the least that this many units and permutations can give. NaN where a rho
    is undefined.
    """

    base: float
    later: float
    change: float
    low: float
    high: float
    p_value: float
    smallest_p: float
    n: int
    tasks: int


def rho_change(
    probe: pd.DataFrame,
    step: int,
    base: int = 0,
    unit: Unit = Unit.SAMPLES,
    within_task: bool = False,
    which: Quarter = Quarter.ALL,
    signal: Nll = Nll.MEAN,
    permutations: int = RESAMPLES,
    seed: int = 0,
) -> Change:
    """Test rho(step) - rho(base) over the samples that both checkpoints scored.

    Under the null a sample's rank at ``step`` and at ``base`` could be exchanged; units exchange theirs at random (all
    2^units ways where those are no more than ``permutations``), and rho is Pearson's of the ranks. Ranks, because the
    mean NLL may move without any sample overtaking another. ``within_task``: ranks within tasks, mean of their rhos.
    """
    chosen = probe_quarter(probe, which, signal)
    wide = chosen[chosen["step"].isin([base, step])].pivot(index="row", columns="step", values=signal.value)
    facts = chosen.drop_duplicates("row").set_index("row")
    if not {base, step} <= set(wide.columns):
        return Change(NAN, NAN, NAN, NAN, NAN, NAN, NAN, 0, 0)
    wide = wide.dropna()
    facts = facts.loc[wide.index]
    codes, names = pd.factorize(facts["task"])
    x = np.stack([settled(wide[s]).to_numpy() for s in (base, step)])
    y, members = facts["speedup"].to_numpy(dtype=float), [np.flatnonzero(codes == t) for t in range(len(names))]
    blocks = members if within_task else [np.arange(len(y))]
    ranks, order = _ranked(x, blocks), _ranked(y, blocks)
    observed = _rhos(ranks, order, blocks)
    difference = float(observed[1] - observed[0])
    if np.isnan(difference):
        return Change(*map(float, observed), NAN, NAN, NAN, NAN, NAN, len(y), len(names))
    p, smallest = _permuted(ranks, order, blocks, difference, codes, unit, permutations, seed)
    low, high = _bootstrap(x, y, members, within_task, permutations, seed)
    return Change(*map(float, observed), difference, low, high, p, smallest, len(y), len(names))


def _ranked(values: Array, blocks: list[NDArray[np.int64]]) -> Array:
    """Ranks along the last axis within each block."""
    ranks = np.zeros(values.shape)
    for block in blocks:
        ranks[..., block] = stats.rankdata(values[..., block], axis=-1)
    return ranks


def _rhos(x: Array, y: Array, blocks: list[NDArray[np.int64]]) -> Array:
    """Mean over blocks of Pearson's correlation; ``x``: (..., n), ``y``: (n,). Undefined blocks are left out."""
    found = []
    for block in blocks:
        a, b = x[..., block], y[block]
        a, b = a - a.mean(axis=-1, keepdims=True), b - b.mean()
        scale = np.sqrt((a * a).sum(axis=-1) * (b @ b))
        with np.errstate(invalid="ignore", divide="ignore"):
            found.append(np.where(scale > 1e-9, (a @ b) / scale, np.nan))
    values = np.stack(found) if found else np.full((1, *x.shape[:-1]), np.nan)
    present = np.isfinite(values)
    count = present.sum(axis=0)
    return np.where(count > 0, np.where(present, values, 0.0).sum(axis=0) / np.maximum(count, 1), np.nan)


def _permuted(
    x: Array,
    y: Array,
    blocks: list[NDArray[np.int64]],
    observed: float,
    codes: NDArray[np.intp],
    unit: Unit,
    permutations: int,
    seed: int,
) -> tuple[float, float]:
    labels = codes if unit is Unit.TASKS else np.arange(len(y))
    units = int(labels.max()) + 1
    exact = units < 60 and 2**units <= permutations
    if exact:
        swaps = (np.arange(2**units)[:, None] >> np.arange(units)) & 1 == 1
    else:
        swaps = np.random.default_rng(seed).random((permutations, units)) < 0.5
    swapped = swaps[:, labels]
    draws = _rhos(np.where(swapped, x[0], x[1]), y, blocks) - _rhos(np.where(swapped, x[1], x[0]), y, blocks)
    extreme = int(np.sum(np.abs(draws) >= abs(observed) - 1e-12))
    if exact:
        # Exchanging everything turns the sign: two of the 2^units are at least as extreme as what was seen.
        return extreme / len(draws), min(1.0, 2 / len(draws))
    return (1 + extreme) / (1 + len(draws)), 1 / (1 + len(draws))


def _bootstrap(
    x: Array, y: Array, members: list[NDArray[np.int64]], within_task: bool, resamples: int, seed: int
) -> tuple[float, float]:
    """Percentile bounds of the change over tasks drawn with replacement, ranked anew."""
    if len(members) < 2:
        return NAN, NAN
    rng = np.random.default_rng(seed)
    drawn = rng.integers(len(members), size=(resamples, len(members)))
    if within_task:
        own = np.array([_change(x[:, rows], y[rows]) for rows in members])
        return percentiles([np.nanmean(own[d]) if np.isfinite(own[d]).any() else NAN for d in drawn])
    rows = [np.concatenate([members[t] for t in picks]) for picks in drawn]
    return percentiles([_change(x[:, r], y[r]) for r in rows])


def _change(x: Array, y: Array) -> float:
    """rho of ``x[1]`` minus rho of ``x[0]`` with ``y``, all pooled."""
    everything = [np.arange(len(y))]
    before, after = _rhos(_ranked(x, everything), _ranked(y, everything), everything)
    return float(after - before)

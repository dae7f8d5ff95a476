"""Ranking candidates before anything is evaluated: what m evaluations find when they are spent in the order of a score.

Everything a score may look at is known for free: log-probabilities, lengths, copies, and whether the scaffold refused
the text. What a group's evaluations would say (correct, speedup) decides what an order is worth, never the order.
Items that a score does not tell apart come in random order, and every number here is the exact expectation over it: no
draws, and nothing depends on the order of rows.

What is kept: the item with the highest ``fast_limit`` of those evaluated, if that says *faster* (> 1), else the
reference. So ``reached`` is never below 1 on the clock that chose; nothing found counts as 1. ``solved`` and
``reached`` are read from the second evaluation, on fresh data, where the run has one; an item that is wrong there
counts as not solved, and as 1. This module knows nothing of policies or evaluators.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import gammaln

from vegtts_core.metrics.shares import GROUP
from vegtts_core.selection import tie_classes

Array = NDArray[np.float64]


class Order(StrEnum):
    """What comes first."""

    RANDOM = "random"
    """Anything, in expectation."""
    SURPRISAL = "surprisal"
    """The most surprising to the policy that wrote it."""
    CONFIDENCE = "confidence"
    """The least surprising."""
    SHORTEST = "shortest"
    """The fewest completion tokens."""
    LONGEST = "longest"
    """The most completion tokens."""
    MAJORITY = "majority"
    """The most copies in the group."""


class Unit(StrEnum):
    """What one evaluation is spent on."""

    CANDIDATES = "distinct candidates"
    """Equal candidates together, with the mean surprisal and length of their copies; refused texts cost nothing."""
    SAMPLES = "samples"
    """Every sample, copies and refused texts included: a pipeline that keeps no verdicts."""


ITEMS = [*GROUP, "copies", "surprisal", "tokens", "correct", "fast_limit", "speedup", "fresh_limit", "fresh_speedup"]


def items(view: pd.DataFrame, unit: Unit = Unit.CANDIDATES) -> pd.DataFrame:
    """What can be evaluated, of a protocol's view (``metrics.under``): columns `ITEMS`.

    A sample's ``copies`` are those of its candidate in the group, 0 where the scaffold refused it. Copies share one
    evaluation, so any of them gives the verdict.
    """
    names = [*GROUP, "fingerprint"]
    known = view["fingerprint"].notna()
    if unit is Unit.SAMPLES:
        size = view.groupby(names, dropna=True)["sample"].transform("size")
        return pd.DataFrame(view.assign(copies=size.where(known, 0).astype(int))[ITEMS])
    first = dict.fromkeys(["correct", "fast_limit", "speedup", "fresh_limit", "fresh_speedup"], "first")
    how = {"sample": "size", "surprisal": "mean", "tokens": "mean", **first}
    found = pd.DataFrame(view[known].groupby(names, sort=True, as_index=False).agg(how))
    return pd.DataFrame(found.rename(columns={"sample": "copies"})[ITEMS])


def scores(group: pd.DataFrame, order: Order) -> Array:
    """One number per row of one group of `items`, the highest to be evaluated first; unknown surprisal comes last."""
    known = {
        Order.RANDOM: pd.Series(0.0, index=group.index),
        Order.SURPRISAL: group["surprisal"],
        Order.CONFIDENCE: -group["surprisal"],
        Order.SHORTEST: -group["tokens"],
        Order.LONGEST: group["tokens"],
        Order.MAJORITY: group["copies"],
    }[order]
    return known.to_numpy(dtype=float, na_value=np.nan)


def classes(score: Array) -> NDArray[np.int64]:
    """Rank classes of scores, 0 to be evaluated first; scores within ``selection.TIE`` share one, NaN is the last."""
    unknown = np.isnan(score)
    found = np.zeros(len(score), dtype=np.int64)
    if (~unknown).any():
        found[~unknown] = tie_classes(score[~unknown])
    found[unknown] = found[~unknown].max(initial=-1) + 1
    return found


def _chances(size: int) -> Array:
    """Probability that the i-th best of ``size`` items is the best of q drawn: shape (q = 1..size, i = 0..size-1)."""
    q, i = np.arange(1, size + 1)[:, None], np.arange(size)[None, :]
    left, take = size - i - 1, q - 1
    possible = take <= left
    rest = np.where(possible, left - take, 0)
    log = gammaln(left + 1) - gammaln(take + 1) - gammaln(rest + 1)
    log = log - gammaln(size + 1) + gammaln(q + 1) + gammaln(size - q + 1)
    return np.where(possible, np.exp(log), 0.0)


def best_so_far(rank: NDArray[np.int64], limit: Array, values: Array) -> Array:
    """Expected ``values`` of the item with the highest ``limit`` among the first m in the order of ``rank``.

    ``rank``: shape (n,), classes from 0, within which the order is random. ``limit``: shape (n,). ``values``: shape
    (n, v), the same for items of equal ``limit``. Returns shape (n, v), row m - 1 for m.
    """
    n = len(rank)
    result = np.empty((n, values.shape[1]))
    leader: int | None = None
    done = 0
    for label in range(int(rank.max()) + 1 if n else 0):
        members = np.flatnonzero(rank == label)
        members = members[np.argsort(-limit[members], kind="stable")]
        better = values[members].copy()
        if leader is not None:
            better[limit[members] <= limit[leader]] = values[leader]
        result[done : done + len(members)] = _chances(len(members)) @ better
        done += len(members)
        if leader is None or limit[members[0]] > limit[leader]:
            leader = int(members[0])
    return result


def first_hit(rank: NDArray[np.int64], hit: NDArray[np.bool_]) -> float:
    """Expected number of evaluations up to and including the first ``hit``; NaN where there is none.

    Of s items in random order, f of them hits, the first comes at (s + 1) / (f + 1).
    """
    if not hit.any():
        return float("nan")
    label = int(rank[hit].min())
    before, here = int((rank < label).sum()), rank == label
    return before + (int(here.sum()) + 1) / (int((here & hit).sum()) + 1)


def _outcomes(group: pd.DataFrame) -> tuple[Array, Array]:
    """(limit, values) of one group: the first evaluation's limit, and solved, log reached."""
    limit = group["fast_limit"].fillna(-np.inf).to_numpy(dtype=float)
    fresh = group["fresh_speedup"].to_numpy(dtype=float)
    kept = limit > 1
    solved = kept & (group["fresh_limit"] > 1).to_numpy()
    reached = np.where(kept & np.isfinite(fresh) & (fresh > 0), np.log(np.where(fresh > 0, fresh, 1.0)), 0.0)
    values = np.column_stack([solved.astype(float), reached])
    for level in np.unique(limit):
        values[limit == level] = values[limit == level].mean(axis=0)
    return limit, values


def curves(
    view: pd.DataFrame, unit: Unit = Unit.CANDIDATES, orders: Sequence[Order] = tuple(Order), most: int | None = None
) -> pd.DataFrame:
    """What each order has found after m evaluations: one row per (order, task, seed, step, m), m = 1 .. ``most``.

    ``solved``: probability that what is kept is fast; ``log_reached``: expected natural logarithm of its speedup. Once
    everything is evaluated both stay. ``most``: the largest group's number of samples unless given. Groups without any
    item stay at 0.
    """
    sizes = pd.Series(view.groupby(GROUP).size())
    length = most or int(sizes.to_numpy().max())
    parts = dict(list(items(view, unit).groupby(GROUP, sort=True)))
    frames = []
    keys: list[tuple[str, int, int]] = list(sizes.index)
    for key in keys:
        group = parts.get(key)
        limit, values = _outcomes(group) if group is not None else (np.zeros(0), np.zeros((0, 2)))
        for order in orders:
            found = np.zeros((0, 2)) if group is None else best_so_far(classes(scores(group, order)), limit, values)
            rows = np.minimum(np.arange(length), max(len(found) - 1, 0))
            found = found[rows] if len(found) else np.zeros((length, 2))
            named = {
                **dict(zip(GROUP, key, strict=True)),
                "order": str(order),
                "m": np.arange(1, length + 1),
            }
            frames.append(pd.DataFrame(named | {"solved": found[:, 0], "log_reached": found[:, 1]}))
    return pd.DataFrame(pd.concat(frames, ignore_index=True), columns=["order", *GROUP, "m", "solved", "log_reached"])


def waiting(view: pd.DataFrame, unit: Unit = Unit.CANDIDATES, orders: Sequence[Order] = tuple(Order)) -> pd.DataFrame:
    """How long each order takes: one row per (order, task, seed, step) of groups with anything to evaluate.

    ``items``; ``first_fast``: expected evaluations up to the first fast item, ``fastest``: up to the fastest correct
    one (by the first evaluation). NaN where the group has none.
    """
    rows = []
    for key, group in items(view, unit).groupby(GROUP, sort=True):
        limit = group["fast_limit"].fillna(-np.inf).to_numpy(dtype=float)
        top = (limit == limit.max()) & np.isfinite(limit)
        for order in orders:
            rank = classes(scores(group, order))
            rows.append((str(order), *key, len(group), first_hit(rank, limit > 1), first_hit(rank, top)))  # type: ignore[misc]
    return pd.DataFrame(rows, columns=["order", *GROUP, "items", "first_fast", "fastest"])


def after_filter(
    view: pd.DataFrame,
    choices: Sequence[tuple[Order, int | None]],
    unit: Unit = Unit.CANDIDATES,
) -> pd.DataFrame:
    """The same orders among items that are known to be correct, as the paper's rules have it (section 4.5).

    ``choices``: (order, m): the fastest of the first m, m = None for all of them (the oracle). One row per (order, m,
    task, seed, step): ``success``, the probability that what is returned is fast, 0 where nothing is correct;
    ``log_speedup``, the expected natural logarithm of its speedup, NaN there. Both on fresh data; an item that is wrong
    there has no speedup.
    """
    rows = []
    usable = view["correct"].astype(bool) & view["speedup"].notna() & view["surprisal"].notna()
    parts = dict(list(items(pd.DataFrame(view[usable]), unit).groupby(GROUP, sort=True)))
    keys: list[tuple[str, int, int]] = list(pd.Series(view.groupby(GROUP).size()).index)
    for key in keys:
        group = parts.get(key)
        for order, m in choices:
            success, log = 0.0, float("nan")
            if group is not None:
                success, log = _returned(group, order, m)
            rows.append((str(order), m, *key, success, log))
    return pd.DataFrame(rows, columns=["order", "m", *GROUP, "success", "log_speedup"])


def _returned(group: pd.DataFrame, order: Order, m: int | None) -> tuple[float, float]:
    limit = group["fast_limit"].fillna(-np.inf).to_numpy(dtype=float)
    fresh = group["fresh_speedup"].to_numpy(dtype=float)
    right = np.isfinite(fresh) & (fresh > 0)
    log = np.where(right, np.log(np.where(right, fresh, 1.0)), 0.0)
    values = np.column_stack([(group["fresh_limit"] > 1).to_numpy(dtype=float), right.astype(float), log])
    found = best_so_far(classes(scores(group, order)), limit, values)
    success, share, total = found[min(m or len(found), len(found)) - 1]
    return float(success), float(total / share) if share > 0 else float("nan")

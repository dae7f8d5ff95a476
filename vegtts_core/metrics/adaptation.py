"""An adaptation run step by step: what each checkpoint's rollouts achieved (sections 3.5, 5.3).

Whose rollouts are whose: rows with ``step`` = s were written by checkpoint s (0 is the base policy). They validate
checkpoint s, and their gradient makes checkpoint s + 1. Algorithm 1 as printed samples from theta_{s-1}, updates, and
files the score of those rollouts under theta_s, so that the argmax over its scores returns the checkpoint after the one
that earned the score. Here a score belongs to the policy that wrote the rollouts; the budget is the same.

This module takes a samples table and knows nothing of training, nor of which step to take (``checkpoints``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from vegtts_core.metrics.shares import under
from vegtts_core.statistics.bootstrap import LEVEL, RESAMPLES, Population, mean_interval
from vegtts_core.statistics.paired import wilson

_TASKS = "seed step task samples rollouts sample_fast_p low high correct correctness correct_low correct_high"
_TASKS += " mean_speedup geometric_speedup"
_AGGREGATE = "samples rollouts sample_fast_p low high task_fast_p correctness correct_low correct_high"
_AGGREGATE += " mean_speedup geometric_speedup geometric_low geometric_high tasks seeds"


@dataclass(frozen=True)
class Trajectory:
    """What every checkpoint's rollouts achieved. ``tasks``, ``seeds``, ``steps`` are described in ``trajectory``."""

    tasks: pd.DataFrame
    seeds: pd.DataFrame
    steps: pd.DataFrame


def trajectory(
    samples: pd.DataFrame,
    protocol: str,
    p: float = 1.0,
    population: Population = Population.TASKS,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> Trajectory:
    """The tables of section 5.3 from a samples table (``schema.SAMPLES``) under ``published`` or ``sound``.

    ``tasks``: one row per (seed, step, task): ``samples`` (K), ``rollouts`` (spent on the task up to and including the
    step), ``sample_fast_p`` with Wilson bounds ``low``, ``high``, ``correct`` (count), ``correctness`` with Wilson
    bounds ``correct_low``, ``correct_high``, ``mean_speedup`` (arithmetic, over correct samples) and
    ``geometric_speedup``.
    ``seeds``: one row per (seed, step), shares as means over tasks (with K rollouts for each, the share of samples),
    bounds from the bootstrap over tasks; ``task_fast_p``: share of tasks with a fast rollout among their K;
    ``rollouts`` over all tasks; ``mean_speedup`` over correct samples, as in the paper; ``geometric_speedup`` with
    ``geometric_low``, ``geometric_high`` over tasks.
    ``steps``: one row per step over every seed that reached it, bounds from the bootstrap over tasks and seeds, and
    ``rollouts`` over all tasks and seeds.
    Bounds are NaN where there is nothing to resample (one task). Raises ValueError for another protocol, a missing
    column, or a seed whose steps hold different tasks: their aggregates could not be compared.
    """
    view = under(samples, protocol)
    view = view.assign(fast=view["fast_limit"] > p, log=np.log(view["speedup"]))
    groups = view.groupby(["seed", "step", "task"], as_index=False).agg(
        samples=("fast", "size"),
        fast=("fast", "sum"),
        correct=("correct", "sum"),
        mean_speedup=("speedup", "mean"),
        log=("log", "mean"),
    )
    _same_tasks(groups)
    groups["rollouts"] = groups.groupby(["seed", "task"])["samples"].cumsum()
    for count, names in (("fast", "sample_fast_p low high"), ("correct", "correctness correct_low correct_high")):
        found = [wilson(float(c), int(n), level) for c, n in zip(groups[count], groups["samples"], strict=True)]
        for name, field in zip(names.split(), ("estimate", "low", "high"), strict=True):
            groups[name] = np.array([getattr(interval, field) for interval in found], dtype=float)
    groups["geometric_speedup"] = np.exp(groups["log"])

    def aggregated(by: Sequence[str]) -> pd.DataFrame:
        rows = []
        for key, part in groups.groupby(list(by), sort=True):
            rows.append(dict(zip(by, key, strict=True)) | _aggregate(part, population, resamples, level, seed))
        return pd.DataFrame(rows, columns=[*by, *_AGGREGATE.split()])

    return Trajectory(groups[_TASKS.split()], aggregated(["seed", "step"]), aggregated(["step"]))


def _same_tasks(groups: pd.DataFrame) -> None:
    for seed, part in groups.groupby("seed"):
        if part.groupby("step")["task"].nunique().min() != part["task"].nunique():
            raise ValueError(
                f"The steps of seed {seed} do not hold the same tasks: finish the run, or leave out a step."
            )


def _aggregate(part: pd.DataFrame, population: Population, resamples: int, level: float, seed: int) -> dict[str, float]:
    clusters = part["task"]
    fast, correct, logs = (
        mean_interval(part[name], clusters, population, resamples, level, seed)
        for name in ("sample_fast_p", "correctness", "log")
    )
    count = part["correct"].sum()
    return {
        "samples": int(part["samples"].sum()),
        "rollouts": int(part["rollouts"].sum()),
        "sample_fast_p": fast.estimate,
        "low": fast.low,
        "high": fast.high,
        "task_fast_p": float((part["fast"] > 0).mean()),
        "correctness": correct.estimate,
        "correct_low": correct.low,
        "correct_high": correct.high,
        "mean_speedup": float((part["mean_speedup"] * part["correct"]).sum() / count) if count else float("nan"),
        "geometric_speedup": float(np.exp(logs.estimate)),
        "geometric_low": float(np.exp(logs.low)),
        "geometric_high": float(np.exp(logs.high)),
        "tasks": int(part["task"].nunique()),
        "seeds": int(part["seed"].nunique()),
    }

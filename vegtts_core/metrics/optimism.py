"""What choosing a step by its own score is worth: the winner's curse of Best-of-Adaptation (section 3.5).

In-batch validation is free because the rollouts that choose a step also report its score. The highest of several noisy
scores is too high on average, even where every checkpoint is the same. Two answers: choose on one half of each group's
rollouts and report on the other (``split_half_optimism``), and see how often another draw would choose another step
(``step_optimum``). Both hold the checkpoints fixed: neither says what training again would give.

Halves share no rollouts but they share verdicts: copies of one candidate were timed once. Luck of the clock is taken
out by the second evaluation only, where the run has one.
"""

from __future__ import annotations

from enum import StrEnum

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vegtts_core.metrics.checkpoints import DIGITS, first_best
from vegtts_core.metrics.shares import under
from vegtts_core.statistics.bootstrap import RESAMPLES

Array = NDArray[np.float64]

SPLITS = 2000


def _counts(samples: pd.DataFrame, protocol: str, p: float) -> pd.DataFrame:
    """One row per (seed, step, task): rollouts by (fast in the first evaluation, fast in the last one)."""
    view = under(samples, protocol)
    first, fresh = view["fast_limit"] > p, view["fresh_limit"] > p
    kinds = {"neither": ~first & ~fresh, "fresh": ~first & fresh, "first": first & ~fresh, "both": first & fresh}
    return view.assign(**kinds).groupby(["seed", "step", "task"], as_index=False)[list(kinds)].sum()


def _tensor(part: pd.DataFrame) -> tuple[list[int], NDArray[np.int64]]:
    """The steps of one seed and its counts, shape (tasks, steps, 4). Raises ValueError for steps of unlike tasks."""
    steps, tasks = sorted(part["step"].unique()), sorted(part["task"].unique())
    if len(part) != len(steps) * len(tasks):
        raise ValueError("The steps of a seed do not hold the same tasks: finish the run, or leave out a step.")
    ordered = part.sort_values(["task", "step"])[["neither", "fresh", "first", "both"]].to_numpy(dtype=np.int64)
    return [int(step) for step in steps], ordered.reshape(len(tasks), len(steps), 4)


def split_half_optimism(
    samples: pd.DataFrame, protocol: str, p: float = 1.0, splits: int = SPLITS, seed: int = 0
) -> pd.DataFrame:
    """Choose the step on one half of each group's rollouts, report it on the other half; one row per seed.

    ``naive``: Best-of-Adaptation's score on all rollouts, at ``step``. Means over random ``splits`` of each (task,
    step) into K // 2 rollouts that choose and the others: ``in_sample`` (the chosen step's score on the half that chose
    it), ``held_out`` (on the other half), ``optimism`` (their difference), ``base`` (step 0 on that other half),
    ``gain`` (held_out - base; NaN without a step 0), ``same_step`` (share of splits that choose ``step``).
    ``held_out_fresh`` reads the other half from the second evaluation, where the run has one.
    ``oracle_in_sample``, ``oracle_held_out``: the same for each task's own best step (section 6.2).

    ``held_out`` is an unbiased score of choosing with K // 2 rollouts. With all K the choice is better and less
    optimistic: by the square root of 2 where the steps do not differ, by more where they do. NaN for K = 1.
    Raises ValueError as ``trajectory`` does.
    """
    columns = "seed step naive in_sample held_out optimism held_out_fresh base gain same_step oracle_in_sample"
    columns += " oracle_held_out splits"
    rng = np.random.default_rng(seed)
    rows = []
    for run, part in _counts(samples, protocol, p).groupby("seed", sort=True):
        steps, counts = _tensor(part)
        sizes = counts.sum(axis=-1)
        whole = _first(counts) / sizes
        at = int(first_best(whole.mean(axis=0)))
        row = dict.fromkeys(columns.split(), np.nan)
        row |= {"seed": run, "step": steps[at], "naive": float(whole.mean(axis=0)[at]), "splits": splits}
        if sizes.min() >= 2:
            row |= _split(counts, steps, at, splits, rng)
        rows.append(row)
    return pd.DataFrame(rows, columns=columns.split())


def _first(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    return counts[..., 2] + counts[..., 3]


def _fresh(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    return counts[..., 1] + counts[..., 3]


def _split(
    counts: NDArray[np.int64], steps: list[int], at: int, splits: int, rng: np.random.Generator
) -> dict[str, float]:
    half = counts.sum(axis=-1) // 2
    rest = counts.sum(axis=-1) - half
    # What a random half of a group holds is hypergeometric: no need to shuffle. Shape (splits, tasks, steps, 4).
    drawn = np.stack(
        [
            np.stack(
                [rng.multivariate_hypergeometric(counts[t, s], half[t, s], size=splits) for s in range(len(steps))], 1
            )
            for t in range(len(counts))
        ],
        axis=1,
    )
    chosen_by, reported, again = _first(drawn) / half, _first(counts - drawn) / rest, _fresh(counts - drawn) / rest
    step = first_best(chosen_by.mean(axis=1))
    index = np.arange(splits)

    def score(values: Array) -> float:
        return float(values.mean(axis=1)[index, step].mean())

    own = first_best(chosen_by)[..., None]
    base = float(reported[:, :, steps.index(0)].mean()) if 0 in steps else float("nan")
    inside, outside = score(chosen_by), score(reported)
    return {
        "in_sample": inside,
        "held_out": outside,
        "optimism": inside - outside,
        "held_out_fresh": score(again),
        "base": base,
        "gain": outside - base,
        "same_step": float((step == at).mean()),
        "oracle_in_sample": float(np.take_along_axis(chosen_by, own, axis=-1).mean()),
        "oracle_held_out": float(np.take_along_axis(reported, own, axis=-1).mean()),
    }


class Redrawn(StrEnum):
    """What ``step_optimum`` draws again."""

    ROLLOUTS = "rollouts"
    """These tasks, other rollouts of the same checkpoints."""
    TASKS = "tasks"
    """Other tasks like these, each with other rollouts."""


def step_optimum(
    samples: pd.DataFrame,
    protocol: str,
    p: float = 1.0,
    redrawn: Redrawn = Redrawn.ROLLOUTS,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> pd.DataFrame:
    """Bootstrap distribution of the step that Best-of-Adaptation chooses: how sure "the peak is at step s" is.

    One row per (seed, step): ``sample_fast_p``, ``chosen`` (by the data as they are), ``probability`` (share of
    resamples in which it is the argmax, ties to the earliest), ``at_least`` (share in which its score is at least that
    of the chosen step: 1 minus a one-sided bootstrap p for "worse than the peak"). A resample draws K rollouts of each
    (task, step) with replacement and, with ``TASKS``, the tasks before that (the same tasks for every step). NaN for
    one task under ``TASKS``. Raises ValueError as ``trajectory`` does.
    """
    columns = ["seed", "step", "sample_fast_p", "chosen", "probability", "at_least"]
    rng = np.random.default_rng(seed)
    rows = []
    for run, part in _counts(samples, protocol, p).groupby("seed", sort=True):
        steps, counts = _tensor(part)
        sizes = counts.sum(axis=-1)
        shares = _first(counts) / sizes
        tasks = len(shares)
        scores = shares.mean(axis=0)
        at = int(first_best(scores))
        if redrawn is Redrawn.TASKS:
            picks = rng.integers(tasks, size=(resamples, tasks))
        else:
            picks = np.broadcast_to(np.arange(tasks), (resamples, tasks))
        again = (rng.binomial(sizes[picks], shares[picks]) / sizes[picks]).mean(axis=1).round(DIGITS)
        won, level = first_best(again), again >= again[:, [at]]
        known = tasks > 1 or redrawn is Redrawn.ROLLOUTS
        for i, step in enumerate(steps):
            found = (float((won == i).mean()), float(level[:, i].mean())) if known else (np.nan, np.nan)
            rows.append((run, step, float(scores[i]), i == at, *found))
    return pd.DataFrame(rows, columns=columns)

"""Which checkpoint to take: Best-of-Adaptation, early stopping, the oracle per task (sections 3.5, 6.2).

All of them work on ``adaptation.trajectory``. The rollouts that choose a step also say how good it is, so every score
here is optimistic: ``optimism.split_half_optimism`` measures by how much.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from vegtts_core.metrics.adaptation import Trajectory

#: Scores that are equal in exact arithmetic may differ after averaging; rounded to this many digits they do not.
DIGITS = 12

_BEST = "seed step sample_fast_p low high ties margin base gain last_step last rollouts_to_step rollouts"


def first_best(scores: ArrayLike) -> np.ndarray:
    """Position of the highest score along the last axis; of equal scores the first, so the one that costs least."""
    return np.argmax(np.round(np.asarray(scores, dtype=float), DIGITS), axis=-1)


def best_of_adaptation(found: Trajectory) -> pd.DataFrame:
    """Best-of-Adaptation (section 3.5): per seed the step with the highest aggregate fast_p, ties to the earliest.

    One row per seed: ``step``, ``sample_fast_p`` with ``low``, ``high`` (those of ``Trajectory.seeds``: they do not
    know that the step was chosen for its score), ``ties`` (steps with that score), ``margin`` (over the best other
    step, 0 for a tie, NaN if there is none), ``base`` (step 0's score, NaN if it was not measured), ``gain`` over it,
    ``last_step``, ``last`` (its score), ``rollouts_to_step`` and ``rollouts`` (the whole trajectory: what an argmax
    over all of it really costs).
    """
    rows = []
    for seed, part in found.seeds.groupby("seed", sort=True):
        part = part.sort_values("step")
        scores = np.round(part["sample_fast_p"].to_numpy(dtype=float), DIGITS)
        at = int(first_best(scores))
        best, last, others = part.iloc[at], part.iloc[-1], np.delete(scores, at)
        start = part.loc[part["step"] == 0, "sample_fast_p"]
        base = float(start.iloc[0]) if len(start) else float("nan")
        rows.append(
            {
                "seed": seed,
                "step": int(best["step"]),
                "sample_fast_p": best["sample_fast_p"],
                "low": best["low"],
                "high": best["high"],
                "ties": int(np.sum(scores == scores[at])),
                "margin": float(scores[at] - others.max()) if len(others) else float("nan"),
                "base": base,
                "gain": best["sample_fast_p"] - base,
                "last_step": int(last["step"]),
                "last": last["sample_fast_p"],
                "rollouts_to_step": int(best["rollouts"]),
                "rollouts": int(last["rollouts"]),
            }
        )
    return pd.DataFrame(rows, columns=_BEST.split())


@dataclass(frozen=True)
class EarlyStop:
    """``step`` is returned, ``stopped`` is the last step whose rollouts were paid for.

    ``regressed``: whether the rule stopped it, rather than the end of the scores.
    """

    step: int
    score: float
    stopped: int
    regressed: bool


def early_stopping(scores: pd.Series, patience: int = 1) -> EarlyStop:
    """Stop once the score has been below the best so far for ``patience`` steps in a row (section 3.5, P).

    ``scores``: aggregate fast_p indexed by step, without NaN. The step with the best score so far is returned, ties to
    the earliest. "Regresses" is read as falling below the best so far; at P = 1 that is the same as falling below the
    previous step. Raises ValueError for no scores, a NaN, or patience < 1.
    """
    if patience < 1 or not len(scores) or scores.isna().any():
        raise ValueError("Early stopping needs at least one score, no NaN among them, and a patience of at least 1.")
    ordered = scores.sort_index().astype(float).round(DIGITS)
    best, below = int(ordered.index[0]), 0
    for step, score in ordered.items():
        if score > ordered[best]:
            best = int(step)  # type: ignore[call-overload]
        below = below + 1 if score < ordered[best] else 0
        if below == patience:
            return EarlyStop(best, float(scores[best]), int(step), True)  # type: ignore[call-overload]
    return EarlyStop(best, float(scores[best]), int(ordered.index[-1]), False)


def best_steps(found: Trajectory) -> pd.DataFrame:
    """Each task's own best step, ties to the earliest. One row per (seed, task): step, sample_fast_p, ties."""
    rows = []
    for (seed, task), part in found.tasks.groupby(["seed", "task"], sort=True):
        scores = part.sort_values("step").set_index("step")["sample_fast_p"].round(DIGITS)
        at = int(first_best(scores))
        rows.append((seed, task, int(scores.index[at]), float(scores.iloc[at]), int((scores == scores.iloc[at]).sum())))
    return pd.DataFrame(rows, columns=["seed", "task", "step", "sample_fast_p", "ties"])


def per_task_oracle(found: Trajectory) -> pd.DataFrame:
    """The mean over tasks of each task's best step (section 6.2), beside one step for all of them.

    One row per seed: ``oracle``, ``best_of_adaptation``, ``gap``, ``steps`` (how many different best steps), ``tasks``.
    It is no policy that anyone could deploy, and a maximum over K noisy rollouts per task and step: biased upward more
    than Best-of-Adaptation is (``split_half_optimism``).
    """
    rows = []
    best = best_of_adaptation(found).set_index("seed")["sample_fast_p"]
    for seed, part in best_steps(found).groupby("seed", sort=True):
        oracle = float(part["sample_fast_p"].mean())
        rows.append((seed, oracle, best[seed], oracle - best[seed], part["step"].nunique(), len(part)))
    return pd.DataFrame(rows, columns=["seed", "oracle", "best_of_adaptation", "gap", "steps", "tasks"])

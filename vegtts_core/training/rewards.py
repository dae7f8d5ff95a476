"""Rewards of rollouts: from a verdict's speedup to the number that an update is weighted by (sections 3.2, 3.3, 6.7).

It knows correctness and speedups; it knows nothing of advantages, models or clocks.

**Which baseline.** The paper trains with ``normalize_reward: true``: "baseline-relative speedup per task", for
stability across tasks (section 3.3, appendix A), and says no more. A speedup is relative to the reference's time
already, so another baseline must be meant. Here it is what the policy itself reached on that task before: a correct
rollout's reward is its speedup over the median of the task's last ``window`` correct speedups, all from earlier steps.
On the first visit there are none, and the median of the group itself stands in. So a usual correct answer is worth
about 1 on every task, whether its speedups are around 0.8 or around 20; the median does not follow the one outlier
(859.8x in table D.2) that a mean would; and a rollout's own speedup does not move the baseline that it is held against,
except on the first visit.

**Where it matters.** Dividing a group by one number changes nothing once the group is divided by its own standard
deviation (``AdvantageParameters`` with scope *group* and scale *std*), apart from the 1e-4 in that denominator and a
``correctness_bonus``. It matters under scope *batch*, which the published code used, and under scale *none*.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from pydantic import Field

from vegtts_core.errors import UserError
from vegtts_core.parameters import Parameters

#: Keeps the permutation's random numbers apart from others that are drawn from the same seed and step.
_STREAM = 0x5E7A


class RewardParameters(Parameters):
    """How a rollout is rewarded. An incorrect one gets 0 whatever stands here.

    ``measure``: *raw* is the speedup, *normalised* the speedup over the task's baseline (see the module).
    ``transform``: *log* takes log(1 + measure) in place of the measure: speedups are ratios with a long tail, and one
    of 859.8x sets mean and standard deviation of everything beside it. It is not log(measure), which would put a slow
    correct rollout below an incorrect one.
    ``threshold``: reward sparsification (section 6.7): 1 if the raw speedup is greater, else 0, in place of measure and
    transform; None leaves rewards dense.
    ``correctness_bonus``: added for every correct rollout, last.
    ``shuffle``: the noise control: rewards are permuted over all rollouts of the batch, across tasks, so that their
    distribution stays and what they say of a rollout goes.
    """

    measure: Literal["raw", "normalised"] = "normalised"
    window: int = Field(default=32, ge=1)
    transform: Literal["none", "log"] = "none"
    threshold: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    correctness_bonus: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    shuffle: bool = False


@dataclass(frozen=True)
class Outcome:
    """What the evaluator found of one rollout, under the run's protocol.

    ``speedup`` (reference time / candidate time) counts for a correct rollout only. Raises ValueError if a correct one
    has no finite speedup above 0: it was never timed, so it has no reward that could be called measured, and the caller
    must settle what went wrong (1, or 0, would be an invention).
    """

    task: str
    correct: bool
    speedup: float | None = None

    def __post_init__(self) -> None:
        if self.correct and (self.speedup is None or not 0 < self.speedup < math.inf):
            raise ValueError(f"A rollout of {self.task} is correct and its speedup is {self.speedup!r}: time it first.")


@dataclass
class BaselineHistory:
    """The last ``window`` correct speedups of each task, oldest first.

    Part of a training run's state: `to_json` and `from_json` keep every bit, so that a resumed run rewards as the
    unbroken one would have.
    """

    window: int = 32
    speedups: dict[str, deque[float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.window < 1:
            raise ValueError(f"The window is {self.window}: it holds at least one speedup.")
        # Also what was handed in is kept to the window, and copied.
        self.speedups = {task: deque(values, maxlen=self.window) for task, values in self.speedups.items()}

    def add(self, task: str, speedups: Sequence[float]) -> None:
        """Append correct speedups of ``task`` in order; the oldest beyond the window are forgotten."""
        if speedups:
            self.speedups.setdefault(task, deque(maxlen=self.window)).extend(float(value) for value in speedups)

    def median(self, task: str) -> float | None:
        """The median of the task's window; None before its first correct speedup."""
        values = self.speedups.get(task)
        return float(np.median(values)) if values else None

    def to_json(self) -> dict[str, Any]:
        """A dictionary for ``json``, whose text of a float is exact."""
        return {"window": self.window, "speedups": {task: list(values) for task, values in self.speedups.items()}}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> BaselineHistory:
        """The inverse of `to_json`."""
        return cls(int(value["window"]), {task: deque(values) for task, values in value["speedups"].items()})


def compute_rewards(
    rollouts: Sequence[Outcome], parameters: RewardParameters, history: BaselineHistory, seed: int, step: int
) -> list[float]:
    """One reward (no unit, >= 0) per rollout, in order; then ``history`` takes in this step's correct speedups.

    Call it once per step, with every rollout of the step: baselines are those from before it. ``seed`` and ``step``
    (both >= 0) set the permutation of ``shuffle`` and nothing else. The history grows under every measure, so that
    runs which differ in the measure alone share it. Raises UserError if the history has another window.
    """
    if history.window != parameters.window:
        raise UserError(
            f"The baselines were kept over {history.window} speedups and the parameter window is {parameters.window}: "
            "resume with the window that the run began with."
        )
    correct: dict[str, list[float]] = {}
    for rollout in rollouts:
        if rollout.correct and rollout.speedup is not None:
            correct.setdefault(rollout.task, []).append(rollout.speedup)
    baselines = {task: history.median(task) or float(np.median(values)) for task, values in correct.items()}
    rewards = [_reward(rollout, parameters, baselines) for rollout in rollouts]
    for task, speedups in correct.items():
        history.add(task, speedups)
    if parameters.shuffle:
        order = np.random.default_rng([seed, step, _STREAM]).permutation(len(rewards))
        rewards = [rewards[place] for place in order]
    return rewards


def _reward(rollout: Outcome, parameters: RewardParameters, baselines: Mapping[str, float]) -> float:
    if not rollout.correct or rollout.speedup is None:
        return 0.0
    if parameters.threshold is not None:
        value = float(rollout.speedup > parameters.threshold)
    else:
        value = rollout.speedup
        if parameters.measure == "normalised":
            value /= baselines[rollout.task]
        if parameters.transform == "log":
            value = math.log1p(value)
    return value + parameters.correctness_bonus

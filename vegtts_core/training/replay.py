"""Earlier rollouts used again: a buffer of each task's best, and the weights that make them usable (section 6.4).

TTT-Discover reuses what it found; the paper's adaptation does not, and names it as a difference (section 6.4). That
method's buffer holds solutions from which new attempts start; this one holds rollouts that enter a later update once
more, as off-policy data. They were drawn from an older policy, so their gradient is weighted by how much likelier the
present one makes them, cut off at ``clip``: truncation bounds the variance and pulls the weight of rollouts that became
much likelier towards less. The buffer keeps the best and forgets the rest, so a group with replayed members in it has a
higher mean reward than the policy earns; where that matters, leave them out of the baseline.

It knows token ids and numbers; it knows nothing of models.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from pydantic import Field

from vegtts_core.parameters import Parameters


class ReplayParameters(Parameters):
    """``size`` rollouts are kept per task, ``count`` of them join each step's group (0: no replay).

    ``clip`` is the largest importance weight. ``level``: *token* weighs every token by its own ratio (less variance,
    biased), *sequence* by that of the completion (unbiased but for the clip).
    """

    size: int = Field(default=8, ge=1)
    count: int = Field(default=0, ge=0)
    clip: float = Field(default=2.0, gt=0, allow_inf_nan=False)
    level: Literal["token", "sequence"] = "token"


@dataclass(frozen=True)
class Replayed:
    """A correct rollout as it was sampled.

    ``reward`` is what it is ranked by, above 0: take the samples table's ``reward`` (the speedup), since normalised
    rewards of different steps have different baselines. ``sampling_logprobs`` are in nats, one per token, under the
    policy and at the temperature that it was drawn with. Raises ValueError if any of this does not hold.
    """

    task: str
    fingerprint: str
    prompt_id: str
    step: int
    token_ids: tuple[int, ...]
    sampling_logprobs: tuple[float, ...]
    reward: float

    def __post_init__(self) -> None:
        if not 0 < self.reward < math.inf:
            raise ValueError(f"A rollout with reward {self.reward!r} is not replayed: only correct ones are.")
        if len(self.token_ids) != len(self.sampling_logprobs):
            raise ValueError(f"{len(self.token_ids)} tokens have {len(self.sampling_logprobs)} log-probabilities.")
        if not all(math.isfinite(value) for value in self.sampling_logprobs):
            raise ValueError("A log-probability is not finite.")


class ReplayBuffer:
    """Per task the best ``size`` distinct correct rollouts of earlier steps, the best first.

    Distinct by fingerprint: of equal candidates the latest stays, whose policy is closest to the present one (its own
    reward with it: keeping the better of two timings would favour lucky ones). Part of a training run's state.
    """

    def __init__(self, size: int) -> None:
        if size < 1:
            raise ValueError(f"The size is {size}: a buffer holds at least one rollout.")
        self.size = size
        self._kept: dict[str, list[Replayed]] = {}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ReplayBuffer) and (self.size, self._kept) == (other.size, other._kept)

    __hash__ = None  # type: ignore[assignment]

    def add(self, rollouts: Sequence[Replayed]) -> None:
        """Take in a step's correct rollouts. Draw for that step before, so that it replays earlier ones only."""
        for rollout in rollouts:
            others = [kept for kept in self.rollouts(rollout.task) if kept.fingerprint != rollout.fingerprint]
            ranked = sorted([*others, rollout], key=lambda kept: (-kept.reward, -kept.step, kept.fingerprint))
            self._kept[rollout.task] = ranked[: self.size]

    def rollouts(self, task: str) -> tuple[Replayed, ...]:
        """All that is kept of ``task``, the best first."""
        return tuple(self._kept.get(task, ()))

    def draw(self, task: str, count: int, rng: np.random.Generator) -> list[Replayed]:
        """``count`` different rollouts of ``task``, each as likely as another; all of them if there are no more.

        The order is random too. An empty buffer leaves ``rng`` as it was.
        """
        kept = self.rollouts(task)
        if not kept or count < 1:
            return []
        return [kept[place] for place in rng.choice(len(kept), size=min(count, len(kept)), replace=False)]

    def to_json(self) -> dict[str, Any]:
        """A dictionary for ``json``, whose text of a float is exact."""
        names = ("fingerprint", "prompt_id", "step", "reward")
        return {
            "size": self.size,
            "tasks": {
                task: [
                    {name: getattr(rollout, name) for name in names}
                    | {"token_ids": list(rollout.token_ids), "sampling_logprobs": list(rollout.sampling_logprobs)}
                    for rollout in kept
                ]
                for task, kept in self._kept.items()
            },
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ReplayBuffer:
        """The inverse of `to_json`."""
        buffer = cls(int(value["size"]))
        for task, rollouts in value["tasks"].items():
            buffer._kept[task] = [
                Replayed(
                    task=task,
                    fingerprint=rollout["fingerprint"],
                    prompt_id=rollout["prompt_id"],
                    step=int(rollout["step"]),
                    token_ids=tuple(rollout["token_ids"]),
                    sampling_logprobs=tuple(rollout["sampling_logprobs"]),
                    reward=float(rollout["reward"]),
                )
                for rollout in rollouts
            ]
        return buffer


def importance_weights(
    current_logprobs: Sequence[float] | np.ndarray,
    sampling_logprobs: Sequence[float] | np.ndarray,
    clip: float,
    level: Literal["token", "sequence"] = "token",
) -> np.ndarray:
    """min(p_current / p_sampling, clip) per token of one completion: float64 of shape (T,), within [0, clip].

    Log-probabilities in nats, both at the sampling temperature. With *sequence* the ratio is that of the whole
    completion, the same for all of its tokens. Raises ValueError for unequal lengths and values that are not finite.
    """
    current = np.asarray(current_logprobs, dtype=np.float64)
    sampling = np.asarray(sampling_logprobs, dtype=np.float64)
    if current.shape != sampling.shape or current.ndim != 1:
        raise ValueError(
            f"There are log-probabilities of shapes {current.shape} and {sampling.shape} for one completion."
        )
    if not (np.isfinite(current).all() and np.isfinite(sampling).all()):
        raise ValueError("A log-probability is not finite.")
    difference = current - sampling
    if level == "sequence":
        difference = np.full_like(difference, difference.sum())
    # Truncated before exp, which would overflow; and once more, because exp(log(clip)) need not be clip.
    return np.minimum(np.exp(np.minimum(difference, math.log(clip))), clip)

"""From rewards to advantages: what each rollout's log-probability gradient is multiplied by (section 3.4).

It knows numbers and groups; it knows nothing of tasks, models or what a reward means.

**mean** is GRPO: a reward less the mean of its scope, over the scope's standard deviation. GRPO's scope is the *group*,
the rollouts of one task. The published code took the mean and the standard deviation over the whole *batch* of tasks:
a task with large speedups then sets both, and on a task whose rewards all lie below the batch's mean even the best
rollout is pushed down. With scope *group* the numbers are those of TRL 1.16 for the same rewards; TRL's
``scale_rewards`` *group*, *batch* and *none* are the scales *std*, *batch_std* and *none*. Scope *batch* is TRL's
*group* with all rollouts in one group; TRL has no setting for it.

**entropic** is the objective of TTT-Discover (arXiv 2601.16175; section 6.7 asks what it would do here):
J = log E[exp(beta r)], whose gradient weighs a rollout by w = exp(beta r) / mean exp(beta r); its advantage is w - 1.
Large beta leaves the best rollout alone, small beta is the mean objective again. beta is solved for in each scope so
that the weights, as a distribution over its rollouts, lie a fixed KL divergence from the uniform one. Their mean is
taken over all rollouts as the paper writes it; that paper's code leaves out the rollout itself.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import Field

from vegtts_core.errors import UserError
from vegtts_core.parameters import Parameters

EPSILON = 1e-4
"""What TRL adds to a standard deviation before it divides by it."""

_BISECTIONS = 200  # more than a float64 has bits: it ends when the interval cannot be halved


class AdvantageParameters(Parameters):
    """How advantages follow from rewards.

    ``scope``: over which rollouts the objective is taken, those of a task or all of the batch.
    ``scale``: *std* divides by the standard deviation of the scope, *batch_std* by that of the batch (the mean is the
    scope's still), *none* by nothing. Only for the objective *mean*: entropic weights do not change when rewards are
    scaled.
    ``entropic_kl``: the divergence that beta is solved for, in nats; log 2 is TTT-Discover's.
    """

    scope: Literal["group", "batch"] = "group"
    scale: Literal["std", "batch_std", "none"] = "std"
    objective: Literal["mean", "entropic"] = "mean"
    entropic_kl: float = Field(default=math.log(2), gt=0, allow_inf_nan=False)


def advantages(
    rewards: Sequence[float] | np.ndarray, groups: Sequence[Hashable], parameters: AdvantageParameters
) -> np.ndarray:
    """Advantages, float64 of shape (N,), no unit, of N rewards; ``groups[i]`` names rollout i's group (its task).

    Members of a group need not be neighbours, nor groups equally large. Rewards that are all equal within the scope
    give exact zeros. Standard deviations are those of a sample (N - 1). Raises UserError for a scope of one rollout,
    which has no baseline; ValueError for rewards that are not finite or not as many as groups.
    """
    values = np.asarray(rewards, dtype=np.float64)
    if values.shape != (len(groups),):
        raise ValueError(f"There are rewards of shape {values.shape} for {len(groups)} rollouts.")
    if not np.isfinite(values).all():
        raise ValueError("A reward is not finite.")
    result = np.zeros_like(values)
    spread = float(values.std(ddof=1)) if len(values) > 1 else 0.0
    for name, members in _scopes(groups, parameters.scope).items():
        if len(members) == 1:
            more = "sample at least two per task, or use scope batch" if parameters.scope == "group" else "sample more"
            raise UserError(f"One rollout of {name} has no others to be held against: {more}.")
        own = values[members]
        if own.min() == own.max():
            continue  # rounding of the mean must not become a gradient
        if parameters.objective == "entropic":
            result[members] = entropic_weights(own, parameters.entropic_kl) - 1.0
        else:
            scales = {"std": float(own.std(ddof=1)) + EPSILON, "batch_std": spread + EPSILON, "none": 1.0}
            result[members] = (own - own.mean()) / scales[parameters.scale]
    return result


def entropic_weights(rewards: np.ndarray, kl: float) -> np.ndarray:
    """Weights exp(beta r) / mean exp(beta r), float64 of shape (N,), mean 1, of N rewards that are not all equal.

    beta is such that the weights over N are ``kl`` nats from uniform. No beta reaches log(N / M) or more, where M
    rollouts share the best reward: then it is the limit of large beta, N / M for those and 0 for the others.
    """
    # Only ratios of differences count, so rewards are taken from 0 (the best) down to -1 and beta is without a unit.
    span = float(rewards.max() - rewards.min())
    below = (rewards - rewards.max()) / span
    best = rewards == rewards.max()
    limit = np.where(best, len(rewards) / best.sum(), 0.0)
    if kl >= math.log(len(rewards) / best.sum()):
        return limit
    low, high = 0.0, 1.0
    while _divergence(_tilted(below, high)) < kl:
        low, high = high, 2.0 * high
        if math.isinf(high):
            return limit
    for _ in range(_BISECTIONS):
        middle = 0.5 * (low + high)
        if not low < middle < high:
            break
        if _divergence(_tilted(below, middle)) < kl:
            low = middle
        else:
            high = middle
    return _tilted(below, 0.5 * (low + high))


def _tilted(below: np.ndarray, beta: float) -> np.ndarray:
    weights = np.exp(beta * below)
    return weights / weights.mean()


def _divergence(weights: np.ndarray) -> float:
    """KL(weights / N || uniform) in nats; it grows with beta. A weight of 0 adds nothing."""
    some = weights[weights > 0]
    return float((some * np.log(some)).sum() / len(weights))


@dataclass(frozen=True)
class Signal:
    """Which groups of a batch move the policy. ``groups`` maps a group to whether any of its advantages is not 0."""

    groups: dict[Hashable, bool]

    def __bool__(self) -> bool:
        """Whether any group does."""
        return any(self.groups.values())

    @property
    def silent(self) -> int:
        """The number of groups without any gradient."""
        return sum(not heard for heard in self.groups.values())

    @property
    def sentence(self) -> str:
        """What to tell the reader of a log; empty if every group moves the policy."""
        if not self.silent:
            return ""
        if not self:
            return "No rollout was better than another of its scope, so there is no gradient: this update is skipped."
        names = ", ".join(str(name) for name, heard in self.groups.items() if not heard)
        return f"{self.silent} of {len(self.groups)} groups give no gradient ({names})."


def signal(advantages: Sequence[float] | np.ndarray, groups: Sequence[Hashable]) -> Signal:
    """Per group, in the order of first appearance, whether ``advantages`` (shape (N,)) has anything to say."""
    heard: dict[Hashable, bool] = {}
    for name, value in zip(groups, advantages, strict=True):
        heard[name] = heard.get(name, False) or bool(value != 0)
    return Signal(heard)


def _scopes(groups: Sequence[Hashable], scope: str) -> dict[Hashable, list[int]]:
    members: dict[Hashable, list[int]] = {}
    for place, name in enumerate(groups):
        members.setdefault(name if scope == "group" else "the batch", []).append(place)
    return members

"""What an update is made of: its parameters, groups, the passes that they share, and who runs which.

A pass is a forward and a backward pass over one group or several. All processes know all groups of a step, so that each
finds its own share, and every other's, without asking.
It knows token ids and advantages; it knows no models, processes or optimisers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field

from vegtts_core.parameters import Parameters


class UpdateParameters(Parameters):
    """How the weights are moved. The paper gives LoRA rank 16 and the learning rate; the rest is said here.

    ``loss`` is TRL's name for how token losses are averaged: *dapo* over all tokens of the step, *grpo* over tokens,
    then rollouts, *dr_grpo* over rollouts with a constant length. ``clip``: PPO's clipping of the importance ratio;
    None leaves it alone, which with one update per step (ratio 1) is the same. ``kl``: weight of the divergence from
    the policy that the run started with (k3 estimator). ``entropy``: weight of an entropy bonus, in nats per token.
    ``schedule``: *constant*, as everywhere here, or *linear* decay to 0.
    """

    learning_rate: float = Field(default=1.0e-5, gt=0)
    schedule: Literal["constant", "linear"] = "constant"
    loss: Literal["dapo", "grpo", "dr_grpo"] = "dapo"
    clip: float | None = Field(default=None, gt=0)
    kl: float = Field(default=0.0, ge=0)
    entropy: float = Field(default=0.0, ge=0)
    max_grad_norm: float = Field(default=1.0, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    adam_beta2: float = Field(default=0.999, gt=0, lt=1)
    shared_prompt: bool = True
    """False: TRL's own computation, for comparison."""
    tf32: bool = Field(default=False, exclude_if=lambda value: not value)
    """On a GPU, matrix products of the update in TF32: several times faster than float32, 10 bits of mantissa. Sampling
    and scoring stay as they are. For maximum likelihood; importance ratios feel the rounding."""
    pass_tokens: int | None = Field(default=None, ge=0)
    """Groups share a forward pass up to so many tokens (loss *dapo* without an entropy bonus only: there it changes
    rounding alone). None: one group per pass on a CPU, which gains nothing by more, and on a GPU as many as fit
    its memory (`training.pass_memory`), 16384 at most."""


@dataclass(frozen=True)
class Group:
    """Completions of one prompt, as token ids, with what they are worth.

    ``advantages``: float64 (K,), or one array per completion with a value per token. ``old_logprobs``: nats, at the
    loss's temperature, under the policy that wrote them; None: the present policy, whose ratio is 1.
    """

    prompt: Sequence[int]
    completions: Sequence[Sequence[int]]
    advantages: np.ndarray | Sequence[np.ndarray]
    old_logprobs: Sequence[Sequence[float]] | None = None

    @property
    def heard(self) -> bool:
        """Whether it has a gradient."""
        return any(bool(np.any(np.asarray(value) != 0)) for value in self.advantages)


@dataclass(frozen=True)
class StepReport:
    """What an update did. ``loss``, ``grad_norm``, ``entropy`` (nats per token), ``kl`` are NaN if it was skipped."""

    step: int
    skipped: bool
    silent_groups: int
    loss: float = math.nan
    grad_norm: float = math.nan
    entropy: float = math.nan
    kl: float = math.nan


@dataclass
class Stop(Exception):
    """Raised by a source of rollouts to end training before its last step."""

    step: int


Rollouts = Callable[[int], Sequence[Group]]
"""The groups of step s, sampled from the policy as it then is. May raise Stop. Every process asks, and must be told the
same."""


#: The pass of a process that has no group left while others do.
IDLE = Group([0], [[0]], np.zeros(1))


def heard_places(groups: Sequence[Group], parameters: UpdateParameters) -> list[int]:
    """Places of the groups with a gradient."""
    regularised = parameters.entropy > 0 or parameters.kl > 0
    return [
        place for place, group in enumerate(groups) if (group.heard or regularised) and any(map(len, group.completions))
    ]


def passes_of(
    groups: Sequence[Group], places: Sequence[int], parameters: UpdateParameters, most: int
) -> list[list[int]]:
    """The groups at ``places``, as they share passes of ``most`` tokens where the parameters name no number."""
    limit = most if parameters.pass_tokens is None else parameters.pass_tokens
    if parameters.loss != "dapo" or parameters.entropy > 0 or not parameters.shared_prompt:
        limit = 0
    passes: list[list[int]] = []
    room = 0
    for place in places:
        tokens = size(groups[place])
        if not passes or tokens > room:
            passes.append([])
            room = max(limit, tokens)
        passes[-1].append(place)
        room -= tokens
    return passes


def size(group: Group) -> int:
    """Tokens of a group's pass."""
    return len(group.prompt) + sum(len(ids) for ids in group.completions)


def shares(sizes: Sequence[int], count: int) -> list[list[int]]:
    """Who runs which group: the longest first, each to the process with the least so far; in order within a share."""
    found: list[list[int]] = [[] for _ in range(count)]
    load = [0] * count
    for place in sorted(range(len(sizes)), key=lambda place: -sizes[place]):
        least = load.index(min(load))
        found[least].append(place)
        load[least] += sizes[place]
    return [sorted(share) for share in found]


def loss_inputs(groups: Sequence[Group], total: int, device: torch.device) -> dict[str, Any]:
    """What TRL's loss reads, prompts padded on the left; ``total`` tokens of the step normalise it."""
    prompts = [list(group.prompt) for group in groups for _ in group.completions]
    completions = [list(ids) for group in groups for ids in group.completions]
    before, after = max(map(len, prompts)), max(map(len, completions))

    def padded(values: Sequence[Sequence[float]], dtype: torch.dtype) -> torch.Tensor:
        return torch.tensor([[*row, *[0] * (after - len(row))] for row in values], dtype=dtype, device=device)

    def prompt_table(values: Sequence[Sequence[int]]) -> torch.Tensor:
        return torch.tensor([[*[0] * (before - len(row)), *row] for row in values], device=device)

    worth = [value for group in groups for value in group.advantages]
    if any(np.ndim(value) == 1 for value in worth):
        rows = zip(worth, completions, strict=True)
        advantages = padded([np.broadcast_to(value, len(ids)).tolist() for value, ids in rows], torch.float32)
    else:
        advantages = torch.tensor(np.array(worth, dtype=float), dtype=torch.float32, device=device)
    inputs = {
        "heard": True,
        "prompt_ids": prompt_table(prompts),
        "prompt_mask": prompt_table([[1] * len(row) for row in prompts]),
        "completion_ids": padded(completions, torch.long),
        "completion_mask": padded([[1] * len(ids) for ids in completions], torch.long),
        "advantages": advantages,
        "num_items_in_batch": torch.tensor(float(total), device=device),
    }
    if all(group.old_logprobs is not None for group in groups):
        old = [list(row) for group in groups for row in group.old_logprobs or ()]
        inputs["old_per_token_logps"] = padded(old, torch.float32)
    return inputs

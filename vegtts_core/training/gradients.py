"""The gradient of a step: the sum over its passes and over all processes, the same bits however they are split.

DDP averages the gradients of equal shares as they come out of one backward pass. A step here consists of groups of
unequal length, of which a process may get none. So each process adds up its passes, in float64, and the processes' sums
are added up once per step, whatever their number; the loss of a pass is normalised by the whole step beforehand, which
leaves nothing to be scaled. (A sum of float32 values in float64 is exact unless their sizes differ by 2**29: the order
does not matter.) What is trained here are adapters: eight bytes per weight more, and one reduction per step.
It knows parameters and their gradients; it knows no losses or groups.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch

from vegtts_core.training.processes import Processes


class GradientSum:
    """Takes the gradients of each pass away from ``parameters`` and gives them their sum at the end of a step."""

    def __init__(self, parameters: Iterable[torch.nn.Parameter], processes: Processes) -> None:
        self._parameters = [parameter for parameter in parameters if parameter.requires_grad]
        self._processes = processes
        self._sum: torch.Tensor | None = None

    def _begin(self) -> torch.Tensor:
        """All gradients in one row, then one number per parameter: how many passes gave it a gradient."""
        total = sum(parameter.numel() for parameter in self._parameters) + len(self._parameters)
        return torch.zeros(total, dtype=torch.float64, device=self._parameters[0].device)

    @torch.no_grad()
    def take(self) -> None:
        """After a backward pass: add what it left."""
        if self._sum is None:
            self._sum = self._begin()
        counts = self._sum[-len(self._parameters) :]
        start = 0
        for place, parameter in enumerate(self._parameters):
            if parameter.grad is not None:
                self._sum[start : start + parameter.numel()] += parameter.grad.flatten()
                counts[place] += 1
                parameter.grad = None
            start += parameter.numel()

    @torch.no_grad()
    def own(self) -> dict[torch.nn.Parameter, torch.Tensor]:
        """At the end of a step, instead of ``give``: this process's part of the sum, zero where no pass reached."""
        total = self._sum if self._sum is not None else self._begin()
        self._sum = None
        sizes = [parameter.numel() for parameter in self._parameters]
        parts = total[: sum(sizes)].split(sizes)
        return {p: part.view_as(p) for p, part in zip(self._parameters, parts, strict=True)}

    @torch.no_grad()
    def give(self) -> None:
        """At the end of a step in which some process made a pass: the sum, in the parameters' dtype, on every process.

        A parameter that no pass reached keeps no gradient, so that an optimiser leaves it alone.
        """
        total = self._sum if self._sum is not None else self._begin()
        self._sum = None
        self._processes.add(total)
        counts = total[-len(self._parameters) :].tolist()
        start = 0
        for count, parameter in zip(counts, self._parameters, strict=True):
            if count:
                found = total[start : start + parameter.numel()].view_as(parameter)
                parameter.grad = found.to(parameter.dtype)
            start += parameter.numel()

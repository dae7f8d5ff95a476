"""A kernel in the reference's place: for A/A calibration of what runs kernels.

A kernel's launcher and the evaluator's process, in which its reference runs, differ in more than what they run. Whether
that shows in times is seen when one kernel runs in both.
"""

from __future__ import annotations

import torch

from vegtts_core.kernels.calling import load_cuda
from vegtts_core.kernels.signature import KernelSignature
from vegtts_core.scaffolds.types import Candidate
from vegtts_core.tasks import Task


class KernelModule(torch.nn.Module):
    """A trusted CUDA kernel as a module with the reference's weights, in this process."""

    def __init__(self, task: Task, reference: torch.nn.Module, candidate: Candidate) -> None:
        """``candidate`` has a launch line; ``reference`` is the task's, on the device. Raises as `load_cuda`."""
        super().__init__()
        assert candidate.launch is not None
        signature = KernelSignature.of(task)
        self.reference, self._output = reference, signature.output
        self._kernel = load_cuda(candidate.source, candidate.launch, signature)
        self._weights = reference.state_dict()

    def forward(self, *inputs: torch.Tensor | float) -> torch.Tensor:
        """The kernel's output, a new tensor."""
        output = torch.empty(self._output.shape, dtype=self._output.dtype, device="cuda")
        self._kernel(inputs, self._weights, output)
        return output

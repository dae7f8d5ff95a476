"""The vocabulary of tasks: what is to be computed, on which inputs, and which answers are right.

This module knows nothing of policies, prompts or timing. Tensors are drawn here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import torch


class Size(StrEnum):
    """Which shapes a task is rendered with."""

    KERNELBENCH = "kernelbench"
    """The benchmark's own shapes: for a data-centre GPU."""
    CPU = "cpu"
    """Same ranks and similar ratios; each tensor at most 64 MiB; the reference takes about 1 to 100 ms on 2 cores."""


class Family(StrEnum):
    """What kind of operation a task is; kernel templates are written per family."""

    MATMUL = "matmul"
    MAP = "map"
    NORMALIZATION = "normalization"
    POOLING = "pooling"
    REDUCTION = "reduction"
    CONVOLUTION = "convolution"
    SCAN = "scan"
    LOSS = "loss"
    ATTENTION = "attention"


class AnswerKind(StrEnum):
    """How a candidate's output is held against the reference's."""

    VALUES = "values"
    """Floating-point values within the error budget."""
    INDEX_OF_MAXIMUM = "index_of_maximum"
    """Any index at which the input attains its maximum along ``InputContract.dim`` is right (ties)."""
    INDEX_OF_MINIMUM = "index_of_minimum"
    """Any index at which the input attains its minimum along ``InputContract.dim`` is right (ties)."""


Sampler = Callable[[tuple[int, ...], torch.Generator], torch.Tensor]
"""(shape, seeded CPU generator) -> a tensor of that shape."""
Fill = Callable[[torch.Tensor, int], None]
"""(contiguous float32 tensor on the CPU, seed): fills it with U[0, 1)."""


@dataclass(frozen=True)
class Domain:
    """A named set of inputs on which a candidate must be right, with a sampler that reaches its far corners.

    ``rows_tied``: a tensor with rows of another one in their place may leave the set.
    ``modes`` are the samplers that ``sample`` picks one of, if it does.
    """

    name: str
    description: str
    sample: Sampler
    rows_tied: bool = False
    modes: tuple[Sampler, ...] = ()


@dataclass(frozen=True)
class InputSpec:
    """One argument of ``forward``.

    ``shape`` is None for a plain number, whose ``value`` the benchmark fixes.
    ``benchmark`` draws from the distribution that KernelBench uses; ``domain`` is where a candidate must also be right.
    """

    name: str
    shape: tuple[int, ...] | None
    dtype: torch.dtype | None
    benchmark: Domain | None
    domain: Domain | None
    value: float | None = None


@dataclass(frozen=True)
class InputContract:
    """What a task promises about its inputs and asks of its answer.

    ``sensitive_to`` names the arguments (and ``weights``) that the answer must move with: a candidate that ignores
    one of them is wrong even where its numbers agree.
    """

    statement: str
    sensitive_to: tuple[str, ...]
    answer: AnswerKind = AnswerKind.VALUES
    dim: int | None = None


@dataclass(frozen=True)
class Task:
    """A KernelBench problem at one size.

    ``source`` is a KernelBench-format module (``Model``, ``get_inputs``, ``get_init_inputs``).
    ``forward_arguments`` are the parameter names of ``forward`` after ``self``; ``forward_signature`` and
    ``forward_body`` are its text as written in ``source`` (the body dedented, without the docstring).
    ``flop`` counts matrix work only; ``min_bytes`` is every input, parameter and output moved once.
    ``variant`` distinguishes another reference for the same problem (task 12: ``diag``).
    """

    level: int
    id: int
    name: str
    family: Family | None
    size: Size
    source: str
    inputs: tuple[InputSpec, ...]
    contract: InputContract
    forward_arguments: tuple[str, ...]
    forward_signature: str
    forward_body: str
    flop: float
    min_bytes: int
    variant: str = ""

    @property
    def key(self) -> str:
        """Unique name, e.g. ``level1/12`` or ``level1/12-diag``."""
        return f"level{self.level}/{self.id}" + (f"-{self.variant}" if self.variant else "")

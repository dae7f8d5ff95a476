"""The answer key: draws with their expected outputs, and the error that each allows.

The expected output of a draw is the reference's in float64, rounded once to the output's dtype; how far an output is
from it is its scaled error (`vegtts_core.evaluator.comparing`).

A draw's *budget* is the larger of ``error_factor`` times the scaled error of the reference's own float32 run and
``error_floor`` times the dtype's epsilon. Reordered float32 arithmetic stays within it; a detour through float16,
bfloat16 or TF32 does not, except where its errors average out before they reach the output (rounding the inputs of a
mean over millions to float16 moves a scalar loss by less than its budget). The setting ``precision`` allows such
detours: the budget is then at least ``error_factor`` times that precision's epsilon.

Where the float64 result is finite but beyond the output dtype, or the float32 reference overflows on the way, any
answer is accepted; elsewhere NaN and infinities must be the reference's.

Nothing here knows processes or clocks.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from vegtts_core.errors import UserError
from vegtts_core.evaluator.comparing import CHUNK, bounding, same, scale_of, scaled_error, surely_finite
from vegtts_core.evaluator.cores import threads
from vegtts_core.evaluator.settings import EvaluatorSettings
from vegtts_core.tasks import AnswerKind, Family, Task

Inputs = Sequence[torch.Tensor | float]

#: Families whose outputs can be computed in slices of the first dimension, and elements of a slice.
_INDEPENDENT = (Family.MAP, Family.CONVOLUTION, Family.POOLING)
_SLICE = 1 << 28


@dataclass
class Draw:
    """Inputs, weights and what comes out. ``name`` says which distribution they are from.

    ``expected`` has the output's dtype; ``scale`` is s of the module's text, by row, and the input that bounds it;
    ``free`` marks elements where any answer is accepted (None if there are none).
    ``base`` and ``changed`` are set where this draw is another one with a single argument replaced.
    """

    name: str
    inputs: Inputs
    weights: dict[str, torch.Tensor]
    expected: torch.Tensor
    scale: tuple[torch.Tensor, torch.Tensor | None]
    free: torch.Tensor | None = None
    budget: float = 0.0
    base: Draw | None = None
    changed: str = ""
    moved: bool = field(default=False)
    """Whether the expected output differs from ``base``'s by clearly more than rounding."""

    def expecting(self, output: torch.Tensor) -> Draw:
        """The same draw with another answer."""
        return replace(self, expected=output)


@dataclass(frozen=True)
class Known:
    """What need not be found out again when a draw is made again from the same seeds; ``rows`` may be None."""

    shape: torch.Size
    dtype: torch.dtype
    rows: torch.Tensor | None
    has_free: bool
    budget: float
    moved: bool


def weights_of(module: nn.Module) -> dict[str, torch.Tensor]:
    """The tensors of a module's state dict (parameters and buffers), copied."""
    return {
        name: value.detach().clone() for name, value in module.state_dict().items() if isinstance(value, torch.Tensor)
    }


@torch.no_grad()
def run_reference(task: Task, module: nn.Module, inputs: Inputs, count: int, double: bool = False) -> torch.Tensor:
    """The reference's output in its own dtype, or in float64, computed by ``count`` threads.

    The module's buffers are left as they were. Raises UserError if it does not run, writes to its inputs (which may
    be too large to copy first) or returns no tensor.
    """
    module = copy.deepcopy(module)
    if double:
        module = module.double()
        inputs = [x.double() if isinstance(x, torch.Tensor) and x.is_floating_point() else x for x in inputs]
    versions = [x._version if isinstance(x, torch.Tensor) else 0 for x in inputs]
    try:
        with threads(count):
            output = module(*inputs)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        precision = "float64" if double else "its own precision"
        raise UserError(f"The reference of {task.key} does not run in {precision}: {error}.") from error
    if versions != [x._version if isinstance(x, torch.Tensor) else 0 for x in inputs]:
        raise UserError(f"The reference of {task.key} writes to its inputs: leave this task out.")
    if not isinstance(output, torch.Tensor):
        raise UserError(f"The reference of {task.key} returns no single tensor: leave this task out.")
    output = output.detach().contiguous()
    shared = {x.untyped_storage().data_ptr() for x in inputs if isinstance(x, torch.Tensor)}
    return output.clone() if output.untyped_storage().data_ptr() in shared else output


def _truth(task: Task, module: nn.Module, inputs: Inputs, own: torch.Tensor, count: int) -> tuple[torch.Tensor, ...]:
    """The float64 output rounded to the dtype of ``own``, and where any answer is accepted (bool).

    That is where the output's precision cannot hold what is finite, or the reference's own run strays. Large
    elementwise tasks go slice by slice, since float64 copies take memory.
    """
    expected = torch.empty_like(own)
    free = torch.empty(own.shape, dtype=torch.bool, device=own.device)
    for part, exact in _exact(task, module, inputs, count):
        expected[part] = exact
        step = CHUNK[own.device.type]
        tensors = (tensor.reshape(-1).split(step) for tensor in (free[part], exact, expected[part], own[part]))
        for target, e, r, y in zip(*tensors, strict=True):
            if surely_finite(r) and surely_finite(y):  # then so is e
                target.fill_(False)
            else:
                torch.where(e.isfinite(), ~(r.isfinite() & y.isfinite()), ~same(r, y), out=target)
        del exact
    return expected, free


def _exact(task: Task, module: nn.Module, inputs: Inputs, count: int) -> Iterator[tuple[Any, torch.Tensor]]:
    """(part of the output, its float64 value)"""
    for part in _parts(task, inputs):
        some = [x[part] if isinstance(x, torch.Tensor) else x for x in inputs]
        yield part, run_reference(task, module, some, count, double=True)


def _parts(task: Task, inputs: Inputs) -> list[Any]:
    """What to compute at a time: all (``...``), or slices of the first dimension where those do not depend on others.

    Those are elements of elementwise tasks, and images of a batch that is convolved or pooled.
    """
    shapes = [x.shape for x in inputs if isinstance(x, torch.Tensor)]
    largest = max(shapes, key=math.prod, default=torch.Size())
    if task.family not in _INDEPENDENT or math.prod(largest) <= _SLICE or shapes.count(largest) != len(shapes):
        return [...]
    step = max(1, _SLICE // math.prod(largest[1:]))
    return [slice(start, start + step) for start in range(0, largest[0], step)]


def make_draw(
    task: Task,
    name: str,
    module: nn.Module,
    inputs: Inputs,
    settings: EvaluatorSettings,
    base: Draw | None = None,
    changed: str = "",
    known: Known | None = None,
) -> Draw:
    """A draw for the sound protocol: expected output in float64, and its budget. ``known``: it is made again."""
    sound = settings.sound
    if known is not None and known.rows is not None and not known.has_free and known.dtype.is_floating_point:
        device = next((x.device for x in inputs if isinstance(x, torch.Tensor)), None)
        expected = torch.empty(known.shape, dtype=known.dtype, device=device)
        for part, exact in _exact(task, module, inputs, settings.threads):
            expected[part] = exact
            del exact
        scale = known.rows, bounding(task, inputs, expected)
        return Draw(name, inputs, weights_of(module), expected, scale, None, known.budget, base, changed, known.moved)
    own = run_reference(task, module, inputs, settings.threads)
    weights = weights_of(module)
    if task.contract.answer is not AnswerKind.VALUES or not own.is_floating_point():
        moved = base is not None and not torch.equal(own, base.expected)
        return Draw(name, inputs, weights, own, (torch.ones(1, 1), None), base=base, changed=changed, moved=moved)
    expected, free = _truth(task, module, inputs, own, settings.threads)
    scale = scale_of(task, inputs, expected)
    draw = Draw(name, inputs, weights, expected, scale, free if bool(free.any()) else None, base=base, changed=changed)
    epsilon = torch.finfo(own.dtype).eps
    allowed = max(sound.error_floor * epsilon, sound.error_factor * sound.precision.epsilon)
    draw.budget = max(sound.error_factor * scaled_error(task, draw, own), allowed)
    if base is not None:
        draw.moved = scaled_error(task, draw, base.expected) > 2 * sound.error_floor * epsilon
    return draw

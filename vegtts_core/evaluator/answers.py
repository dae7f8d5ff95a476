"""The answer key: draws with their expected outputs, and how far a candidate's output is from them.

The expected output of a draw is the reference's in float64, rounded once to the output's dtype. An element's *scaled
error* is |y - r| / (|r| + s), where s is the size that rounding errors of an honest float32 computation have there:
  - for elementwise tasks (family ``map``, output shaped like an input): the smaller of the element's own |x| and the
    root mean square of the output, so that a draw that spans magnitudes is checked at every magnitude;
  - otherwise the root mean square of the output's last dimension (an output row), or of the whole output where rows
    are shorter than 16: errors of sums are of the size of what was summed, not of what is left of it. The whole output
    also where images are normalised: their means and deviations are taken over many rows, so that a row which happens
    to lie near the mean carries the errors of all.
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
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import torch
from torch import nn

from vegtts_core.errors import UserError
from vegtts_core.evaluator import native
from vegtts_core.evaluator.cores import threads
from vegtts_core.evaluator.settings import EvaluatorSettings
from vegtts_core.tasks import AnswerKind, Family, Task

Inputs = Sequence[torch.Tensor | float]

_SHORTEST_ROW = 16
#: Elements compared at a time: what stays in a CPU's cache, and what keeps a GPU busy.
_CHUNK = {"cpu": 1 << 16, "cuda": 1 << 26}
#: Elements of a timed output that are compared on a GPU; on a CPU all are.
_SAMPLE = 1 << 24
#: Families whose outputs can be computed in slices of the first dimension, and elements of a slice.
_INDEPENDENT = (Family.MAP, Family.CONVOLUTION, Family.POOLING)
_SLICE = 1 << 28


@cache
def _secret(device: torch.device) -> torch.Generator:
    """Not the caller's random state: that stays as it is."""
    return torch.Generator(device).manual_seed(secrets.randbits(62))


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
        step = _CHUNK[own.device.type]
        tensors = (tensor.reshape(-1).split(step) for tensor in (free[part], exact, expected[part], own[part]))
        for target, e, r, y in zip(*tensors, strict=True):
            if _surely_finite(r) and _surely_finite(y):  # then so is e
                target.fill_(False)
            else:
                torch.where(e.isfinite(), ~(r.isfinite() & y.isfinite()), ~_same(r, y), out=target)
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
        scale = known.rows, _bounding(task, inputs, expected)
        return Draw(name, inputs, weights_of(module), expected, scale, None, known.budget, base, changed, known.moved)
    own = run_reference(task, module, inputs, settings.threads)
    weights = weights_of(module)
    if task.contract.answer is not AnswerKind.VALUES or not own.is_floating_point():
        moved = base is not None and not torch.equal(own, base.expected)
        return Draw(name, inputs, weights, own, (torch.ones(1, 1), None), base=base, changed=changed, moved=moved)
    expected, free = _truth(task, module, inputs, own, settings.threads)
    scale = _scale(task, inputs, expected)
    draw = Draw(name, inputs, weights, expected, scale, free if bool(free.any()) else None, base=base, changed=changed)
    epsilon = torch.finfo(own.dtype).eps
    allowed = max(sound.error_floor * epsilon, sound.error_factor * sound.precision.epsilon)
    draw.budget = max(sound.error_factor * scaled_error(task, draw, own), allowed)
    if base is not None:
        draw.moved = scaled_error(task, draw, base.expected) > 2 * sound.error_floor * epsilon
    return draw


def scaled_error(task: Task, draw: Draw, output: torch.Tensor) -> float:
    """The largest scaled error of ``output``; infinite where NaN or infinities are not the reference's.

    For indices and other integers: 0 if every element is right, else infinite.
    """
    if task.contract.answer is not AnswerKind.VALUES:
        return 0.0 if _indices_right(task, draw.inputs, output) else float("inf")
    if not output.is_floating_point():
        return 0.0 if torch.equal(output, draw.expected) else float("inf")
    if not output.numel():
        return 0.0
    rows, magnitudes = draw.scale
    columns = 1 if len(rows) == 1 else draw.expected.shape[-1]
    y_all, r_all = output.reshape(-1, columns), draw.expected.reshape(-1, columns)
    x_all = None if magnitudes is None else magnitudes.reshape(-1, columns)
    free = None if draw.free is None else draw.free.reshape(-1, columns)
    if free is None and native.fits(y_all, r_all, *([] if x_all is None else [x_all])):
        worst = native.largest_error(y_all, r_all, rows, x_all)
        if worst < float("inf"):
            return worst
    step = max(1, _CHUNK[output.device.type] // columns)
    worst = 0.0
    for start in range(0, len(y_all), step):
        part = slice(start, start + step)
        y, r = y_all[part], r_all[part]
        s = rows[part] if len(rows) > 1 else rows
        x = None if x_all is None else x_all[part]
        largest = _largest(y, r, s.to(r.dtype), x)
        if not largest < float("inf"):  # something is not finite, or overflowed in the output's own precision
            right = _same(y, r) if free is None else _same(y, r) | free[part]
            largest = _largest(y.double(), r.double(), s, None if x is None else x.double(), right)
        elif free is not None and bool(free[part].any()):
            largest = _largest(y, r, s.to(r.dtype), x, free[part])
        worst = max(worst, largest)
    return worst


def _largest(
    y: torch.Tensor,
    r: torch.Tensor,
    s: torch.Tensor,
    x: torch.Tensor | None,
    right: torch.Tensor | None = None,
) -> float:
    """The largest scaled error of a chunk, in the chunk's own precision; elements in ``right`` count as exact.

    NaN or infinity if any element is not finite and not in ``right``.
    """
    if x is not None:
        s = torch.minimum(x.abs(), s).nan_to_num_()
    error = (y - r).abs_()
    error.div_(r.abs().add_(s).clamp_min_(torch.finfo(torch.float32).tiny))
    if right is not None:
        wrong = error.isnan().logical_or_(r.isfinite().logical_not_())
        error.masked_fill_(wrong, float("inf")).masked_fill_(right, 0.0)
    return float(error.max())


def _surely_finite(x: torch.Tensor) -> bool:
    """Whether the sum is finite, which it is only if all elements are: a thirtieth of the time of looking at each."""
    return math.isfinite(float(x.sum()))


def _same(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Elementwise: equal, NaN being equal to NaN."""
    return (left == right) | (left.isnan() & right.isnan())


def _scale(task: Task, inputs: Inputs, expected: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Sizes of the output's rows (or of all of it) as a float64 column, and an input that bounds them elementwise."""
    is_map = task.family is Family.MAP
    is_normalised_image = task.family is Family.NORMALIZATION and expected.dim() >= 4
    by_row = not is_map and not is_normalised_image and expected.dim() > 0 and expected.shape[-1] >= _SHORTEST_ROW
    columns = expected.shape[-1] if by_row else max(expected.numel(), 1)
    table = expected.reshape(-1, columns)
    sizes = _norms(table)
    if not bool(sizes.isfinite().all()):
        sizes = _norms(torch.where(table.isfinite(), table, 0.0))
    sizes = (sizes / columns**0.5).clamp_max_(torch.finfo(expected.dtype).max)
    return sizes, _bounding(task, inputs, expected)


def _bounding(task: Task, inputs: Inputs, expected: torch.Tensor) -> torch.Tensor | None:
    """The input of an elementwise task whose magnitudes bound the scale."""
    if task.family is Family.MAP:
        for x in inputs:
            if isinstance(x, torch.Tensor) and x.shape == expected.shape and x.dtype == expected.dtype:
                return x
    return None


def _norms(table: torch.Tensor) -> torch.Tensor:
    """Norms of a table's rows as a float64 column; in pieces, since the sum in float64 may copy what it sums."""
    step = max(1, _CHUNK[table.device.type] // len(table)) if len(table) == 1 else table.shape[1]
    columns = [
        torch.linalg.vector_norm(piece, dim=1, keepdim=True, dtype=torch.float64) for piece in table.split(step, dim=1)
    ]
    return columns[0] if len(columns) == 1 else torch.linalg.vector_norm(torch.cat(columns, 1), dim=1, keepdim=True)


def _indices_right(task: Task, inputs: Inputs, output: torch.Tensor) -> bool:
    """Whether every index points at the input's extremum along the contract's dimension (ties are all right)."""
    x = next(x for x in inputs if isinstance(x, torch.Tensor))
    dim = task.contract.dim
    values = x if dim is not None else x.reshape(-1)
    dim = dim if dim is not None else 0
    index = output if output.dim() == values.dim() else output.unsqueeze(dim)
    if index.numel() and (int(index.min()) < 0 or int(index.max()) >= values.shape[dim]):
        return False
    chosen = values.gather(dim, index.long())
    largest = task.contract.answer is AnswerKind.INDEX_OF_MAXIMUM
    best = values.amax(dim, keepdim=True) if largest else values.amin(dim, keepdim=True)
    return bool(((chosen == best) | (chosen.isnan() & best.isnan())).all())


def _within(y: torch.Tensor, r: torch.Tensor, budget: float) -> bool:
    """Whether all is finite and within the budget: of right outputs nearly always, so in as few passes as possible."""
    if native.fits(y, r):
        return native.within(y, r, budget)
    y, r = y.double(), r.double()
    scale = torch.linalg.vector_norm(r) / r.numel() ** 0.5
    return bool((y - r).abs_().sub_(r.abs().mul_(budget)).amax() <= budget * scale)


def close_to_timed(task: Task, inputs: Inputs, output: torch.Tensor, reference: torch.Tensor, budget: float) -> bool:
    """Whether the output of a timed call agrees with the reference's float32 output on the same inputs.

    The reference is itself within the budget of the truth, so twice the budget separates two right answers at most.
    On a GPU, above 2**24 elements, a random sample of that size is compared, drawn anew for every call.
    """
    if task.contract.answer is not AnswerKind.VALUES:
        return _indices_right(task, inputs, output)
    if not output.is_floating_point():
        return bool(torch.equal(output, reference))
    y, r = output.reshape(-1), reference.reshape(-1)
    if y.is_cuda and y.numel() > _SAMPLE:
        places = torch.randint(y.numel(), (_SAMPLE,), generator=_secret(y.device), device=y.device)
        y, r = y.index_select(0, places), r.index_select(0, places)  # several times as fast as y[places]
    if not y.numel() or _within(y, r, 2 * budget):
        return True
    step = _CHUNK[y.device.type]
    sizes = _norms(torch.where(r.isfinite(), r, 0.0).reshape(1, -1))
    scale = sizes.squeeze() / r.numel() ** 0.5
    return all(
        _near(a.double(), b.double(), 2 * budget, scale) for a, b in zip(y.split(step), r.split(step), strict=True)
    )


def _near(y: torch.Tensor, r: torch.Tensor, budget: float, scale: torch.Tensor) -> bool:
    near = (y - r).abs() <= budget * (r.abs() + scale)
    return bool((_same(y, r) | (near & r.isfinite())).all())

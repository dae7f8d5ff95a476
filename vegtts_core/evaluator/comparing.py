"""How far an output is from the expected one.

An element's *scaled error* is |y - r| / (|r| + s), where s is the size that rounding errors of an honest float32
computation have there:
  - for elementwise tasks (family ``map``, output shaped like an input): the smaller of the element's own |x| and the
    root mean square of the output, so that a draw that spans magnitudes is checked at every magnitude;
  - otherwise the root mean square of the output's last dimension (an output row), or of the whole output where rows
    are shorter than 16: errors of sums are of the size of what was summed, not of what is left of it. The whole output
    also where images are normalised: their means and deviations are taken over many rows, so that a row which happens
    to lie near the mean carries the errors of all.

Nothing here knows processes or clocks.
"""

from __future__ import annotations

import math
import secrets
from functools import cache
from typing import TYPE_CHECKING

import torch

from vegtts_core.evaluator import native
from vegtts_core.tasks import AnswerKind, Family, Task

if TYPE_CHECKING:
    from vegtts_core.evaluator.answers import Draw, Inputs

_SHORTEST_ROW = 16
#: Elements compared at a time: what stays in a CPU's cache, and what keeps a GPU busy.
CHUNK = {"cpu": 1 << 16, "cuda": 1 << 26}
#: Elements of a timed output that are compared on a GPU; on a CPU all are.
SAMPLE = 1 << 24


@cache
def _secret(device: torch.device) -> torch.Generator:
    """Not the caller's random state: that stays as it is."""
    return torch.Generator(device).manual_seed(secrets.randbits(62))


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
    step = max(1, CHUNK[output.device.type] // columns)
    worst = 0.0
    for start in range(0, len(y_all), step):
        part = slice(start, start + step)
        y, r = y_all[part], r_all[part]
        s = rows[part] if len(rows) > 1 else rows
        x = None if x_all is None else x_all[part]
        largest = _largest(y, r, s.to(r.dtype), x)
        if not largest < float("inf"):  # something is not finite, or overflowed in the output's own precision
            right = same(y, r) if free is None else same(y, r) | free[part]
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


def surely_finite(x: torch.Tensor) -> bool:
    """Whether the sum is finite, which it is only if all elements are: a thirtieth of the time of looking at each."""
    return math.isfinite(float(x.sum()))


def same(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Elementwise: equal, NaN being equal to NaN."""
    return (left == right) | (left.isnan() & right.isnan())


def scale_of(task: Task, inputs: Inputs, expected: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
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
    return sizes, bounding(task, inputs, expected)


def bounding(task: Task, inputs: Inputs, expected: torch.Tensor) -> torch.Tensor | None:
    """The input of an elementwise task whose magnitudes bound the scale."""
    if task.family is Family.MAP:
        for x in inputs:
            if isinstance(x, torch.Tensor) and x.shape == expected.shape and x.dtype == expected.dtype:
                return x
    return None


def _norms(table: torch.Tensor) -> torch.Tensor:
    """Norms of a table's rows as a float64 column; in pieces, since the sum in float64 may copy what it sums."""
    step = max(1, CHUNK[table.device.type] // len(table)) if len(table) == 1 else table.shape[1]
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
    if y.is_cuda and y.numel() > SAMPLE:
        places = torch.randint(y.numel(), (SAMPLE,), generator=_secret(y.device), device=y.device)
        y, r = y.index_select(0, places), r.index_select(0, places)  # several times as fast as y[places]
    if not y.numel() or _within(y, r, 2 * budget):
        return True
    step = CHUNK[y.device.type]
    sizes = _norms(torch.where(r.isfinite(), r, 0.0).reshape(1, -1))
    scale = sizes.squeeze() / r.numel() ** 0.5
    return all(
        _near(a.double(), b.double(), 2 * budget, scale) for a, b in zip(y.split(step), r.split(step), strict=True)
    )


def _near(y: torch.Tensor, r: torch.Tensor, budget: float, scale: torch.Tensor) -> bool:
    near = (y - r).abs() <= budget * (r.abs() + scale)
    return bool((same(y, r) | (near & r.isfinite())).all())

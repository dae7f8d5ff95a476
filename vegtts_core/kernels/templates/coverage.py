"""Which tasks have a template, how their tensors lie in it, and which have none and why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from math import prod
from typing import Any

from vegtts_core.errors import UserError
from vegtts_core.kernels.signature import ArgumentRole, KernelSignature
from vegtts_core.kernels.templates.column import column_template
from vegtts_core.kernels.templates.map import map_template
from vegtts_core.kernels.templates.matmul import MatmulPlan, matmul_template
from vegtts_core.kernels.templates.row import RowPlan, row_template
from vegtts_core.kernels.templates.scan import scan_template
from vegtts_core.kernels.templates.types import Template, TemplateFamily
from vegtts_core.kernels.templates.window import WindowPlan, window_template
from vegtts_core.tasks import Task, get_task, named_selections

_Builder = Callable[[KernelSignature], Template]
ROW, FULL, LOSS = TemplateFamily.ROW_REDUCTION, TemplateFamily.FULL_REDUCTION, TemplateFamily.LOSS


@dataclass(frozen=True)
class Coverage:
    """A task's template family, or the reason why it has none."""

    key: str
    name: str
    family: TemplateFamily | None
    reason: str


def covered() -> tuple[Coverage, ...]:
    """One entry per level-1 task (the variant of task 12 included), in order."""
    keys = [str(id) for id in named_selections()["level1"]]
    keys.insert(keys.index("12") + 1, "12-diag")
    return tuple(_coverage(get_task(key)) for key in keys)


def _coverage(task: Task) -> Coverage:
    builder = _BUILDERS.get(task.id) if task.level == 1 else None
    if builder is None:
        return Coverage(task.key, task.name, None, _reason(task))
    return Coverage(task.key, task.name, builder(KernelSignature.of(task)).family, "")


def template_of(task: Task) -> Template:
    """The template of a task at its size. Raises UserError where there is none."""
    if task.level != 1 or task.id not in _BUILDERS:
        raise UserError(f"Task {task.key} has no kernel template ({_reason(task)}): use the kernel scaffold.")
    return _template(task.id, KernelSignatureKey(task))


class KernelSignatureKey:
    """A task as a cache key: templates depend on its source alone."""

    def __init__(self, task: Task) -> None:
        self.task = task

    def __eq__(self, other: object) -> bool:
        return isinstance(other, KernelSignatureKey) and other.task.source == self.task.source

    def __hash__(self) -> int:
        return hash(self.task.source)


@cache
def _template(id: int, key: KernelSignatureKey) -> Template:
    return _BUILDERS[id](KernelSignature.of(key.task))


def _reason(task: Task) -> str:
    if task.level != 1:
        return "templates are for level 1"
    if task.id == 86:
        return "a depthwise and a pointwise convolution in one: two families"
    if task.id == 97:
        return "attention is two products with a softmax between them: no family has that form"
    return "a convolution over all channels of a group: no family has that form"


def _shape(signature: KernelSignature, name: str = "") -> tuple[int, ...]:
    """The shape of the argument of that name; of the first tensor without one."""
    return next(a.shape for a in signature.arguments if a.name == name or (not name and a.role is ArgumentRole.INPUT))


def _weight(signature: KernelSignature, ending: str) -> str:
    return next(a.name for a in signature.arguments if a.role is ArgumentRole.WEIGHT and a.name.endswith(ending))


def _rows(family: TemplateFamily, elements: str, output: str, stages: int = 1, **more: Any) -> _Builder:
    """Rows along the last dimension; with FULL_REDUCTION one row of all elements."""
    names = tuple(elements.split())

    def build(signature: KernelSignature) -> Template:
        *leading, length = _shape(signature, names[0])
        rows = 1 if family is FULL else prod(leading)
        segment = prod((*leading, length)) if family is FULL else length
        return row_template(signature, RowPlan(family, rows, segment, names, output, stages, **more))

    return build


def _column(output: str) -> _Builder:
    return lambda signature: column_template(signature, int(signature.constants["dim"]), output)


def _affine(signature: KernelSignature, index: str) -> dict[str, str]:
    return {name: f"in.{_weight(signature, '_' + name)}[{index}]" for name in ("weight", "bias")}


def _batch_norm(signature: KernelSignature) -> Template:
    samples, channels, *space = _shape(signature)
    plan = RowPlan(
        ROW, channels, prod(space), ("x",), "map", 2, segments=samples, piece=prod(space),
        per_element=_affine(signature, "row"),
    )  # fmt: skip
    return row_template(signature, plan)


def _instance_norm(signature: KernelSignature) -> Template:
    samples, channels, *space = _shape(signature)
    return row_template(signature, RowPlan(ROW, samples * channels, prod(space), ("x",), "map", 2))


def _group_norm(signature: KernelSignature) -> Template:
    samples, channels, *space = _shape(signature)
    groups = int(signature.constants["num_groups"])
    each = channels // groups
    plan = RowPlan(
        ROW, samples * groups, each * prod(space), ("x",), "map", 2, piece=prod(space),
        per_element=_affine(signature, f"row % {groups} * {each} + piece"),
    )  # fmt: skip
    return row_template(signature, plan)


def _layer_norm(signature: KernelSignature) -> Template:
    samples, *normalized = _shape(signature)
    plan = RowPlan(ROW, samples, prod(normalized), ("x",), "map", 2, per_element=_affine(signature, "j"))
    return row_template(signature, plan)


def _matrix_vector(signature: KernelSignature) -> Template:
    rows, length = _shape(signature, "A")
    return row_template(signature, RowPlan(ROW, rows, length, ("A",), "value", columns={"B": "in.B[j]"}))


def _cross_entropy(signature: KernelSignature) -> Template:
    rows, length = _shape(signature, "predictions")
    score = {"target_score": f"in.predictions[row * {length} + in.targets[row]]"}
    return row_template(signature, RowPlan(LOSS, rows, length, ("predictions",), "mean", 2, per_row=score))


def _matmul(transposed_a: bool = False, transposed_b: bool = False, triangular: bool = False) -> _Builder:
    """A's leading dimensions are rows; a third dimension of both is the batch."""

    def build(signature: KernelSignature) -> Template:
        a, b = _shape(signature, "A"), _shape(signature, "B")
        k, n = (b[-1], b[-2]) if transposed_b else (b[-2], b[-1])
        batch = b[0] if len(b) == 3 else 1
        m = prod(a) // (batch * k)
        plan = MatmulPlan(
            m, n, k, (m * k, 1, m) if transposed_a else (m * k, k, 1), (n * k, 1, k) if transposed_b else (n * k, n, 1),
            batch, triangular=triangular,
        )  # fmt: skip
        return matmul_template(signature, plan)

    return build


def _pointwise(signature: KernelSignature) -> Template:
    """A 1 x 1 convolution: the weight (out x in) times each sample (in x space)."""
    samples, inner, *space = _shape(signature)
    outer = signature.output.shape[1]
    size = prod(space)
    weight = _weight(signature, "weight")
    return matmul_template(
        signature, MatmulPlan(outer, size, inner, (0, inner, 1), (inner * size, size, 1), samples, weight, "x")
    )


def _pool(signature: KernelSignature) -> Template:
    spatial = len(_shape(signature)) - 2

    def numbers(name: str, missing: int) -> tuple[int, ...]:
        constants = signature.constants
        if f"{name}_0" in constants:
            return tuple(int(constants[f"{name}_{axis}"]) for axis in range(spatial))
        return (int(constants.get(name, missing)),) * spatial

    kernel = numbers("kernel_size", 1)
    plan = WindowPlan(kernel, numbers("stride", kernel[0]), numbers("padding", 0), numbers("dilation", 1))
    return window_template(signature, plan)


def _depthwise(signature: KernelSignature) -> Template:
    weight = _weight(signature, "weight")
    kernel = _shape(signature, weight)[2:]
    constants = signature.constants

    def numbers(name: str, missing: int) -> tuple[int, ...]:
        axes = "hw"[: len(kernel)]
        return tuple(int(constants.get(f"{name}_{axis}", constants.get(name, missing))) for axis in axes)

    plan = WindowPlan(kernel, numbers("stride", 1), numbers("padding", 0), numbers("dilation", 1), weight)
    return window_template(signature, plan)


_BUILDERS: dict[int, _Builder] = {
    **dict.fromkeys((5, 19, 20, 21, 22, *range(25, 33), 88), map_template),
    12: lambda signature: map_template(signature, by_row=("A",)),
    4: _matrix_vector,
    **dict.fromkeys((1, 2, 3, 6, 7, 8, 9, 10, 11, 13), _matmul()),
    **dict.fromkeys((14, 15), _matmul(triangular=True)),
    16: _matmul(transposed_a=True),
    17: _matmul(transposed_b=True),
    18: _matmul(transposed_a=True, transposed_b=True),
    87: _pointwise,
    **dict.fromkeys((23, 24), _rows(ROW, "x", "map", 2)),
    33: _batch_norm,
    34: _instance_norm,
    35: _group_norm,
    36: lambda signature: column_template(signature, 1, "map"),
    37: _rows(FULL, "x", "map"),
    **dict.fromkeys((38, 39), _rows(ROW, "x", "map")),
    40: _layer_norm,
    **dict.fromkeys((41, 42, 43, 44, 45, 46), _pool),
    **dict.fromkeys((47, 48, 49, 53), _column("value")),
    **dict.fromkeys((51, 52), _column("index")),
    **dict.fromkeys((82, 83, 84, 85), _depthwise),
    **dict.fromkeys((89, 90, 91, 92, 93), scan_template),
    **dict.fromkeys((94, 96, 98), _rows(FULL, "predictions targets", "value")),
    95: _cross_entropy,
    99: _rows(LOSS, "anchor positive negative", "mean", 2),
    100: _rows(LOSS, "predictions", "mean", columns={"targets": "in.targets[j]"}),
}

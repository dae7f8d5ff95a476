"""The row templates: totals over rows, and what is made of them.

One kernel serves three families. Row reduction: a value per row, or the row normalised. Full reduction: the tensor is
one row that many threads share. Loss: a value per row, and the mean of them. There are one or two totals; where the
second does not need the first, both are taken in one pass.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from vegtts_core.kernels.signature import KernelSignature
from vegtts_core.kernels.templates import tuning
from vegtts_core.kernels.templates.rendering import Function, render
from vegtts_core.kernels.templates.types import (
    Expression,
    ExpressionHole,
    Filling,
    Hole,
    Rendered,
    Template,
    TemplateFamily,
    ValueType,
)
from vegtts_core.kernels.types import Language, Launch

FLOAT, INT = ValueType.FLOAT, ValueType.INT
_TOTAL = {"total": FLOAT, "n": INT}
_MAX_SPLIT_BLOCKS = 128  # blocks of a row wait for each other: any device that runs these templates holds so many


@dataclass(frozen=True)
class RowPlan:
    """How a task's tensors lie in rows.

    A row is ``segments`` runs of ``segment`` elements; run g of row r starts at ``(g * rows + r) * segment``.
    ``elements`` are tensors read at the element's index. ``columns``, ``per_element`` and ``per_row`` are further
    variables of the element, of ``y`` and of the row's value, each with its C code (``row``, ``j`` the element of the
    row, ``piece`` its run of ``piece`` elements). ``output`` is what comes out: ``map``, ``value`` or ``mean``.
    """

    family: TemplateFamily
    rows: int
    segment: int
    elements: tuple[str, ...]
    output: str
    stages: int = 1
    segments: int = 1
    piece: int = 0
    columns: Mapping[str, str] = field(default_factory=dict)
    per_element: Mapping[str, str] = field(default_factory=dict)
    per_row: Mapping[str, str] = field(default_factory=dict)


def row_template(signature: KernelSignature, plan: RowPlan) -> Template:
    """The template of a plan. Tensor names of the plan are arguments of the signature."""
    holes = (*_expressions(plan), *_tuning(plan))
    length = plan.segments * plan.segment

    def rendered(filling: Filling, language: Language) -> Rendered:
        block, split = int(str(filling["block"])), int(str(filling["split"]))
        second = filling.get("element2")
        fused = isinstance(second, Expression) and "first" not in second.names
        constants = {
            "ROWS": plan.rows, "SEGMENTS": plan.segments, "SEGMENT": plan.segment, "PIECE": plan.piece or length,
            "STAGES": plan.stages, "FUSED": int(fused), "OUTPUT": plan.output,
        }  # fmt: skip
        if plan.stages == 1:
            constants["COMBINE2"] = "sum"
        launch = Launch((plan.rows * split, 1, 1), (block, 1, 1))
        return render(signature, language, "row", holes, filling, constants, _functions(plan), launch)

    return Template(plan.family, _outline(plan), holes, signature.constants, lambda *_: None, rendered)


def _expressions(plan: RowPlan) -> list[Hole]:
    elements = dict.fromkeys((*plan.elements, *plan.columns), FLOAT)
    holes: list[Hole] = [
        ExpressionHole("element", FLOAT, elements, "what is combined, from the input elements at one place"),
        tuning.combine("combine", "the operator of the first total"),
        ExpressionHole("first", FLOAT, _TOTAL, "from the first total; n elements", "total", wide=True),
    ]
    if plan.stages == 2:
        holes += [
            ExpressionHole("element2", FLOAT, elements | {"first": FLOAT}, "what is combined into the second total"),
            tuning.combine("combine2", "the operator of the second total"),
            ExpressionHole(
                "second", FLOAT, {"total": FLOAT, "n": INT, "first": FLOAT}, "from the second total", "total", wide=True
            ),
        ]
    totals = {"first": FLOAT} | ({"second": FLOAT} if plan.stages == 2 else {})
    if plan.output == "map":
        variables = dict.fromkeys((*plan.elements, *plan.per_element), FLOAT) | totals
        holes.append(ExpressionHole("y", FLOAT, variables, "the output element"))
    else:
        variables, default = totals | dict.fromkeys(plan.per_row, FLOAT), "first" if plan.stages == 1 else None
        holes.append(ExpressionHole("value", FLOAT, variables, "the row's value", default))
    if plan.output == "mean":
        says = "the output, from the total of the rows' values; rows of n elements each"
        holes.append(ExpressionHole("result", FLOAT, {"total": FLOAT, "rows": INT, "n": INT}, says, wide=True))
    return holes


def _tuning(plan: RowPlan) -> list[Hole]:
    most = min(_MAX_SPLIT_BLOCKS, max(1, plan.segments * plan.segment // 1024))
    parts = tuple(n for n in (1, 2, 4, 8, 16, 32, 64, 128) if n <= most)
    if plan.rows > 1:  # many rows keep a device busy by themselves
        parts = tuple(n for n in parts if n <= 16)
    what = "CUDA: threads of a block; C++: a thread takes block / 64 rows at a time"
    return [
        tuning.block(64, 128, 256, 512, 1024, default=256, what=what),
        tuning.items(1, 2, 4, 8, default=4, what="vectors in flight"),
        tuning.VECTOR,
        tuning.split(*parts, default=parts[-1] if plan.rows == 1 else 1, what="parts of a row, a block each"),
        tuning.ACCUMULATOR,
        *([tuning.STORE] if plan.output == "map" else []),
        tuning.MATH,
    ]


def _functions(plan: RowPlan) -> tuple[Function, ...]:
    elements = {name: f"in.{name}[i]" for name in plan.elements}
    of_element = elements | dict(plan.columns)
    total, totals = {"total": "total_", "n": "n_"}, {"first": "first_", "second": "second_"}
    own = "long long i, long long row, long long j"
    place = "long long i, long long row, long long piece, long long j, float first_, float second_"
    per_row, of_all = dict(plan.per_row) | totals, total | {"rows": "rows_"}
    return (
        Function("element", "element", own, of_element, plan.elements),
        Function("first", "first", "acc_t total_, long long n_", total, inputs=False),
        Function("element2", "element2", f"{own}, float first_", of_element | totals, plan.elements),
        Function("second", "second", "acc_t total_, long long n_, float first_", total | totals, inputs=False),
        Function("y", "y", place, elements | dict(plan.per_element) | totals, plan.elements),
        Function("value", "value", "long long row, float first_, float second_", per_row),
        Function("result", "result", "acc_t total_, long long rows_, long long n_", of_all, inputs=False),
    )


def _outline(plan: RowPlan) -> str:
    lines = ["for each row:"] if plan.rows > 1 else ["over the whole tensor:"]
    lines += ["    total = combine of element over the row", "    first = its value from total and n"]
    if plan.stages == 2:
        lines.append("    total = combine2 of element2 (which may use first) over the row; second = its value")
    if plan.output == "map":
        lines.append("    for each element of the row: out = y")
    else:
        lines.append("    out[row] = value" if plan.output == "value" else "    total of value over the rows")
    if plan.output == "mean":
        lines.append("out = result, from that total")
    return "\n".join(lines)

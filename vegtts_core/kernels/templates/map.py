"""The map template: every output element is an expression of the input elements at its place."""

from __future__ import annotations

from math import prod

from vegtts_core.kernels.signature import ArgumentRole, KernelSignature
from vegtts_core.kernels.templates import tuning
from vegtts_core.kernels.templates.rendering import Function, render
from vegtts_core.kernels.templates.types import ExpressionHole, Filling, Rendered, Template, TemplateFamily, ValueType
from vegtts_core.kernels.types import Language, Launch

_OUTLINE = "for each element i: out[i] = y"


def map_template(signature: KernelSignature, by_row: tuple[str, ...] = ()) -> Template:
    """Inputs shaped as the output are read at its index, those in ``by_row`` at its row (first dimension)."""
    elements = tuple(
        a.name for a in signature.arguments if a.role is ArgumentRole.INPUT and a.shape == signature.output.shape
    )
    numbers = tuple(a.name for a in signature.arguments if a.role is ArgumentRole.NUMBER)
    variables = dict.fromkeys((*elements, *by_row, *numbers), ValueType.FLOAT)
    holes = (
        ExpressionHole("y", ValueType.FLOAT, variables, _says(elements, by_row)),
        tuning.block(64, 128, 256, 512, 1024, default=256, what="a block takes block * items * vector elements"),
        tuning.items(1, 2, 4, 8, default=4, what="accesses per thread of a block"),
        tuning.VECTOR,
        tuning.STORE,
        tuning.MATH,
    )
    total = prod(signature.output.shape)
    columns = total // signature.output.shape[0] if by_row else total
    function = Function(
        "y",
        "y",
        "long long i, long long row, long long column",
        {name: f"in.{name}[i]" for name in elements}
        | {name: f"in.{name}[row]" for name in by_row}
        | {name: f"in.{name}" for name in numbers},
        elements,
    )

    def rendered(filling: Filling, language: Language) -> Rendered:
        block, items, vector = (int(str(filling[name])) for name in ("block", "items", "vector"))
        launch = Launch((-(-total // (block * items * vector)), 1, 1), (block, 1, 1))
        constants = {"ROWS": total // columns, "COLUMNS": columns}
        return render(signature, language, "map", holes, filling, constants, (function,), launch)

    return Template(TemplateFamily.MAP, _OUTLINE, holes, signature.constants, lambda *_: None, rendered)


def _says(elements: tuple[str, ...], by_row: tuple[str, ...]) -> str:
    rows = f"; {' and '.join(by_row)} the row's element" if by_row else ""
    return f"the output element; {' and '.join(elements)} the input element at its place{rows}"

"""The scan template: running totals along the last dimension."""

from __future__ import annotations

from math import prod

from vegtts_core.kernels.signature import ArgumentRole, KernelSignature
from vegtts_core.kernels.templates import tuning
from vegtts_core.kernels.templates.rendering import Function, render
from vegtts_core.kernels.templates.types import (
    ChoiceHole,
    ExpressionHole,
    Filling,
    Hole,
    Rendered,
    Template,
    TemplateFamily,
    ValueType,
)
from vegtts_core.kernels.types import Language, Launch

_OUTLINE = """for each row, in the given order:
    total starts at the neutral element of combine
    at each element: if exclusive, out = total; total = combine of total and element; if inclusive, out = total"""


def scan_template(signature: KernelSignature) -> Template:
    """For a task whose inputs all have the output's shape; a bool tensor is a truth value in expressions."""
    inputs = [a for a in signature.arguments if a.role is ArgumentRole.INPUT]
    variables = {a.name: ValueType.BOOL if a.ctype == "const unsigned char*" else ValueType.FLOAT for a in inputs}
    *leading, length = signature.output.shape
    rows = prod(leading)
    holes: tuple[Hole, ...] = (
        ExpressionHole("element", ValueType.FLOAT, variables, "what is combined, from the input at its place"),
        ChoiceHole("combine", ("sum", "product"), "the operator of the running total"),
        ChoiceHole("order", ("forward", "backward"), "from the first element on, or from the last", default="forward"),
        ChoiceHole(
            "include", ("inclusive", "exclusive"), "whether a total has the element itself", default="inclusive"
        ),
        tuning.block(64, 128, 256, 512, 1024, default=256, what="CUDA: threads of a block; C++: not used"),
        ChoiceHole("together", (1, 2, 4, 8), "rows that a block (C++: a thread) takes together", default=2),
        tuning.items(1, 2, 4, 8, 16, default=8, what="consecutive elements totalled apart before the carry joins"),
        tuning.ACCUMULATOR,
        tuning.MATH,
    )
    bindings = {name: f"in.{name}[i]" for name in variables}
    # The elements are read one by one in both languages: a thread's are consecutive.
    function = Function("element", "element", "long long i", bindings)

    def problem(filling: Filling, language: Language) -> str | None:
        threads = int(str(filling["block"])) // int(str(filling["together"]))
        if language is Language.CUDA and threads < 32:
            return f"block / together is {threads} threads for each row, which is less than a warp of 32"
        return None

    def rendered(filling: Filling, language: Language) -> Rendered:
        block, together = int(str(filling["block"])), int(str(filling["together"]))
        launch = Launch((-(-rows // together), 1, 1), (block // together, together, 1))
        constants = {"ROWS": rows, "LENGTH": length}
        return render(signature, language, "scan", holes, filling, constants, (function,), launch)

    return Template(TemplateFamily.SCAN, _OUTLINE, holes, signature.constants, problem, rendered)

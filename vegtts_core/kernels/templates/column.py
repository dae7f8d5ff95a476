"""The column template: totals over the middle dimension of [outer, length, inner], whose columns lie apart in memory.

A row reduction like `row`'s, for tensors reduced over a dimension that is not the last. The index of an extremum is a
form of its own: there the hole is a comparison.
"""

from __future__ import annotations

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

FLOAT, INT = ValueType.FLOAT, ValueType.INT
_MAX_THREADS = 1024


def column_template(signature: KernelSignature, dim: int, output: str) -> Template:
    """For a task with one input, reduced over ``dim``; ``output`` is ``map``, ``value`` or ``index``."""
    x = next(a for a in signature.arguments if a.role is ArgumentRole.INPUT)
    outer, inner = 1, 1
    for size in x.shape[:dim]:
        outer *= size
    for size in x.shape[dim + 1 :]:
        inner *= size
    element = ExpressionHole("element", FLOAT, {x.name: FLOAT}, "what is compared or combined, from an input element")
    expressions, functions = _expressions(x.name, output, element)
    holes: tuple[Hole, ...] = (
        *expressions,
        ChoiceHole("tile", (32, 64, 128, 256, 512), "columns of a block", default=128),
        tuning.items(1, 2, 4, 8, 16, default=4, what="elements of a column taken together"),
        tuning.VECTOR,
        tuning.split(1, 2, 4, 8, 16, default=4, what="CUDA: thread rows that share a column; C++: not used"),
        *([] if output == "index" else [tuning.ACCUMULATOR]),
        *([tuning.STORE] if output == "map" else []),
        tuning.MATH,
    )

    def problem(filling: Filling, language: Language) -> str | None:
        tile, vector, split = (int(str(filling[name])) for name in ("tile", "vector", "split"))
        threads = tile // vector * split
        if language is Language.CUDA and not 32 <= threads <= _MAX_THREADS:
            return f"tile / vector * split is {threads} threads, which is not between 32 and {_MAX_THREADS}"
        return None

    def rendered(filling: Filling, language: Language) -> Rendered:
        tile, vector, split = (int(str(filling[name])) for name in ("tile", "vector", "split"))
        across = tile // vector
        wide = across * (vector if inner % vector == 0 else 1)
        launch = Launch((outer * -(-inner // wide), 1, 1), (across, split, 1))
        constants: dict[str, int | str] = {"OUTER": outer, "LENGTH": x.shape[dim], "INNER": inner, "OUTPUT": "value"}
        if output == "map":
            constants["OUTPUT"] = "map"
        source = "index" if output == "index" else "column"
        return render(signature, language, source, holes, filling, constants, functions, launch)

    outline = {
        "value": "for each column: total = combine of element over the column; out = first, from total and n",
        "map": "for each column: total = combine of element over the column; first = its value from total and n\n"
        "    for each element of the column: out = y",
        "index": "for each column: best = element of the first place\n"
        "    at every further place: if better, best = element\n    out = the place of best",
    }[output]
    return Template(TemplateFamily.ROW_REDUCTION, outline, holes, signature.constants, problem, rendered)


def _expressions(x: str, output: str, element: ExpressionHole) -> tuple[list[Hole], tuple[Function, ...]]:
    bound = {x: f"in.{x}[i]"}
    functions = [Function("element", "element", "long long i", bound, (x,))]
    if output == "index":
        better = ExpressionHole(
            "better", ValueType.BOOL, {"element": FLOAT, "best": FLOAT}, "whether element takes the place of best"
        )
        element = ExpressionHole("element", FLOAT, element.variables, element.description, x)
        bindings = {"element": "element_", "best": "best_"}
        functions.append(Function("better", "better", "float element_, float best_", bindings, inputs=False))
        return [element, better], tuple(functions)
    holes: list[Hole] = [
        element,
        tuning.combine("combine", "the operator of the total"),
        ExpressionHole("first", FLOAT, {"total": FLOAT, "n": INT}, "from the total; n elements", "total", wide=True),
    ]
    bindings = {"total": "total_", "n": "n_"}
    functions.append(Function("first", "first", "acc_t total_, long long n_", bindings, inputs=False))
    if output == "map":
        holes.append(ExpressionHole("y", FLOAT, {x: FLOAT, "first": FLOAT}, "the output element"))
    functions.append(Function("y", "y", "long long i, float first_", bound | {"first": "first_"}, (x,)))
    return holes, tuple(functions)

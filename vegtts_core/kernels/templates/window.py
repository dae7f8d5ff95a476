"""The window template: a total over a window at each place, for pooling and depthwise convolution in 1D to 3D."""

from __future__ import annotations

from dataclasses import dataclass
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

FLOAT, INT = ValueType.FLOAT, ValueType.INT
_OUTLINE = """for each channel and place: total = combine of element over the window's taps
    (taps in the padding are left out)
    out = y, from total and taps, the number of taps of a full window"""


@dataclass(frozen=True)
class WindowPlan:
    """Per spatial dimension the window, its stride, padding and dilation; ``weight`` names the taps' tensor."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    weight: str = ""


def window_template(signature: KernelSignature, plan: WindowPlan) -> Template:
    """For a task with one input (samples, channels, space) and an output of the same rank."""
    x = next(a for a in signature.arguments if a.role is ArgumentRole.INPUT)
    spatial = len(plan.kernel)
    variables = {x.name: FLOAT} | ({"w": FLOAT} if plan.weight else {})
    says = "what is combined, from the input element" + (" and the tap's weight w" if plan.weight else "") + " at a tap"
    holes: tuple[Hole, ...] = (
        ExpressionHole("element", FLOAT, variables, says),
        tuning.combine("combine", "the operator of the total"),
        ExpressionHole("y", FLOAT, {"total": FLOAT, "taps": INT}, "the output element", "total"),
        tuning.block(32, 64, 128, 256, 512, default=128, what="CUDA: threads of a block; C++: not used"),
        ChoiceHole("tile", (1, 4, 16, 64), "rows of the output that a block (C++: a thread) takes", default=4),
        tuning.items(1, 2, 4, default=2, what="CUDA: places per thread; C++: vectors of places"),
        ChoiceHole("taps_loop", ("inner", "outer"), "taps inside or outside the loop over places", default="inner"),
        tuning.VECTOR,
        tuning.ACCUMULATOR,
        tuning.STORE,
    )
    constants: dict[str, int | str] = {
        "PLANES": x.shape[0] * x.shape[1],
        "CHANNELS": x.shape[1] if plan.weight else 1,
    }
    sizes = {
        "I": (x.shape[2:], 1), "O": (signature.output.shape[2:], 1), "K": (plan.kernel, 1), "S": (plan.stride, 1),
        "P": (plan.padding, 0), "D": (plan.dilation, 1),
    }  # fmt: skip
    for letter, (values, missing) in sizes.items():
        padded = (*[missing] * (3 - spatial), *values)
        constants |= {f"{letter}{axis}": value for axis, value in enumerate(padded)}
    functions = (
        Function(
            "element", "element", "long long i, long long tap",
            {x.name: f"in.{x.name}[i]"} | ({"w": f"in.{plan.weight}[tap]"} if plan.weight else {}),
        ),
        Function("y", "y", "float total_, long long taps_", {"total": "total_", "taps": "taps_"}, inputs=False),
    )  # fmt: skip

    def rendered(filling: Filling, language: Language) -> Rendered:
        block, items, tile = (int(str(filling[name])) for name in ("block", "items", "tile"))
        across = -(-signature.output.shape[-1] // (block * items))
        rows = prod(signature.output.shape[:-1])
        launch = Launch((across * -(-rows // tile), 1, 1), (block, 1, 1))
        return render(signature, language, "window", holes, filling, constants, functions, launch)

    return Template(TemplateFamily.WINDOW, _OUTLINE, holes, signature.constants, lambda *_: None, rendered)

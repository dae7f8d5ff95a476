"""The matmul template: tiles of products of matrices that lie in memory with any strides.

Its holes are the epilogue, for triangular matrices the range of the inner dimension that a tile needs, and the tiles.
"""

from __future__ import annotations

from dataclasses import dataclass

from vegtts_core.kernels.signature import KernelSignature
from vegtts_core.kernels.templates.expressions import parse_expression
from vegtts_core.kernels.templates.rendering import Function, render
from vegtts_core.kernels.templates.types import (
    ChoiceHole,
    ExpressionHole,
    Filling,
    Hole,
    RangeHole,
    Rendered,
    Template,
    TemplateFamily,
    ValueType,
)
from vegtts_core.kernels.types import Language, Launch

_OUTLINE = """for each tile of rows m and columns n of the product:
    acc = 0; for k from k_begin (included) to k_end (excluded): acc += A[m][k] * B[k][n]
    C[m][n] = c, from acc"""
_SHARED = 48 * 1024  # bytes of static shared memory that every device has
_MOST_PARTS = 1 << 26  # floats of partial sums


@dataclass(frozen=True)
class MatmulPlan:
    """C[b] = A[b] B[b] of ``batch`` matrices, m x k by k x n.

    ``a`` and ``b`` name the tensors; ``a_strides`` are those of batch, row and k, ``b_strides`` of batch, k and column,
    in elements. With ``triangular`` the range of k and the place in C are holes.
    """

    m: int
    n: int
    k: int
    a_strides: tuple[int, int, int]
    b_strides: tuple[int, int, int]
    batch: int = 1
    a: str = "A"
    b: str = "B"
    triangular: bool = False


_CORNERS = {name: ValueType.INT for name in ("m_first", "m_last", "n_first", "n_last")}
_BOUNDS = (
    ExpressionHole(
        "k_begin",
        ValueType.INT,
        _CORNERS,
        "the first k that a tile of rows m_first..m_last and columns n_first..n_last needs",
        "0",
    ),
    ExpressionHole("k_end", ValueType.INT, _CORNERS, "one more than the last k that the tile needs", "K"),
)
_WHOLE = {hole.name: parse_expression(str(hole.default), ValueType.INT, {"K": ValueType.INT}) for hole in _BOUNDS}
_CORNER_PARAMETERS = "long long m_first_, long long m_last_, long long n_first_, long long n_last_"
_FUNCTIONS = (
    Function("c", "c", "float acc_, long long m_, long long n_", {"acc": "acc_", "m": "m_", "n": "n_"}, inputs=False),
    *(
        Function(name, name, _CORNER_PARAMETERS, {corner: f"{corner}_" for corner in _CORNERS}, inputs=False)
        for name in ("k_begin", "k_end")
    ),
)


def _numbers(filling: Filling) -> dict[str, int]:
    return {name: value for name, value in filling.items() if isinstance(value, int)}


def _holes(plan: MatmulPlan) -> tuple[Hole, ...]:
    place = {"m": ValueType.INT, "n": ValueType.INT} if plan.triangular else {}
    says = "the element of C at row m and column n" if plan.triangular else "the element of C"
    skinny = min(plan.m, plan.n) <= 64
    return (
        ExpressionHole("c", ValueType.FLOAT, {"acc": ValueType.FLOAT} | place, f"{says}, from its sum acc"),
        *(_BOUNDS if plan.triangular else ()),
        ChoiceHole("tile_m", (16, 32, 64, 128), "rows of a tile", default=64),
        ChoiceHole("tile_n", (16, 32, 64, 128), "columns of a tile", default=64),
        ChoiceHole("tile_k", (8, 16, 32, 64, 128), "inner elements at a time", default=16),
        ChoiceHole("thread_m", (1, 2, 4, 8), "rows per thread (C++: in registers)", default=4),
        ChoiceHole("thread_n", (1, 2, 4), "columns per thread (C++: vectors of columns in registers)", default=4),
        RangeHole("split_k", 1, 64, "parts of the inner dimension", default=16 if skinny else 1),
    )


def _outline(plan: MatmulPlan) -> str:
    return _OUTLINE if plan.triangular else _OUTLINE.replace("k_begin (included) to k_end (excluded)", "0 to K - 1")


def matmul_template(signature: KernelSignature, plan: MatmulPlan) -> Template:
    """The template of a plan."""
    sizes = {"M": plan.m, "N": plan.n, "K": plan.k}
    holes = _holes(plan)
    constants: dict[str, int | str] = {**sizes, "BATCH": plan.batch}
    constants |= dict(zip(("A_BATCH", "A_M", "A_K"), plan.a_strides, strict=True))
    constants |= dict(zip(("B_BATCH", "B_K", "B_N"), plan.b_strides, strict=True))

    def problem(filling: Filling, language: Language) -> str | None:
        v = _numbers(filling)
        parts = v["split_k"] * plan.batch * plan.m * plan.n
        if v["split_k"] > 1 and parts > _MOST_PARTS:
            return f"split_k = {v['split_k']} asks for {parts} partial sums; at most {_MOST_PARTS} are kept"
        if language is Language.CPP:
            return None
        threads = v["tile_m"] // v["thread_m"] * (v["tile_n"] // v["thread_n"])
        if not 32 <= threads <= 1024 or threads % 32:
            return f"(tile_m / thread_m) * (tile_n / thread_n) is {threads} threads, not a multiple of 32 up to 1024"
        shared = 4 * v["tile_k"] * (v["tile_m"] + v["tile_n"] + 2)
        if shared > _SHARED - 64:
            return (
                f"tile_k * (tile_m + tile_n + 2) floats are {shared} bytes of shared memory; a block has {_SHARED - 64}"
            )
        return None

    def rendered(filling: Filling, language: Language) -> Rendered:
        v = _numbers(filling)
        tiles = plan.batch * -(-plan.m // v["tile_m"]) * -(-plan.n // v["tile_n"])
        threads = max(1, v["tile_m"] // v["thread_m"] * (v["tile_n"] // v["thread_n"]))
        launch = Launch((tiles * v["split_k"], 1, 1), (threads, 1, 1))
        complete = _WHOLE | dict(filling)
        arguments = f"in.{plan.a}, in.{plan.b}, out"
        every = (*holes, *_BOUNDS)
        return render(signature, language, "matmul", every, complete, constants, _FUNCTIONS, launch, arguments)

    return Template(TemplateFamily.MATMUL, _outline(plan), holes, dict(signature.constants) | sizes, problem, rendered)

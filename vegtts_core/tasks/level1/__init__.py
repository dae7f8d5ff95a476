"""The hundred problems of KernelBench level 1, one module per family, written from the facts in ``tasks/data``."""

from __future__ import annotations

from vegtts_core.tasks.level1 import (
    activation,
    attention,
    convolution,
    loss,
    matmul,
    normalization,
    pooling,
    reduction,
    scan,
)
from vegtts_core.tasks.problem import Problem

_FAMILIES = (matmul, activation, normalization, pooling, reduction, convolution, scan, loss, attention)

PROBLEMS: dict[int, Problem] = {
    problem.id: problem for problem in sorted((p for family in _FAMILIES for p in family.PROBLEMS), key=lambda p: p.id)
}
"""Problem by its KernelBench id, 1 to 100."""

VARIANTS: dict[tuple[int, str], Problem] = {(p.id, p.variant): p for p in matmul.VARIANTS}
"""Other references for some of them, by id and variant."""

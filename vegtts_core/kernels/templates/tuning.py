"""Tuning holes that several families share, in the words that both languages read."""

from __future__ import annotations

from vegtts_core.kernels.templates.types import ChoiceHole, RangeHole, Template

#: Choices that change what is computed, not how fast.
_MEANING = frozenset({"combine", "combine2", "order", "include"})

MATH = ChoiceHole(
    "math", ("exact", "fast"), "fast: quick approximations of exp, log and tanh, less accurate", default="exact"
)
STORE = ChoiceHole("store", ("cached", "streaming"), "streaming: results bypass the caches", default="cached")
ACCUMULATOR = ChoiceHole("accumulator", ("float", "double"), "type of totals", default="float")
VECTOR = ChoiceHole(
    "vector", (1, 2, 4), "CUDA: floats per memory access; C++: 1 scalar code, 2 SIMD of 8, 4 SIMD of 16", default=4
)


def combine(name: str, description: str) -> ChoiceHole:
    """A hole for the operator of a total, which starts at the operator's neutral element."""
    return ChoiceHole(name, ("sum", "product", "max", "min"), description)


def items(*choices: int, default: int, what: str) -> ChoiceHole:
    """A hole for the number of things that are unrolled."""
    return ChoiceHole("items", choices, what, default=default)


def block(*choices: int, default: int, what: str) -> ChoiceHole:
    """A hole for the size of a block."""
    return ChoiceHole("block", choices, what, default=default)


def split(*choices: int, default: int, what: str) -> ChoiceHole:
    """A hole for the number of parts of a reduction."""
    return ChoiceHole("split", choices, what, default=default)


def tuning_grid(template: Template) -> dict[str, tuple[int | str, ...]]:
    """The values of every hole that is a matter of speed, by name."""
    grid: dict[str, tuple[int | str, ...]] = {}
    for hole in template.holes:
        if isinstance(hole, RangeHole):
            grid[hole.name] = tuple(range(hole.low, hole.high + 1))
        elif isinstance(hole, ChoiceHole) and hole.name not in _MEANING:
            grid[hole.name] = tuple(hole.choices)
    return grid

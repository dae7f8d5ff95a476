"""The vocabulary of kernel templates: holes, what fills them, and what a template makes of it.

A template is bound to one task at one size: its holes' variables and ranges are those of that task. It knows nothing of
prompts, completions, compilers or clocks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from vegtts_core.kernels.types import Language, Launch


class TemplateFamily(StrEnum):
    """What kind of loop nest a template is."""

    MAP = "map"
    """Each output element from the input elements at its place."""
    ROW_REDUCTION = "row_reduction"
    """Statistics of each row, and what is made of them: a value per row, or the normalised row."""
    FULL_REDUCTION = "full_reduction"
    """Statistics of a whole tensor."""
    SCAN = "scan"
    """Running totals along each row."""
    MATMUL = "matmul"
    """Products of matrices in tiles, with an epilogue and a bounded range of the inner dimension."""
    WINDOW = "window"
    """Depthwise convolution and pooling: a total over a window at each place."""
    LOSS = "loss"
    """A value per row, averaged over the rows."""


class ValueType(StrEnum):
    """The type of an expression."""

    FLOAT = "float"
    INT = "int"
    BOOL = "bool"


@dataclass(frozen=True)
class ExpressionHole:
    """A hole for a C expression of ``type`` over ``variables`` (name -> type) and the task's constants.

    ``wide`` holes take and give the accumulator's type. Without a ``default`` the completion must fill it.
    """

    name: str
    type: ValueType
    variables: Mapping[str, ValueType]
    description: str
    default: str | None = None
    wide: bool = False


@dataclass(frozen=True)
class ChoiceHole:
    """A hole for one of ``choices``, all integers or all words. Without a ``default`` the completion must fill it."""

    name: str
    choices: tuple[int, ...] | tuple[str, ...]
    description: str
    default: int | str | None = None


@dataclass(frozen=True)
class RangeHole:
    """A hole for an integer from ``low`` to ``high``, both included."""

    name: str
    low: int
    high: int
    description: str
    default: int


Hole = ExpressionHole | ChoiceHole | RangeHole


@dataclass(frozen=True)
class Expression:
    """A parsed expression: ``text`` with normalised spacing, ``code`` the C to compile, ``names`` what it uses."""

    text: str
    code: str
    type: ValueType
    names: frozenset[str]


Value = Expression | int | str
Filling = Mapping[str, Value]
"""Every hole of a template by name, defaults included."""


@dataclass(frozen=True)
class Rendered:
    """A translation unit with the function ``kernel``, and how it is launched (CUDA only)."""

    source: str
    launch: Launch | None


@dataclass(frozen=True)
class Template:
    """A kernel template for one task at one size.

    ``outline`` is pseudo-code that shows where the holes stand; ``constants`` are the integers, beyond the signature's,
    that expressions may name. ``problem`` gives the reason (a clause) why a filling whose values are each right cannot
    be rendered together, or None; ``render`` the translation unit of a filling without a problem.
    """

    family: TemplateFamily
    outline: str
    holes: tuple[Hole, ...]
    constants: Mapping[str, int | float]
    problem: Callable[[Filling, Language], str | None]
    render: Callable[[Filling, Language], Rendered]

    def hole(self, name: str) -> Hole | None:
        """The hole of that name."""
        return next((hole for hole in self.holes if hole.name == name), None)

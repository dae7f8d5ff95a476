"""How a level-1 problem is written down: once, with its constants at both sizes, and turned into KernelBench's form.

A ``Problem`` holds text (signatures, bodies, constants) and domains. ``render`` composes the module that a policy sees;
what the module computes is known to PyTorch alone, so counts and shapes are taken from running it (see ``counting``).
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch

from vegtts_core.tasks.domains import UNIT_INTERVAL
from vegtts_core.tasks.types import AnswerKind, Domain, Family, InputSpec, Size

Constant = int | float | bool | tuple[int, ...]


@dataclass(frozen=True)
class Argument:
    """One input of a problem.

    ``dims`` is the shape as ``get_inputs`` writes it (``"M, K"``), in constants of the problem and numbers; ``draw`` is
    the expression that draws it, with ``{dims}`` for the shape, between the lines ``before`` and ``after``. The
    ``benchmark`` sampler does what ``draw`` does with the same generator, number for number. A plain number has a
    ``value`` (an expression) instead of dims.
    """

    name: str
    dims: str
    domain: Domain
    benchmark: Domain = UNIT_INTERVAL
    draw: str = "torch.rand({dims})"
    before: str = ""
    after: str = ""
    dtype: torch.dtype = torch.float32
    value: str = ""

    def lines(self) -> list[str]:
        """The lines of ``get_inputs`` that draw this argument."""
        if self.value:
            return []
        lines = [self.before, f"{self.name} = {self.draw.format(dims=self.dims)}", self.after]
        return [line for line in lines if line]

    def spec(self, constants: Mapping[str, Constant]) -> InputSpec:
        """This argument at the sizes in ``constants``."""
        if self.value:
            value = constants[self.value]
            assert isinstance(value, int | float)
            return InputSpec(self.name, None, None, self.benchmark, self.domain, float(value))
        names = [name.strip() for name in self.dims.split(",")]
        shape = tuple(int(name) if name.isdigit() else int(constants[name]) for name in names)  # type: ignore[arg-type]
        return InputSpec(self.name, shape, self.dtype, self.benchmark, self.domain)


@dataclass(frozen=True)
class Problem:
    """A KernelBench problem at both sizes.

    ``init`` and ``forward`` are the parameters after ``self``; ``returns`` whether ``forward`` names its return type.
    ``build`` are the lines of ``__init__`` after ``super``; ``init_inputs`` the constants handed to it. ``constants``
    maps a name to (kernelbench, cpu) or to one value for both. ``note`` is what the contract says beyond the domains;
    ``sensitive_to`` defaults to every input, plus ``weights`` where the module has parameters.
    """

    id: int
    name: str
    family: Family
    doc: str
    forward: str
    body: str
    arguments: tuple[Argument, ...]
    constants: Mapping[str, tuple[Constant, Constant]]
    note: str
    returns: bool = True
    init: str = ""
    build: tuple[str, ...] = ()
    init_inputs: tuple[str, ...] = ()
    weights: bool = False
    answer: AnswerKind = AnswerKind.VALUES
    dim: int | None = None
    variant: str = ""

    def at(self, size: Size) -> dict[str, Constant]:
        """The constants at one size."""
        index = 0 if size is Size.KERNELBENCH else 1
        return {name: pair[index] for name, pair in self.constants.items()}

    def sensitive_to(self) -> tuple[str, ...]:
        """The arguments, and ``weights``, that the answer must move with."""
        return tuple(a.name for a in self.arguments) + (("weights",) if self.weights else ())

    def statement(self) -> str:
        """The contract in words: what the benchmark draws, where a candidate must be right, and what that catches."""
        return f"The benchmark draws {self._draws()}; a candidate must be right for {self._domains()}. {self.note}"

    def _draws(self) -> str:
        return _joined({a.name: a.benchmark.description for a in self.arguments}, "from")

    def _domains(self) -> str:
        return _joined({a.name: a.domain.description for a in self.arguments}, "among")


def _joined(described: dict[str, str], word: str) -> str:
    """``A and B from U[0, 1), mask from fair coin flips``: names that share a description are named together."""
    groups: dict[str, list[str]] = {}
    for name, description in described.items():
        groups.setdefault(description, []).append(name)
    return "; ".join(f"{' and '.join(names)} {word} {description}" for description, names in groups.items())


def both(**values: Constant) -> dict[str, tuple[Constant, Constant]]:
    """Constants that are the same at both sizes."""
    return {name: (value, value) for name, value in values.items()}


def sized(**values: tuple[Constant, Constant]) -> dict[str, tuple[Constant, Constant]]:
    """Constants given as (kernelbench, cpu)."""
    return values


def variant_of(problem: Problem, variant: str, **changes: object) -> Problem:
    """Another reference for the same problem."""
    return replace(problem, variant=variant, **changes)  # type: ignore[arg-type]


def render(problem: Problem, size: Size) -> str:
    """The KernelBench-format module text: ``Model``, constants, ``get_inputs``, ``get_init_inputs``."""
    returned = " -> torch.Tensor" if problem.returns else ""
    imports = ["import torch", "import torch.nn as nn"]
    if "F." in problem.body:
        imports.append("import torch.nn.functional as F")
    if "math." in problem.body:
        imports.insert(0, "import math\n")
    parameters = f", {problem.init}" if problem.init else ""
    model = [
        "class Model(nn.Module):",
        f'    """\n{textwrap.indent(textwrap.fill(problem.doc, 100), "    ")}\n    """',
        "",
        f"    def __init__(self{parameters}):",
        "        super(Model, self).__init__()",
        *(f"        {line}" for line in problem.build),
        "",
        f"    def forward(self, {problem.forward}){returned}:",
        textwrap.indent(textwrap.dedent(problem.body).strip(), "        "),
    ]
    constants = [f"{name} = {value!r}" for name, value in problem.at(size).items()]
    inputs = [f"    {line}" for argument in problem.arguments for line in argument.lines()]
    returned_inputs = ", ".join(a.value or a.name for a in problem.arguments)
    functions = [
        "def get_inputs():",
        *inputs,
        f"    return [{returned_inputs}]",
        "",
        "",
        "def get_init_inputs():",
        f"    return [{', '.join(problem.init_inputs)}]",
    ]
    sections = ["\n".join(imports), "\n".join(model), "\n".join(constants), "\n".join(functions)]
    return "\n\n\n".join(sections) + "\n"

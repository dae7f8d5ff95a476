"""The C signature of a task: its tensors as pointers, plain numbers as floats, weights, and last the output.

    signature = KernelSignature.of(task)
    signature.c_declaration(Language.CUDA)  # extern "C" __global__ void kernel(const float* x, float* out)
    signature.preamble(Language.CUDA)       # constexpr long long x_n = 4194304; ...

Sizes are no arguments but compile-time constants, so that a compiler can unroll and divide by them: ``NAME_n``
(elements) and ``NAME_0``, ``NAME_1``, ... (dimensions) of every tensor, ``out`` included, and the numbers that the
reference's constructor got, under its parameters' names (``kernel_size``, ``stride``, ``eps``; a tuple's as
``stride_0``, ``stride_1``). All tensors are dense and in row-major order.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from importlib import resources
from typing import Any

import torch

from vegtts_core.errors import UserError
from vegtts_core.kernels.types import Language
from vegtts_core.tasks.source import MetaRun, run_on_meta
from vegtts_core.tasks.types import Task

ENTRY = "kernel"
"""Name of the function that is called."""

_C_TYPES = {torch.float32: "float", torch.int64: "long long", torch.bool: "unsigned char"}


class ArgumentRole(StrEnum):
    """What an argument of a kernel is."""

    INPUT = "input"
    """A tensor argument of ``forward``."""
    NUMBER = "number"
    """A plain number that ``forward`` takes."""
    WEIGHT = "weight"
    """A float tensor of the reference's state dict (parameters, running statistics)."""
    OUTPUT = "output"


@dataclass(frozen=True)
class KernelArgument:
    """One argument: ``ctype`` as written in C, ``source`` its name in the task (``conv2d.weight``).

    ``shape`` is () and ``dtype`` float32 for a plain number, which is passed by value.
    """

    name: str
    ctype: str
    role: ArgumentRole
    shape: tuple[int, ...]
    dtype: torch.dtype
    source: str


@dataclass(frozen=True)
class KernelSignature:
    """Arguments in the order of the call, and constants by name. See the module."""

    arguments: tuple[KernelArgument, ...]
    constants: dict[str, int | float]

    @staticmethod
    def of(task: Task) -> KernelSignature:
        """The signature of a task at its size.

        Raises UserError if an argument, weight or output has no C type here, or if there is no single output tensor.
        """
        return _derive(task.key, task.source, task.forward_arguments)

    @property
    def output(self) -> KernelArgument:
        """The last argument."""
        return self.arguments[-1]

    def parameters(self) -> str:
        """The parameter list, without parentheses."""
        return ", ".join(f"{argument.ctype} {argument.name}" for argument in self.arguments)

    def c_declaration(self, language: Language) -> str:
        """The function's head: what comes before its body, or before the semicolon of a declaration."""
        attribute = "__global__ " if language is Language.CUDA else ""
        return f'extern "C" {attribute}void {ENTRY}({self.parameters()})'

    def constant_lines(self) -> list[str]:
        """One C definition per constant."""
        lines = []
        for name, value in self.constants.items():
            if isinstance(value, int):
                lines.append(f"constexpr long long {name} = {value};")
            else:
                lines.append(f"constexpr float {name} = {_c_float(value)};")
        return lines

    def preamble(self, language: Language) -> str:
        """What precedes a kernel's code: types and library functions (there are no headers), constants, declaration.

        The declaration gives ``kernel`` its C name, so that the definition needs no ``extern "C"``.
        """
        lines = [*self.constant_lines(), f"{self.c_declaration(language)};"]
        return _library(language) + "\n".join(lines) + "\n"


@cache
def _library(language: Language) -> str:
    name = {Language.CPP: "preamble.cpp", Language.CUDA: "preamble.cu"}[language]
    return (resources.files("vegtts_core.kernels") / name).read_text(encoding="utf-8")


def _c_float(value: float) -> str:
    """A C expression of type float for ``value``."""
    if math.isnan(value):
        return "NAN"
    if math.isinf(value):
        return "-INFINITY" if value < 0 else "INFINITY"
    return f"{float(value)!r}f"


@cache
def _derive(key: str, source: str, forward_arguments: tuple[str, ...]) -> KernelSignature:
    run = run_on_meta(source)
    arguments = [
        *_inputs(key, run, forward_arguments),
        *_weights(key, run),
        _argument(key, "out", "out", run.output, ArgumentRole.OUTPUT),
    ]
    constants: dict[str, int | float] = {}
    for argument in arguments:
        if argument.role is not ArgumentRole.NUMBER:
            constants[f"{argument.name}_n"] = math.prod(argument.shape)
            constants |= {f"{argument.name}_{place}": size for place, size in enumerate(argument.shape)}
    names = [argument.name for argument in arguments]
    for name, value in _constructor_numbers(run):
        if name not in constants and name not in names:
            constants[name] = value
    if len({*names, *constants, ENTRY}) != len(names) + len(constants) + 1:
        raise UserError(f"Two arguments of {key} would get one name in C: rename them in the task's module.")
    return KernelSignature(tuple(arguments), constants)


def _inputs(key: str, run: MetaRun, names: tuple[str, ...]) -> Iterator[KernelArgument]:
    for name, value in zip(names, run.inputs, strict=False):
        if isinstance(value, int | float):
            yield KernelArgument(_c_name(name), "float", ArgumentRole.NUMBER, (), torch.float32, name)
        else:
            yield _argument(key, name, name, value, ArgumentRole.INPUT)


def _weights(key: str, run: MetaRun) -> Iterator[KernelArgument]:
    for name, value in run.model.state_dict().items():
        # Integers in a state dict are counters (BatchNorm's num_batches_tracked), which no output depends on.
        if isinstance(value, torch.Tensor) and value.is_floating_point():
            yield _argument(key, _c_name(name), name, value, ArgumentRole.WEIGHT)


def _argument(key: str, name: str, source: str, value: Any, role: ArgumentRole) -> KernelArgument:
    if not isinstance(value, torch.Tensor):
        raise UserError(
            f"The {role.value} {source!r} of {key} is a {type(value).__name__}, not a tensor: a kernel cannot take it, "
            "use the forward scaffold."
        )
    if value.dtype not in _C_TYPES:
        raise UserError(
            f"The {role.value} {source!r} of {key} is of {value.dtype}, which kernels do not take: "
            "use the forward scaffold."
        )
    const = "" if role is ArgumentRole.OUTPUT else "const "
    ctype = f"{const}{_C_TYPES[value.dtype]}*"
    return KernelArgument(_c_name(name), ctype, role, tuple(value.shape), value.dtype, source)


def _c_name(name: str) -> str:
    return re.sub(r"\W", "_", name)


def _constructor_numbers(run: MetaRun) -> Iterator[tuple[str, int | float]]:
    """The numbers that the reference's constructor got, or its parameters' defaults."""
    bound = inspect.signature(type(run.model).__init__).bind(run.model, *run.init_inputs)
    bound.apply_defaults()
    for name, value in list(bound.arguments.items())[1:]:
        if value is None:  # "as another argument": PyTorch's module knows what became of it (a pool's stride)
            value = next((v for m in run.model.modules() if _is_numeric(v := getattr(m, name, None))), None)
        if isinstance(value, tuple | list) and all(_is_number(entry) for entry in value):
            yield from ((f"{name}_{place}", entry) for place, entry in enumerate(value))
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield name, value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_numeric(value: Any) -> bool:
    return _is_number(value) or (isinstance(value, tuple) and bool(value) and all(_is_number(v) for v in value))

"""From a filling to a translation unit: constants, the holes as small functions, then the family's own text.

The family's text (``sources/``) is plain C++ or CUDA and never changes: it calls the holes by name. What is generated
here is the glue: which tensor a variable of a hole is, and at which index.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources

from vegtts_core.kernels.signature import ENTRY, KernelSignature
from vegtts_core.kernels.templates.types import Expression, ExpressionHole, Filling, Hole, Rendered, ValueType
from vegtts_core.kernels.types import Language, Launch

#: What a family's text may ask for and its holes need not offer.
_DEFAULTS: dict[str, int | str] = {"block": 256, "items": 1, "vector": 4, "math": "exact", "store": "cached"}
_WORDS = (
    "sum product max min cached streaming exact fast map value mean forward backward inclusive exclusive inner outer"
)
_C_TYPES = {ValueType.FLOAT: "float", ValueType.INT: "long long", ValueType.BOOL: "bool"}
_SUFFIX = {Language.CPP: "cpp", Language.CUDA: "cu"}


@dataclass(frozen=True)
class Function:
    """A C function around a hole: ``parameters`` are those after the inputs, ``bindings`` the C code of its variables.

    With ``elements`` (names of tensors that are read at the element's own index) CUDA gets their values loaded, as
    ``NAME_of(values, in, ...)``, and C++ reads them, as ``NAME_at(in, i, ...)``; without, both get ``NAME_of(...)``.
    A template without such a hole gets a function that returns 0: its text compiles, and does not call it.
    """

    name: str
    hole: str
    parameters: str
    bindings: Mapping[str, str]
    elements: tuple[str, ...] = ()
    inputs: bool = True


def render(
    signature: KernelSignature,
    language: Language,
    source: str,
    holes: tuple[Hole, ...],
    filling: Filling,
    constants: Mapping[str, int | str],
    functions: tuple[Function, ...],
    launch: Launch,
    arguments: str = "in, out",
) -> Rendered:
    """The translation unit of ``sources/SOURCE``; ``launch`` is kept for CUDA alone.

    ``constants`` are the family's (upper case; words are of the enumeration of choices); ``arguments`` what ``run`` is
    called with.
    """
    values = {name: value for name, value in filling.items() if not isinstance(value, Expression)}
    lines = [f"enum class Word {{ {', '.join(_WORDS.split())} }};"]
    lines.append(f"using acc_t = {values.pop('accumulator', 'float')};")
    merged = _DEFAULTS | values
    lines += [_constant(name.upper(), value, "int") for name, value in merged.items()]
    lines += [_constant(name, value, "long long") for name, value in constants.items()]
    elements = next((function.elements for function in functions if function.elements), ())
    glue = [_inputs(signature), _element_input(elements)]
    glue += [_function(function, holes, filling, language) for function in functions]
    names = ", ".join(argument.name for argument in signature.arguments[:-1])
    head = f"void {ENTRY}({signature.parameters()})"
    if language is Language.CUDA:
        x, y, z = launch.block
        head = f'extern "C" __global__ void __launch_bounds__({x * y * z}) {ENTRY}({signature.parameters()})'
    entry = f"{head} {{\n    const Inputs in{{{names}}};\n    run({arguments});\n}}"
    parts = [
        signature.preamble(language), "\n".join(lines), _text(f"common.{_SUFFIX[language]}"), "\n".join(glue),
        _text(f"{source}.{_SUFFIX[language]}"), entry,
    ]  # fmt: skip
    return Rendered("\n".join(part.rstrip() for part in parts) + "\n", launch if language is Language.CUDA else None)


@cache
def _text(name: str) -> str:
    return (resources.files("vegtts_core.kernels.templates") / "sources" / name).read_text(encoding="utf-8")


def _constant(name: str, value: int | str, ctype: str) -> str:
    if isinstance(value, str):
        return f"constexpr Word {name} = Word::{value};"
    return f"constexpr {ctype} {name} = {value};"


def _inputs(signature: KernelSignature) -> str:
    fields = " ".join(f"{argument.ctype} {argument.name};" for argument in signature.arguments[:-1])
    return f"struct Inputs {{ {fields} }};"


def _element_input(elements: tuple[str, ...]) -> str:
    chosen = "".join(f"e == {place} ? in.{name} : " for place, name in enumerate(elements[:-1]))
    if not elements:
        return ""
    return (
        f"constexpr int ELEMENTS = {len(elements)};\n"
        f"HOLE const float* element_input(const Inputs& in, int e) {{ return {chosen}in.{elements[-1]}; }}"
    )


def _function(function: Function, holes: tuple[Hole, ...], filling: Filling, language: Language) -> str:
    loaded = bool(function.elements) and language is Language.CUDA
    suffix = "at" if function.elements and not loaded else "of"
    parameters = ["const float* values"] * loaded + ["const Inputs& in"] * function.inputs
    parameters += [function.parameters] * bool(function.parameters)
    head = f"{function.name}_{suffix}({', '.join(parameters)})"
    hole = next((hole for hole in holes if hole.name == function.hole), None)
    if hole is None:
        return f"HOLE float {head} {{ return 0.f; }}"
    expression = filling[function.hole]
    assert isinstance(hole, ExpressionHole) and isinstance(expression, Expression)
    body = ""
    for variable, kind in hole.variables.items():
        # What an expression does not name is not read from memory.
        if variable in expression.names and variable in function.bindings:
            code = function.bindings[variable]
            if loaded and variable in function.elements:
                code = f"values[{function.elements.index(variable)}]"
            cast = "" if hole.wide else f"({_C_TYPES[kind]})"
            body += f"const auto {variable} = {cast}({code}); "
    return f"HOLE {'acc_t' if hole.wide else _C_TYPES[hole.type]} {head} {{ {body}return {expression.code}; }}"

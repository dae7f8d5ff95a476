"""What a policy is asked for a kernel: the operation in PyTorch, the C signature, the sizes, the rules."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Sequence

from vegtts_core.errors import UserError
from vegtts_core.kernels.examples import example_text
from vegtts_core.kernels.signature import ArgumentRole, KernelSignature
from vegtts_core.kernels.types import Language
from vegtts_core.scaffolds.assemble import reference_class
from vegtts_core.scaffolds.types import Message, Prompt, Role
from vegtts_core.tasks.load import evaluation_tasks
from vegtts_core.tasks.types import Task

_FENCE = "```"
_TAG = {Language.CPP: "cpp", Language.CUDA: "cuda"}
_SYSTEM = {
    Language.CPP: (
        "You are an expert in fast C++ for CPUs. For each PyTorch model you write one C++17 function `kernel` that "
        "computes what Model.forward returns: same values, less time. OpenMP is on, as are -O3 and -march=native. "
        "There are no headers: expf, fmaxf and the other C math functions, min, max, memcpy, memset, malloc, free and "
        "INFINITY are declared already. Answer with code."
    ),
    Language.CUDA: (
        "You are an expert in CUDA. For each PyTorch model you write one CUDA C++ kernel `kernel` that computes what "
        "Model.forward returns: same values, less time. There are no headers: CUDA's math functions, min, max and "
        "INFINITY are declared already. The last line is the launch, in sizes and integers (+ - * / %, cdiv, min, "
        "max): `launch: grid=(cdiv(out_n, 256)), block=(256), shared=0`, with shared in bytes. Answer with code."
    ),
}
_RULES = (
    "Tensors are dense and row-major. The sizes below are constants that the code may use. `out` is full of NaN before "
    "every call: write all of it. Inputs are read-only."
)


def kernel_prompt(task: Task, language: Language, examples: Sequence[Task]) -> Prompt:
    """The prompt; see `vegtts_core.kernels.kernel_scaffold.KernelScaffold.prompt`."""
    messages = [Message(Role.SYSTEM, _SYSTEM[language])]
    opening = f"{_FENCE}{_TAG[language]}"
    for example in examples:
        answer = _example(example, language)
        messages += [
            Message(Role.USER, _question(example, language)),
            Message(Role.ASSISTANT, f"{opening}\n{answer}\n{_FENCE}"),
        ]
    messages += [Message(Role.USER, _question(task, language)), Message(Role.ASSISTANT, opening)]
    digest = hashlib.sha256(repr([(m.role.value, m.content) for m in messages]).encode()).hexdigest()
    return Prompt(id=digest[:16], messages=tuple(messages), stop=(_FENCE,))


def _example(task: Task, language: Language) -> str:
    if task.level != 1 or task.id in evaluation_tasks():
        raise UserError(f"Task {task.key} is an evaluation task of some split: no prompt may show its kernel.")
    text = example_text(task.id, language)
    if text is None:
        raise UserError(f"Task {task.key} has no example kernel in {language.value}: choose another example.")
    return text.strip()


def _question(task: Task, language: Language) -> str:
    signature = KernelSignature.of(task)
    model = ast.get_source_segment(task.source, reference_class(task.source))
    return (
        f"{_FENCE}python\n{model}\n{_FENCE}\n"
        f"{_RULES}\n{_sizes(signature)}\n"
        f"Write this function:\n{_FENCE}{_TAG[language]}\n{signature.c_declaration(language)}\n{_FENCE}"
    )


def _sizes(signature: KernelSignature) -> str:
    """One line per tensor, with the names and values of its sizes, then the other constants."""
    lines, described = [], set()
    for argument in signature.arguments:
        if argument.role is ArgumentRole.NUMBER:
            lines.append(f"- {argument.name}: a number")
            continue
        names = [f"{argument.name}_{place}" for place in range(len(argument.shape))]
        described |= {f"{argument.name}_n", *names}
        sizes = ", ".join(f"{name} = {signature.constants[name]}" for name in names)
        weight = f", {argument.source} of the model" if argument.role is ArgumentRole.WEIGHT else ""
        elements = f"{argument.name}_n = {signature.constants[f'{argument.name}_n']} elements"
        lines.append(f"- {argument.name}{weight}: {elements}" + (f", {sizes}" if sizes else ""))
    others = ", ".join(f"{name} = {value}" for name, value in signature.constants.items() if name not in described)
    return "\n".join([*lines, *([f"- {others}"] if others else [])])

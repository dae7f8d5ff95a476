"""The ``template`` scaffold: the policy fills the holes of its task's kernel template with ``name = value`` lines.

The scaffold writes all the rest of the kernel, in C++ or CUDA with the same holes. What the policy wrote is parsed,
checked against the holes' names, types and ranges, and only its normalised form gets into the source.
"""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Sequence

from vegtts_core.errors import UserError
from vegtts_core.kernels.templates.coverage import template_of
from vegtts_core.kernels.templates.glossary import meanings
from vegtts_core.kernels.templates.honest import honest_filling
from vegtts_core.kernels.templates.lines import parse_filling, written
from vegtts_core.kernels.templates.types import ChoiceHole, ExpressionHole, Hole, Template, ValueType
from vegtts_core.kernels.types import Language
from vegtts_core.scaffolds.assemble import reference_class
from vegtts_core.scaffolds.types import Candidate, Message, Prompt, Refusal, RefusalKind, Role
from vegtts_core.tasks import Task
from vegtts_core.tasks.load import evaluation_tasks

_FENCE = "```"
_SYSTEM = (
    "You are an expert in fast {language} kernels. For each PyTorch model you are given a kernel template with named "
    "holes. Fill them so that the kernel returns what Model.forward returns, in less time. Answer with lines "
    "`name = value`, one per hole, and nothing else. Expressions are C: + - * / comparisons && || ! ?: and expf logf "
    "log1pf expm1f sqrtf rsqrtf fabsf fmaxf fminf tanhf erff powf fmaf, with float literals such as 0.5f."
)
_SPOKEN = {Language.CPP: "C++ (OpenMP, SIMD)", Language.CUDA: "CUDA"}
_TYPES = {ValueType.FLOAT: "a float", ValueType.INT: "an integer", ValueType.BOOL: "true or false"}


class TemplateScaffold:
    """Prompts for, parses and renders fillings of kernel templates in one language."""

    name = "template"

    def __init__(self, language: Language = Language.CPP) -> None:
        """``language``: C++ or CUDA. Raises ValueError for Python."""
        if language is Language.PYTHON:
            raise ValueError("Templates are rendered to C++ or CUDA.")
        self.language = language

    def prompt(self, task: Task, examples: Sequence[Task] = ()) -> Prompt:
        """Chat messages: a question and an honest filling per example, then the task with a fence opened.

        Raises UserError for a task without a template, and for an example that is an evaluation task of some split.
        """
        messages = [Message(Role.SYSTEM, _SYSTEM.format(language=_SPOKEN[self.language]))]
        for example in examples:
            if example.level != 1 or example.id in evaluation_tasks():
                raise UserError(f"Task {example.key} is an evaluation task: no prompt may show its answer.")
            answer = f"{_FENCE}\n{honest_filling(example)}\n{_FENCE}"
            messages += [Message(Role.USER, _question(example)), Message(Role.ASSISTANT, answer)]
        messages += [Message(Role.USER, _question(task)), Message(Role.ASSISTANT, _FENCE)]
        digest = hashlib.sha256(repr([(m.role.value, m.content) for m in messages]).encode()).hexdigest()
        return Prompt(id=digest[:16], messages=tuple(messages), stop=(_FENCE,))

    def parse(self, task: Task, completion: str) -> Candidate | Refusal:
        """The candidate in ``completion``, or why there is none. Raises UserError for a task without a template."""
        template = template_of(task)
        filling = parse_filling(template, completion)
        if isinstance(filling, Refusal):
            return filling
        reason = template.problem(filling, self.language)
        if reason is not None:
            return Refusal(RefusalKind.FORBIDDEN, f"The choices do not go together: {reason}.")
        body = written(filling)
        rendered = template.render(filling, self.language)
        text = f"{task.key}\n{self.name}\n{self.language.value}\n{body}"
        fingerprint = hashlib.sha256(text.encode()).hexdigest()[:16]
        return Candidate(task.key, self.name, body, rendered.source, fingerprint, self.language, rendered.launch)


def _question(task: Task) -> str:
    template = template_of(task)
    model = ast.get_source_segment(task.source, reference_class(task.source))
    shapes = ", ".join(f"{spec.name}: {_shape(spec.shape)}" for spec in task.inputs)
    formulas = "".join(f"\nHere {meaning}." for meaning in meanings(task))
    holes = "\n".join(f"- {_hole(hole)}" for hole in template.holes)
    return (
        f"{_FENCE}python\n{model}\n{_FENCE}\nInputs: {shapes}.{formulas}\n\n"
        f"Template ({template.family.value}):\n{_FENCE}\n{template.outline}\n{_FENCE}\n"
        f"Holes:\n{holes}{_constants(template)}"
    )


def _shape(shape: tuple[int, ...] | None) -> str:
    return "a number" if shape is None else " x ".join(map(str, shape)) or "a scalar"


def _hole(hole: Hole) -> str:
    default = "" if hole.default is None else f" (default {hole.default})"
    if isinstance(hole, ExpressionHole):
        what = f"{_TYPES[hole.type]}, an expression of {', '.join(hole.variables) or 'constants'}"
    elif isinstance(hole, ChoiceHole):
        what = f"one of {', '.join(map(str, hole.choices))}"
    else:
        what = f"from {hole.low} to {hole.high}"
    return f"{hole.name}: {what}; {hole.description}{default}"


def _constants(template: Template) -> str:
    # Sizes of tensors stand in their shapes above; what is left are the constructor's numbers and the matrix sizes.
    named = [f"{name} = {v}" for name, v in template.constants.items() if not re.search(r"_(\d|n)$", name)]
    return f"\nConstants: {', '.join(named)}." if named else ""

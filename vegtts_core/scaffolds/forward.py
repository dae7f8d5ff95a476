"""The ``forward`` scaffold: the policy writes the body of ``ModelNew.forward`` in PyTorch, as the paper's code asks.

The prompt shows the task as KernelBench does and opens the method; the completion is a body of a few tokens (7 to 15
in the paper's quartile table, section 5.2). It is parsed and checked against the allow-list before it ever runs.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Sequence

from vegtts_core.errors import UserError
from vegtts_core.scaffolds.assemble import assemble, reference_attributes, reference_class
from vegtts_core.scaffolds.check import check_body
from vegtts_core.scaffolds.examples import EXAMPLE_BODIES
from vegtts_core.scaffolds.extract import extract_forward
from vegtts_core.scaffolds.types import Candidate, Message, Prompt, Refusal, RefusalKind, Role
from vegtts_core.tasks.types import Task

_SYSTEM = (
    "You are an expert in PyTorch performance. For each model you write the body of ModelNew.forward: "
    "same arguments, same result, less time. Use only torch, torch.nn.functional as F and self. Answer with code."
)
_QUESTION = "Write ModelNew.forward for this model. It must return the same values as Model.forward, faster.\n\n"
_FENCE = "```"


class ForwardScaffold:
    """Prompts for, parses and assembles ``forward`` bodies."""

    name = "forward"

    def prompt(self, task: Task, examples: Sequence[Task] = ()) -> Prompt:
        """Chat messages: one question and answer per example, then the task with the method's first line given."""
        messages = [Message(Role.SYSTEM, _SYSTEM)]
        for example in examples:
            if example.id not in EXAMPLE_BODIES or example.level != 1:
                raise UserError(
                    f"Task {example.key} has no worked example; choose from {sorted(EXAMPLE_BODIES)} of level 1."
                )
            body = EXAMPLE_BODIES[example.id]
            messages += [
                Message(Role.USER, _question(example)),
                Message(Role.ASSISTANT, f"{_opening(example)}\n        {body}\n{_FENCE}"),
            ]
        messages += [Message(Role.USER, _question(task)), Message(Role.ASSISTANT, _opening(task))]
        digest = hashlib.sha256(repr([(m.role.value, m.content) for m in messages]).encode()).hexdigest()
        return Prompt(id=digest[:16], messages=tuple(messages), stop=(_FENCE,))

    def parse(self, task: Task, completion: str) -> Candidate | Refusal:
        """The candidate in ``completion``, or why there is none."""
        found = extract_forward(completion, task.forward_arguments)
        if isinstance(found, Refusal):
            return found
        if len(found.arguments) != len(task.forward_arguments):
            return Refusal(
                RefusalKind.SYNTAX,
                f"forward takes {len(found.arguments)} arguments where the task has {len(task.forward_arguments)}.",
            )
        reason = check_body(found.body, found.arguments, reference_attributes(task.source))
        if reason is not None:
            return Refusal(RefusalKind.FORBIDDEN, reason)
        try:
            body = "\n".join(ast.unparse(statement) for statement in found.body)
            source = assemble(task.source, found.arguments, found.body)
        except RecursionError:
            return Refusal(RefusalKind.FORBIDDEN, "It is nested too deeply to be assembled.")
        text = f"{task.key}\n{self.name}\n{', '.join(found.arguments)}\n{body}"
        fingerprint = hashlib.sha256(text.encode()).hexdigest()[:16]
        return Candidate(task.key, self.name, body, source, fingerprint)


def _question(task: Task) -> str:
    model = ast.get_source_segment(task.source, reference_class(task.source))
    return f"{_QUESTION}{_FENCE}python\n{model}\n{_FENCE}"


def _opening(task: Task) -> str:
    # No newline at the end: models expect to write it themselves, and some end the answer at once if it is there.
    return f"{_FENCE}python\nclass ModelNew(Model):\n    def forward({', '.join(('self', *task.forward_arguments))}):"

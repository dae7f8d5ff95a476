"""The ``module`` scaffold: a whole KernelBench submission, a Python module that defines ``ModelNew``.

Arbitrary Python (inline C++, Triton, threads): nothing is known of it, so it runs inside the sandbox alone. What is
refused here is not what is dangerous but what cannot be a win: a submission that hands the work back to the reference.
"""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Sequence

from vegtts_core.scaffolds.types import Candidate, Message, Prompt, Refusal, RefusalKind, Role
from vegtts_core.tasks.types import Task

#: Longer than any submission seen (characters).
MAX_CHARACTERS = 200_000

_SYSTEM = (
    "You are an expert in PyTorch performance. You rewrite models so that they compute the same in less time. "
    "Answer with one complete Python module in a code block."
)
_QUESTION = (
    "Write a module that defines ModelNew: the same constructor arguments, the same weights under the same names, the "
    "same forward arguments and the same result as Model, in less time. Do not use Model itself.\n\n"
)
_EXAMPLE = "An example of such a pair, for another model:\n\n"
_FENCE = "```"
_BLOCK = re.compile(r"```[a-zA-Z0-9_+-]*[ \t]*\n(.*?)(?:```|\Z)", re.DOTALL)


class ModuleScaffold:
    """Prompts for and reads whole modules."""

    name = "module"

    def prompt(self, task: Task, examples: Sequence[Task] = ()) -> Prompt:
        """Chat messages: the task's module, and that of every example with itself as the answer's shape."""
        shown = "".join(f"{_EXAMPLE}{_fenced(e.source)}\n\n{_fenced(renamed(e.source))}\n\n" for e in examples)
        messages = (
            Message(Role.SYSTEM, _SYSTEM),
            Message(Role.USER, f"{shown}{_QUESTION}{_fenced(task.source)}"),
        )
        digest = hashlib.sha256(repr([(m.role.value, m.content) for m in messages]).encode()).hexdigest()
        return Prompt(id=digest[:16], messages=messages)

    def parse(self, task: Task, completion: str) -> Candidate | Refusal:
        """The module in ``completion`` (the last code block that defines ``ModelNew``, or all of it)."""
        if len(completion) > MAX_CHARACTERS:
            return Refusal(
                RefusalKind.TOO_LONG,
                f"The module has {len(completion)} characters; at most {MAX_CHARACTERS} are read.",
            )
        blocks = [block for block in _BLOCK.findall(completion) if "ModelNew" in block]
        source = blocks[-1] if blocks else completion
        if "ModelNew" not in source:
            return Refusal(RefusalKind.EMPTY, "The completion defines no ModelNew.")
        try:
            tree = ast.parse(source)
        except SyntaxError as error:
            return Refusal(RefusalKind.SYNTAX, f"The module is not Python (line {error.lineno}: {error.msg}).")
        except (ValueError, RecursionError, MemoryError) as error:
            return Refusal(RefusalKind.SYNTAX, f"The module cannot be parsed ({type(error).__name__}).")
        try:
            reason = _falls_back(tree)
        except RecursionError:
            reason = "It is nested too deeply to be checked."
        if reason:
            return Refusal(RefusalKind.FORBIDDEN, reason)
        source = source.strip() + "\n"
        fingerprint = hashlib.sha256(f"{task.key}\n{self.name}\n{source}".encode(errors="replace")).hexdigest()[:16]
        return Candidate(task.key, self.name, source, source, fingerprint)


def _fenced(source: str) -> str:
    return f"{_FENCE}python\n{source.strip()}\n{_FENCE}"


def renamed(source: str) -> str:
    """A task's module as its own candidate: ``Model`` is ``ModelNew``."""
    return re.sub(r"\bModel\b", "ModelNew", source)


def _falls_back(tree: ast.Module) -> str:
    """Why the module hands its work back to the reference; empty if that cannot be seen."""
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "ModelNew"]
    if not classes:
        return ""  # it may still be defined in another way: building it will tell
    model = classes[-1]
    methods = [node for node in model.body if isinstance(node, ast.FunctionDef)]
    assigned = [t.id for n in model.body if isinstance(n, ast.Assign) for t in n.targets if isinstance(t, ast.Name)]
    if "forward" not in [method.name for method in methods] + assigned:
        return "ModelNew has no forward of its own: it would fall back to its base class."
    for method in methods:
        for node in ast.walk(method):
            if isinstance(node, ast.Try) and method.name != "__init__":
                return f"ModelNew.{method.name} catches exceptions: a fallback would hide behind them."
            if isinstance(node, ast.Attribute) and node.attr == "forward" and _is_super(node.value):
                return f"ModelNew.{method.name} falls back to the forward of its base class."
            if isinstance(node, ast.Name) and node.id == "Model" and not _only_names_super(method, node):
                return f"ModelNew.{method.name} falls back to the reference, Model."
    return ""


def _is_super(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "super"


def _only_names_super(method: ast.FunctionDef, name: ast.Name) -> bool:
    """Whether this ``Model`` is the argument of ``super(Model, self)``."""
    return any(isinstance(n, ast.Call) and _is_super(n) and name in n.args for n in ast.walk(method))

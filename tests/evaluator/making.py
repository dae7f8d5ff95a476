"""Candidates for the tests: a task's module with another forward, or any source at all."""

from __future__ import annotations

import ast
import hashlib
import textwrap

from vegtts_core.evaluator import EvaluatorSettings, Limits, SoundSettings
from vegtts_core.scaffolds.types import Candidate
from vegtts_core.tasks import Task

#: Short timing: these tests are about verdicts, not about speed.
QUICK = EvaluatorSettings(
    limits=Limits(call_seconds=3, memory_mib=1024, printed_bytes=1 << 16),
    sound=SoundSettings(min_pairs=6, max_pairs=6, warmup=1),
    threads=1,
)


def raw(task: Task, source: str) -> Candidate:
    return Candidate(task.key, "module", "", source, hashlib.sha256(source.encode()).hexdigest())


def with_forward(task: Task, body: str) -> Candidate:
    """The task's module as `ModelNew`, its forward replaced by ``body``."""
    tree = ast.parse(task.source)
    (model,) = (node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Model")
    model.name = "ModelNew"
    for node in ast.walk(model):
        if isinstance(node, ast.Name) and node.id == "Model":
            node.id = "ModelNew"
        if isinstance(node, ast.FunctionDef) and node.name == "forward":
            node.body = ast.parse(textwrap.dedent(body)).body
    return raw(task, "import torch.nn.functional as F\n" + ast.unparse(tree))


def reference(task: Task) -> Candidate:
    """The task's own module."""
    return with_forward(task, task.forward_body)

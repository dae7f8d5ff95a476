"""What is to be computed: KernelBench's problems, their sizes and input contracts, the paper's splits and subsets."""

from __future__ import annotations

from vegtts_core.tasks.draw import build_reference, draw_inputs, draw_mixed, drawn_by_module, wide_modes
from vegtts_core.tasks.load import get_task, load_tasks, named_selections
from vegtts_core.tasks.source import exec_module
from vegtts_core.tasks.types import AnswerKind, Domain, Family, InputContract, InputSpec, Size, Task

__all__ = [
    "AnswerKind",
    "Domain",
    "Family",
    "InputContract",
    "InputSpec",
    "Size",
    "Task",
    "build_reference",
    "draw_inputs",
    "draw_mixed",
    "drawn_by_module",
    "exec_module",
    "get_task",
    "load_tasks",
    "named_selections",
    "wide_modes",
]

"""Fillings of a task's template that differ from the honest one in their tuning: every form that a kernel takes."""

import random

from vegtts_core.kernels.templates import TemplateScaffold, honest_filling, template_of, tuning_grid
from vegtts_core.kernels.types import Language
from vegtts_core.scaffolds.types import Candidate
from vegtts_core.tasks import Task


def tunings(task: Task, language: Language, count: int, seed: int) -> list[str]:
    """``count`` random fillings with the honest expressions and exact functions that the scaffold takes."""
    grid = tuning_grid(template_of(task)) | {"math": ("exact",)}
    grid = {name: values for name, values in grid.items() if template_of(task).hole(name)}
    draw = random.Random(f"{task.key} {language} {seed}")
    expressions = [line for line in honest_filling(task).splitlines() if line.split(" = ")[0] not in grid]
    found: list[str] = []
    while len(found) < count:
        text = "\n".join([*expressions, *(f"{name} = {draw.choice(values)}" for name, values in grid.items())])
        if isinstance(TemplateScaffold(language).parse(task, text), Candidate):
            found.append(text)
    return found

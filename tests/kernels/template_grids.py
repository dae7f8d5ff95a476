"""Fillings of a task's template that differ from the honest one in their tuning: every form that a kernel takes."""

import random

from vegtts_core.kernels.templates import honest_filling, template_of
from vegtts_core.kernels.templates.lines import parse_filling
from vegtts_core.kernels.templates.types import ChoiceHole, RangeHole
from vegtts_core.kernels.types import Language
from vegtts_core.scaffolds.types import Refusal
from vegtts_core.tasks import Task

#: Words that change what is computed, not how fast.
MEANING = {"combine", "combine2", "order", "include"}


def tunings(task: Task, language: Language, count: int, seed: int, accurate: bool = True) -> list[str]:
    """``count`` random fillings with the honest expressions that the template takes; ``accurate`` leaves out what
    trades accuracy for speed."""
    template = template_of(task)
    honest = dict(line.split(" = ", 1) for line in honest_filling(task).splitlines())
    holes = [h for h in template.holes if isinstance(h, ChoiceHole | RangeHole) and h.name not in MEANING]
    draw = random.Random(f"{task.key} {language} {seed}")
    found: list[str] = []
    while len(found) < count:
        filling = dict(honest)
        for hole in holes:
            filling[hole.name] = str(
                draw.choice(hole.choices if isinstance(hole, ChoiceHole) else range(hole.low, hole.high + 1))
            )
        if accurate and "math" in filling:
            filling["math"] = "exact"
        text = "\n".join(f"{name} = {value}" for name, value in filling.items())
        parsed = parse_filling(template, text)
        assert not isinstance(parsed, Refusal), parsed
        if template.problem(parsed, language) is None:
            found.append(text)
    return found
